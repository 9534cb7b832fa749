//! Findings: series that grow without bounds, why, how surely, and until when. Pure.
//!
//! After each snapshot [`Judge::snapshot`] puts every series through the gates and keeps what they
//! said; [`Judge::findings`] and the verdict only read that.

pub mod benign;
pub mod cause;
pub mod compose;
pub mod evalue;
pub mod evidence;
pub mod forecast;
pub mod gates;
pub mod groups;
pub mod inputs;
pub mod judge;
pub mod judged;
pub mod losses;
pub mod memory;
pub mod options;
mod places;
pub mod plateaus;
pub mod residency;
mod series;
pub mod service;
pub mod signals;
mod table_findings;
pub mod tables;
pub mod tracker;
mod units;
pub mod verdict;
pub mod window;

pub use inputs::Inputs;
pub use judge::Judge;
