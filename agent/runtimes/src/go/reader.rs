//! Reads a Go program's statistics from its memory: the collector's heap, heap profile, goroutines. No
//! probe, no stop, no write.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::debug;

use heaptide_ebpf::Block;
use heaptide_process::memory::{Budget, ProcessMemory};
use heaptide_process::symbols::Symbolizer;

use super::blocks;
use super::goroutines;
use super::layout::Layout;
use super::profile;
use super::program::Program;
use super::variables::Variables;
use crate::door::PickedObject;
use heaptide_judge::events::{HeapMark, Nanos, Observation};

/// Interval of reading profile and goroutines.
const SELDOM: Duration = Duration::from_secs(3);
/// Fraction of time for these: 1 / `SHARE`.
const SHARE: u32 = 100;

/// Reads one Go process.
pub(super) struct GoReader {
    pid: u32,
    memory: Arc<ProcessMemory>,
    layout: Layout,
    variables: Variables,
    due: Instant,
    profile: profile::ProfileReader,
    goroutines: goroutines::GoroutineReader,
    blocks: blocks::Blocks,
    /// Reset when this is dropped.
    enabled: Option<profile::Enabled>,
}

impl GoReader {
    /// For a program with a known layout.
    pub(super) fn new(
        pid: u32,
        start_ticks: u64,
        layout_id: u32,
        program: &Program,
    ) -> Option<Self> {
        let layout = program.layout?;
        let variables = program.variables;
        debug!(pid, ?variables, "reads Go's runtime");
        let memory = Arc::new(ProcessMemory::new(pid, start_ticks));
        Some(Self {
            pid,
            layout,
            variables,
            due: Instant::now(),
            profile: profile::ProfileReader::new(Arc::clone(&memory), layout_id, layout.bucket),
            goroutines: goroutines::GoroutineReader::new(Arc::clone(&memory)),
            blocks: blocks::Blocks::new(Arc::clone(&memory), layout.span),
            memory,
            enabled: None,
        })
    }

    /// Enables the heap profile if it is off; returns a message for the user.
    pub(super) fn enable_profile(&mut self) -> Option<String> {
        let address = self.variables.profile_rate?;
        match self.memory.word(address, &mut Budget::small()) {
            Some(0) => {}
            Some(_) => return None,
            None => return Some("the program's profiling rate cannot be read".to_string()),
        }
        self.enabled = profile::Enabled::new(Arc::clone(&self.memory), address);
        Some(match self.enabled {
            Some(_) => format!(
                "runtime.MemProfileRate of pid {} was 0 and is {} until heaptide ends \
                 (--go-enable-memprofile); its heap profile contains later allocations only",
                self.pid,
                profile::RATE
            ),
            None => "the heap profile could not be enabled: writing to the target's memory was \
                 denied"
                .to_string(),
        })
    }

    /// Reads what is due.
    pub(super) fn read(
        &mut self,
        at: Nanos,
        symbolizer: &mut Symbolizer,
        sink: &mut dyn FnMut(Observation),
    ) {
        if let Some(mark) = self.heap(at) {
            sink(Observation::Heap(mark));
        }
        let begun = Instant::now();
        if begun < self.due {
            return;
        }
        if let Some(profile) = self.profile.read(at, &self.variables, symbolizer, sink) {
            sink(Observation::Profile(profile));
        }
        if let Some(census) =
            self.goroutines
                .read(at, &self.layout.goroutine, &self.variables, symbolizer)
        {
            sink(Observation::Census(census));
        }
        let took = begun.elapsed();
        debug!(pid = self.pid, ?took, "profile and goroutines read");
        self.due = Instant::now() + SELDOM.max(took * SHARE);
    }

    /// Tracks a heap object.
    pub(super) fn block(&mut self, new: &PickedObject) {
        self.blocks.take(new);
    }

