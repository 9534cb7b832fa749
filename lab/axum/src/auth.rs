//! Bearer tokens: JWTs signed with HS256, checked on each request.

use std::collections::HashMap;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::{Deserialize, Serialize};

/// The load generator signs tokens with it.
const SECRET: &[u8] = b"heaptide-lab-hs256-secret";

/// Claims of a token.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Claims {
    /// The user.
    pub sub: String,
    pub(crate) iss: String,
    pub(crate) aud: String,
    pub(crate) jti: String,
    /// The user's address.
    pub email: String,
    pub(crate) scope: String,
    pub(crate) roles: Vec<String>,
    pub(crate) iat: u64,
    pub(crate) exp: u64,
    #[serde(default)]
    pub(crate) custom: HashMap<String, String>,
}

/// The token of a request.
pub(crate) fn bearer(headers: &HeaderMap) -> Result<&str, StatusCode> {
    headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
        .ok_or(StatusCode::UNAUTHORIZED)
}

/// Checks a token and returns its claims.
pub fn decode(token: &str) -> Result<Claims, StatusCode> {
    let mut validation = Validation::new(Algorithm::HS256);
    validation.set_audience(&["lab"]);
    jsonwebtoken::decode(token, &DecodingKey::from_secret(SECRET), &validation)
        .map(|decoded| decoded.claims)
        .map_err(|_| StatusCode::UNAUTHORIZED)
}

impl<S: Send + Sync> FromRequestParts<S> for Claims {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, StatusCode> {
        decode(bearer(&parts.headers)?)
    }
}
