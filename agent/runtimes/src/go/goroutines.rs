//! Goroutines from `runtime.allgs`, counted by start function and wait location.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use heaptide_process::memory::{Budget, ProcessMemory};
use heaptide_process::symbols::Symbolizer;

use super::layout::{Goroutine, Words};
use super::variables::Variables;
use heaptide_judge::events::{Census, Container, FrameKind, GOROUTINES, Nanos, SiteId, WriterSite};

/// Maximum goroutines read.
const MOST: usize = 200_000;
/// Maximum groups reported, largest first.
const TOLD: usize = 24;
/// Minimum size of a reported group.
const LEAST: u64 = 8;
/// Budget of a reading.
const BYTES: u64 = 128 << 20;
const TIME: Duration = Duration::from_secs(1);
/// Bytes of `runtime.g` that are read.
pub(super) const G_BYTES: usize = 320;
/// `_Gdead`, from Go 1.26 on also `_Gdeadextra`, and the bit set during stack scans.
const DEAD: [u32; 2] = [6, 11];
const SCANNED: u32 = 0x1000;
/// Maximum frames walked to find where a goroutine waits.
const FRAMES: usize = 16;

/// Reads the goroutines of one process.
pub(super) struct GoroutineReader {
    memory: Arc<ProcessMemory>,
    /// Names and wait locations by (creation site, start function), so that a group keeps its name.
    names: HashMap<(u64, u64), (String, Option<WriterSite>)>,
}

/// Goroutines with the same creation site and start function.
#[derive(Default)]
struct Group {
    count: u64,
    stack_bytes: u64,
    /// Saved program counter, stack pointer and frame pointer of one of them.
    one: [u64; 3],
}

impl GoroutineReader {
    pub(super) fn new(memory: Arc<ProcessMemory>) -> Self {
        Self {
            memory,
            names: HashMap::new(),
        }
    }

    /// The groups as containers: entries are goroutines, bytes are their stacks.
    pub(super) fn read(
        &mut self,
        at: Nanos,
        layout: &Goroutine,
        variables: &Variables,
        symbolizer: &mut Symbolizer,
    ) -> Option<Census> {
        let budget = &mut Budget::new(BYTES, MOST as u64, TIME);
        let [list, len] = self.memory.words::<2>(variables.goroutines?, budget)?;
        let len = usize::try_from(len).ok()?;
        let mut all = vec![0_u64; len.min(MOST)];
        let into = bytemuck::cast_slice_mut(&mut all);
        if !self.memory.fill(list, into, budget) {
            return None;
        }
        let mut groups: HashMap<(u64, u64), Group> = HashMap::new();
        let (mut objects, mut torn) = (0, 0);
        let mut g = [0_u64; G_BYTES / 8];
        for address in all {
            if !budget.object() {
                break;
            }
            let into = bytemuck::cast_slice_mut(&mut g);
            if !self.memory.fill(address, into, budget) {
                torn += 1;
                continue;
            }
            let g = Words(&g);
            let status = g.half(layout.status) & !SCANNED;
            if DEAD.contains(&status) || status == 0 {
                continue;
            }
            objects += 1;
            let key = (g.word(layout.created_at), g.word(layout.starts_at));
            let group = groups.entry(key).or_default();
            group.count += 1;
            let stack = g
                .word(layout.stack_high)
                .wrapping_sub(g.word(layout.stack_low));
            group.stack_bytes += stack.min(1 << 30);
            group.one = [layout.saved_pc, layout.saved_sp, layout.saved_bp].map(|at| g.word(at));
        }
        let mut groups: Vec<_> = groups
            .into_iter()
            .filter(|(_, group)| group.count >= LEAST)
            .collect();
        groups.sort_by_key(|(key, group)| (std::cmp::Reverse(group.count), *key));
        groups.truncate(TOLD);
        let containers = groups
            .into_iter()
            .map(|(key, group)| {
                let (path, waits) = self.name(key, &group, symbolizer);
                Container {
                    path,
                    kind: GOROUTINES.to_string(),
                    entries: group.count,
                    bytes: Some(group.stack_bytes),
                    writers: waits.into_iter().collect(),
                    ..Container::default()
                }
            })
            .collect();
        Some(Census {
            at,
            instances_at: at,
            objects,
            torn,
            cut: len > MOST || budget.is_over(),
            containers,
        })
    }

    /// `main.waitForReply at leaks.go:127 (runtime.chanrecv1), started by main.AwaitReply`.
    fn name(
        &mut self,
        key: (u64, u64),
        group: &Group,
        symbolizer: &mut Symbolizer,
    ) -> (String, Option<WriterSite>) {
        if let Some(name) = self.names.get(&key) {
            return name.clone();
        }
        let waits = symbolizer.resolve(SiteId(0), &self.walk(group.one), true, false);
        let at = waits
            .stack
            .iter()
            .position(|frame| frame.kind != FrameKind::Allocator);
        let place = at.map(|at| {
            let frame = &waits.stack[at];
            WriterSite {
                function: frame.function.clone(),
                file: frame.file.clone(),
                line: frame.line,
                samples: 0,
            }
        });
        let mut name = match at {
            Some(at) => {
                let frame = &waits.stack[at];
                let mut text = frame.function.clone();
                if let (Some(file), Some(line)) = (&frame.file, frame.line) {
                    text = format!(
                        "{text} at {}:{line}",
                        file.rsplit('/').next().unwrap_or(file)
                    );
                }
                match at.checked_sub(1).and_then(|called| waits.stack.get(called)) {
                    Some(called) => format!("{text} ({})", called.function),
                    None => text,
                }
            }
            None => symbolizer.resolve(SiteId(0), &[key.1], true, false).stack[0]
                .function
                .clone(),
        };
        let begun = symbolizer.resolve(SiteId(0), &[key.0], false, false);
        name = format!("{name}, started by {}", begun.stack[0].function);
        if self.names.len() < 4096 {
            self.names.insert(key, (name.clone(), place.clone()));
        }
        (name, place)
    }

    /// Program counters of a waiting goroutine, by frame pointers, which Go keeps on x86-64.
    fn walk(&self, [pc, mut sp, mut bp]: [u64; 3]) -> Vec<u64> {
        let mut frames = vec![pc];
        let budget = &mut Budget::small();
        while frames.len() < FRAMES && bp >= sp {
            let Some([saved, next]) = self.memory.words::<2>(bp, budget) else {
                break;
            };
            if next == 0 {
                break;
            }
            frames.push(next);
            (sp, bp) = (bp + 16, saved);
        }
        frames
    }
}
