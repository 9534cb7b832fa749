//! The books of `lab/truth` against what the agent saw of it: byte for byte, block for block, line by
//! line.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;

use serde::Deserialize;

/// A line of the books, and of `--live-sites`: the same words for the same things.
#[derive(Debug, Deserialize)]
pub(crate) struct Books {
    pub(crate) pid: u32,
    pub(crate) sites: Vec<Site>,
    #[serde(default)]
    pub(crate) losses: HashMap<String, u64>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Site {
    pub(crate) function: String,
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) file: Option<String>,
    /// In the books 0: never allocated, -1: from several lines.
    #[serde(default)]
    pub(crate) line: Option<i64>,
    pub(crate) bytes: i64,
    pub(crate) blocks: i64,
}

/// Counters that must be 0 for "nothing lost".
const LOSSES: [&str; 6] = [
    "lost_frees",
    "missed_returns",
    "map_full",
    "inflight_full",
    "threads_full",
    "ring_full",
];

/// All that is wrong with what was seen, a line each; empty when it agrees with the books.
pub(crate) fn differences(books: &Books, seen: &Books) -> String {
    let mut differences = losses(seen);
    let mut known = BTreeMap::new();
    for site in &books.sites {
        known.insert((site.function.as_str(), site.kind.as_str()), site);
    }
    for (key, site) in &known {
        compare(site, &of(seen, key.0, key.1), &mut differences);
    }
    for site in seen
        .sites
        .iter()
        .filter(|site| site.kind == "heap" && site.blocks != 0)
    {
        let function = plain(&site.function);
        // pthread_create keeps a thread's dynamic vector with its cached stack: four real blocks.
        if !known.contains_key(&(function, "heap")) && function != "run_threads" {
            let _ = writeln!(differences, "no such site in the books: {site:?}");
        }
    }
    differences
}

/// What was seen of a process, out of a file of `--live-sites`.
pub(crate) fn of_process(text: &str, pid: u32) -> Books {
    let lines = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON lines"));
    let mut found: Vec<Books> = lines.filter(|line: &Books| line.pid == pid).collect();
    assert_eq!(found.len(), 1, "lines for process {pid} in {text}");
    found.remove(0)
}

/// Compares what was seen of one site with its books. (malloc maps memory of its own for big blocks
/// and for the heaps of threads: mappings at sites of kind "heap" are nobody's mistake.)
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
                "{}: said to be {:?}:{:?}, is {:?}:{line}",
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

fn of<'a>(seen: &'a Books, function: &str, kind: &str) -> Vec<&'a Site> {
    let fits = |site: &&Site| plain(&site.function) == function && site.kind == kind;
    seen.sites.iter().filter(fits).collect()
}

/// A function's name without its parameters and the suffix of a part that the compiler split off.
pub(crate) fn plain(function: &str) -> &str {
    let name = function.split('(').next().unwrap_or(function);
    name.split('.').next().unwrap_or(name)
}
