//! The census of real interpreters against containers whose names and sizes are known: while nothing
//! happens, while they grow, and while everything changes.

mod common;

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use common::interpreters::{interpreters, version_of};
use common::process::Process;
use common::until;
use heaptide_judge::events::{Census, Nanos};
use heaptide_runtimes::door::HeapReader;
use heaptide_runtimes::inspect;
use heaptide_runtimes::readers::{HeapReading, Readers};

const SOON: Duration = Duration::from_secs(20);

struct Target {
    process: Process,
    censuses: Box<dyn HeapReader>,
    version: String,
}

impl Target {
    fn start(python: &Path) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/containers.py");
        let mut process = Process::start("containers.py", Command::new(python).arg(script));
        process.line(SOON, |line| line == "ready");
        let target = inspect(process.id()).expect("a live process");
        let version = version_of(python);
        assert_eq!(target.info.runtime, format!("cpython {version}"));
        let censuses = target.runtime.observer.heap_reader();
        let censuses = censuses.expect("a known layout");
        Self {
            process,
            censuses,
            version,
        }
    }

    fn say(&mut self, line: &str) {
        self.process.say(line);
        let what = line.split(' ').next().unwrap_or(line).to_owned();
        self.process
            .line(SOON, |line| line == format!("done {what}"));
    }

    fn ask(&mut self, what: &str) -> String {
        self.process.say(what);
        let answer = self.process.line(SOON, |line| line.starts_with("weighs "));
        answer.trim_start_matches("weighs ").to_owned()
    }

    fn census(&mut self) -> Census {
        self.censuses.census().expect("the layout fits")
    }
}

fn entries(census: &Census) -> HashMap<(&str, &str), u64> {
    census
        .containers
        .iter()
        .map(|c| ((c.path.as_str(), c.kind.as_str()), c.entries))
        .collect()
}

/// Name, type and size of what `containers.py` has.
const KNOWN: &[(&str, &str, u64)] = &[
    ("__main__.by_name", "dict", 1000),
    ("__main__.plain_list", "list", 777),
    ("__main__.a_set", "set", 555),
    ("__main__.a_deque", "deque of at most 4096", 300),
    ("__main__.ordered", "OrderedDict", 444),
    ("__main__.by_default", "defaultdict", 100),
    ("__main__.Registry.shared", "dict", 123),
    ("__main__.registry._items", "list", 222),
    ("__main__.registry.nested.deep", "dict", 333),
    ("__main__.cache", "Cache", 88),
    ("__main__.cache.hits", "list", 99),
    ("__main__.decode", "lru_cache of at most 1024", 200),
    ("__main__.decode_all", "lru_cache", 150),
    ("__main__.handler.<closure>.captured", "dict", 111),
    ("__main__.handler.<default>", "list", 66),
    ("containers.worker.<locals>.inside", "dict", 144),
    ("containers.background.<locals>.events", "list", 167),
    ("__main__.local.claims", "list", 55),
    ("__main__.state.cleanups", "list", 77),
];

#[test]
fn containers_have_their_names_and_sizes() {
    for python in interpreters("containers_have_their_names_and_sizes") {
        let mut target = Target::start(&python);
        let mut census = target.census();
        // "ready" is printed before the interpreter has come to rest.
        for _ in 0..20 {
            if census.torn == 0 {
                break;
            }
            thread::sleep(Duration::from_millis(50));
            census = target.census();
        }
        let found = entries(&census);
        let version = &target.version;
        for (path, kind, size) in KNOWN {
            assert_eq!(
                found.get(&(*path, *kind)),
                Some(size),
                "{path} of {version}: {census:#?}"
            );
        }
        assert!(!census.cut && census.containers.len() <= 64);
        let by_name = census
            .containers
            .iter()
            .find(|container| container.path == "__main__.by_name");
        assert_eq!(
            by_name.map(|container| container.also_at.as_slice()),
            Some(["__main__.registry.alias".to_owned()].as_slice()),
            "{version}"
        );
        assert!(census.objects > 10_000, "{}", census.objects);
        assert_eq!(census.torn, 0, "nothing changes");
    }
}

