//! What the services of this crate do, whatever serves them: check a token, keep its claims for ever, or the newest.
//! Variants and counts are those of the service of axum.

use std::net::SocketAddr;
use std::sync::OnceLock;

use anyhow::{Context as _, Result};
use clap::Parser;
use lab_axum::shared::{
    Claims, Kept, claims_for, decode, fill_lru, kept_by_token, newest_claims_for, note, with,
};
use serde_json::{Value, json};

/// A service's settings.
#[derive(Parser)]
struct Arguments {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// How it uses the memory of its requests.
    #[arg(long, default_value = "stateless")]
    variant: String,
}

/// A way of using memory.
struct Variant {
    name: &'static str,
    /// The claims of a token, if it is valid.
    claims: fn(&str) -> Option<Claims>,
    kept: fn() -> Kept,
}

static VARIANTS: &[Variant] = &[
    Variant {
        name: "stateless",
        claims: |token| decode(token).ok(),
        kept: Kept::default,
    },
    Variant {
        name: "token-cache",
        claims: |token| claims_for(token).ok(),
        kept: kept_by_token,
    },
    Variant {
        name: "lru-5000-full",
        claims: |token| newest_claims_for(token).ok(),
        kept: Kept::default,
    },
];

static VARIANT: OnceLock<&Variant> = OnceLock::new();

/// A status and a body of JSON.
pub type Answer = (u16, String);

/// Reads the command line, prepares the variant, and returns the address to listen on.
pub fn begin() -> Result<SocketAddr> {
    let arguments = Arguments::parse();
    let mut known = VARIANTS.iter();
    let variant = known.find(|variant| variant.name == arguments.variant);
    let variant = variant.with_context(|| format!("unknown variant {}", arguments.variant))?;
    if variant.name == "lru-5000-full" {
        fill_lru();
    }
    VARIANT.get_or_init(|| variant);
    Ok(arguments.listen)
}

fn variant() -> &'static Variant {
    VARIANT.get().copied().unwrap_or(&VARIANTS[0])
}

fn answer(status: u16, value: &Value) -> Answer {
    (status, value.to_string())
}

fn token_of(authorization: Option<&str>) -> Option<&str> {
    authorization.and_then(|value| value.strip_prefix("Bearer "))
}

/// `GET /api/data`.
#[must_use]
pub fn data(authorization: Option<&str>) -> Answer {
    let token = token_of(authorization);
    note("GET /api/data".to_owned(), token);
    let Some(claims) = token.and_then(variant().claims) else {
        return answer(401, &Value::Null);
    };
    let items: Vec<Value> = (1..=8)
        .map(|id| json!({ "id": id, "name": format!("item {id} of {}", claims.sub) }))
        .collect();
    answer(200, &json!({ "user": claims.sub, "items": items }))
}

/// `GET /api/profile`.
#[must_use]
pub fn profile(authorization: Option<&str>) -> Answer {
    let token = token_of(authorization);
    note("GET /api/profile".to_owned(), token);
    match token.and_then(|token| decode(token).ok()) {
        Some(claims) => answer(200, &json!({ "sub": claims.sub, "email": claims.email })),
        None => answer(401, &Value::Null),
    }
}

/// `POST /api/upload`.
#[must_use]
pub fn upload(authorization: Option<&str>, body: &[u8]) -> Answer {
    note("POST /api/upload".to_owned(), token_of(authorization));
    answer(201, &json!({ "bytes": body.len() }))
}

/// `GET /users/{id}`.
#[must_use]
pub fn user(authorization: Option<&str>, id: u64) -> Answer {
    note("GET /users/{id}".to_owned(), token_of(authorization));
    answer(200, &json!({ "id": id, "name": format!("user {id}") }))
}

/// `GET /health`.
#[must_use]
pub fn health(authorization: Option<&str>) -> Answer {
    note("GET /health".to_owned(), token_of(authorization));
    answer(200, &json!("ok"))
}

/// `GET /truth`.
#[must_use]
pub fn truth() -> Answer {
    let truth = with(variant().name, (variant().kept)());
    answer(200, &serde_json::to_value(truth).unwrap_or_default())
}
