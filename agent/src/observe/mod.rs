//! From kernel to observations: attaches targets, reads ring and maps, follows forks and execs.

mod attach;
mod attached;
pub mod calibrate;
mod code;
mod control;
mod copies;
mod events;
mod faults;
mod heaps;
mod host;
mod libraries;
mod lifecycle;
mod live;
mod memory;
mod observing;
mod options;
mod outside;
mod pace;
mod regions;
pub mod residency;
mod ring;
mod rules;
mod slots;
mod snapshot;
mod source;
mod stacks;
mod tidy;
mod tokens;
mod unread;

pub use host::{Sink, SourceError};
pub use observing::Observing;
pub use options::{SourceOptions, TargetOptions};
pub use outside::Outside;
pub use source::Source;
