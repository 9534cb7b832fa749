//! Page faults and Python stacks of real interpreters, compared with what the program prints: its growth, its stack,
//! and the line that fills a container.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::common::interpreters::{interpreters, version_of};
use super::common::process::Process;
use super::common::source::watching;
use heaptide::observe::{Observing as _, Source};
use heaptide_judge::events::{Census, Faults, Observation, Site, SiteId};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(30);
/// The program's source.
const SCRIPT: &str = include_str!("../fixtures/faults.py");

/// A program, and the observations of it and its children.
struct Seen {
    process: Process,
    source: Source,
    sites: HashMap<SiteId, Site>,
    /// Bytes at each site.
    at: HashMap<SiteId, u64>,
    faults: HashMap<u32, Faults>,
    census: Option<Census>,
    censuses: u32,
}

impl Seen {
    fn of(python: &Path) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/faults.py");
        let mut process = Process::start("faults.py", Command::new(python).arg(script));
        process.line(SOON, |line| line == "ready");
        let mut seen = Self {
            process,
            source: watching(),
            sites: HashMap::new(),
            at: HashMap::new(),
            faults: HashMap::new(),
            census: None,
            censuses: 0,
        };
        let pid = seen.process.id();
        seen.source.attach(pid, &mut |_, _| {}).expect("the attach");
        seen
    }

    fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Takes the observations that have arrived.
    fn read(&mut self) {
        let Self {
            source,
            sites,
            at,
            faults,
            census,
            censuses,
            ..
        } = self;
        let mut sink = |pid, one| match one {
            Observation::Site(site) => {
                sites.insert(site.id, site);
            }
            Observation::Faults(read) => {
                for site in &read.sites {
                    *at.entry(site.site).or_default() += site.bytes;
                }
                faults.insert(pid, read);
            }
            Observation::Census(read) => {
                *census = Some(read);
                *censuses += 1;
            }
            _ => {}
        };
        source.pump(&mut sink);
        source.sample(&mut sink).expect("the kernel's numbers");
    }

    /// Reads for `time`, or until `enough`.
    fn watch(&mut self, time: Duration, enough: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while begun.elapsed() < time && !enough(self) {
            self.source.wait(Duration::from_millis(50));
            self.read();
        }
    }

    /// The expected containers that the last census does not have with this line.
    fn not_named(&self, expected: &HashMap<String, u32>) -> Vec<String> {
        let census = self.census.as_ref();
        let named = |path: &str, line: u32| {
            let all = census.map_or(&[][..], |census| &census.containers);
            let container = all.iter().find(|one| one.path == path);
            let best = container.and_then(|container| container.writers.first());
            best.is_some_and(|best| {
                let file = best.file.as_deref().unwrap_or_default();
                best.line == Some(line) && best.samples > 0 && file.ends_with("faults.py")
            })
        };
        let wanted = expected.iter().filter(|(path, line)| !named(path, **line));
        wanted
            .map(|(path, line)| format!("{path}:{line}"))
            .collect()
    }

    fn fresh(&self) -> u64 {
        self.faults[&self.pid()].fresh_bytes
    }

    /// Resident anonymous bytes.
    fn anonymous(&self) -> u64 {
        let path = format!("/proc/{}/status", self.pid());
        let status = fs::read_to_string(path).expect("a live process");
        let line = status.lines().find(|line| line.starts_with("RssAnon:"));
        let kib: u64 = line
            .and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
            .expect("RssAnon");
        kib * 1024
    }

    /// Bytes at the site with the stack that the program printed.
    fn bytes_at(&self, printed: &Value) -> u64 {
        let expected: Vec<(String, u32)> =
            serde_json::from_value(printed["stack"].clone()).expect("a stack");
        let sites = self.at.iter().filter(|(id, _)| {
            let Some(site) = self.sites.get(id) else {
                return false;
            };
            let stack: Vec<(String, u32)> = site
                .stack
                .iter()
                .map(|frame| (frame.function.clone(), frame.line.unwrap_or(0)))
                .collect();
            stack == expected
        });
        sites.map(|(_, bytes)| bytes).sum()
    }

    /// All sites, for messages of failed tests.
    fn all(&self) -> String {
        let mut lines = Vec::new();
        for (id, bytes) in &self.at {
            let stack = self.sites.get(id).map(|site| {
                let frames = site.stack.iter();
                let frames = frames.map(|f| format!("{}:{}", f.function, f.line.unwrap_or(0)));
                frames.collect::<Vec<_>>().join(" < ")
            });
            lines.push(format!("{bytes} {stack:?}"));
        }
        lines.join("\n")
    }
}

