//! Requests and responses, per route.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use crate::requests::{Plan, Token};

/// The record.
#[derive(Default)]
pub(crate) struct Truth {
    routes: BTreeMap<usize, Route>,
    tokens: HashSet<u64>,
}

#[derive(Default)]
struct Route {
    name: String,
    sent: u64,
    new_tokens: u64,
    repeat_tokens: u64,
    anonymous: u64,
    failed: u64,
    tokens: HashSet<u64>,
    statuses: BTreeMap<u16, u64>,
    latencies_us: Vec<u32>,
}

impl Truth {
    /// A request was sent.
    pub(crate) fn planned(&mut self, plan: &Plan) {
        let route = self.routes.entry(plan.route).or_default();
        if route.name.is_empty() {
            route.name.clone_from(&plan.route_name);
        }
        route.sent += 1;
        match plan.token {
            Token::New(_) => route.new_tokens += 1,
            Token::Repeat(_) => route.repeat_tokens += 1,
            Token::None => route.anonymous += 1,
        }
        if let Token::New(number) | Token::Repeat(number) = plan.token {
            route.tokens.insert(number);
            self.tokens.insert(number);
        }
    }

    /// The request was answered.
    pub(crate) fn answered(&mut self, plan: &Plan, status: u16, latency: Duration) {
        let route = self.routes.entry(plan.route).or_default();
        *route.statuses.entry(status).or_default() += 1;
        route
            .latencies_us
            .push(latency.as_micros().try_into().unwrap_or(u32::MAX));
    }

    /// The request failed.
    pub(crate) fn failed(&mut self, plan: &Plan) {
        self.routes.entry(plan.route).or_default().failed += 1;
    }

    pub(crate) fn json(&mut self) -> Result<String> {
        let sum = |part: fn(&Route) -> u64| self.routes.values().map(part).sum::<u64>();
        let mut truth = json!({
            "requests": sum(|route| route.sent),
            "new_tokens": sum(|route| route.new_tokens),
            "repeat_tokens": sum(|route| route.repeat_tokens),
            "anonymous": sum(|route| route.anonymous),
            "failed": sum(|route| route.failed),
            "distinct_tokens": self.tokens.len(),
        });
        let routes = self
            .routes
            .values_mut()
            .map(|route| (route.name.clone(), route.json()));
        truth["routes"] = Value::Object(routes.collect());
        Ok(serde_json::to_string_pretty(&truth)?)
    }
}

impl Route {
    fn json(&mut self) -> Value {
        self.latencies_us.sort_unstable();
        let at = |part: f64| {
            let place = (self.latencies_us.len() as f64 * part) as usize;
            let us = self
                .latencies_us
                .get(place.min(self.latencies_us.len().saturating_sub(1)));
            us.map(|us| f64::from(*us) / 1000.0)
        };
        json!({
            "requests": self.sent,
            "new_tokens": self.new_tokens,
            "repeat_tokens": self.repeat_tokens,
            "anonymous": self.anonymous,
            "failed": self.failed,
            "distinct_tokens": self.tokens.len(),
            "statuses": self.statuses,
            "latency_ms": { "p50": at(0.5), "p99": at(0.99), "max": at(1.0) },
        })
    }
}
