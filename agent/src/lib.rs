//! heaptide: which HTTP route and which token traffic makes a running process grow, seen from
//! outside. Modules in flow order; see ARCHITECTURE.md.
//!
//! `target -> plan -> kernel -> source -> decode -> attribution -> growth -> findings -> outputs`

pub mod cli;
pub mod config;
pub mod daemon;
pub mod events;
pub mod outputs;
pub mod report;
