//! Sampled objects of Go's heap: whether they are alive, from the collector's bitmaps of each span.
//!
//! A span's `allocBits` are the marks of the last collection that was swept. An object that was allocated before
//! that collection began and has no bit was freed. Nothing is written, and no probe is needed for frees.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use heaptide_ebpf::Block;

use heaptide_process::memory::{Budget, ProcessMemory};

use super::layout::{Span, Words};
use crate::door::PickedObject;
use heaptide_judge::events::Nanos;

/// Budget of checking all objects.
const BYTES: u64 = 64 << 20;
const TIME: Duration = Duration::from_secs(1);

/// Maximum number of tracked objects. Beyond it every second one is dropped and the others count twice.
const MOST: usize = 32_768;
/// Bytes of `runtime.mspan` that are read.
pub(super) const SPAN_BYTES: usize = 120;
/// `mSpanInUse`.
const IN_USE: u8 = 1;
const PAGE: u64 = 8192;
/// Objects not yet seen by a collection are reported this long: less than the maturity age of a block.
const UNJUDGED: u64 = 9_000_000_000;
/// Interval of checks without a collection.
const PAUSE: Duration = Duration::from_millis(500);
/// Fraction of time for checks: 1 / `SHARE`.
const SHARE: u32 = 50;

/// One object.
#[derive(Clone, Copy)]
struct Object {
    span: u64,
    block: Block,
    /// The sweep count of its span at its allocation.
    swept: u32,
    /// Allocated during a mark phase, whose marks do not apply to it.
    during_mark: bool,
    /// A collection has marked it.
    survived: bool,
    /// How much of the span was used while a processor (P) owned it.
    filling: Filling,
}

/// A span is taken with free slots, all of which the sampled object represents. But a collection may take the span
/// away before it is full: for a rare size class only a part is ever used.
#[derive(Clone, Copy)]
struct Filling {
    /// The span's `sweepgen` while the processor owns it.
    sweep: u32,
    room: u16,
    before: u16,
    /// Objects used at the last check.
    used: u16,
    looked: u64,
    /// The processor no longer owns it.
    over: bool,
}

impl Filling {
    fn new(new: &PickedObject) -> Self {
        Self {
            sweep: new.sweep,
            room: new.room.max(1),
            before: new.used,
            used: 1,
            looked: new.born.0,
            over: new.room <= 1,
        }
    }

    /// Fraction of the free slots that was used.
    fn part(&self) -> f64 {
        f64::from(self.used) / f64::from(self.room)
    }

    /// Updates it from the span's `sweepgen` and the number of used objects. `usual`: the usual fraction of such
    /// spans.
    fn look(&mut self, sweep: u32, allocated: u16, at: u64, born: u64, usual: f64) {
        if sweep == self.sweep || sweep == self.sweep.wrapping_sub(3) {
            let used = allocated.saturating_sub(self.before);
            self.used = used.clamp(self.used, self.room);
            self.looked = at;
            self.over = self.used == self.room || sweep != self.sweep;
            return;
        }
        // A collection has happened since; on average the span was used for half of the time.
        self.over = true;
        let known = self.looked.saturating_sub(born);
        let more = at.saturating_sub(self.looked) as f64 / 2.0;
        let used = if known == 0 {
            usual * f64::from(self.room)
        } else {
            f64::from(self.used) * (1.0 + more / known as f64)
        };
        self.used = (used as u16).clamp(self.used, self.room);
    }
}

/// The collections of a process, as noticed from outside.
#[derive(Clone, Copy, Default)]
struct Collections {
    cycles: u32,
    marking: bool,
    /// Time of the last check, and the interval in which the last mark phase can have begun.
    looked: u64,
    since: u64,
    until: u64,
}

/// The tracked objects of one process.
pub(super) struct Blocks {
    memory: Arc<ProcessMemory>,
    layout: Span,
    live: HashMap<u64, Object>,
    collections: Collections,
    due: Instant,
    changed: u32,
    /// Factor by which each kept object represents more bytes than the kernel recorded.
    interval: u32,
    /// For spans of this object size: used objects, and free slots.
    usual: HashMap<u64, (f64, f64)>,
}

impl Blocks {
    pub(super) fn new(memory: Arc<ProcessMemory>, layout: Span) -> Self {
        Self {
            memory,
            layout,
            live: HashMap::new(),
            collections: Collections::default(),
            due: Instant::now(),
            changed: 0,
            interval: 0,
            usual: HashMap::new(),
        }
    }