#[test]
fn faults_are_the_growth_of_the_process() {
    let Some(_turn) = super::common::kernel("faults_are_the_growth_of_the_process") else {
        return;
    };
    for python in interpreters("faults_are_the_growth_of_the_process") {
        let mut seen = Seen::of(&python);
        let version = version_of(&python);
        seen.read();
        let (before, rss) = (seen.fresh(), seen.anonymous());
        for _ in 0..5 {
            seen.process.say("small 40000");
            seen.process.line(SOON, |line| line == "done small");
            seen.read();
        }
        let (faults, grown) = (seen.fresh() - before, seen.anonymous() - rss);
        assert!(grown > 40 << 20, "{version}: {grown}");
        let ratio = faults as f64 / grown as f64;
        println!("{version}: {faults} bytes of fresh pages, RssAnon {grown}: {ratio:.4}");
        assert!((ratio - 1.0).abs() < 0.02, "{version}: {ratio}");
    }
}

#[test]
fn stacks_are_where_the_program_says_it_was() {
    let Some(_turn) = super::common::kernel("stacks_are_where_the_program_says_it_was") else {
        return;
    };
    for python in interpreters("stacks_are_where_the_program_says_it_was") {
        let mut seen = Seen::of(&python);
        let version = version_of(&python);
        for what in ["plain", "generator", "thread", "forked"] {
            seen.process.say(&format!("{what} 1000000"));
            if what == "forked" {
                let parent = seen.pid();
                let followed = |seen: &Seen| seen.faults.keys().any(|pid| *pid != parent);
                seen.watch(SOON, followed);
                assert!(followed(&seen), "{version}: the child is not followed");
                seen.process.say("touch");
            }
            let printed = seen.process.line(SOON, |line| line.contains("\"stack\""));
            let printed: Value = serde_json::from_str(&printed).expect("JSON");
            assert_eq!(printed["what"], what);
            seen.read();
            let (bytes, truth) = (
                seen.bytes_at(&printed),
                printed["bytes"].as_u64().unwrap_or(0),
            );
            let ratio = bytes as f64 / truth as f64;
            println!("{version}: {what}: {ratio:.3} of the bytes are where they were touched");
            assert!(
                (0.95..1.02).contains(&ratio),
                "{version}, {what}: {bytes} of {truth}\n{printed}\n{}",
                seen.all()
            );
            if what == "forked" {
                seen.process.say("end");
            }
        }
    }
}

/// Containers and the lines that fill them, from comments of the script.
fn expected() -> HashMap<String, u32> {
    let marked = SCRIPT.lines().zip(1..).filter_map(|(line, number)| {
        let path = line.split("# fills: ").nth(1)?;
        Some((path.to_owned(), number))
    });
    let mut expected: HashMap<String, u32> = marked.collect();
    // Its expression begins on an earlier line.
    let line = SCRIPT
        .lines()
        .zip(1..)
        .find(|(line, _)| line.contains("waiting.append("));
    expected.insert("__main__.waiting".to_owned(), line.expect("the line").1);
    expected
}

#[test]
fn the_line_that_fills_a_container_is_named() {
    let Some(_turn) = super::common::kernel("the_line_that_fills_a_container_is_named") else {
        return;
    };
    for python in interpreters("the_line_that_fills_a_container_is_named") {
        let mut seen = Seen::of(&python);
        let version = version_of(&python);
        // Writer sites are found only for containers that grow between censuses, so one census comes first.
        seen.watch(SOON, |seen| seen.censuses > 0);
        let expected = expected();
        let deadline = Instant::now() + 6 * SOON;
        for round in 1.. {
            seen.process.say("fill 500");
            seen.process.line(SOON, |line| line == "done fill");
            let before = seen.censuses;
            seen.watch(SOON, |seen| seen.censuses > before);
            // A census has a limited share of a core. On a busy machine it is not always complete.
            let is_over = seen.not_named(&expected).is_empty() || Instant::now() > deadline;
            if round >= 3 && is_over {
                break;
            }
        }
        let missing = seen.not_named(&expected);
        assert!(
            missing.is_empty(),
            "{version}: {missing:?} in {:#?}\n{}",
            seen.census,
            seen.all()
        );
        // No sampled code fills this container.
        let census = seen.census.as_ref().expect("a census");
        let others = census
            .containers
            .iter()
            .filter(|one| one.path == "__main__.made_elsewhere");
        assert!(others.into_iter().all(|one| one.writers.is_empty()));
    }
}
