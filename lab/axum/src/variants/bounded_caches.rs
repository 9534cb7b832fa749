//! Caches that evict: by size, by age, all at once.

use std::collections::{HashMap, VecDeque};
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

use axum::Json;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;

use crate::auth::{Claims, bearer, decode};
use crate::handlers::{Data, items_of};
use crate::kept::Kept;
use crate::sizes::{Heap as _, table_of_map, table_of_queue};
use crate::{Service, query_database};

const CAPACITY: usize = 1024;
const TIME_TO_LIVE: Duration = Duration::from_secs(15);
const BATCH: Duration = Duration::from_secs(20);

/// An LRU cache of claims.
#[derive(Default)]
struct Lru {
    claims: HashMap<String, Claims>,
    /// Least recently used first.
    order: VecDeque<String>,
}

impl Lru {
    fn get(&mut self, token: &str) -> Option<Claims> {
        let claims = self.claims.get(token)?.clone();
        let place = self.order.iter().position(|key| key == token)?;
        if let Some(key) = self.order.remove(place) {
            self.order.push_back(key);
        }
        Some(claims)
    }

    fn insert(&mut self, token: &str, claims: Claims) {
        while self.order.len() >= CAPACITY {
            if let Some(oldest) = self.order.pop_front() {
                self.claims.remove(&oldest);
            }
        }
        self.order.push_back(token.to_owned());
        self.claims.insert(token.to_owned(), claims);
    }
}

static LRU: LazyLock<Mutex<Lru>> = LazyLock::new(Mutex::default);

pub(super) fn lru(innocent: Service) -> Service {
    Service {
        data: get(get_data_lru),
        ..innocent
    }
}

async fn get_data_lru(headers: HeaderMap) -> Result<Json<Data>, StatusCode> {
    query_database().await;
    let claims = lru_claims_for(bearer(&headers)?)?;
    Ok(Json(items_of(&claims.sub)))
}

fn lru_claims_for(token: &str) -> Result<Claims, StatusCode> {
    let mut cache = LRU.lock().expect("no holder panics");
    if let Some(claims) = cache.get(token) {
        return Ok(claims);
    }
    let claims = decode(token)?;
    cache.insert(token, claims.clone());
    Ok(claims)
}

pub(super) fn kept_lru() -> Kept {
    let cache = LRU.lock().expect("no holder panics");
    Kept {
        entries: cache.claims.len(),
        entry_bytes: cache
            .claims
            .iter()
            .map(|(key, claims)| 2 * key.heap() + claims.heap())
            .sum(),
        table_bytes: table_of_map(&cache.claims) + table_of_queue(&cache.order),
        ..Kept::default()
    }
}

static TIMED: LazyLock<Mutex<HashMap<String, (Instant, Claims)>>> = LazyLock::new(Mutex::default);

pub(super) fn ttl(innocent: Service) -> Service {
    tokio::spawn(sweep_expired());
    timed(innocent)
}

pub(super) fn ttl_batch(innocent: Service) -> Service {
    tokio::spawn(clear_batches());
    timed(innocent)
}

fn timed(innocent: Service) -> Service {
    Service {
        data: get(get_data_timed),
        ..innocent
    }
}

async fn get_data_timed(headers: HeaderMap) -> Result<Json<Data>, StatusCode> {
    query_database().await;
    let claims = timed_claims_for(bearer(&headers)?)?;
    Ok(Json(items_of(&claims.sub)))
}

fn timed_claims_for(token: &str) -> Result<Claims, StatusCode> {
    let mut cache = TIMED.lock().expect("no holder panics");
    if let Some((_, claims)) = cache.get(token) {
        return Ok(claims.clone());
    }
    let claims = decode(token)?;
    cache.insert(token.to_owned(), (Instant::now(), claims.clone()));
    Ok(claims)
}

async fn sweep_expired() {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    loop {
        ticks.tick().await;
        let mut cache = TIMED.lock().expect("no holder panics");
        cache.retain(|_, (since, _)| since.elapsed() < TIME_TO_LIVE);
    }
}

async fn clear_batches() {
    let mut ticks = tokio::time::interval(BATCH);
    loop {
        ticks.tick().await;
        TIMED.lock().expect("no holder panics").clear();
    }
}

pub(super) fn kept_timed() -> Kept {
    let cache = TIMED.lock().expect("no holder panics");
    Kept {
        entries: cache.len(),
        entry_bytes: cache
            .iter()
            .map(|(key, (_, claims))| key.heap() + claims.heap())
            .sum(),
        table_bytes: table_of_map(&cache),
        ..Kept::default()
    }
}
