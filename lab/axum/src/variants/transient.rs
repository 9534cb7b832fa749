//! Memory that is large for a while, and then freed or reused.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::extract::{Extension, Request};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::get;
use serde_json::{Value, json};

use crate::auth::{Claims, bearer, decode};
use crate::handlers::{Data, items_of};
use crate::{Service, query_database};

/// A user's permissions from another service: large, and freed with the request.
#[derive(Clone)]
struct Permissions {
    claims: Claims,
    granted: Vec<String>,
}

pub(super) fn request_state(innocent: Service) -> Service {
    let data = get(get_data_permitted).layer(middleware::from_fn(attach_permissions));
    Service { data, ..innocent }
}

async fn attach_permissions(mut request: Request, next: Next) -> Result<Response, StatusCode> {
    let claims = decode(bearer(request.headers())?)?;
    let granted = (0..200)
        .map(|id| format!("{}:item:{id}:read", claims.sub))
        .collect();
    request
        .extensions_mut()
        .insert(Permissions { claims, granted });
    Ok(next.run(request).await)
}

async fn get_data_permitted(Extension(permissions): Extension<Permissions>) -> Json<Value> {
    query_database().await;
    Json(json!({ "user": permissions.claims.sub, "permissions": permissions.granted.len() }))
}

pub(super) fn working_set(innocent: Service) -> Service {
    Service {
        data: get(get_data_slowly),
        ..innocent
    }
}

/// Holds its result as for a slow client. The duration varies with a period of 20 s, and so does the number of
/// requests in flight.
async fn get_data_slowly(claims: Claims) -> Json<Value> {
    let result = vec![1_u8; 64 * 1024];
    tokio::time::sleep(slowness()).await;
    let sum: u64 = result.iter().map(|byte| u64::from(*byte)).sum();
    Json(json!({ "user": claims.sub, "sum": sum }))
}

fn slowness() -> Duration {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64();
    let wave = (now * std::f64::consts::TAU / 20.0).sin();
    Duration::from_secs_f64(0.3 + 0.25 * wave)
}

/// Reused buffers.
static POOL: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

pub(super) fn pool(innocent: Service) -> Service {
    Service {
        data: get(get_data_pooled),
        ..innocent
    }
}

async fn get_data_pooled(claims: Claims) -> Json<Data> {
    let mut buffer = take_buffer();
    query_database().await;
    buffer.extend_from_slice(claims.sub.as_bytes());
    buffer.clear();
    POOL.lock().expect("no holder panics").push(buffer);
    Json(items_of(&claims.sub))
}

fn take_buffer() -> Vec<u8> {
    let pooled = POOL.lock().expect("no holder panics").pop();
    pooled.unwrap_or_else(|| Vec::with_capacity(16 * 1024))
}

static SERVED: AtomicU64 = AtomicU64::new(0);

pub(super) fn burst(innocent: Service) -> Service {
    Service {
        data: get(get_data_report),
        ..innocent
    }
}

/// Every 500th request builds a report of 32 MiB in small pieces, and frees it.
async fn get_data_report(claims: Claims) -> Json<Value> {
    query_database().await;
    let rows = if SERVED.fetch_add(1, Ordering::Relaxed).is_multiple_of(500) {
        32 * 1024
    } else {
        8
    };
    let report: Vec<String> = (0..rows)
        .map(|row| format!("{:>1000}", format!("row {row} of {}", claims.sub)))
        .collect();
    Json(json!({ "user": claims.sub, "rows": report.len(), "last": report.last() }))
}
