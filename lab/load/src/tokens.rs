//! JWTs like those of an identity provider, signed with the lab's key.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Map, Value, json};

use crate::random::Random;

/// The services check signatures with it.
const SECRET: &[u8] = b"heaptide-lab-hs256-secret";

/// Subjects that get tokens in turn, if each gets several.
const AT_A_TIME: u64 = 100;

/// Issues tokens, a different one per number.
pub(crate) struct Issuer {
    tokens_per_subject: u64,
    claims_bytes: usize,
    run: u64,
}

impl Issuer {
    pub(crate) fn new(tokens_per_subject: u64, claims_bytes: usize, seed: u64) -> Self {
        Self {
            tokens_per_subject: tokens_per_subject.max(1),
            claims_bytes,
            run: seed,
        }
    }

    pub(crate) fn token(&self, number: u64) -> Result<String> {
        let user = self.user(number);
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let mut claims = json!({
            "sub": format!("user-{user:08}"),
            "iss": "https://identity.lab.example",
            "aud": "lab",
            "jti": format!("{:08x}-{number:012x}", self.run),
            "email": format!("user-{user:08}@lab.example"),
            "scope": "openid profile email data:read data:write",
            "roles": ["reader", "writer", "auditor"],
            "iat": now,
            "exp": now + 86_400,
        });
        if self.claims_bytes > 0 {
            claims["custom"] = Value::Object(self.custom(number));
        }
        jsonwebtoken::encode(
            &Header::default(),
            &claims,
            &EncodingKey::from_secret(SECRET),
        )
        .context("cannot sign a token")
    }

    /// Its subject. Tokens of one subject are [`AT_A_TIME`] tokens apart, because people return after a while, not
    /// at once.
    fn user(&self, number: u64) -> u64 {
        if self.tokens_per_subject == 1 {
            return number;
        }
        let newest = number / self.tokens_per_subject;
        newest.saturating_sub(Random::new(number).below(AT_A_TIME))
    }

    /// Custom claims of about the requested size, in entries of 256 bytes.
    fn custom(&self, number: u64) -> Map<String, Value> {
        (0..self.claims_bytes.div_ceil(256))
            .map(|entry| {
                let mut text = format!("{number:x}-");
                text.extend(std::iter::repeat_n('c', 230));
                (format!("claim-{entry:03}"), Value::String(text))
            })
            .collect()
    }
}
