//! Findings without allocator probes: growth signals that grow without bounds, and their causes. Pure.
//!
//! After each reading [`judge::SignalJudge::judge`] tests every signal and explains the growth of those
//! that pass. [`groups`] joins the signals of one leak, and [`compose`] makes findings of them.

mod bounded;
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
