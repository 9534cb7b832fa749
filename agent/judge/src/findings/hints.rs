//! Hints: what usually fixes growth of this kind, where the container and the line are known. One table.
//!
//! A hint has no text of the program, and is never more certain than its finding.
// tidy: table

use crate::report::{Cause, Finding, FindingState};

/// What a row of the table is about.
enum About {
    /// A container of these types.
    Kinds(&'static [&'static str]),
    /// A container whose type begins so.
    KindBegins(&'static str),
    /// A container whose path ends with one of these.
    PathEnds(&'static [&'static str]),
    /// A call between the line and the allocator whose name has all of one of these lists.
    Calls(&'static [&'static [&'static str]]),
}

/// A row: the first one that fits gives the hint.
struct Row {
    about: About,
    /// Only for this cause.
    cause: Option<Cause>,
    hint: &'static str,
}

const fn row(about: About, hint: &'static str) -> Row {
    Row {
        about,
        cause: None,
        hint,
    }
}

/// All hints.
static TABLE: &[Row] = &[
    // Python
    row(
        About::Kinds(&["lru_cache"]),
        "`functools.lru_cache(maxsize=...)`; with `maxsize=None`, and as `functools.cache`, it keeps all arguments and results",
    ),
    row(
        About::KindBegins("lru_cache of at most"),
        "a smaller `maxsize` of `functools.lru_cache`, if this one is larger than intended",
    ),
    row(
        About::PathEnds(&[".receivers", "_callbacks", "_funcs", "_handlers"]),
        "registering it once at the start, or removing it again (`Signal.disconnect`, `atexit.unregister`)",
    ),
    Row {
        about: About::Kinds(DICTS),
        cause: Some(Cause::TokenKeyed),
        hint: "a cache with a bound and an expiry instead, `cachetools.TTLCache(maxsize=..., ttl=...)`, if possible with a key \
             that comes again, such as the subject of the token",
    },
    row(
        About::Kinds(DICTS),
        "deleting the entry when it is done with, or a cache with a bound: `cachetools.LRUCache(maxsize=...)`",
    ),
    row(
        About::Kinds(&["list"]),
        "clearing it when its content is written or sent, or `collections.deque(maxlen=...)`",
    ),
    row(
        About::Kinds(&["deque"]),
        "`collections.deque(maxlen=...)`, or a consumer that keeps up",
    ),
    row(
        About::Kinds(&["set"]),
        "`discard` when the element is done with; for tasks `task.add_done_callback(tasks.discard)`",
    ),
    // Go
    row(
        About::Kinds(&["goroutines"]),
        "an end for each goroutine: a `context` with a timeout, or closing the channel that it waits for",
    ),
    row(
        About::Calls(&[&["runtime.mapassign"], &["sync.(*Map)"]]),
        "`delete` when the entry is done with, or a cache with a bound and an expiry: \
         `github.com/hashicorp/golang-lru/v2/expirable`",
    ),
    row(
        About::Calls(&[&["runtime.growslice"]]),
        "a new slice when its content is used, or a ring buffer; a slice of a slice keeps the whole array",
    ),
    // Rust
    row(
        About::Calls(&[
            &["mpsc", "unbounded"],
            &["flume", "unbounded"],
            &["crossbeam", "unbounded"],
        ]),
        "a channel with a bound (`tokio::sync::mpsc::channel`), or a consumer that keeps up",
    ),
    row(
        About::Calls(&[
            &["hashbrown::", "insert"],
            &["hashbrown::", "rehash"],
            &["collections::hash", "insert"],
            &["collections::btree", "insert"],
            &["dashmap::", "insert"],
        ]),
        "`remove` when the entry is done with, or a cache with a bound and an expiry: `moka::sync::Cache` with `max_capacity` \
         and `time_to_live`",
    ),
    row(
        About::Calls(&[&["raw_vec", "grow"], &["RawVec", "grow"]]),
        "`drain` or `clear` when its content is written or sent, or a `VecDeque` that drops its oldest element",
    ),
    // C++
    row(
        About::Calls(&[
            &["std::_Hashtable", "_M_"],
            &["std::__detail::_Hashtable_alloc"],
            &["std::_Rb_tree", "_M_"],
            &["std::__1::__hash_table"],
            &["std::__1::__tree"],
        ]),
        "`erase` when the entry is done with, or a bound that erases the entry used least recently",
    ),
    row(
        About::Calls(&[
            &["std::vector", "_M_realloc"],
            &["std::deque", "_M_push"],
            &["std::__cxx11::list", "_M_create_node"],
        ]),
        "`clear` when its content is written or sent, or a bound",
    ),
];

/// Python's dictionaries.
const DICTS: &[&str] = &["dict", "OrderedDict", "defaultdict", "Counter"];

/// What usually fixes it. `None`: it is no leak, its line is not known, or nothing is known about its container.
pub(super) fn hint(finding: &Finding) -> Option<String> {
    let said = match finding.state {
        FindingState::None => return None,
        FindingState::Suspect => "if it is not meant to grow like this, what usually helps is",
        FindingState::Confirmed => "what usually fixes it is",
    };
    finding.site.line?;
    let fits = |row: &&Row| {
        row.cause.is_none_or(|cause| cause == finding.cause) && is_about(finding, &row.about)
    };
    let row = TABLE.iter().find(fits)?;
    Some(format!("{said} {}", row.hint))
}

fn is_about(finding: &Finding, about: &About) -> bool {
    let container = finding.container.as_ref();
    match about {
        About::Kinds(kinds) => container.is_some_and(|one| kinds.contains(&one.kind.as_str())),
        About::KindBegins(begin) => container.is_some_and(|one| one.kind.starts_with(begin)),
        About::PathEnds(ends) => {
            container.is_some_and(|one| ends.iter().any(|end| one.path.ends_with(end)))
        }
        About::Calls(calls) => {
            // Frames beyond the line are those of its callers.
            let stack = finding.site.stack.iter();
            let mut inner = stack.take_while(|frame| frame.function != finding.site.function);
            inner.any(|frame| {
                calls
                    .iter()
                    .any(|call| call.iter().all(|part| frame.function.contains(part)))
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::FrameKind;
    use crate::fixtures::{finding, frame};
    use crate::report::ContainerSummary;

    fn container(path: &str, kind: &str) -> ContainerSummary {
        ContainerSummary {
            path: path.to_owned(),
            kind: kind.to_owned(),
            entries_start: 0,
            entries_end: 100,
            entries_per_new_token: None,
            entries_per_request: None,
            bytes_per_entry: None,
        }
    }

    fn of(state: FindingState, cause: Cause, path: &str, kind: &str) -> Option<String> {
        let mut one = finding(state, cause, "GET /");
        one.container = Some(container(path, kind));
        hint(&one)
    }

    #[test]
    fn the_container_gives_the_hint() {
        use Cause::{PerRequest, TokenKeyed};
        let confirmed = |cause, path: &str, kind: &str| {
            of(FindingState::Confirmed, cause, path, kind).expect("a hint")
        };
        for (cause, path, kind, part) in [
            (
                TokenKeyed,
                "app.claims_cache",
                "dict",
                "cachetools.TTLCache(maxsize=..., ttl=...)",
            ),
            (
                PerRequest,
                "app.errors",
                "dict",
                "cachetools.LRUCache(maxsize=...)",
            ),
            (
                TokenKeyed,
                "app.verified",
                "lru_cache",
                "functools.lru_cache(maxsize=...)",
            ),
            (
                TokenKeyed,
                "app.verified",
                "lru_cache of at most 100000",
                "smaller `maxsize`",
            ),
            (
                PerRequest,
                "app.request_finished.receivers",
                "list",
                "Signal.disconnect",
            ),
            (
                PerRequest,
                "app.log",
                "list",
                "collections.deque(maxlen=...)",
            ),
            (
                PerRequest,
                "main.wait",
                "goroutines",
                "`context` with a timeout",
            ),
        ] {
            let said = confirmed(cause, path, kind);
            assert!(
                said.starts_with("what usually fixes it is ") && said.contains(part),
                "{said}"
            );
        }
    }

    #[test]
    fn a_hint_is_never_more_certain_than_its_finding() {
        let said = |state| of(state, Cause::TokenKeyed, "app.cache", "dict");
        assert_eq!(said(FindingState::None), None);
        let suspect = said(FindingState::Suspect).expect("a hint");
        assert!(
            suspect.starts_with("if it is not meant to grow"),
            "{suspect}"
        );
        assert_eq!(
            of(FindingState::Confirmed, Cause::Mixed, "app.X", "Unknown"),
            None
        );
        let mut without_line = finding(FindingState::Confirmed, Cause::TokenKeyed, "GET /");
        without_line.container = Some(container("app.cache", "dict"));
        without_line.site.line = None;
        assert_eq!(hint(&without_line), None);
        let unknown = finding(FindingState::Confirmed, Cause::TokenKeyed, "GET /");
        assert_eq!(hint(&unknown), None, "neither container nor call is known");
    }

    #[test]
    fn calls_below_the_line_give_the_hint() {
        let with = |functions: &[&str]| {
            let mut one = finding(FindingState::Confirmed, Cause::TokenKeyed, "GET /");
            let frames = functions.iter().map(|name| frame(name, FrameKind::Library));
            one.site.stack = frames.collect();
            hint(&one)
        };
        for (call, part) in [
            ("runtime.mapassign_faststr", "golang-lru"),
            (
                "hashbrown::raw::RawTable<T,A>::reserve_rehash",
                "moka::sync::Cache",
            ),
            ("std::_Rb_tree<int, int>::_M_create_node", "`erase`"),
            ("alloc::raw_vec::RawVec<T,A>::grow_one", "VecDeque"),
        ] {
            let said = with(&["malloc", call, "get_data", "main"]).expect("a hint");
            assert!(said.contains(part), "{said}");
            assert_eq!(with(&["malloc", "get_data", call]), None, "a caller's");
        }
    }
}
