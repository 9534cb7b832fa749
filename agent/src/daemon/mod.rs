//! The daemon: which processes it observes.

pub mod scan;
pub mod select;
