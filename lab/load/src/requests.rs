//! Chooses the next request: route, token and bytes, by the configured fractions.

use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};

use crate::Arguments;
use crate::random::Random;
use crate::tokens::Issuer;

/// The token of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    New(u64),
    Repeat(u64),
    None,
}

/// A request to send.
pub(crate) struct Plan {
    pub(crate) route: usize,
    pub(crate) route_name: String,
    pub(crate) token: Token,
    /// Bytes of the head; the body follows in `bytes`.
    pub(crate) head: usize,
    pub(crate) bytes: Vec<u8>,
    pub(crate) due: Instant,
}

struct Route {
    name: String,
    method: String,
    path: String,
    weight: f64,
}

/// Chooses requests.
pub(crate) struct Mix {
    random: Random,
    issuer: Issuer,
    routes: Vec<Route>,
    fresh: f64,
    repeat: f64,
    /// Tokens of the pool, and whether they were sent before.
    pool: Vec<(String, bool)>,
    /// Number of the next new token, after those of the pool.
    next: u64,
    body: (u64, u64),
    head_bytes: usize,
    close: bool,
    host: String,
}

impl Mix {
    pub(crate) fn parse(arguments: &Arguments) -> Result<Self> {
        ensure!(
            arguments.fresh >= 0.0 && arguments.repeat >= 0.0,
            "--fresh and --repeat must not be negative"
        );
        ensure!(
            arguments.fresh + arguments.repeat <= 1.0 + 1e-9,
            "--fresh and --repeat must not sum to more than 1"
        );
        let routes = arguments
            .routes
            .split(',')
            .map(parse_route)
            .collect::<Result<Vec<_>>>()?;
        let (low, high) = arguments
            .body_bytes
            .split_once('-')
            .context("--body-bytes must be LOW-HIGH")?;
        let issuer = Issuer::new(
            arguments.tokens_per_subject,
            arguments.claims_bytes,
            arguments.seed,
        );
        let pool = (0..arguments.pool)
            .map(|number| Ok((issuer.token(number)?, false)))
            .collect::<Result<Vec<_>>>()?;
        ensure!(
            arguments.repeat == 0.0 || !pool.is_empty(),
            "repeated tokens need a --pool"
        );
        Ok(Self {
            random: Random::new(arguments.seed),
            issuer,
            routes,
            fresh: arguments.fresh,
            repeat: arguments.repeat,
            next: arguments
                .pool
                .next_multiple_of(arguments.tokens_per_subject.max(1)),
            pool,
            body: (low.parse()?, high.parse()?),
            head_bytes: arguments.head_bytes,
            close: arguments.no_keep_alive,
            host: arguments.target.to_string(),
        })
    }

    pub(crate) fn next(&mut self, due: Instant) -> Plan {
        let route = self.choose_route();
        let (token, text) = self.choose_token();
        let (head, bytes) = self.write(route, text.as_deref());
        Plan {
            route,
            route_name: self.routes[route].name.clone(),
            token,
            head,
            bytes,
            due,
        }
    }

    fn choose_route(&mut self) -> usize {
        let total: f64 = self.routes.iter().map(|route| route.weight).sum();
        let mut left = self.random.unit() * total;
        for (index, route) in self.routes.iter().enumerate() {
            left -= route.weight;
            if left < 0.0 {
                return index;
            }
        }
        self.routes.len() - 1
    }

    fn choose_token(&mut self) -> (Token, Option<String>) {
        let share = self.random.unit();
        if share < self.fresh {
            let number = self.next;
            self.next += 1;
            // Signing with a byte key cannot fail; without a token the request is anonymous.
            return match self.issuer.token(number) {
                Ok(text) => (Token::New(number), Some(text)),
                Err(_) => (Token::None, None),
            };
        }
        if share < self.fresh + self.repeat {
            let number = self.random.below(self.pool.len() as u64);
            let (text, sent) = &mut self.pool[number as usize];
            let token = if *sent {
                Token::Repeat(number)
            } else {
                Token::New(number)
            };
            *sent = true;
            return (token, Some(text.clone()));
        }
        (Token::None, None)
    }

    fn write(&mut self, route: usize, token: Option<&str>) -> (usize, Vec<u8>) {
        let Route { method, path, .. } = &self.routes[route];
        let path = path.replace("{id}", &(1 + self.random.below(100_000)).to_string());
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nUser-Agent: lab-load\r\nAccept: */*\r\n",
            self.host
        );
        if self.close {
            head.push_str("Connection: close\r\n");
        }
        if let Some(token) = token {
            head.push_str("Authorization: Bearer ");
            head.push_str(token);
            head.push_str("\r\n");
        }
        let mut body = Vec::new();
        if method == "POST" {
            let size = self.body.0
                + self
                    .random
                    .below(self.body.1.saturating_sub(self.body.0) + 1);
            body.resize(size as usize, b'x');
            head.push_str("Content-Type: application/octet-stream\r\n");
            head.push_str("Content-Length: ");
            head.push_str(&size.to_string());
            head.push_str("\r\n");
        }
        let pad = "X-Pad: \r\n\r\n".len();
        if head.len() + pad < self.head_bytes {
            let fill = self.head_bytes - head.len() - pad;
            head.push_str("X-Pad: ");
            head.extend(std::iter::repeat_n('p', fill));
            head.push_str("\r\n");
        }
        head.push_str("\r\n");
        let head_bytes = head.len();
        let mut bytes = head.into_bytes();
        bytes.append(&mut body);
        (head_bytes, bytes)
    }
}

/// `GET /api/data=6`.
fn parse_route(text: &str) -> Result<Route> {
    let (name, weight) = text.rsplit_once('=').unwrap_or((text, "1"));
    let Some((method, path)) = name.trim().split_once(' ') else {
        bail!("a route is METHOD PATH=WEIGHT, not {text:?}");
    };
    Ok(Route {
        name: name.trim().to_owned(),
        method: method.to_owned(),
        path: path.to_owned(),
        weight: weight
            .parse()
            .with_context(|| format!("weight of {text:?}"))?,
    })
}