    /// A new window or address space begins.
    pub(super) fn forget(&mut self) {
        self.live.clear();
    }

    /// Sampling interval in bytes.
    pub(super) fn interval(&self) -> u32 {
        self.interval
    }

    /// Tracks an object.
    pub(super) fn take(&mut self, new: &PickedObject) {
        if self.live.len() >= MOST {
            self.thin();
        }
        let born = new.born.0;
        let block = Block {
            size: new.size,
            site: new.site,
            request: new.request,
            born_ns: born,
            interval: new.interval,
            allocator: 0,
            binding: new.binding,
            reserved: 0,
        };
        let collections = &self.collections;
        self.live.insert(
            new.addr,
            Object {
                span: new.span,
                block,
                swept: swept(new.sweep),
                during_mark: collections.marking
                    || (collections.since..=collections.until).contains(&born),
                survived: false,
                filling: Filling::new(new),
            },
        );
    }

    /// Notices collections; checks the objects after each, and from time to time.
    pub(super) fn watch(&mut self, at: Nanos, cycles: u32, marking: bool) {
        let before = self.collections;
        if (cycles, marking) != (before.cycles, before.marking) {
            self.changed = 4;
            if cycles != before.cycles {
                self.collections.since = before.looked;
            }
            self.collections.until = at.0;
        }
        self.collections.cycles = cycles;
        self.collections.marking = marking;
        self.collections.looked = at.0;
        if self.changed > 0 && self.collections.until >= self.collections.since {
            // Records of objects allocated meanwhile may have arrived before this was known.
            let (since, until) = (self.collections.since, self.collections.until);
            for object in self.live.values_mut() {
                if (since..=until).contains(&object.block.born_ns) {
                    object.during_mark = true;
                }
            }
        }
        let now = Instant::now();
        if now < self.due && self.changed == 0 {
            return;
        }
        self.changed = self.changed.saturating_sub(1);
        self.look(at);
        self.due = now + PAUSE.max(now.elapsed() * SHARE);
    }

    /// Checks each object.
    pub(super) fn look(&mut self, at: Nanos) {
        let mut addresses: Vec<u64> = self.live.values().map(|object| object.span).collect();
        addresses.sort_unstable();
        addresses.dedup();
        let budget = &mut Budget::new(BYTES, u64::MAX, TIME);
        let spans = self.memory.many::<{ SPAN_BYTES / 8 }>(&addresses, budget);
        let spans: HashMap<u64, [u64; SPAN_BYTES / 8]> = addresses
            .into_iter()
            .zip(spans)
            .filter_map(|(address, words)| Some((address, words?)))
            .collect();
        let layout = self.layout;
        let mut wanted = Vec::new();
        let mut gone = Vec::new();
        for (address, object) in &mut self.live {
            let Some(span) = spans.get(&object.span) else {
                continue;
            };
            let span = Words(span);
            let sweep = span.half(layout.sweep);
            if !object.filling.over {
                let (used, room) = self.usual.entry(object.block.size).or_insert((1.0, 1.0));
                let filling = &mut object.filling;
                let allocated = span.short(layout.allocated);
                let born = object.block.born_ns;
                filling.look(sweep, allocated, at.0, born, *used / *room);
                if filling.over && filling.looked > born {
                    *used += f64::from(filling.used);
                    *room += f64::from(filling.room);
                }
            }
            let (start, size) = (span.word(layout.start), object.block.size);
            let bytes = span.word(layout.pages).saturating_mul(PAGE);
            let inside = (start..start.saturating_add(bytes)).contains(address);
            if span.byte(layout.state) != IN_USE || !inside || span.word(layout.size) != size {
                gone.push(*address);
                continue;
            }
            let sweeps = swept(sweep).wrapping_sub(object.swept).cast_signed();
            if sweeps < 2 {
                continue;
            }
            let index = (address - start) / size.max(1);
            wanted.push((
                *address,
                span.word(layout.bits).wrapping_add(index / 64 * 8),
                index % 64,
                sweeps,
            ));
        }
        let words: Vec<u64> = wanted.iter().map(|one| one.1).collect();
        let words = self.memory.many::<1>(&words, budget);
        for ((address, _, bit, sweeps), word) in wanted.into_iter().zip(words) {
            let (Some([word]), Some(object)) = (word, self.live.get_mut(&address)) else {
                continue;
            };
            if word >> bit & 1 == 0 {
                gone.push(address);
                continue;
            }
            let enough = if object.during_mark { 4 } else { 2 };
            if sweeps >= enough && !object.survived {
                object.survived = true;
                if at.0.saturating_sub(object.block.born_ns) > UNJUDGED {
                    // It was omitted so far and appears now.
                    object.block.born_ns = at.0;
                }
            }
        }
        for address in gone {
            self.live.remove(&address);
        }
    }

