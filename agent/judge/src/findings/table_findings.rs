//! Findings of tables that grow without bounds: route, cause, figures and evidence.

use std::collections::BTreeMap;

use crate::attribution::keys::{Class, RouteId};
use crate::attribution::sites::LeadingFrameId;
use crate::events::Nanos;
use crate::growth::Growth;
use crate::growth::tables::Table;
use crate::report::{Cause, Finding, FindingState, SiteSummary};

use super::forecast::{Rate, time_to_oom};
use super::inputs::Inputs;
use super::judge::Judge;
use super::options::{CONFIRM_AGES, LOSS_ANY, LOSS_CONFIRM};
use super::places::{blank, summary, unknown_site};
use super::tables::{Tracker, growing};
use super::units::{bytes, number};

/// Significance level for `token_keyed`: probability that all enlargements are by new tokens by chance.
const BY_CHANCE: f64 = 0.01;
/// Minimum enlargements by repeated tokens or none for `per_request`.
const LEAST_REPEATS: usize = 2;

impl Judge {
    /// Judges all tables after a snapshot.
    pub(super) fn judge_tables(&mut self, growth: &Growth, now: Nanos) {
        let least = CONFIRM_AGES * self.options.maturity_seconds;
        let may_confirm = self.lost().worst() <= LOSS_CONFIRM;
        let mut trackers = std::mem::take(&mut self.tables.trackers);
        trackers.retain(|leading, _| growth.tables.iter().any(|(other, _)| other == leading));
        for (leading, table) in growth.tables.iter() {
            let tracker = trackers.entry(*leading).or_default();
            tracker.growing = growing(table, now);
            let Some(growing) = tracker.growing else {
                *tracker = Tracker::default();
                continue;
            };
            tracker.suspected.get_or_insert(now);
            let grown = self.resident(growing.filled) >= self.budget_since(growing.since);
            if may_confirm && grown && now.since(growing.since) >= least {
                tracker.confirmed.get_or_insert(now);
            }
        }
        self.tables.trackers = trackers;
    }

    /// Findings of tables, except in functions that a finding of `known` has already.
    pub(super) fn table_findings(&self, inputs: Inputs, known: &[Finding]) -> Vec<Finding> {
        let tables = inputs.growth.tables.iter();
        let findings =
            tables.filter_map(|(leading, table)| self.table_finding(inputs, *leading, table));
        let names = |finding: &Finding, site: &SiteSummary| {
            finding.state > FindingState::None
                && std::iter::once(&finding.site)
                    .chain(&finding.also)
                    .any(|s| s.function == site.function)
        };
        findings
            .filter(|one| !known.iter().any(|other| names(other, &one.site)))
            .collect()
    }

    fn table_finding(
        &self,
        inputs: Inputs,
        leading: LeadingFrameId,
        table: &Table,
    ) -> Option<Finding> {
        let tracker = self.tables.trackers.get(&leading)?;
        let growing = tracker.growing?;
        let now = inputs.growth.epochs.now();
        let state = match tracker.confirmed {
            _ if self.lost().worst() > LOSS_ANY => FindingState::None,
            Some(_) => FindingState::Confirmed,
            None => FindingState::Suspect,
        };
        let last = table.steps.last()?;
        let (route, cause) = owner(table, inputs);
        let site = summary(inputs.attribution, &[(table.site, last.bytes)], last.bytes)?;
        let since = |at: Option<Nanos>| at.map(|at| at.since(inputs.start));
        let first = table.steps.first()?;
        let evidence = vec![
            format!(
                "one block was enlarged {} times in {:.0} s, from {} to {}, and never shrank",
                table.steps.len() - 1,
                now.since(growing.since),
                bytes(first.bytes),
                bytes(last.bytes)
            ),
            format!(
                "it fills at {} per second; the next enlargement is due {:.0} s after the last one, which was {:.0} s ago",
                bytes(growing.rate),
                (last.bytes - growing.filled).max(0.0) / growing.rate + now.since(last.at),
                now.since(last.at)
            ),
            sentence(table, cause),
        ];
        Some(Finding {
            state,
            cause,
            route: inputs.attribution.routes.get(route).name.clone(),
            site,
            retained_bytes: last.bytes as u64,
            retained_bytes_error: 0,
            retained_is_lower_bound: false,
            container_bytes: last.bytes as u64,
            blocks: 1,
            matured_bytes: last.bytes as u64,
            growth_bytes_per_second: growing.rate,
            confidence: 1.0 - self.lost().worst(),
            time_to_oom_seconds: self.headroom().and_then(|headroom| {
                // The fill level is not visible between two enlargements, so the rate is uncertain.
                let rate = Rate {
                    mean: self.resident(growing.rate),
                    error: self.resident(growing.rate) * 0.2,
                };
                time_to_oom(headroom, rate)
            }),
            evidence,
            suspected_after_seconds: since(tracker.suspected),
            confirmed_after_seconds: since(tracker.confirmed),
            ..blank(cause, unknown_site())
        })
    }
}

/// Enlargements by requests with a new token, with a repeated one, and without.
fn steps_by(table: &Table) -> (RouteId, [usize; 3]) {
    let mut routes: BTreeMap<RouteId, usize> = BTreeMap::new();
    let mut by = [0; 3];
    // The first block may be older than the observation.
    for (route, class) in table.steps.iter().skip(1).filter_map(|step| step.owner) {
        *routes.entry(route).or_default() += 1;
        by[match class {
            Class::New | Class::NewHere => 0,
            Class::Repeat => 1,
            Class::None => 2,
        }] += 1;
    }
    let route = routes.into_iter().max_by_key(|(_, steps)| *steps);
    (route.map_or(RouteId::BACKGROUND, |(route, _)| route), by)
}

/// Route and cause. Only the requests that filled a block are known. So the cause is tested: if any request
/// added entries, how probable is it that all these requests had a new token?
fn owner(table: &Table, inputs: Inputs) -> (RouteId, Cause) {
    let (route, [new, repeat, none]) = steps_by(table);
    if !route.has_requests() {
        return (route, Cause::Background);
    }
    let known = inputs.attribution.routes.get(route);
    let fresh = known.classes[Class::New.index()] + known.classes[Class::NewHere.index()];
    let share = fresh as f64 / known.requests.max(1) as f64;
    let cause = if repeat + none >= LEAST_REPEATS {
        Cause::PerRequest
    } else if repeat + none == 0 && share.powi(new as i32) < BY_CHANCE {
        Cause::TokenKeyed
    } else {
        Cause::Indeterminate
    };
    (route, cause)
}

fn sentence(table: &Table, cause: Cause) -> String {
    let (_, [new, repeat, none]) = steps_by(table);
    if cause == Cause::Background {
        return "no request enlarged it".to_owned();
    }
    format!(
        "it was enlarged by {} requests with a new token, {} with a repeated one and {} without",
        number(new as f64),
        number(repeat as f64),
        number(none as f64)
    )
}
