//! Growth without requests, and growth that ends.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use axum::Json;
use axum::routing::get;

use crate::auth::Claims;
use crate::handlers::{Data, items_of};
use crate::kept::Kept;
use crate::sizes::{Heap, table_of_map, table_of_vec};
use crate::{Service, query_database};

static SAMPLES: Mutex<Vec<Box<[u8]>>> = Mutex::new(Vec::new());

/// The benign service with a task that collects samples and never sends them.
pub(super) fn background(innocent: Service) -> Service {
    tokio::spawn(collect_samples());
    innocent
}

async fn collect_samples() {
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    loop {
        ticks.tick().await;
        take_sample();
    }
}

fn take_sample() {
    let sample = vec![1_u8; 2048].into_boxed_slice();
    SAMPLES.lock().expect("no holder panics").push(sample);
}

pub(super) fn kept() -> Kept {
    let samples = SAMPLES.lock().expect("no holder panics");
    Kept {
        entries: samples.len(),
        entry_bytes: samples.iter().map(Heap::heap).sum(),
        table_bytes: table_of_vec(&samples),
        ..Kept::default()
    }
}

const TABLES: u32 = 2_000;
static LOADED: LazyLock<Mutex<HashMap<u32, Box<[u8]>>>> = LazyLock::new(Mutex::default);

pub(super) fn warm_up(innocent: Service) -> Service {
    Service {
        data: get(get_data_warm),
        ..innocent
    }
}

async fn get_data_warm(claims: Claims) -> Json<Data> {
    query_database().await;
    load_next_table();
    Json(items_of(&claims.sub))
}

/// Each of the first requests loads one table, until all are loaded.
fn load_next_table() {
    let mut loaded = LOADED.lock().expect("no holder panics");
    let next = loaded.len() as u32;
    if next < TABLES {
        loaded.insert(next, vec![1_u8; 2048].into_boxed_slice());
    }
}

pub(super) fn kept_warm_up() -> Kept {
    let loaded = LOADED.lock().expect("no holder panics");
    Kept {
        entries: loaded.len(),
        entry_bytes: loaded.values().map(Heap::heap).sum(),
        table_bytes: table_of_map(&loaded),
        ..Kept::default()
    }
}
