//! The judge against small services with known answers, over the path that live data takes.

mod benign;
mod bound;
mod bounds;
mod capture;
mod collectors;
mod diff;
mod full;
mod judged;
mod keeps;
mod limits;
mod pauses;
mod policies;
mod restart;
mod signal_trace;
mod signal_world;
mod signals;
mod sites;
mod tally;
mod verdicts;
mod windows;
mod workers;
mod world;