    /// Passes on the objects that survived a collection, and those too young for one.
    pub(super) fn live(&self, at: Nanos, add: &mut dyn FnMut(&Block)) {
        for object in self.live.values() {
            if object.survived || at.0.saturating_sub(object.block.born_ns) < UNJUDGED {
                let mut block = object.block;
                let interval = f64::from(block.interval) * object.filling.part();
                block.interval = (interval as u32).max(1);
                add(&block);
            }
        }
    }

    /// Drops half of the objects with the smallest weight and doubles the weight of the rest.
    fn thin(&mut self) {
        let interval = self.interval.max(4096).saturating_mul(2);
        self.interval = interval;
        self.live.retain(|address, object| {
            let own = u64::from(object.block.interval).max(object.block.size);
            if own >= u64::from(interval) {
                return true;
            }
            // the address is independent of an object's lifetime; its hash is the random choice
            let die = (address >> 3).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
            object.block.interval = interval;
            (die * u64::from(interval)) >> 32 < own
        });
        if self.live.len() >= MOST {
            let mut every = false;
            self.live.retain(|_, object| {
                every = !every;
                object.block.interval = object
                    .block
                    .interval
                    .max(u32::try_from(object.block.size).unwrap_or(u32::MAX))
                    .saturating_mul(2);
                every
            });
        }
    }
}

/// The last sweep of a span: `sweepgen`, or `sweepgen - 3` while a processor owns the span. While it is being
/// swept (one less), its bits are still the last ones.
fn swept(sweepgen: u32) -> u32 {
    if sweepgen.is_multiple_of(2) {
        sweepgen
    } else {
        sweepgen.wrapping_sub(3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(addr: u64, interval: u32) -> PickedObject {
        PickedObject {
            addr,
            span: 0,
            size: 64,
            site: 1,
            request: 0,
            born: Nanos(5),
            interval,
            sweep: 13,
            room: 1,
            used: 0,
            binding: 0,
            space: 0,
        }
    }

    #[test]
    fn the_last_sweep_of_a_span() {
        // swept in 10, then owned by a processor, then out of date, then being swept
        assert_eq!([swept(10), swept(13)], [10, 10]);
        assert_eq!(
            swept(11),
            8,
            "being swept: what it was swept in before is older"
        );
    }

    #[test]
    fn what_a_span_is_used_for_until_a_collection_takes_it_away() {
        let taken = || {
            let new = PickedObject {
                room: 10,
                used: 4,
                ..object(0xc000_0000, 640)
            };
            Filling::new(&new)
        };
        let mut filling = taken();
        filling.look(13, 6, 1_005, 5, 1.0);
        assert_eq!((filling.used, filling.over), (2, false));
        // one collection later: used as before for half of the time since the last check
        filling.look(15, 3, 2_005, 5, 1.0);
        assert_eq!((filling.used, filling.over), (3, true));
        let mut full = taken();
        full.look(10, 14, 1_005, 5, 1.0);
        assert!(full.over && (full.part() - 1.0).abs() < 1e-9);
        let mut unseen = taken();
        unseen.look(14, 0, 1_005, 5, 0.4);
        assert_eq!((unseen.used, unseen.over), (4, true));
    }

    #[test]
    fn half_of_them_stand_for_all() {
        let layout = crate::go::versions::layout(25).expect("it is known");
        let mut blocks = Blocks::new(Arc::new(ProcessMemory::of_pid(1)), layout.span);
        for index in 0..=MOST as u64 {
            blocks.take(&object(0xc000_0000 + index * 64, 8192));
        }
        let weight: u64 = blocks
            .live
            .values()
            .map(|object| u64::from(object.block.interval))
            .sum();
        let all = 8192 * (MOST as u64 + 1);
        assert!(blocks.live.len() <= MOST);
        assert!(weight.abs_diff(all) < all / 20, "{weight} of {all}");
    }
}
