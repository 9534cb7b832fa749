//! Configuration fields that are parsed like flags.

use std::net::SocketAddr;
use std::time::Duration;

use regex::Regex;
use serde::de::{Deserialize, Deserializer, Error};

use crate::values::{self, Credential, Mode};

/// A number or a string, because `overhead = 3` and `overhead = "3%"` are both natural.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Text {
    Words(String),
    Whole(i64),
    Real(f64),
}

/// The value as a string.
fn text<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    Text::deserialize(from)
        .map_err(|_| D::Error::custom("expected a string or a number"))
        .map(|value| match value {
            Text::Words(text) => text,
            Text::Whole(number) => number.to_string(),
            Text::Real(number) => number.to_string(),
        })
}

pub(super) fn listen_address<'de, D: Deserializer<'de>>(from: D) -> Result<SocketAddr, D::Error> {
    values::listen_address(&text(from)?).map_err(D::Error::custom)
}

pub(super) fn percent<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    values::percent(&text(from)?).map_err(D::Error::custom)
}

pub(super) fn optional_duration<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<Duration>, D::Error> {
    duration(from).map(Some)
}

pub(super) fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let duration = values::duration(&text(from)?).map_err(D::Error::custom)?;
    if duration < Duration::from_secs(1) {
        return Err(D::Error::custom(
            "an interval below 1s is not allowed; write 1s or more",
        ));
    }
    Ok(duration)
}

pub(super) fn bytes<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    values::bytes(&text(from)?)
        .map(Some)
        .map_err(D::Error::custom)
}

pub(super) fn credential<'de, D: Deserializer<'de>>(from: D) -> Result<Credential, D::Error> {
    String::deserialize(from)?.parse().map_err(D::Error::custom)
}

pub(super) fn optional_credential<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<Credential>, D::Error> {
    credential(from).map(Some)
}

pub(super) fn mode<'de, D: Deserializer<'de>>(from: D) -> Result<Mode, D::Error> {
    Mode::deserialize(from)
}

pub(super) fn optional_mode<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Mode>, D::Error> {
    mode(from).map(Some)
}

pub(super) fn regex<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Regex>, D::Error> {
    let text = values::pattern(&String::deserialize(from)?).map_err(D::Error::custom)?;
    Regex::new(&text).map(Some).map_err(D::Error::custom)
}

pub(super) fn patterns<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let texts = Vec::<String>::deserialize(from)?;
    texts
        .iter()
        .map(|text| values::pattern(text).map_err(D::Error::custom))
        .collect()
}

/// A name that is a valid label: short, and without characters that need escaping.
pub(super) fn service<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let name = String::deserialize(from)?;
    let allowed = |c: char| c.is_alphanumeric() || "._-/:@".contains(c);
    if name.is_empty() || name.len() > 100 || !name.chars().all(allowed) {
        return Err(D::Error::custom(format!(
            "`{}` is not a service name: up to 100 letters, digits and . _ - / : @",
            name.escape_debug()
        )));
    }
    Ok(name)
}
