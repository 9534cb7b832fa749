//! The *books* of `lab/truth`: its own record of its allocations by function. They are compared with the agent's
//! result.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::time::Duration;

use serde::Deserialize;

use super::Watched;
use super::process::Process;

const MANY: Duration = Duration::from_secs(180);
/// Maximum differences in a message. The logs of CI show only the beginning and the end of a long one.
const SHOWN: usize = 12;

/// A line of the books or of `--live-sites`. Both have the same fields.
#[derive(Debug, Deserialize)]
pub(crate) struct Books {
    pub(crate) pid: u32,
    sites: Vec<Site>,
    #[serde(default)]
    losses: HashMap<String, u64>,
}

#[derive(Debug, Deserialize)]
struct Site {
    function: String,
    kind: String,
    #[serde(default)]
    file: Option<String>,
    /// In the books, 0 means never allocated, and -1 means allocated in several lines.
    #[serde(default)]
    line: Option<i64>,
    bytes: i64,
    blocks: i64,
}

/// Counters that are 0 if nothing was lost.
const LOSSES: [&str; 6] = [
    "lost_frees",
    "missed_returns",
    "map_full",
    "inflight_full",
    "threads_full",
    "ring_full",
];

/// A running truth program.
pub(crate) struct Target {
    pub(crate) process: Process,
}

impl Books {
    /// All heap blocks and their bytes.
    pub(crate) fn heap(&self) -> (i64, i64) {
        let heap = self.sites.iter().filter(|site| site.kind == "heap");
        heap.fold((0, 0), |sum, site| {
            (sum.0 + site.blocks, sum.1 + site.bytes)
        })
    }
}

impl Target {
    /// Sends a command, and returns the books that the program prints after it.
    pub(crate) fn run(&mut self, command: &str) -> Books {
        self.process.say(command);
        let line = self.process.line(MANY, |line| line.starts_with("{\"pid\""));
        serde_json::from_str(&line).expect("the books are JSON")
    }

    /// Panics unless the agent's result equals the books.
    pub(crate) fn agrees(&mut self, watched: &Watched, books: &Books) {
        self.agrees_but(watched, books, |_, _| true);
    }

    /// The same for the functions and kinds that are `compared`.
    pub(crate) fn agrees_but(
        &mut self,
        watched: &Watched,
        books: &Books,
        compared: impl Fn(&str, &str) -> bool,
    ) {
        assert!(
            self.process.runs(),
            "the target has ended: {}",
            self.process.transcript()
        );
        let seen = seen(watched, books.pid);
        let differences = differences_of(books, &seen, compared);
        assert!(
            differences.is_empty(),
            "{}\n{}\n{}",
            summary(&differences, books, &seen),
            limitations(watched),
            watched.agent.transcript()
        );
    }
}

/// What the report says it cannot see, or nothing if there is no report.
fn limitations(watched: &Watched) -> String {
    let report = std::fs::read_to_string(watched.folder.path().join("report.json"));
    let report: Option<serde_json::Value> = report
        .ok()
        .and_then(|text| serde_json::from_str(&text).ok());
    report.map_or_else(String::new, |report| {
        report["target"]["limitations"].to_string()
    })
}

/// The differences from the books, one line each. Empty if there are none.
pub(crate) fn differences(books: &Books, seen: &Books) -> String {
    differences_of(books, seen, |_, _| true)
}

fn differences_of(books: &Books, seen: &Books, compared: impl Fn(&str, &str) -> bool) -> String {
    let mut differences = losses(seen);
    let mut known = BTreeMap::new();
    let compared = |site: &&Site| compared(plain(&site.function), &site.kind);
    for site in books.sites.iter().filter(compared) {
        known.insert((site.function.as_str(), site.kind.as_str()), site);
    }
    for (key, site) in &known {
        compare(site, &of(seen, key.0, key.1), &mut differences);
    }
    for site in seen
        .sites
        .iter()
        .filter(|site| site.kind == "heap" && site.blocks != 0)
        .filter(compared)
    {
        let function = plain(&site.function);
        // pthread_create keeps the thread's dynamic vector with its cached stack: four live blocks.
        if !known.contains_key(&(function, "heap")) && function != "run_threads" {
            let _ = writeln!(differences, "no such site in the books: {site:?}");
        }
    }
    differences
}

