//! The routes without leaks; a variant replaces one of them.

use axum::Json;
use axum::body::Bytes;
use axum::extract::Path;
use axum::http::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};

use crate::auth::Claims;
use crate::query_database;

/// The response of `GET /api/data`.
#[derive(Serialize)]
pub(crate) struct Data {
    user: String,
    items: Vec<Item>,
}

#[derive(Serialize)]
struct Item {
    id: u32,
    name: String,
}

/// The database's items of a user.
pub(crate) fn items_of(user: &str) -> Data {
    let items = (1..=8)
        .map(|id| Item {
            id,
            name: format!("item {id} of {user}"),
        })
        .collect();
    Data {
        user: user.to_owned(),
        items,
    }
}

pub(crate) async fn get_data(claims: Claims) -> Json<Data> {
    query_database().await;
    Json(items_of(&claims.sub))
}

pub(crate) async fn get_profile(claims: Claims) -> Json<Value> {
    query_database().await;
    Json(json!({ "sub": claims.sub, "email": claims.email, "roles": claims.roles }))
}

pub(crate) async fn post_upload(body: Bytes) -> (StatusCode, Json<Value>) {
    query_database().await;
    let sum = body
        .iter()
        .fold(0_u32, |sum, byte| sum.rotate_left(1) ^ u32::from(*byte));
    (
        StatusCode::CREATED,
        Json(json!({ "bytes": body.len(), "checksum": sum })),
    )
}

pub(crate) async fn health() -> &'static str {
    "ok"
}

pub(crate) async fn not_found() -> StatusCode {
    StatusCode::NOT_FOUND
}

pub(crate) async fn get_user(Path(id): Path<u64>) -> Json<Value> {
    query_database().await;
    Json(json!({ "id": id, "name": format!("user {id}") }))
}
