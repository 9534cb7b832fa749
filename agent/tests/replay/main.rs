//! The judge against small services with known answers, over the path that live data takes.

mod bounds;
mod capture;
mod gauge_world;
mod gauges;
mod keeps;
mod sites;
mod verdicts;
mod world;
