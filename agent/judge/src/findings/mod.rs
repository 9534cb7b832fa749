//! Findings: what grows without bounds, with state, cause, evidence and forecast. Pure.
//!
//! [`Judge::snapshot`] tests every series after each snapshot and keeps the results. [`Judge::findings`]
//! and the verdict only read them.

mod after;
mod after_window;
pub mod benign;
pub mod bound;
pub mod cause;
mod collected;
pub mod compose;
pub mod evalue;
pub mod evidence;
pub mod forecast;
pub mod gates;
pub mod groups;
mod hints;
pub mod inputs;
pub mod judge;
pub mod judged;
mod kept_tokens;
pub mod ledger;
mod line;
pub mod losses;
pub mod memory;
pub mod observed;
pub mod options;
mod places;
pub mod plateaus;
mod precision;
pub mod recall;
pub mod remembered;
pub mod residency;
mod resident_routes;
mod series;
pub mod service;
pub mod signals;
mod table_findings;
pub mod tables;
mod token_counts;
pub mod tracker;
mod traffic;
pub(crate) mod units;
pub mod verdict;
pub mod window;

pub use inputs::Inputs;
pub use judge::Judge;