/// Differences for a message: how many, the sums, and the first ones.
pub(crate) fn summary(differences: &str, books: &Books, seen: &Books) -> String {
    let lines: Vec<&str> = differences.lines().collect();
    let shown = lines[..lines.len().min(SHOWN)].join("\n");
    format!(
        "{} differences; (blocks, bytes) in the books: {:?}, seen: {:?}\n{shown}",
        lines.len(),
        books.heap(),
        seen.heap()
    )
}

/// Compares the result for one site with its books. Mappings at sites of kind "heap" are not errors, because malloc
/// maps memory for big blocks and for the arenas of threads.
fn compare(book: &Site, seen: &[&Site], differences: &mut String) {
    let bytes: i64 = seen.iter().map(|site| site.bytes).sum();
    let blocks: i64 = seen.iter().map(|site| site.blocks).sum();
    if (bytes, blocks) != (book.bytes, book.blocks) {
        let _ = writeln!(
            differences,
            "{} ({}): {blocks} blocks of {bytes} bytes, the books say {} of {}",
            book.function, book.kind, book.blocks, book.bytes
        );
    }
    let Some(line) = book.line.filter(|&line| line > 0) else {
        return;
    };
    for site in seen.iter().filter(|site| site.blocks != 0) {
        let file = site
            .file
            .as_deref()
            .and_then(|path| path.rsplit('/').next());
        if file != book.file.as_deref() || site.line != Some(line) {
            let _ = writeln!(
                differences,
                "{}: reported at {:?}:{:?}, is at {:?}:{line}",
                book.function, site.file, site.line, book.file
            );
        }
    }
}

fn losses(seen: &Books) -> String {
    let mut text = String::new();
    for name in LOSSES {
        match seen.losses.get(name) {
            Some(0) => {}
            Some(lost) => writeln!(text, "{name}: {lost}").expect("a string"),
            None => writeln!(text, "{name}: not reported").expect("a string"),
        }
    }
    text
}

/// Checks a target with so many blocks that they are sampled: sums are within `tolerance`, and no block was refused.
pub(crate) fn near(watched: &Watched, books: &Books, tolerance: f64) {
    let seen = seen(watched, books.pid);
    for name in ["map_full", "lost_frees", "missed_returns"] {
        assert_eq!(
            seen.losses.get(name),
            Some(&0),
            "{name}\n{}",
            watched.agent.transcript()
        );
    }
    for what in ["bytes", "blocks"] {
        let sum = |sites: &Books| -> f64 {
            let many = sites.sites.iter().filter(|site| {
                site.kind == "heap" && plain(&site.function).starts_with("site_many_")
            });
            many.map(|site| if what == "bytes" { site.bytes } else { site.blocks } as f64).sum()
        };
        let (truth, estimate) = (sum(books), sum(&seen));
        assert!(
            truth > 500_000.0,
            "too few for a comparison: the target keeps {truth} {what}"
        );
        let error = (estimate - truth).abs() / truth;
        assert!(
            error <= tolerance,
            "{what}: {estimate} for {truth}, off by {:.2} %",
            error * 100.0
        );
    }
}

fn seen(watched: &Watched, pid: u32) -> Books {
    of_process(&watched.read("sites.json"), pid)
}

/// The line of a process in a file of `--live-sites`.
pub(crate) fn of_process(text: &str, pid: u32) -> Books {
    let lines = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON lines"));
    let mut found: Vec<Books> = lines.filter(|line: &Books| line.pid == pid).collect();
    assert_eq!(found.len(), 1, "lines for process {pid} in {text}");
    found.remove(0)
}

fn of<'a>(seen: &'a Books, function: &str, kind: &str) -> Vec<&'a Site> {
    let fits = |site: &&Site| plain(&site.function) == function && site.kind == kind;
    seen.sites.iter().filter(fits).collect()
}

/// A function's name without its parameters and without the suffix of a part that the compiler split off.
fn plain(function: &str) -> &str {
    let function = function
        .strip_prefix("(anonymous namespace)::")
        .unwrap_or(function);
    let name = function.split('(').next().unwrap_or(function);
    name.split('.').next().unwrap_or(name)
}
