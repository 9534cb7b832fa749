//! smol and async-std: both run tasks of the crate `async-task`. `RawTask::run` is called with the
//! task's address, through a function table, so it is never inlined.

use std::sync::LazyLock;

use regex::Regex;

use heaptide_process::Inspected;

use crate::door::{Recognised, Runtime};
use crate::functions::{matching, mentions};
use crate::tasks::Tasks;

static RUN: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^<?async_task::raw::RawTask<.*>>?::run$").ok());

/// smol, and async-std, which uses the same tasks.
pub(crate) struct Smol;

impl Runtime for Smol {
    fn recognise(&self, process: &Inspected) -> Option<Recognised> {
        recognise(process)
    }
}

fn recognise(process: &Inspected) -> Option<Recognised> {
    let main = process.modules.first()?;
    let (seen, tasks) = matching(main, "async_task", &["RawTask", "run"], RUN.as_ref()?);
    if !seen && !mentions(main, r"/async-task-4\.\d+\.\d+/src/") {
        return None;
    }
    let name = if mentions(main, r"/async-std-1\.\d+\.\d+/src/") {
        "async-std"
    } else {
        "smol"
    };
    let limitation = tasks.is_empty().then(|| {
        format!(
            "{name} is linked in, but the function that runs its tasks has no symbol \
             (stripped): requests are bound to threads, not to tasks"
        )
    });
    Some(Recognised {
        name: name.to_owned(),
        own_heap: false,
        collected: false,
        wide_strings: false,
        limitations: limitation.into_iter().collect(),
        observer: Box::new(Tasks { polls: tasks }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_function_that_runs_a_task() {
        let run = RUN.as_ref().unwrap();
        for name in [
            "async_task::raw::RawTask<F,T,S,M>::run",
            "<async_task::raw::RawTask<app::main::{closure#0}, (), app::Schedule, ()>>::run",
        ] {
            assert!(run.is_match(name), "{name}");
        }
        for name in [
            "async_task::raw::RawTask<F,T,S,M>::run::Guard",
            "async_task::raw::RawTask<F,T,S,M>::schedule",
            "async_task::runnable::Runnable<M>::run",
        ] {
            assert!(!run.is_match(name), "{name}");
        }
    }
}
