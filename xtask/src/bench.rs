//! `cargo xtask bench`: measures the costs of heaptide, one file per question.

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
    /// CPU that tracing a request adds to the server.
    RequestCost(request_cost::Arguments),
    /// Cost of a system call of an unobserved process while another is observed.
    Syscalls(syscalls::Arguments),
    /// Cost of a probed malloc and free, compared with other methods.
    Probes(probes::Arguments),
    /// The same with each allocator, compared with one counting probe on it.
    Native(native::Arguments),
    /// Throughput of the Python frameworks with heaptide and without.
    Python(python::Arguments),
    /// State and CPU of the judge with all series taken.
    Detector,
    /// The same for Go, with requests and heap observed, and with objects sampled.
    Go(go::Arguments),
    /// A Go service under full load while heaptide attaches and detaches.
    GoSoak(go_soak::Arguments),
    /// Memory and CPU of heaptide itself.
    Agent(agent::Arguments),
    /// Effect of reading a large Python service on its latency, and the resources that heaptide needs
    /// for it.
    Census(census::Arguments),
    /// Speed of searching memory for tokens, and its effect on the target's latency.
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
