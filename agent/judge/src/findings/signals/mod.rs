//! Findings without allocator probes: signals that grow without bounds, and what makes them grow. Pure.
//!
//! After each reading [`SignalJudge::judge`] puts every signal through the gates and explains the growth of
//! those that pass; [`compose`] puts together what belongs to one leak.

pub mod compose;
pub mod curve;
pub mod even;
pub mod explanation;
pub mod figures;
pub mod gates;
pub mod groups;
pub mod judge;
pub mod judged;
mod regression;
pub mod sentences;
