//! Leaks of every request, with any token.

use std::cell::RefCell;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Json;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::routing::{get, post};
use serde_json::{Value, json};

use crate::auth::Claims;
use crate::handlers::{Data, items_of};
use crate::kept::Kept;
use crate::sizes::{Heap, table_of_vec};
use crate::{Service, query_database};

static LOG: Mutex<Vec<String>> = Mutex::new(Vec::new());

pub(super) fn introspection_log(innocent: Service) -> Service {
    Service {
        data: get(get_data_logged),
        ..innocent
    }
}

async fn get_data_logged(claims: Claims) -> Json<Data> {
    query_database().await;
    let data = items_of(&claims.sub);
    log_response(&claims, &data);
    Json(data)
}

/// Debugging code that was never removed: the last responses, never trimmed.
fn log_response(claims: &Claims, data: &Data) {
    let response = json!({ "active": true, "claims": claims, "data": data }).to_string();
    LOG.lock().expect("no holder panics").push(response);
}

pub(super) fn kept_log() -> Kept {
    let log = LOG.lock().expect("no holder panics");
    Kept {
        entries: log.len(),
        entry_bytes: log.iter().map(Heap::heap).sum(),
        table_bytes: table_of_vec(&log),
        ..Kept::default()
    }
}

/// The first bytes of each upload; a `Bytes` keeps the whole body alive.
static PREVIEWS: Mutex<Vec<Bytes>> = Mutex::new(Vec::new());
static BODY_BYTES: AtomicUsize = AtomicUsize::new(0);

pub(super) fn body_retained(innocent: Service) -> Service {
    Service {
        upload: post(post_upload_preview),
        ..innocent
    }
}

async fn post_upload_preview(body: Bytes) -> (StatusCode, Json<Value>) {
    query_database().await;
    remember_preview(&body);
    (StatusCode::CREATED, Json(json!({ "bytes": body.len() })))
}

fn remember_preview(body: &Bytes) {
    BODY_BYTES.fetch_add(body.len(), Ordering::Relaxed);
    let preview = body.slice(..body.len().min(16));
    PREVIEWS.lock().expect("no holder panics").push(preview);
}

/// Bodies as sent: their buffers belong to hyper and may be larger.
pub(super) fn kept_bodies() -> Kept {
    let previews = PREVIEWS.lock().expect("no holder panics");
    Kept {
        entries: previews.len(),
        entry_bytes: BODY_BYTES.load(Ordering::Relaxed),
        table_bytes: table_of_vec(&previews),
        ..Kept::default()
    }
}

thread_local! {
    static SEEN: RefCell<Vec<Claims>> = const { RefCell::new(Vec::new()) };
}
static SEEN_ENTRIES: AtomicUsize = AtomicUsize::new(0);
static SEEN_BYTES: AtomicUsize = AtomicUsize::new(0);

pub(super) fn thread_local_claims(innocent: Service) -> Service {
    Service {
        data: get(get_data_seen),
        ..innocent
    }
}

async fn get_data_seen(claims: Claims) -> Json<Data> {
    query_database().await;
    let data = items_of(&claims.sub);
    remember_seen(claims);
    Json(data)
}

/// One entry per request, on its worker thread.
fn remember_seen(claims: Claims) {
    SEEN_ENTRIES.fetch_add(1, Ordering::Relaxed);
    SEEN_BYTES.fetch_add(claims.heap(), Ordering::Relaxed);
    SEEN.with_borrow_mut(|seen| seen.push(claims));
}

/// Without the vectors' buffers, which other threads own.
pub(super) fn kept_thread_local() -> Kept {
    Kept {
        entries: SEEN_ENTRIES.load(Ordering::Relaxed),
        entry_bytes: SEEN_BYTES.load(Ordering::Relaxed),
        ..Kept::default()
    }
}
