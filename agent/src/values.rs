//! Values of flags and of the configuration: durations, percentages, byte sizes, modes, credentials,
//! addresses. Every error names the expected form.

pub mod limits;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;
use serde::Deserialize;

/// An invalid value; the message has the value and the expected form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not {expected}")]
pub struct ValueError {
    given: String,
    expected: String,
}

impl ValueError {
    fn new(given: &str, expected: impl Into<String>) -> Self {
        Self {
            given: given.to_owned(),
            expected: expected.into(),
        }
    }
}

/// How allocations are traced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Requests and memory; allocations only in windows, while memory grows.
    #[default]
    Auto,
    /// Requests, page faults, mappings and RSS, without allocator probes.
    Watch,
    /// Allocations in windows within the overhead budget.
    Sample,
    /// Every allocation, all the time.
    Trace,
}

impl Mode {
    /// Whether it probes allocators. Other code does not compare modes for this.
    pub fn allocations(self) -> bool {
        self != Self::Watch
    }

    /// Whether heaptide decides when a target's allocators are probed.
    pub fn automatic(self) -> bool {
        self == Self::Auto
    }

    /// Its overhead budget; `trace` has none.
    pub fn budget(self, overhead: f64) -> Option<f64> {
        (self != Self::Trace).then_some(overhead)
    }

    /// The name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Watch => "watch",
            Self::Sample => "sample",
            Self::Trace => "trace",
        }
    }
}

/// The part of a request that is its token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Credential {
    /// `Authorization: Bearer TOKEN`.
    #[default]
    Bearer,
    /// `Authorization: SCHEME ...`.
    Scheme(String),
    /// The whole value of a named header.
    Header(String),
    /// The value of a named cookie.
    Cookie(String),
}

impl std::fmt::Display for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bearer => f.write_str("bearer"),
            Self::Scheme(name) => write!(f, "scheme:{name}"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
        }
    }
}

/// Maximum length of a scheme, header or cookie name.
const NAME_MAX: usize = 64;

impl FromStr for Credential {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let expected = "a credential: bearer, scheme:NAME (scheme:DPoP), header:NAME (header:X-Api-Key) or \
             cookie:NAME (cookie:session)";
        if text.eq_ignore_ascii_case("bearer") {
            return Ok(Self::Bearer);
        }
        let (kind, name) = text
            .split_once(':')
            .ok_or_else(|| ValueError::new(text, expected))?;
        // RFC 9110, 5.6.2: names of headers, schemes and cookies are tokens.
        let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if name.is_empty() || name.len() > NAME_MAX || !name.bytes().all(is_token) {
            let expected = format!(
                "a credential: the name after `{kind}:` must be 1 to {NAME_MAX} letters, digits \
                 or other characters of an HTTP token"
            );
            return Err(ValueError::new(text, expected));
        }
        match kind {
            "scheme" if name.eq_ignore_ascii_case("bearer") => Ok(Self::Bearer),
            "scheme" => Ok(Self::Scheme(name.to_owned())),
            "header" => Ok(Self::Header(name.to_owned())),
            "cookie" => Ok(Self::Cookie(name.to_owned())),
            _ => Err(ValueError::new(text, expected)),
        }
    }
}

/// Splits `12.5MiB` into number and unit. `None` if there is no number.
fn number_and_unit(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let number: f64 = text[..end].parse().ok()?;
    Some((number, text[end..].trim()))
}

