//! The fallback without a known runtime: requests belong to threads.

use heaptide_process::Inspected;

use crate::door::{Observer, Recognised, Runtime};

/// Plain threads: recognises every process.
pub(crate) struct Threads;

impl Runtime for Threads {
    fn recognise(&self, _: &Inspected) -> Option<Recognised> {
        Some(Recognised {
            name: "threads".to_string(),
            own_heap: false,
            collected: false,
            wide_strings: false,
            limitations: Vec::new(),
            observer: Box::new(Unobserved),
        })
    }
}

/// Nothing specific is observed.
pub(crate) struct Unobserved;

impl Observer for Unobserved {}
