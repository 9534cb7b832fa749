//! The cost of observing a target, and when its probes are on: measurement, two pure controllers, and the
//! set of probes.

pub mod allocation_windows;
pub mod call_tracing;
mod floor;
pub mod meter;
pub mod probe_set;
pub mod request_tracing;
pub mod turn;