/// A duration: `250ms`, `60s`, `60` (seconds), `5m`, `1h30m`, `2d`.
pub fn duration(text: &str) -> Result<Duration, ValueError> {
    let error = || {
        ValueError::new(
            text,
            "a duration: a number and ms, s, m, h or d, as in 60s, 10m or 1h30m",
        )
    };
    let mut rest = text.trim();
    let mut seconds = 0.0;
    if rest.is_empty() {
        return Err(error());
    }
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().map_err(|_| error())?;
        let after = &rest[digits..];
        let letters = after
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(after.len());
        seconds += number
            * match &after[..letters] {
                "ms" => 1e-3,
                "s" | "sec" => 1.0,
                "" if digits == text.trim().len() => 1.0,
                "m" | "min" => 60.0,
                "h" => 3600.0,
                "d" => 86_400.0,
                _ => return Err(error()),
            };
        rest = &after[letters..];
    }
    if seconds <= 0.0 {
        return Err(ValueError::new(text, "a positive duration, such as 60s"));
    }
    if seconds > 3.2e9 {
        return Err(ValueError::new(text, "a duration below 100 years"));
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// A percentage, returned as a ratio: `3%` or `3` gives 0.03.
pub fn percent(text: &str) -> Result<f64, ValueError> {
    let error = || {
        ValueError::new(
            text,
            "a percentage above 0 and up to 100, as in 3% (a bare 3 means 3%)",
        )
    };
    let (number, unit) = number_and_unit(text).ok_or_else(error)?;
    if !matches!(unit, "" | "%") || number <= 0.0 || number > 100.0 {
        return Err(error());
    }
    Ok(number / 100.0)
}

/// A number of bytes: `536870912`, `512MiB`, `512M` (binary, as in systemd), `1.5GB` (decimal), `2G`.
pub fn bytes(text: &str) -> Result<u64, ValueError> {
    let error = || {
        ValueError::new(
            text,
            "a number of bytes: a number and B, KiB, MiB, GiB, TiB (1024s; K, M, G, T are the same) \
             or kB, MB, GB, TB (1000s), as in 512MiB",
        )
    };
    let (number, unit) = number_and_unit(text).ok_or_else(error)?;
    let unit = unit.to_ascii_lowercase();
    let (prefix, base) = match unit.strip_suffix("ib") {
        Some(prefix) if !prefix.is_empty() => (prefix, 1024_f64),
        _ => match unit.strip_suffix('b') {
            Some(prefix) => (prefix, 1000.0),
            None => (unit.as_str(), 1024.0),
        },
    };
    let power = ["", "k", "m", "g", "t", "p"]
        .iter()
        .position(|p| *p == prefix);
    let value = number * base.powi(power.ok_or_else(error)? as i32);
    if value < 1.0 || value >= u64::MAX as f64 {
        return Err(ValueError::new(
            text,
            "a size of at least one byte and below 16 EiB",
        ));
    }
    Ok(value as u64)
}

/// An address to listen on: `127.0.0.1:9876`, `[::1]:9876`, `localhost:9876`, or a port alone for
/// loopback.
pub fn listen_address(text: &str) -> Result<SocketAddr, ValueError> {
    let loopback = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    if let Ok(port) = text.strip_prefix("localhost:").unwrap_or(text).parse() {
        return Ok(loopback(port));
    }
    text.parse().map_err(|_| {
        ValueError::new(
            text,
            "an address to listen on: IP:PORT as in 127.0.0.1:9876, [::1]:9876 or 0.0.0.0:9876, or \
             a port alone for loopback",
        )
    })
}

/// The process that a user means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// By its pid.
    Pid(u32),
    /// By its name.
    Name(String),
}

/// A pid, or the name of a process.
pub fn process(text: &str) -> Result<Named, ValueError> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return match text.parse() {
            Ok(pid) if pid > 0 => Ok(Named::Pid(pid)),
            _ => Err(ValueError::new(text, "a pid: they are from 1 to 4194304")),
        };
    }
    if text.is_empty() || text.starts_with('-') {
        return Err(ValueError::new(text, "a pid or the name of a process"));
    }
    Ok(Named::Name(text.to_owned()))
}