    /// Checks whether the tracked objects are alive, when due.
    pub(super) fn watch(&mut self, at: Nanos) {
        if let Some((cycles, phase)) = self.variables.cycles.zip(self.variables.phase)
            && let Some((cycles, phase)) = self.half(cycles).zip(self.half(phase))
        {
            self.blocks.watch(at, cycles, phase != 0);
        }
    }

    /// Passes on the live objects.
    pub(super) fn live(&mut self, at: Nanos, add: &mut dyn FnMut(&Block)) {
        self.blocks.look(at);
        self.blocks.live(at, add);
    }

    /// Sampling interval in bytes; 0: all.
    pub(super) fn interval(&self) -> u32 {
        self.blocks.interval()
    }

    /// Drops the tracked objects.
    pub(super) fn forget(&mut self) {
        self.blocks.forget();
    }

    fn half(&self, address: u64) -> Option<u32> {
        let mut bytes = [0; 4];
        let budget = &mut Budget::small();
        self.memory
            .fill(address, &mut bytes, budget)
            .then(|| u32::from_le_bytes(bytes))
    }

    /// When the last mark phase ended: `runtime.work` has the times of its phases, by the monotonic clock.
    fn collected_at(&self, cycles: u64, at: Nanos) -> Option<Nanos> {
        let layout = self.layout.collector;
        let work = cycles.wrapping_sub(u64::from(layout.cycles));
        let time = |offset: u16| {
            let address = work.wrapping_add(u64::from(offset));
            self.memory.word(address, &mut Budget::small())
        };
        let (marked, end) = (time(layout.mark_ended)?, time(layout.ended)?);
        let sound = marked > 0 && marked <= end && end <= at.0;
        sound.then_some(Nanos(marked))
    }

    /// The collector's heap; `None` if a collection ended during the read, or it is unreadable.
    fn heap(&self, at: Nanos) -> Option<HeapMark> {
        let (controller, cycles, phase) = (
            self.variables.controller?,
            self.variables.cycles?,
            self.variables.phase?,
        );
        let half = |address| self.half(address);
        let layout = self.layout.collector;
        let of = |offset: u16| controller.wrapping_add(u64::from(offset));
        for _ in 0..3 {
            let before = (half(cycles)?, half(phase)?);
            let word = |address| self.memory.word(address, &mut Budget::small());
            let live = word(of(layout.live))?;
            let marked = word(of(layout.marked))?;
            if before == (half(cycles)?, half(phase)?) {
                // a cycle is counted at its begin; its marks count after its end
                let under_way = u32::from(before.1 != 0);
                return Some(HeapMark {
                    at,
                    marked_bytes: marked,
                    live_bytes: live,
                    cycles: u64::from(before.0.saturating_sub(under_way)),
                    collected_at: self.collected_at(cycles, at),
                });
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use crate::go::{blocks, goroutines, profile, versions};

    #[test]
    fn what_is_read_of_a_structure_holds_its_fields() {
        for minor in versions::minors() {
            let layout = versions::layout(minor).expect("it is known");
            let fits = |bytes: usize, fields: &[u16]| {
                for field in fields {
                    let end = usize::from(*field) + 8;
                    assert!(end <= bytes, "1.{minor}: {field} of {bytes}");
                }
            };
            let g = layout.goroutine;
            let stack = [
                g.stack_low,
                g.stack_high,
                g.saved_sp,
                g.saved_pc,
                g.saved_bp,
            ];
            fits(goroutines::G_BYTES, &stack);
            fits(goroutines::G_BYTES, &[g.status, g.created_at, g.starts_at]);
            let s = layout.span;
            fits(blocks::SPAN_BYTES, &[s.start, s.pages, s.bits, s.size]);
            let b = layout.bucket;
            fits(profile::HEAD_BYTES, &[b.next, b.size, b.frames]);
            for field in [b.bytes, b.allocations, b.frees] {
                assert!(field.is_multiple_of(8), "1.{minor}: {field}");
            }
        }
    }
}
