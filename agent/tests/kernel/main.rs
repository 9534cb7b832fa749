//! Tests with the real kernel, as root: heaptide is attached to real processes. `cargo xtask test` runs each module as a
//! program of its own, named `kernel_MODULE`.

mod common;
#[path = "../schema/mod.rs"]
mod schema;

mod allocators;
mod attribution;
mod bad_environment;
mod bad_input;
mod canary;
mod census;
mod census_pace;
mod check;
mod connections;
mod credentials;
mod daemon;
mod faults;
mod go;
mod go_limits;
mod handlers;
mod health;
mod hostile_files;
mod lifecycle;
mod maps;
mod modes;
mod older;
mod privileges;
mod python_tasks;
mod replay;
mod requests;
mod residency;
mod stop;
mod streams;
mod truth;
mod usdt;
mod windows;
