//! heaptide: which HTTP route and which token traffic makes a running process grow, seen from
//! outside. Modules in flow order; see ARCHITECTURE.md.
//!
//! `target -> plan -> kernel -> source -> decode -> attribution -> growth -> findings -> outputs`

pub mod cli;
pub mod commands;
pub mod config;
pub mod daemon;
pub mod decode;
pub mod kernel;
pub mod observe;
pub mod outputs;
pub mod overhead;
pub mod privileges;
pub mod session;
pub mod settings;
pub mod values;
