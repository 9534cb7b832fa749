//! When heaps are read: not while nothing happens, not lengths while no requests are seen.

use std::thread;
use std::time::{Duration, Instant};

use super::common::containers::{SOON, Target};
use super::common::interpreters::interpreters;
use super::common::until;
use heaptide_process::clocks::cpu_time_of;
use heaptide_runtimes::inspect;
use heaptide_runtimes::readers::{HeapReading, Readers};

/// While no requests are seen, lengths tell nothing and are not read; when they are again, what there is by then is.
#[test]
fn in_a_pause_no_lengths_are_read() {
    /// Whether such a reading comes within some time, in which the container goes on growing.
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
    // On a busy machine, too; in a pause it would come much later, because censuses get a smaller share then.
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
            // The rest of what was read, and a census that was just being taken.
            let moment = Duration::from_millis(500);
            until(SOON, "what was being read has come", || {
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

/// What a process has done in some time.
struct Work {
    pid: u32,
    used: Duration,
    /// Until when what it does belongs to what it did before.
    until: Instant,
    /// Spans of time in which it has done something.
    spans: usize,
}

impl Work {
    /// The readers ask so often whether it has worked.
    const SPAN: Duration = Duration::from_secs(3);

    fn of(pid: u32) -> Self {
        Self {
            pid,
            used: cpu_time_of(pid).expect("a live process"),
            until: Instant::now(),
            spans: 0,
        }
    }

    fn look(&mut self) {
        let used = cpu_time_of(self.pid).expect("a live process");
        if used > self.used && Instant::now() >= self.until {
            self.spans += 1;
            self.until = Instant::now() + Self::SPAN;
        }
        self.used = used;
    }

    /// Censuses that it may be worth: the readers' questions lie somewhere in its spans.
    fn allows(&self) -> usize {
        2 * self.spans
    }
}

/// Of a process that does nothing, as the master of workers, hardly any is taken.
#[test]
fn where_nothing_happens_little_is_read() {
    /// Several questions whether it has worked.
    const LONG: Duration = Duration::from_secs(7);
    const MOMENT: Duration = Duration::from_millis(50);
    let all = interpreters("where_nothing_happens_little_is_read");
    for python in all.iter().take(1) {
        let mut target = Target::start(python);
        let pid = target.process.id();
        until(SOON, "its start is over", || {
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
            until(SOON + time, "a census", || {
                let all = reader.readings();
                let census = |one: &(u32, HeapReading)| matches!(one.1, HeapReading::Census(_));
                count += all.filter(census).count();
                work.look();
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
        // But what there is when a pause ends is asked of it, too.
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
        until(2 * SOON, "censuses of what is busy", || {
            busy += taken(MOMENT, &mut work);
            busy >= 3
        });
    }
}
