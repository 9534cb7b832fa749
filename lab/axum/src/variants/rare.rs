//! Leaks of few bytes or of few requests: a quota per user, one call in twenty, unknown paths.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex};

use axum::Json;
use axum::extract::OriginalUri;
use axum::http::StatusCode;
use axum::routing::get;

use crate::auth::Claims;
use crate::handlers::{Data, items_of};
use crate::kept::Kept;
use crate::sizes::{Heap, table_of_map, table_of_vec};
use crate::{Service, query_database};

/// What a rate limiter knows of a user.
#[derive(Default)]
struct Quota {
    requests: u64,
    /// Counts of the last seven minutes.
    minutes: [u64; 7],
}

static QUOTAS: LazyLock<Mutex<HashMap<u64, Box<Quota>>>> = LazyLock::new(Mutex::default);
static SLOW: Mutex<Vec<String>> = Mutex::new(Vec::new());
static CALLS: AtomicUsize = AtomicUsize::new(0);
static MISSING: LazyLock<Mutex<HashMap<String, String>>> = LazyLock::new(Mutex::default);

pub(super) fn quota(innocent: Service) -> Service {
    Service {
        data: get(get_data_limited),
        ..innocent
    }
}

async fn get_data_limited(claims: Claims) -> Json<Data> {
    query_database().await;
    count_quota(&claims);
    Json(items_of(&claims.sub))
}

/// A user is never forgotten: 64 bytes each.
fn count_quota(claims: &Claims) {
    let mut hasher = DefaultHasher::new();
    claims.jti.hash(&mut hasher);
    let mut quotas = QUOTAS.lock().expect("no holder panics");
    let quota = quotas.entry(hasher.finish()).or_default();
    quota.requests += 1;
    quota.minutes[0] += 1;
}

pub(super) fn kept_quotas() -> Kept {
    let quotas = QUOTAS.lock().expect("no holder panics");
    Kept {
        entries: quotas.len(),
        entry_bytes: quotas.len() * size_of::<Quota>(),
        table_bytes: table_of_map(&quotas),
        ..Kept::default()
    }
}

pub(super) fn one_in_20(innocent: Service) -> Service {
    Service {
        data: get(get_data_slow),
        ..innocent
    }
}

async fn get_data_slow(claims: Claims) -> Json<Data> {
    query_database().await;
    log_slow_query(&claims);
    Json(items_of(&claims.sub))
}

/// Every 20th query is slow, and slow queries are written down.
fn log_slow_query(claims: &Claims) {
    let line = format!("select items of {}; ", claims.sub).repeat(30);
    if CALLS.fetch_add(1, Ordering::Relaxed).is_multiple_of(20) {
        SLOW.lock().expect("no holder panics").push(line);
    }
}

pub(super) fn kept_slow() -> Kept {
    let slow = SLOW.lock().expect("no holder panics");
    Kept {
        entries: slow.len(),
        entry_bytes: slow.iter().map(Heap::heap).sum(),
        table_bytes: table_of_vec(&slow),
        ..Kept::default()
    }
}

pub(super) fn missing_paths(innocent: Service) -> Service {
    Service {
        fallback: get(get_missing),
        ..innocent
    }
}

async fn get_missing(OriginalUri(uri): OriginalUri) -> (StatusCode, String) {
    (StatusCode::NOT_FOUND, remember_missing(uri.path()))
}

/// A negative cache of paths, which scanners fill.
fn remember_missing(path: &str) -> String {
    let mut missing = MISSING.lock().expect("no holder panics");
    let answer = missing.entry(path.to_owned());
    let answer = answer.or_insert_with(|| format!("no such resource: {path}\n").repeat(12));
    answer.clone()
}

pub(super) fn kept_missing() -> Kept {
    let missing = MISSING.lock().expect("no holder panics");
    let bytes = missing
        .iter()
        .map(|(path, answer)| path.heap() + answer.heap());
    Kept {
        entries: missing.len(),
        entry_bytes: bytes.sum(),
        table_bytes: table_of_map(&missing),
        ..Kept::default()
    }
}