#[test]
fn what_grows_is_told_first_and_weighed() {
    for python in interpreters("what_grows_is_told_first_and_weighed") {
        let mut target = Target::start(&python);
        let version = target.version.clone();
        target.census();
        target.say("grow 2000");
        target.say("lru 900");
        target.say("cycles 500");
        let census = target.census();
        let told: Vec<(&str, &str, u64)> = census
            .containers
            .iter()
            .take(3)
            .map(|c| (c.path.as_str(), c.kind.as_str(), c.entries))
            .collect();
        let expected = [
            ("__main__.by_name", "dict", 3000),
            ("__main__.decode", "lru_cache of at most 1024", 900),
            ("__main__.Node", "instances", 500),
        ];
        assert_eq!(told, expected, "{version}: {census:#?}");
        let weighs: f64 = target.ask("weigh").parse().expect("a number");
        let said = census.containers[0].bytes.expect("an estimate") as f64;
        assert!(
            (said / weighs - 1.0).abs() < 0.1,
            "{version}: said {said}, weighs {weighs}"
        );
        // what was told once is told on, even when other things are bigger
        target.say("big 60000");
        let census = target.census();
        let found = entries(&census);
        for (path, kind, size) in expected {
            assert_eq!(
                found.get(&(path, kind)),
                Some(&size),
                "{version}: {census:#?}"
            );
        }
        assert_eq!(found.get(&("__main__.plain_list", "list")), Some(&60_777));
    }
}

#[test]
fn lengths_between_censuses_are_the_containers() {
    for python in interpreters("lengths_between_censuses_are_the_containers") {
        let mut target = Target::start(&python);
        let version = target.version.clone();
        let known = inspect(target.process.id()).expect("a live process");
        let reader = Readers::start().expect("a thread");
        let heap = known
            .runtime
            .observer
            .heap_reader()
            .expect("a known layout");
        reader.watch(target.process.id(), known.info.start_ticks, heap);
        let mut steps: Vec<(Nanos, u64)> = Vec::new();
        let deadline = Instant::now() + SOON;
        let (mut size, mut grown, mut joined) = (1000, false, false);
        // two censuses show that it grows; from then on it is looked at
        while Instant::now() < deadline && steps.last().is_none_or(|last| last.1 < 2600) {
            for (_, reading) in reader.readings() {
                match reading {
                    HeapReading::Census(_) => grown = true,
                    HeapReading::Lengths(lengths) => {
                        let of = |one: &(String, String)| one.0 == "__main__.by_name";
                        let index = lengths.containers.iter().position(of);
                        let index = index.unwrap_or_else(|| panic!("{version}: {lengths:?}"));
                        steps.extend(lengths.ticks.iter().map(|(at, all)| (*at, all[index])));
                    }
                    HeapReading::GivenUp(why) => panic!("{version}: {why}"),
                }
            }
            if grown {
                target.say("grow 10");
                size += 10;
            }
            // another container joins it: the looks go on
            if size > 1500 && !joined {
                target.say("big 500");
                joined = true;
            }
            thread::sleep(Duration::from_millis(60));
        }
        assert!(steps.last().is_some_and(|last| last.1 <= size), "{version}");
        let whole = steps
            .windows(2)
            .filter(|pair| pair[0].1 <= pair[1].1 && pair[0].0 < pair[1].0 && pair[1].1 % 10 == 0);
        // A census, which the same thread takes, may hold samples up where others use the cores.
        assert!(steps.len() > 40, "{version}: {steps:?}");
        // A sample may fall into the ten insertions.
        assert!(
            whole.count() as f64 > 0.9 * steps.len() as f64,
            "{version}: {steps:?}"
        );
        let longest = steps.windows(2).map(|pair| pair[1].0.since(pair[0].0));
        let longest = longest.fold(0.0, f64::max);
        assert!(
            joined && longest < 2.0,
            "{version}: no look for {longest} s"
        );
    }
}

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
        for round in 0..3 {
            reader.requests_seen(pid, false);
            // The rest of what was read, and a census that was just being taken.
            let moment = Duration::from_millis(500);
            until(SOON, "what was being read has come", || {
                !comes(&mut target, &reader, moment, lengths)
            });
            let time = Duration::from_millis(2500);
            assert!(!comes(&mut target, &reader, time, lengths), "{round}");
            reader.requests_seen(pid, true);
            // On a busy machine, too; in a pause it would come later still.
            let at_once = Duration::from_secs(4);
            assert!(comes(&mut target, &reader, at_once, census), "{round}");
            assert!(comes(&mut target, &reader, SOON, lengths), "{round}");
        }
    }
}

