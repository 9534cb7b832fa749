//! tokio: `tokio::runtime::task::raw::poll` is called with the task's header whenever a task runs,
//! and survives even full link-time optimisation.

use std::sync::LazyLock;

use regex::Regex;

use heaptide_process::Inspected;
use heaptide_process::plan::Program;
use heaptide_process::plan::wishes::FunctionAt;

use crate::door::{Recognised, Runtime};
use crate::tasks::{STREAM_DONE, STREAM_POLL, TASK_POLL, Tasks, mentions, task_points};

static POLL: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^tokio::runtime::task::raw::poll(::<.*>)?$").ok());

/// Its future for a stream is polled by a function of its own, in the builds that were looked at.
static STREAM: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let pattern =
        r"^<hyper::proto::h2::server::H2Stream<.*> as core::future::future::Future>::poll$";
    Regex::new(pattern).ok()
});

/// tokio, and hyper's streams in it.
pub(crate) struct Tokio;

impl Runtime for Tokio {
    fn recognise(&self, process: &Inspected) -> Option<Recognised> {
        recognise(process)
    }

    fn programs(&self) -> &'static [Program] {
        &[TASK_POLL, STREAM_POLL, STREAM_DONE]
    }
}

fn recognise(process: &Inspected) -> Option<Recognised> {
    let poll = POLL.as_ref()?;
    let main = process.modules.first()?;
    let (seen, tasks) = task_points(main, "tokio", &["poll", "raw"], poll);
    if !seen && !mentions(main, r"/tokio-1\.\d+\.\d+/src/runtime/") {
        return None;
    }
    let limitation = tasks.is_empty().then(|| {
        "tokio is linked in but its task poll function has no symbol (stripped): requests are \
         tied to threads, not to tasks"
            .to_string()
    });
    let streams = if tasks.is_empty() {
        Vec::new()
    } else {
        task_points(main, "H2Stream", &["hyper", "poll"], STREAM.as_ref()?).1
    };
    let limitation = limitation.or_else(|| {
        let linked = !streams.is_empty() || mentions(main, r"/h2-0\.\d+\.\d+/src/");
        linked.then(|| of_streams(&streams).to_string())
    });
    Some(Recognised {
        name: "tokio".to_string(),
        own_heap: false,
        limitations: limitation.into_iter().collect(),
        observer: Box::new(Tasks {
            polls: tasks,
            streams,
        }),
    })
}

/// What is not seen of HTTP/2 by the h2 crate.
fn of_streams(streams: &[FunctionAt]) -> &'static str {
    if streams.is_empty() {
        "requests over HTTP/2 are not seen (the h2 crate is linked in): only those over HTTP/1, and \
         functions named by --handler"
    } else {
        "of requests over HTTP/2 (the h2 crate is linked in) neither paths nor tokens are seen: they are one route, \
         or those of the functions named by --handler, and whether tokens make memory grow cannot be said"
    }
}