/// A regular expression for demangled function names; checked here, compiled later.
pub fn pattern(text: &str) -> Result<String, ValueError> {
    match regex::Regex::new(text) {
        Ok(_) if !text.is_empty() => Ok(text.to_owned()),
        Ok(_) => Err(ValueError::new(
            text,
            "a pattern: it is empty and matches everything",
        )),
        Err(error) => {
            // The last line of regex's message has the reason; the lines before show the position.
            let message = error.to_string();
            let reason = message.lines().last().unwrap_or_default();
            Err(ValueError::new(
                text,
                format!(
                    "a regular expression ({})",
                    reason.trim_start_matches("error: ")
                ),
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let of = |text| duration(text).map(|d| d.as_millis());
        assert_eq!(of("60s"), Ok(60_000));
        assert_eq!(of("60"), Ok(60_000));
        assert_eq!(of("250ms"), Ok(250));
        assert_eq!(of("1h30m"), Ok(5_400_000));
        assert_eq!(of("1.5m"), Ok(90_000));
        assert_eq!(of("2d"), Ok(172_800_000));
        for bad in [
            "",
            "s",
            "60x",
            "-5s",
            "1h30",
            "1..2s",
            "0s",
            "99999999d",
            "∞",
        ] {
            assert!(of(bad).is_err(), "{bad}");
        }
        assert_eq!(
            duration("soon").unwrap_err().to_string(),
            "`soon` is not a duration: a number and ms, s, m, h or d, as in 60s, 10m or 1h30m"
        );
    }

    #[test]
    fn percentages() {
        assert_eq!(percent("3%"), Ok(0.03));
        assert_eq!(percent("3"), Ok(0.03));
        assert_eq!(percent("0.5 %"), Ok(0.005));
        for bad in ["", "%", "0%", "101%", "-1%", "3%%", "three"] {
            assert!(percent(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn byte_sizes() {
        assert_eq!(bytes("536870912"), Ok(536_870_912));
        assert_eq!(bytes("512MiB"), Ok(512 << 20));
        assert_eq!(bytes("512 mib"), Ok(512 << 20));
        assert_eq!(bytes("512M"), Ok(512 << 20));
        assert_eq!(bytes("1.5GB"), Ok(1_500_000_000));
        assert_eq!(bytes("4kB"), Ok(4000));
        assert_eq!(bytes("12B"), Ok(12));
        for bad in ["", "MiB", "512XB", "0", "1e30", "999999999P", "12ib", "-4M"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn credentials() {
        let of = |text: &str| text.parse::<Credential>();
        assert_eq!(of("bearer"), Ok(Credential::Bearer));
        assert_eq!(of("scheme:Bearer"), Ok(Credential::Bearer));
        assert_eq!(of("scheme:DPoP"), Ok(Credential::Scheme("DPoP".into())));
        assert_eq!(
            of("header:X-Api-Key"),
            Ok(Credential::Header("X-Api-Key".into()))
        );
        assert_eq!(of("cookie:sid"), Ok(Credential::Cookie("sid".into())));
        for bad in [
            "",
            "basic",
            "header:",
            "header:X Key",
            "cookies:sid",
            "header:é",
        ] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses() {
        assert_eq!(
            listen_address("9876").unwrap().to_string(),
            "127.0.0.1:9876"
        );
        assert_eq!(
            listen_address("localhost:9876").unwrap().to_string(),
            "127.0.0.1:9876"
        );
        assert_eq!(
            listen_address("[::1]:9876").unwrap().to_string(),
            "[::1]:9876"
        );
        assert_eq!(
            listen_address("0.0.0.0:1").unwrap().to_string(),
            "0.0.0.0:1"
        );
        for bad in [
            "",
            "127.0.0.1",
            "127.0.0.1:99999",
            "example.org:80",
            ":9876",
        ] {
            assert!(listen_address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn patterns_say_what_is_wrong() {
        assert_eq!(pattern("^app::handle"), Ok("^app::handle".to_owned()));
        assert_eq!(
            pattern("get_(data").unwrap_err().to_string(),
            "`get_(data` is not a regular expression (unclosed group)"
        );
        assert!(pattern("").is_err());
    }
}
