//! tokio: `tokio::runtime::task::raw::poll` is called with the task's header whenever a task runs.
//! It survives full link-time optimisation.

use std::sync::LazyLock;

use regex::Regex;

use heaptide_process::Inspected;
use heaptide_process::plan::Program;

use crate::door::{Recognised, Runtime};
use crate::functions::{matching, mentions};
use crate::tasks::{TASK_POLL, Tasks};

static POLL: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^tokio::runtime::task::raw::poll(::<.*>)?$").ok());

/// tokio.
pub(crate) struct Tokio;

impl Runtime for Tokio {
    fn recognise(&self, process: &Inspected) -> Option<Recognised> {
        recognise(process)
    }

    fn programs(&self) -> &'static [Program] {
        &[TASK_POLL]
    }
}

fn recognise(process: &Inspected) -> Option<Recognised> {
    let poll = POLL.as_ref()?;
    let main = process.modules.first()?;
    let (seen, tasks) = matching(main, "tokio", &["poll", "raw"], poll);
    if !seen && !mentions(main, r"/tokio-1\.\d+\.\d+/src/runtime/") {
        return None;
    }
    let limitation = tasks.is_empty().then(|| {
        "tokio is linked in, but its task poll function has no symbol (stripped): requests are \
         bound to threads, not to tasks"
            .to_string()
    });
    Some(Recognised {
        name: "tokio".to_string(),
        own_heap: false,
        collected: false,
        wide_strings: false,
        limitations: limitation.into_iter().collect(),
        observer: Box::new(Tasks { polls: tasks }),
    })
}
