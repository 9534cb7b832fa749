//! Import cycles between files: the shortest one in each strongly connected group.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Imports of each file, with the first line that does: (line, what it names).
pub(super) type Imports = BTreeMap<String, BTreeMap<String, (usize, String)>>;

/// Strongly connected groups of files.
pub(super) fn groups(imports: &Imports) -> Vec<BTreeSet<String>> {
    let reached: BTreeMap<&str, BTreeSet<&str>> = imports
        .keys()
        .map(|file| (file.as_str(), reach(imports, file)))
        .collect();
    let mut groups: Vec<BTreeSet<String>> = Vec::new();
    for (file, others) in &reached {
        if !others.contains(file) || groups.iter().any(|group| group.contains(*file)) {
            continue;
        }
        let group = others
            .iter()
            .filter(|other| reached.get(*other).is_some_and(|back| back.contains(file)));
        groups.push(group.map(|&other| other.to_owned()).collect());
    }
    groups
}

/// The files that a file imports, directly or indirectly.
fn reach<'a>(imports: &'a Imports, file: &str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<&str> = vec![file];
    while let Some(file) = open.pop() {
        for next in imports.get(file).into_iter().flat_map(BTreeMap::keys) {
            if reached.insert(next.as_str()) {
                open.push(next);
            }
        }
    }
    reached
}

/// The shortest cycle through a file, in order.
pub(super) fn shortest<'a>(imports: &'a Imports, file: &'a str) -> Option<Vec<&'a str>> {
    let mut from: BTreeMap<&str, &str> = BTreeMap::new();
    let mut open = VecDeque::from([file]);
    while let Some(here) = open.pop_front() {
        for next in imports.get(here)?.keys() {
            if next == file {
                let mut cycle = vec![here];
                while let Some(&before) = cycle.last().and_then(|last| from.get(last)) {
                    cycle.push(before);
                }
                cycle.reverse();
                return Some(cycle);
            }
            // Files without imports are in no cycle.
            if imports.contains_key(next) && !from.contains_key(next.as_str()) {
                from.insert(next, here);
                open.push_back(next);
            }
        }
    }
    None
}

/// A message on a group: its files, and the imports between them.
pub(super) fn told(imports: &Imports, group: &BTreeSet<String>) -> String {
    let files: Vec<&str> = group.iter().map(String::as_str).collect();
    let mut lines = vec![format!(
        "{} files import one another: {}",
        files.len(),
        files.join(", ")
    )];
    let first = files.first().and_then(|file| shortest(imports, file));
    let first: BTreeSet<&str> = first.into_iter().flatten().collect();
    let ties = |file: &str| {
        imports
            .get(file)
            .into_iter()
            .flatten()
            .filter(|(to, _)| group.contains(*to))
            .map(|(to, (line, named))| format!("    {file}:{line}: `{named}` is in {to}"))
            .collect::<Vec<_>>()
    };
    // The files of one short cycle first, because it is the next one to cut.
    let (short, rest): (Vec<&str>, Vec<&str>) =
        files.iter().partition(|file| first.contains(*file));
    lines.extend(short.into_iter().chain(rest).flat_map(ties));
    lines.join("\n")
}
