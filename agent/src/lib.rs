//! heaptide finds the HTTP route and the token traffic that make a running process grow, from
//! outside. ARCHITECTURE.md describes the modules and the data flow.

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
