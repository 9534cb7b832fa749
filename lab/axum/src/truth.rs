//! The truth for comparison with heaptide: requests, tokens and kept bytes.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::Response;
use serde::Serialize;

use crate::auth::bearer;
use crate::kept::Kept;
use crate::variants::Variant;

/// The response of `GET /truth`.
#[derive(Serialize)]
pub struct Truth {
    variant: &'static str,
    #[serde(flatten)]
    kept: Kept,
    kept_bytes: usize,
    distinct_tokens: u64,
    requests: BTreeMap<String, u64>,
    total_requests: u64,
}

/// Bits for counting distinct tokens in constant memory. At 60,000 tokens 0.7 % are mistaken for
/// known ones.
const TOKEN_BITS: usize = 1 << 22;
static TOKENS: [AtomicU64; TOKEN_BITS / 64] = [const { AtomicU64::new(0) }; TOKEN_BITS / 64];
static DISTINCT: AtomicU64 = AtomicU64::new(0);

static REQUESTS: Mutex<BTreeMap<String, u64>> = Mutex::new(BTreeMap::new());

/// Counts a request and its token.
pub(crate) async fn count(request: Request, next: Next) -> Response {
    if let Some(path) = request.extensions().get::<MatchedPath>() {
        note(
            format!("{} {}", request.method(), path.as_str()),
            bearer(request.headers()).ok(),
        );
    }
    next.run(request).await
}

/// Counts a request of a route and its token.
///
/// # Panics
///
/// Never: no holder of the lock panics.
pub fn note(route: String, token: Option<&str>) {
    *REQUESTS
        .lock()
        .expect("no holder panics")
        .entry(route)
        .or_default() += 1;
    if let Some(token) = token {
        let mut hasher = DefaultHasher::new();
        token.hash(&mut hasher);
        let bit = hasher.finish() as usize % TOKEN_BITS;
        let mask = 1 << (bit % 64);
        if TOKENS[bit / 64].fetch_or(mask, Ordering::Relaxed) & mask == 0 {
            DISTINCT.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The present truth.
pub(crate) fn read(variant: &Variant) -> Truth {
    with(variant.name, (variant.kept)())
}

/// The counts, with the contents of a variant's container.
///
/// # Panics
///
/// Never: no holder of the lock panics.
pub fn with(variant: &'static str, kept: Kept) -> Truth {
    let requests = REQUESTS.lock().expect("no holder panics").clone();
    Truth {
        variant,
        kept_bytes: kept.entry_bytes + kept.table_bytes,
        kept,
        distinct_tokens: DISTINCT.load(Ordering::Relaxed),
        total_requests: requests.values().sum(),
        requests,
    }
}
