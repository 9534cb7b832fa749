//! The judge against small services with known answers, over the path that live data takes.

mod benign;
mod bounds;
mod capture;
mod gauge_trace;
mod gauge_world;
mod gauges;
mod judged;
mod keeps;
mod limits;
mod sites;
mod verdicts;
mod workers;
mod world;
