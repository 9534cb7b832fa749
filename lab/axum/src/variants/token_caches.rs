//! Caches of decoded claims that are never evicted.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};

use axum::Json;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;

use crate::auth::{Claims, bearer, decode};
use crate::handlers::{Data, items_of};
use crate::kept::Kept;
use crate::sizes::{Heap as _, table_of_map};
use crate::{Service, query_database};

static CLAIMS: LazyLock<Mutex<HashMap<String, Claims>>> = LazyLock::new(Mutex::default);

pub(super) fn by_token(innocent: Service) -> Service {
    Service {
        data: get(get_data),
        ..innocent
    }
}

async fn get_data(headers: HeaderMap) -> Result<Json<Data>, StatusCode> {
    query_database().await;
    let claims = claims_for(bearer(&headers)?)?;
    Ok(Json(items_of(&claims.sub)))
}

/// Decoding is slow, so it is done once per token.
///
/// # Panics
///
/// Never: no holder of the lock panics.
pub fn claims_for(token: &str) -> Result<Claims, StatusCode> {
    let mut cache = CLAIMS.lock().expect("no holder panics");
    if let Some(claims) = cache.get(token) {
        return Ok(claims.clone());
    }
    let claims = decode(token)?;
    cache.insert(token.to_owned(), claims.clone());
    Ok(claims)
}

pub(super) fn by_subject(innocent: Service) -> Service {
    Service {
        data: get(get_data_by_subject),
        ..innocent
    }
}

async fn get_data_by_subject(claims: Claims) -> Json<Data> {
    query_database().await;
    remember_subject(&claims);
    Json(items_of(&claims.sub))
}

fn remember_subject(claims: &Claims) {
    let mut cache = CLAIMS.lock().expect("no holder panics");
    if !cache.contains_key(&claims.sub) {
        cache.insert(claims.sub.clone(), claims.clone());
    }
}

/// The contents of the cache.
///
/// # Panics
///
/// Never: no holder of the lock panics.
pub fn kept_by_token() -> Kept {
    let cache = CLAIMS.lock().expect("no holder panics");
    Kept {
        entries: cache.len(),
        entry_bytes: cache
            .iter()
            .map(|(key, claims)| key.heap() + claims.heap())
            .sum(),
        table_bytes: table_of_map(&cache),
        ..Kept::default()
    }
}

pub(super) fn kept_by_subject() -> Kept {
    kept_by_token()
}
