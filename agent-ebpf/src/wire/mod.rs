//! The records and constants of the wire contract, by subject.

mod cookies;
mod counters;
mod events;
mod heap;
mod layout;
mod limits;
mod requests;
mod settings;
mod sites;
mod targets;

pub use cookies::*;
pub use counters::*;
pub use events::*;
pub use heap::*;
pub use limits::*;
pub use requests::*;
pub use settings::*;
pub use sites::*;
pub use targets::*;
