//! When heaps are read: rarely while the process is idle, and no lengths while requests are not traced.

use std::thread;
use std::time::{Duration, Instant};

use super::common::containers::{SOON, Target};
use super::common::interpreters::interpreters;
use super::common::until;
use heaptide_process::clocks::cpu_time_of;
use heaptide_runtimes::inspect;
use heaptide_runtimes::readers::{HeapReading, Readers};

/// While requests are not traced, lengths are not evidence and are not read. Afterwards they are read again.
#[test]
fn in_a_pause_no_lengths_are_read() {
    /// Whether a wanted reading comes within `time`, while the container grows.
    fn comes(
        target: &mut Target,
        reader: &Readers,
        time: Duration,
        wanted: fn(&HeapReading) -> bool,
    ) -> bool {
        let begun = Instant::now();
        let mut come = false;
        while begun.elapsed() < time && !come {
            target.say("grow 20");
            thread::sleep(Duration::from_millis(30));
            come = reader.readings().any(|(_, reading)| wanted(&reading));
        }
        come
    }
    let lengths: fn(&HeapReading) -> bool = |reading| matches!(reading, HeapReading::Lengths(_));
    let census: fn(&HeapReading) -> bool = |reading| matches!(reading, HeapReading::Census(_));
    // Long enough on a busy machine. In a pause a census would come much later, because censuses get a smaller share
    // then.
    let at_once = Duration::from_secs(15);
    let all = interpreters("in_a_pause_no_lengths_are_read");
    for python in all.iter().take(1) {
        let mut target = Target::start(python);
        let known = inspect(target.process.id()).expect("a live process");
        let pid = target.process.id();
        let reader = Readers::start().expect("a thread");
        let heap = known
            .runtime
            .observer
            .heap_reader()
            .expect("a known layout");
        reader.watch(pid, known.info.start_ticks, heap);
        assert!(comes(&mut target, &reader, SOON, lengths), "it grows");
        for round in 0..2 {
            reader.requests_seen(pid, false);
            // Readings that were made before, and a census under way.
            let moment = Duration::from_millis(500);
            until(SOON, "readings under way have come", || {
                !comes(&mut target, &reader, moment, lengths)
            });
            let time = Duration::from_millis(2500);
            assert!(!comes(&mut target, &reader, time, lengths), "{round}");
            reader.requests_seen(pid, true);
            assert!(comes(&mut target, &reader, at_once, census), "{round}");
            assert!(comes(&mut target, &reader, SOON, lengths), "{round}");
        }
    }
}

/// CPU use of a process over some time.
struct Work {
    pid: u32,
    used: Duration,
    /// End of the current span. CPU use until then belongs to it.
    until: Instant,
    /// Number of spans in which it used the CPU.
    spans: usize,
}

impl Work {
    /// Interval at which the readers check whether the process used the CPU.
    const SPAN: Duration = Duration::from_secs(3);

    fn of(pid: u32) -> Self {
        Self {
            pid,
            used: cpu_time_of(pid).expect("a live process"),
            until: Instant::now(),
            spans: 0,
        }
    }

    fn update(&mut self) {
        let used = cpu_time_of(self.pid).expect("a live process");
        if used > self.used && Instant::now() >= self.until {
            self.spans += 1;
            self.until = Instant::now() + Self::SPAN;
        }
        self.used = used;
    }

    /// Maximum number of censuses. A span may overlap with two checks of the readers.
    fn allows(&self) -> usize {
        2 * self.spans
    }
}

/// Hardly any census is taken of an idle process, such as the master of workers.
#[test]
fn where_nothing_happens_little_is_read() {
    /// Several checks of the readers.
    const LONG: Duration = Duration::from_secs(7);
    const MOMENT: Duration = Duration::from_millis(50);
    /// A census takes a share of the CPU time, at the lowest priority: on a busy machine the next one is late.
    const PATIENCE: Duration = Duration::from_secs(120);
    let all = interpreters("where_nothing_happens_little_is_read");
    for python in all.iter().take(1) {
        let mut target = Target::start(python);
        let pid = target.process.id();
        until(SOON, "its start has ended", || {
            let before = cpu_time_of(pid).expect("a live process");
            thread::sleep(Duration::from_millis(500));
            cpu_time_of(pid).is_ok_and(|used| used == before)
        });
        let known = inspect(pid).expect("a live process");
        let reader = Readers::start().expect("a thread");
        let heap = known
            .runtime
            .observer
            .heap_reader()
            .expect("a known layout");
        // Counts censuses for some time from the first one on.
        let taken = |time: Duration, work: &mut Work| {
            let (mut count, mut first) = (0, None);
            until(PATIENCE + time, "a census", || {
                let all = reader.readings();
                let census = |one: &(u32, HeapReading)| matches!(one.1, HeapReading::Census(_));
                count += all.filter(census).count();
                work.update();
                if count > 0 {
                    first.get_or_insert_with(Instant::now);
                }
                first.is_some_and(|first| first.elapsed() >= time)
            });
            count
        };
        let mut work = Work::of(pid);
        reader.watch(pid, known.info.start_ticks, heap);
        let idle = taken(LONG, &mut work);
        assert!(
            idle <= 1 + work.allows(),
            "{idle} of {}, which worked in {} spans",
            target.version,
            work.spans
        );
        // But one census is taken when a pause ends.
        reader.requests_seen(pid, false);
        reader.requests_seen(pid, true);
        let mut work = Work::of(pid);
        let woken = taken(MOMENT, &mut work);
        assert!(
            woken <= 1 + work.allows(),
            "{woken} of {}, after a pause",
            target.version
        );
        let mut work = Work::of(pid);
        target.say("grow 5000");
        let little = taken(LONG, &mut work);
        assert!(
            little <= work.allows(),
            "{little} of {}, which worked in {} spans",
            target.version,
            work.spans
        );
        target.say("churn");
        let mut busy = 0;
        until(3 * PATIENCE, "censuses of a busy process", || {
            busy += taken(MOMENT, &mut work);
            busy >= 3
        });
    }
}