/// Of a process that does nothing, as the master of workers, hardly any is taken.
#[test]
fn where_nothing_happens_little_is_read() {
    const LONG: Duration = Duration::from_secs(10);
    let all = interpreters("where_nothing_happens_little_is_read");
    for python in all.iter().take(1) {
        let mut target = Target::start(python);
        let known = inspect(target.process.id()).expect("a live process");
        let reader = Readers::start().expect("a thread");
        let heap = known
            .runtime
            .observer
            .heap_reader()
            .expect("a known layout");
        reader.watch(target.process.id(), known.info.start_ticks, heap);
        let taken_in = |time| {
            thread::sleep(time);
            let all = reader.readings();
            all.filter(|(_, reading)| matches!(reading, HeapReading::Census(_)))
                .count()
        };
        let taken = || taken_in(LONG);
        // Its start may have gone on after the first.
        let idle = taken();
        // But what there is when a pause ends is asked of it, too.
        reader.requests_seen(target.process.id(), false);
        reader.requests_seen(target.process.id(), true);
        let mut woken = 0;
        until(SOON, "a census after a pause", || {
            woken += taken_in(Duration::from_millis(50));
            woken > 0
        });
        target.say("grow 5000");
        let little = taken();
        target.say("churn");
        let mut busy = 0;
        until(3 * LONG, "censuses of what is busy", || {
            busy += taken_in(Duration::from_millis(50));
            busy >= 3
        });
        assert!((1..=2).contains(&idle), "{idle} of {}", target.version);
        assert_eq!(woken, 1, "of {}, after a pause", target.version);
        // One may come in the middle of it.
        assert!((1..=2).contains(&little), "{little} of {}", target.version);
    }
}

#[test]
fn a_program_that_changes_all_the_time_is_read_without_harm() {
    for python in interpreters("a_program_that_changes_all_the_time_is_read_without_harm") {
        let mut target = Target::start(&python);
        let version = target.version.clone();
        target.census();
        target.say("churn");
        let mut objects = Vec::new();
        for _ in 0..20 {
            let census = target.census();
            let found = entries(&census);
            for (path, kind, size) in KNOWN {
                if let Some(entries) = found.get(&(*path, *kind)) {
                    assert_eq!(entries, size, "{path} of {version}, which does not change");
                }
            }
            assert_eq!(
                found.get(&("__main__.by_name", "dict")),
                Some(&1000),
                "{version}"
            );
            if let Some(moving) = found.get(&("__main__.moving", "list")) {
                assert!(*moving <= 20_064, "{version}: {moving}");
            }
            if let Some(churned) = found.get(&("__main__.churned", "dict")) {
                assert!(*churned <= 97, "{version}: {churned}");
            }
            objects.push(census.objects);
        }
        assert!(objects.iter().all(|n| *n > 5_000), "{version}: {objects:?}");
        target.say("calm");
        assert!(target.process.runs(), "{version} lives");
    }
}

#[test]
fn no_key_and_no_credential_is_ever_in_a_path_or_in_the_agent() {
    for python in interpreters("no_key_and_no_credential_is_ever_in_a_path_or_in_the_agent") {
        let mut target = Target::start(&python);
        target.census();
        target.say("secret");
        for _ in 0..5 {
            let census = target.census();
            let found = entries(&census);
            let hidden = found.get(&("__main__.registry[]", "list"));
            assert_eq!(hidden, Some(&60), "{}: {census:#?}", target.version);
            for container in &census.containers {
                let said = format!("{} {}", container.path, container.kind);
                assert!(!said.contains("eyJ") && !said.contains("key-"), "{said}");
            }
        }
        assert_eq!(in_own_memory("ETM3QTLiV3c"), 0, "pieces of the credential");
        // the search finds what is there
        let planted: String = "mot-yek-detnalp".chars().rev().collect();
        assert!(in_own_memory("mot-yek-detnalp") > 0, "{planted}");
    }
}

/// How often a text, given backwards so that it is not found in itself, lies in writable memory.
fn in_own_memory(backwards: &str) -> usize {
    use std::os::unix::fs::FileExt;
    let wanted: Vec<u8> = backwards.bytes().rev().map(|b| b ^ 0x55).collect();
    let memory = std::fs::File::open("/proc/self/mem").expect("own memory");
    let maps = std::fs::read_to_string("/proc/self/maps").expect("own mappings");
    let mut found = 0;
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let Some((start, end)) = line.split(' ').next().and_then(|r| r.split_once('-')) else {
            continue;
        };
        let address = |text| u64::from_str_radix(text, 16).expect("hexadecimal");
        let (start, end) = (address(start), address(end));
        let mut bytes = vec![0; (end - start) as usize];
        if memory.read_at(&mut bytes, start).is_err() {
            continue;
        }
        // what was read must not be found in the next mapping
        for byte in &mut bytes {
            *byte ^= 0x55;
        }
        let places = bytes.windows(wanted.len()).enumerate();
        for (at, _) in places.filter(|(_, w)| *w == wanted) {
            found += 1;
            let around = &bytes[at.saturating_sub(64)..(at + 64).min(bytes.len())];
            let around: Vec<u8> = around.iter().map(|b| b ^ 0x55).collect();
            eprintln!("{line}: {}", around.escape_ascii());
        }
        // nor what was wanted, which is the text now
        bytes.fill(0);
        std::hint::black_box(&bytes);
    }
    found
}
