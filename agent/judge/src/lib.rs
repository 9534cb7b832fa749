//! heaptide's judge: observations of one process in, a report out. Pure: no root, no kernel, no clock;
//! time is a field of every observation. Only [`capture`] touches files.
//!
//! `events -> attribution -> growth -> findings -> pipeline -> report`

pub mod attribution;
pub mod capture;
pub mod diff;
pub mod events;
pub mod findings;
pub mod growth;
pub mod judged;
pub mod pipeline;
pub mod policy;
pub mod report;
pub mod stacks;

#[cfg(any(test, feature = "fixtures"))]
pub mod fixtures;
