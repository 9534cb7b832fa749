//! Every route keeps one block per request, of a size that no other route uses. So kept bytes per route are exactly
//! known, and attribution can be checked block by block. In `children` the blocks are kept by children of a request:
//! tasks, a set of tasks, a closure on a blocking thread.

use std::sync::Mutex;

use axum::Json;
use axum::body::Bytes;
use axum::extract::Path;
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::task::{JoinSet, spawn_blocking};

use crate::auth::Claims;
use crate::kept::{Blocks, Kept};
use crate::sizes::table_of_vec;
use crate::{Service, query_database};

const ROUTES: [(&str, usize); 4] = [
    ("GET /api/data", 1_001),
    ("GET /api/profile", 2_003),
    ("POST /api/upload", 3_001),
    ("GET /users/{id}", 5_003),
];

static KEPT: Mutex<Vec<Box<[u8]>>> = Mutex::new(Vec::new());

pub(super) fn routes(innocent: Service) -> Service {
    Service {
        data: get(get_data),
        profile: get(get_profile),
        upload: post(post_upload),
        user: get(get_user),
        ..innocent
    }
}

async fn get_data(claims: Claims) -> Json<Value> {
    query_database().await;
    keep(1_001);
    Json(json!({ "user": claims.sub }))
}

async fn get_profile(claims: Claims) -> Json<Value> {
    query_database().await;
    keep(2_003);
    Json(json!({ "email": claims.email }))
}

async fn post_upload(body: Bytes) -> Json<Value> {
    query_database().await;
    keep(3_001);
    Json(json!({ "bytes": body.len() }))
}

async fn get_user(Path(id): Path<u64>) -> Json<Value> {
    query_database().await;
    keep(5_003);
    Json(json!({ "id": id }))
}

pub(super) fn routes_with_children(innocent: Service) -> Service {
    Service {
        data: get(get_data_by_task),
        profile: get(get_profile_by_set),
        upload: post(post_upload_blocking),
        user: get(get_user_by_grandchild),
        ..innocent
    }
}

async fn get_data_by_task(claims: Claims) -> Json<Value> {
    let child = tokio::spawn(async {
        query_database().await;
        keep(1_001);
    });
    query_database().await;
    child.await.expect("it does not panic");
    Json(json!({ "user": claims.sub }))
}

async fn get_profile_by_set(claims: Claims) -> Json<Value> {
    query_database().await;
    let mut set = JoinSet::new();
    set.spawn(query_database());
    set.spawn(async {
        query_database().await;
        keep(2_003);
    });
    set.join_all().await;
    Json(json!({ "email": claims.email }))
}

async fn post_upload_blocking(body: Bytes) -> Json<Value> {
    query_database().await;
    let kept = spawn_blocking(|| keep(3_001));
    kept.await.expect("it does not panic");
    Json(json!({ "bytes": body.len() }))
}

/// The request is answered before its grandchild has finished.
async fn get_user_by_grandchild(Path(id): Path<u64>) -> Json<Value> {
    tokio::spawn(async {
        query_database().await;
        tokio::spawn(async {
            query_database().await;
            keep(5_003);
        });
    });
    Json(json!({ "id": id }))
}

fn keep(bytes: usize) {
    let block = vec![1_u8; bytes].into_boxed_slice();
    KEPT.lock().expect("no holder panics").push(block);
}

pub(super) fn kept() -> Kept {
    let kept = KEPT.lock().expect("no holder panics");
    let by_route = ROUTES.map(|(route, block_bytes)| {
        let count = kept
            .iter()
            .filter(|block| block.len() == block_bytes)
            .count();
        (
            route,
            Blocks {
                block_bytes,
                count,
                bytes: count * block_bytes,
            },
        )
    });
    Kept {
        entries: kept.len(),
        entry_bytes: kept.iter().map(|block| block.len()).sum(),
        table_bytes: table_of_vec(&kept),
        by_route: by_route.into_iter().collect(),
    }
}
