//! Which findings of two runs are the same leak.
//!
//! A leak is known by its container, or by the code that keeps it and its route. Lines move and binaries are built in
//! other folders, so functions and names of files count. A function may be known in one run only, and two leaks of one
//! run may be one finding of the other.

use crate::report::{Basis, Cause, Finding, SiteSummary, UNDECIDED};

use super::result::Place;

/// Maximum number of further sites that are compared. A finding has at most 8.
const MOST_SITES: usize = 16;
/// Maximum number of frames of a stack that are compared.
const MOST_FRAMES: usize = 64;
/// Lines by which a site may have moved if its function is not known.
const DRIFT: u32 = 20;

/// The findings of both runs that are one leak.
#[derive(Debug, Default)]
pub(super) struct Group<'a> {
    pub(super) before: Vec<&'a Finding>,
    pub(super) after: Vec<&'a Finding>,
}

/// A result of the matching.
pub(super) enum Matched<'a> {
    /// Both runs have it.
    Both(Group<'a>),
    /// Two findings that may be one leak.
    Unclear(&'a Finding, &'a Finding),
    /// Only the first run has it.
    Before(&'a Finding),
    /// Only the second run has it.
    After(&'a Finding),
}

/// Whether two findings are the same leak.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Same {
    Yes,
    Perhaps,
    No,
}

/// Matches all findings.
pub(super) fn matched<'a>(before: &[&'a Finding], after: &[&'a Finding]) -> Vec<Matched<'a>> {
    // The group of each finding: that of the first finding that it is joined with.
    let count = before.len();
    let mut group: Vec<usize> = (0..count + after.len()).collect();
    for (i, a) in before.iter().enumerate() {
        for (j, b) in after.iter().enumerate() {
            if same(a, b) == Same::Yes {
                let (from, to) = (group[count + j], group[i]);
                for one in &mut group {
                    if *one == from {
                        *one = to;
                    }
                }
            }
        }
    }
    let mut out = Vec::new();
    let (mut left, mut right) = (Vec::new(), Vec::new());
    for id in 0..group.len() {
        let members: Vec<usize> = (0..group.len()).filter(|at| group[*at] == id).collect();
        let mut found = Group::default();
        for at in members {
            match at.checked_sub(count) {
                None => found.before.push(before[at]),
                Some(at) => found.after.push(after[at]),
            }
        }
        if !found.before.is_empty() && !found.after.is_empty() {
            out.push(Matched::Both(found));
        } else {
            left.extend(found.before);
            right.extend(found.after);
        }
    }
    for a in left {
        match right.iter().position(|b| same(a, b) == Same::Perhaps) {
            Some(at) => out.push(Matched::Unclear(a, right.remove(at))),
            None => out.push(Matched::Before(a)),
        }
    }
    out.extend(right.into_iter().map(Matched::After));
    out
}

fn same(a: &Finding, b: &Finding) -> Same {
    if let (Some(one), Some(other)) = (&a.container, &b.container) {
        if (&one.path, &one.kind) == (&other.path, &other.kind) {
            return Same::Yes;
        }
        // Two containers that one line fills may be two leaks, or one under two names.
        return if share_site(a, b) && routes_agree(a, b) && a.cause == b.cause {
            Same::Perhaps
        } else {
            Same::No
        };
    }
    if !routes_agree(a, b) {
        return Same::No;
    }
    if share_site(a, b) {
        return Same::Yes;
    }
    let certain = a.route == b.route && a.cause == b.cause && !is_vague(&a.route);
    let possible = certain || causes_agree(a, b);
    if !possible || !(is_unplaced(a) || is_unplaced(b)) {
        return Same::No;
    }
    if certain { Same::Yes } else { Same::Perhaps }
}

/// Whether a benign finding of the other run is in the same code or container.
pub(super) fn is_same_code(a: &Finding, b: &Finding) -> bool {
    match (&a.container, &b.container) {
        (Some(one), Some(other)) => one.path == other.path,
        _ => share_site(a, b) && routes_agree(a, b),
    }
}

fn is_vague(route: &str) -> bool {
    route == UNDECIDED || route == "(all routes)"
}

fn routes_agree(a: &Finding, b: &Finding) -> bool {
    a.route == b.route || is_vague(&a.route) || is_vague(&b.route)
}

fn causes_agree(a: &Finding, b: &Finding) -> bool {
    a.cause == b.cause || [a.cause, b.cause].contains(&Cause::Indeterminate)
}

/// Whether the code that keeps the memory is not known.
fn is_unplaced(finding: &Finding) -> bool {
    let total = matches!(finding.basis, Basis::Process | Basis::Collector);
    total || !sites(finding).any(is_known)
}

fn sites(finding: &Finding) -> impl Iterator<Item = &SiteSummary> {
    std::iter::once(&finding.site).chain(finding.also.iter().take(MOST_SITES))
}

fn is_known(site: &SiteSummary) -> bool {
    has_function(site) || site.file.is_some()
}

fn has_function(site: &SiteSummary) -> bool {
    !site.function.is_empty() && !site.function.starts_with('(')
}

fn share_site(a: &Finding, b: &Finding) -> bool {
    sites(a).any(|one| sites(b).any(|other| is_one_site(one, other)))
        // Inlining and the choice of the leading frame differ between builds.
        || calls(&a.site, &b.site)
        || calls(&b.site, &a.site)
}

/// Whether two sites are in one function, or at about one line if the function is not known in both.
fn is_one_site(a: &SiteSummary, b: &SiteSummary) -> bool {
    let files = match (&a.file, &b.file) {
        (Some(a), Some(b)) => Some(base_name(a) == base_name(b)),
        _ => None,
    };
    if has_function(a) && has_function(b) {
        return files != Some(false) && plain(&a.function) == plain(&b.function);
    }
    let near = matches!((a.line, b.line), (Some(a), Some(b)) if a.abs_diff(b) <= DRIFT);
    files == Some(true) && near
}

/// Whether the stack of `inner` goes through the function of `outer`, in the same file.
fn calls(inner: &SiteSummary, outer: &SiteSummary) -> bool {
    let Some(file) = outer.file.as_deref().filter(|_| has_function(outer)) else {
        return false;
    };
    let Some(at) = inner.stack.iter().take(MOST_FRAMES).position(|frame| {
        plain(&frame.function) == plain(&inner.function) && frame.line == inner.line
    }) else {
        return false;
    };
    // Only the caller of the leading frame: further out all leaks of a route have the same callers.
    let caller = inner.stack.get(at + 1);
    caller.is_some_and(|frame| {
        plain(&frame.function) == plain(&outer.function)
            && frame.line == outer.line
            && frame.file.as_deref().map(base_name) == Some(base_name(file))
    })
}

/// The function without the hash that rustc adds.
fn plain(function: &str) -> &str {
    match function.rsplit_once("::h") {
        Some((name, hash)) if hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()) => {
            name
        }
        _ => function,
    }
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Whether a main site of the first run is one of the second run too.
pub(super) fn have_one_main_site(group: &Group) -> bool {
    let mut before = group.before.iter();
    before.any(|a| group.after.iter().any(|b| is_one_site(&a.site, &b.site)))
}

/// The known sites that only the first run has, and those that only the second one has.
pub(super) fn only_in_one(group: &Group) -> (Vec<Place>, Vec<Place>) {
    let missing = |of: &[&Finding], other: &[&Finding]| -> Vec<Place> {
        let in_other = |site: &SiteSummary| {
            let mut all = other.iter().flat_map(|finding| sites(finding));
            all.any(|known| is_one_site(site, known))
        };
        let all = of.iter().flat_map(|finding| sites(finding));
        all.filter(|site| is_known(site) && !in_other(site))
            .map(Place::from)
            .collect()
    };
    (
        missing(&group.before, &group.after),
        missing(&group.after, &group.before),
    )
}
