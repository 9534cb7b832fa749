//! The census of real interpreters, compared with containers of known names and sizes: while nothing changes, while
//! they grow, and while everything changes.

use std::collections::HashMap;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::common::containers::{SOON, Target};
use super::common::interpreters::interpreters;
use heaptide_judge::events::{Census, Nanos};
use heaptide_runtimes::inspect;
use heaptide_runtimes::readers::{HeapReading, Readers};

/// Runs a test with all interpreters at once, because it mostly waits.
fn with_each(test: &str, run: impl Fn(&Path) + Sync) {
    let all = interpreters(test);
    thread::scope(|scope| {
        for python in &all {
            scope.spawn(|| run(python));
        }
    });
}

fn entries(census: &Census) -> HashMap<(&str, &str), u64> {
    census
        .containers
        .iter()
        .map(|c| ((c.path.as_str(), c.kind.as_str()), c.entries))
        .collect()
}

/// Name, type and size of the containers of `containers.py`.
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
        // "ready" is printed before the interpreter is idle, and other processes use the cores.
        for _ in 0..20 {
            if census.torn == 0 && !census.cut {
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
        let first: Vec<(&str, &str, u64)> = census
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
        assert_eq!(first, expected, "{version}: {census:#?}");
        let weighs: f64 = target.ask("weigh").parse().expect("a number");
        let said = census.containers[0].bytes.expect("an estimate") as f64;
        assert!(
            (said / weighs - 1.0).abs() < 0.1,
            "{version}: said {said}, weighs {weighs}"
        );
        // A container that was reported is reported again, even if others are bigger.
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
    /// Deadline for the samples, on a busy machine.
    const LONG: Duration = Duration::from_secs(90);
    with_each("lengths_between_censuses_are_the_containers", |python| {
        let mut target = Target::start(python);
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
        let deadline = Instant::now() + LONG;
        let (mut size, mut grown, mut joined) = (1000, false, None);
        let seen_since = |steps: &[(Nanos, u64)], least: u64| {
            let since = steps.iter().filter(|(_, entries)| *entries > least);
            since.count()
        };
        // Two censuses show that the container grows. Its length is sampled from then on, also after another growing
        // container was added.
        while Instant::now() < deadline
            && (steps.len() <= 80 || joined.is_none_or(|size| seen_since(&steps, size) <= 40))
        {
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
            if size > 1500 && steps.len() > 40 && joined.is_none() {
                target.say("big 500");
                joined = Some(size);
            }
            thread::sleep(Duration::from_millis(60));
        }
        assert!(steps.last().is_some_and(|last| last.1 <= size), "{version}");
        let whole = steps
            .windows(2)
            .filter(|pair| pair[0].1 <= pair[1].1 && pair[0].0 < pair[1].0 && pair[1].1 % 10 == 0);
        assert!(steps.len() > 80, "{version}: {steps:?}");
        // A sample may fall into the ten insertions.
        assert!(
            whole.count() as f64 > 0.9 * steps.len() as f64,
            "{version}: {steps:?}"
        );
        let since = joined.map_or(0, |size| seen_since(&steps, size));
        assert!(
            since > 40,
            "{version}: {since} samples since another was added"
        );
    });
}

#[test]
fn a_program_that_changes_all_the_time_is_read_without_harm() {
    /// Number of complete censuses.
    const WHOLE: usize = 8;
    for python in interpreters("a_program_that_changes_all_the_time_is_read_without_harm") {
        let mut target = Target::start(&python);
        let version = target.version.clone();
        target.census();
        target.say("churn");
        let mut whole = 0;
        let deadline = Instant::now() + 3 * SOON;
        while whole < WHOLE {
            assert!(Instant::now() < deadline, "{version}: {whole} are whole");
            let census = target.census();
            let found = entries(&census);
            for (path, kind, size) in KNOWN {
                if let Some(entries) = found.get(&(*path, *kind)) {
                    assert_eq!(entries, size, "{path} of {version}, which does not change");
                }
            }
            if let Some(moving) = found.get(&("__main__.moving", "list")) {
                assert!(*moving <= 20_064, "{version}: {moving}");
            }
            if let Some(churned) = found.get(&("__main__.churned", "dict")) {
                assert!(*churned <= 97, "{version}: {churned}");
            }
            // On a busy machine a census may reach its time limit, and reports that.
            if !census.cut {
                whole += 1;
                let by_name = found.get(&("__main__.by_name", "dict"));
                assert_eq!(by_name, Some(&1000), "{version}");
                assert!(census.objects > 5_000, "{version}: {}", census.objects);
            }
        }
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
        // The search finds a text that is there.
        let planted: String = "mot-yek-detnalp".chars().rev().collect();
        assert!(in_own_memory("mot-yek-detnalp") > 0, "{planted}");
    }
}

/// Number of occurrences of a text in writable memory. It is given backwards, so that the argument is not found.
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
        // The buffer must not be found in the next mapping.
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
        // Nor must the searched text.
        bytes.fill(0);
        std::hint::black_box(&bytes);
    }
    found
}
