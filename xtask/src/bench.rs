//! `cargo xtask bench`: what heaptide costs, one file per question.

use anyhow::Result;
use clap::Subcommand;

mod agent;
mod census;
mod cpu;
mod cycle;
mod detector;
mod go;
mod go_soak;
mod native;
mod probes;
mod python;
mod request_cost;
mod residency;
mod syscalls;

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// CPU that following a request adds to the server.
    RequestCost(request_cost::Arguments),
    /// What a system call of an unwatched process costs while another is watched
    Syscalls(syscalls::Arguments),
    /// What a probed malloc and free cost, beside other ways.
    Probes(probes::Arguments),
    /// The same with each allocator, beside one counting probe on it.
    Native(native::Arguments),
    /// Throughput of the Python frameworks with heaptide and without.
    Python(python::Arguments),
    /// State and CPU of the detector with all series taken.
    Detector,
    /// The same of Go's, with requests and heap watched and with objects followed.
    Go(go::Arguments),
    /// A Go service under full load while heaptide comes and goes.
    GoSoak(go_soak::Arguments),
    /// Memory and CPU of heaptide itself.
    Agent(agent::Arguments),
    /// What looking through a large Python service does to its latency, and what heaptide needs for it.
    Census(census::Arguments),
    /// How fast memory is searched for tokens, and what that does to the target's latency.
    Residency(residency::Arguments),
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    match &arguments.what {
        What::RequestCost(arguments) => request_cost::run(arguments),
        What::Syscalls(arguments) => syscalls::run(arguments),
        What::Probes(arguments) => probes::run(arguments),
        What::Native(arguments) => native::run(arguments),
        What::Python(arguments) => python::run(arguments),
        What::Detector => detector::run(),
        What::Go(arguments) => go::run(arguments),
        What::GoSoak(arguments) => go_soak::run(arguments),
        What::Agent(arguments) => agent::run(arguments),
        What::Census(arguments) => census::run(arguments),
        What::Residency(arguments) => residency::run(arguments),
    }
}
