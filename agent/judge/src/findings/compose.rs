//! Builds findings from judged series: one per route and cause, worst first.

use crate::events::{Binding, Nanos};
use crate::growth::SeriesKey;
use crate::growth::epochs::Epochs;
use crate::growth::series::Series;
use crate::report::{Basis, Cause, Finding, FindingState, UNDECIDED};

use super::cause::{Contrast, contrast};
use super::evidence;
use super::forecast::{Rate, rate, time_to_oom};
use super::gates::Why;
use super::groups::groups;
use super::hints::hint;
use super::inputs::Inputs;
use super::judge::Judge;
use super::judged::Judged;
use super::places::{put_own_code_first, summary, unknown_site};
use super::precision::Errors;
use super::window::View;

/// Maximum number of findings in a report.
const MOST_FINDINGS: usize = 20;
/// Maximum number of further sites.
const MOST_ALSO: usize = 8;
/// Part of the new tokens that keep something below which the bytes per new token are a lower bound.
const DILUTED: f64 = 0.9;
/// Minimum matured bytes for a finding that is not a leak.
const WORTH_MENTIONING: f64 = 16.0 * 1024.0;

impl Judge {
    /// All findings, worst first.
    pub fn findings(&self, inputs: Inputs) -> Vec<Finding> {
        let mut out = self.seen(inputs);
        self.recall(&mut out);
        out.sort_by(|a, b| {
            b.state
                .cmp(&a.state)
                .then(b.retained_bytes.cmp(&a.retained_bytes))
        });
        out.truncate(MOST_FINDINGS);
        if inputs.requests_unread {
            out.iter_mut().for_each(unread);
        }
        for finding in &mut out {
            finding.hint = hint(finding);
        }
        out
    }

    /// The findings of the current window of allocations, and those of objects and memory.
    pub(super) fn seen(&self, inputs: Inputs) -> Vec<Finding> {
        let mut out: Vec<Finding> = groups(self.judged())
            .iter()
            .filter_map(|group| self.finding(inputs, group, None))
            .collect();
        let signals = self.signal_findings(inputs, &mut out);
        out.extend(signals);
        let mut still: Vec<(f64, &SeriesKey, Cause)> = Vec::new();
        for (key, one) in self
            .judged()
            .iter()
            .filter(|(_, one)| one.state == FindingState::None)
        {
            let cause = match one.why {
                Some(Why::Evicts) => Cause::BoundedCache,
                Some(Why::Stopped) => Cause::WarmUp,
                // Expected by the user, or too little evidence among all series.
                _ => continue,
            };
            let matured = inputs
                .growth
                .get(key)
                .map_or(0.0, |series| series.matured_bytes);
            if matured >= WORTH_MENTIONING {
                still.push((matured, key, cause));
            }
        }
        still.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
        let still = still
            .into_iter()
            .map(|(_, key, cause)| self.finding(inputs, &[*key], Some(cause)));
        out.extend(still.flatten());
        out.extend(self.benign(inputs));
        out.extend(self.kept_tokens(inputs));
        let tables = self.table_findings(inputs, &out);
        let is_table = |one: &Finding| tables.iter().any(|t| t.site.function == one.site.function);
        out.retain(|one| one.state > FindingState::None || !is_table(one));
        out.extend(tables);
        out
    }

    fn finding(
        &self,
        inputs: Inputs,
        group: &[SeriesKey],
        excuse: Option<Cause>,
    ) -> Option<Finding> {
        let main_key = group.first()?;
        let main = self.judged().get(main_key)?;
        let mut out = Sums::default();
        let mut errors = Errors::of(main);
        let mut sites = Vec::new();
        let mut onset = main.onset;
        for key in group {
            let (Some(one), Some(series)) = (self.judged().get(key), inputs.growth.get(key)) else {
                continue;
            };
            out.add(one, series, main.contrast.shared);
            errors.add(one);
            onset = onset.min(one.onset);
            let summary = summary(inputs.attribution, &series.sites, series.live_bytes());
            sites.extend(summary);
        }
        put_own_code_first(&mut sites);
        let mut sites = sites.into_iter();
        let site = sites.next().unwrap_or_else(unknown_site);
        let state = group
            .iter()
            .filter_map(|key| self.judged().get(key))
            .map(|one| self.state(one))
            .max()?;
        let growth = Self::growth_of(inputs, group, onset, out.variance);
        let trackers = group.iter().map(|key| self.tracker(key));
        let first = |times: Vec<Nanos>| times.into_iter().min().map(|at| at.since(inputs.start));
        let requests: u64 = main.exposed.iter().sum();
        let cause = group
            .iter()
            .filter_map(|key| self.judged().get(key))
            .map(|one| one.cause)
            .find(|cause| *cause != Cause::Indeterminate)
            .unwrap_or(main.cause);
        Some(Finding {
            state,
            cause: excuse.unwrap_or(cause),
            route: inputs.attribution.routes.get(main_key.route).name.clone(),
            site,
            also: sites.take(MOST_ALSO).collect(),
            retained_bytes: out.live as u64,
            retained_bytes_error: out.variance.max(0.0).sqrt() as u64,
            retained_is_lower_bound: excuse.is_none()
                && (inputs.blocks_partial || is_diluted(cause, &main.contrast)),
            container_bytes: out.container as u64,
            retained_bytes_per_new_token: out.means[0],
            retained_bytes_per_repeat_token: out.means[1],
            retained_bytes_per_request: if requests > 0 {
                out.since_onset / requests as f64
            } else {
                0.0
            },
            blocks: out.blocks as u64,
            matured_bytes: out.matured as u64,
            evicted_bytes: out.evicted as u64,
            new_tokens: main.contrast.new.requests,
            growth_bytes_per_second: growth.mean,
            confidence: 1.0 - self.lost().worst(),
            binding: binding(*main_key, &out),
            time_to_oom_seconds: self
                .headroom()
                .filter(|_| state > FindingState::None)
                .and_then(|headroom| time_to_oom(headroom, self.growth_of_all(inputs))),
            evidence: evidence::sentences(self, inputs, main_key, main, excuse.is_none()),
            suspected_after_seconds: first(trackers.clone().filter_map(|t| t.suspected).collect()),
            confirmed_after_seconds: first(trackers.filter_map(|t| t.confirmed).collect()),
            basis: Basis::Blocks,
            container: None,
            precision: Some(errors.precision(&growth, inputs.blocks_partial)),
            hint: None,
        })
    }

