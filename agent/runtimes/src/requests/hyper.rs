//! hyper's HTTP/2 streams: each has its own future, polled in a tokio task.

use std::sync::LazyLock;

use heaptide_process::Inspected;
use heaptide_process::plan::wishes::{Ask, FunctionAt, ProbeWish};
use heaptide_process::plan::{Program, Purpose};
use regex::Regex;

use super::source::{Found, RequestSource};
use crate::functions::{matching, mentions};

/// A stream is polled.
const POLL: Program = Program::opening("stream_poll", Purpose::Request);
/// It is about to return from that (a probe at each of its ends).
const DONE: Program = Program::at("stream_done", Purpose::Request);

/// Preliminary name of a request.
const NAME: &str = "HTTP/2 stream";

/// The future of a stream has its own poll function in all builds examined.
static STREAM: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let pattern =
        r"^<hyper::proto::h2::server::H2Stream<.*> as core::future::future::Future>::poll$";
    Regex::new(pattern).ok()
});

/// Streams of hyper.
pub(super) struct Streams;

impl RequestSource for Streams {
    fn find(&self, process: &Inspected) -> Option<Found> {
        let main = process.modules.first()?;
        let (_, streams) = matching(main, "H2Stream", &["hyper", "poll"], STREAM.as_ref()?);
        if streams.is_empty() && !mentions(main, r"/h2-0\.\d+\.\d+/src/") {
            return None;
        }
        Some(Found {
            limitations: vec![limitation(&streams).to_string()],
            probes: streams
                .into_iter()
                .map(|function| ProbeWish {
                    function,
                    ask: Ask::Scope(POLL, DONE, NAME),
                })
                .collect(),
        })
    }

    fn programs(&self) -> &'static [Program] {
        &[POLL, DONE]
    }
}

fn limitation(streams: &[FunctionAt]) -> &'static str {
    if streams.is_empty() {
        "HTTP/2 requests are not seen (the h2 crate is linked in): only HTTP/1 requests and \
         functions named by --handler"
    } else {
        "paths and tokens of HTTP/2 requests are not seen (the h2 crate is linked in): they \
         have one route, or those of the functions named by --handler, and no token-related \
         cause"
    }
}
