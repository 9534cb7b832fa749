//! Go programs: requests of net/http by goroutine, and objects of Go's heap.

mod blocks;
mod fields;
mod headers;
mod http2;
mod path;
mod requests;
mod routes;
pub mod scan;
mod serve;
mod tasks;