    /// Growth rate of resident memory over all findings: the memory limit applies to their sum.
    fn growth_of_all(&self, inputs: Inputs) -> Rate {
        let stated = self
            .judged()
            .iter()
            .filter(|(_, one)| one.state > FindingState::None);
        let keys: Vec<SeriesKey> = stated.clone().map(|(key, _)| *key).collect();
        let Some(onset) = stated.map(|(_, one)| one.onset).min() else {
            return Rate::default();
        };
        let series = keys.iter().filter_map(|key| inputs.growth.get(key));
        let variance = series.map(Series::variance).sum();
        let blocks = Self::growth_of(inputs, &keys, onset, variance);
        Rate {
            mean: self.resident(blocks.mean + self.tables.rate()),
            error: self.resident(blocks.error),
        }
    }

    /// Current growth rate of a group since its onset.
    pub(super) fn growth_of(
        inputs: Inputs,
        group: &[SeriesKey],
        onset: usize,
        variance: f64,
    ) -> Rate {
        let epochs: &Epochs = &inputs.growth.epochs;
        let from = onset.min(epochs.len().saturating_sub(2));
        let steps: Vec<(f64, f64)> = (from..epochs.len())
            .map(|i| {
                let views = group.iter().filter_map(|key| {
                    Some(View::new(inputs.growth, *key, inputs.growth.get(key)?))
                });
                (
                    epochs.seconds(i),
                    views.map(|view| view.before(i + 1) - view.before(i)).sum(),
                )
            })
            .collect();
        rate(&steps, variance)
    }
}

/// Whether fewer tokens keep something than are new: those that the service knew before the attach look new, keep nothing
/// more, and lower the mean.
fn is_diluted(cause: Cause, contrast: &Contrast) -> bool {
    let new = contrast.new;
    cause == Cause::TokenKeyed && (new.holders as f64) < DILUTED * new.requests as f64
}

/// Some requests could not be read, so growth without a request may be due to them.
fn unread(finding: &mut Finding) {
    if finding.cause == Cause::Background {
        finding.cause = Cause::Indeterminate;
        UNDECIDED.clone_into(&mut finding.route);
        finding
            .evidence
            .push("the requests of this process cannot be read".to_owned());
    }
}

/// Sums over the series of one finding.
#[derive(Default)]
struct Sums {
    live: f64,
    container: f64,
    since_onset: f64,
    means: [f64; 2],
    blocks: f64,
    matured: f64,
    evicted: f64,
    variance: f64,
    exact: f64,
}

impl Sums {
    fn add(&mut self, one: &Judged, series: &Series, shared: bool) {
        self.live += series.live_bytes();
        self.container += series.container_bytes();
        // The same assignment of classes for all series, so that their means can be added.
        let contrast = contrast(&one.kept, Some(shared));
        self.means[0] += contrast.new.mean;
        self.means[1] += contrast.repeat.mean;
        self.since_onset += one
            .kept
            .iter()
            .map(|kept| kept.mean * kept.requests as f64)
            .sum::<f64>();
        self.blocks += series.blocks;
        self.matured += series.matured_bytes;
        self.evicted += series.evicted_bytes;
        self.variance += series.variance();
        self.exact += series.exact_bytes;
    }
}

fn binding(key: SeriesKey, sums: &Sums) -> Binding {
    if !key.route.has_requests() {
        Binding::None
    } else if sums.exact >= 0.9 * sums.live {
        Binding::Exact
    } else {
        Binding::Inferred
    }
}
