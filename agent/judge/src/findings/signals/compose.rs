//! Builds findings from groups of growth signals.

use crate::attribution::keys::RouteId;
use crate::events::{Binding, GOROUTINES, Nanos};
use crate::findings::forecast::time_to_oom;
use crate::findings::inputs::Inputs;
use crate::findings::places::unknown_site;
use crate::findings::resident_routes::keeper;
use crate::findings::service::sooner;
use crate::findings::{Judge, losses::Lost, options};
use crate::growth::signals::SignalKey;
use crate::report::{
    Basis, Cause, ContainerSummary, Finding, FindingState, Precision, SiteSummary, UNDECIDED,
};

use super::curve::EventKind;
use super::figures::Figures;
use super::groups::{Group, groups};
use super::judged::JudgedSignal;
use super::sentences;

/// Maximum number of further sites.
const MOST_ALSO: usize = 8;
/// Confidence of a finding without a container or a site.
const PROCESS_CONFIDENCE: f64 = 0.5;

impl Judge {
    /// Judges all signals after a reading.
    pub fn reading(&mut self, inputs: Inputs) {
        let options = self.options;
        self.signals.judge(
            inputs.signals,
            inputs.attribution,
            &options,
            &mut self.plateaus,
            inputs.start,
            inputs.now,
        );
        self.confirm_signals(inputs);
        self.confirm_after_window(inputs);
        self.review(inputs);
    }

    /// Confirms the groups that have passed the growth budget.
    pub fn confirm_signals(&mut self, inputs: Inputs) {
        if Lost::new(&self.losses).requests > options::LOSS_CONFIRM {
            return;
        }
        for group in groups(self.signals.judged()) {
            let Some(main) = group
                .keys
                .first()
                .and_then(|key| self.signals.judged().get(key))
            else {
                continue;
            };
            let budget = self.budget_since(main.onset);
            let figures = self.signal_figures(inputs, &group);
            let needed = self.confirm_seconds(figures.floor, figures.seconds);
            if figures.floor >= budget && figures.seconds >= needed {
                self.signals.confirm(&group.keys, inputs.now);
            }
        }
    }

    /// Findings of growth signals. If `blocks` has the same leak, its finding gets the container instead.
    pub fn signal_findings(&self, inputs: Inputs, blocks: &mut [Finding]) -> Vec<Finding> {
        let mut out = Vec::new();
        // Of a runtime whose containers are counted, blocks are only seen in windows, and are a part of its memory.
        let blocks_tell = inputs.growth.sees_blocks()
            && (!inputs.signals.counts_containers()
                || blocks.iter().any(|known| known.state > FindingState::None));
        for group in groups(self.signals.judged()) {
            let Some(finding) = self.signal_finding(inputs, &group) else {
                continue;
            };
            if inputs.garbage && finding.basis != Basis::Container {
                continue;
            }
            // A second container is another finding.
            let same = blocks.iter_mut().find(|known| {
                known.state > FindingState::None
                    && (known.container.is_none() || finding.container.is_none())
                    && known.route == finding.route
                    && (known.cause == finding.cause
                        || known.cause == Cause::Indeterminate
                        || finding.cause == Cause::Indeterminate)
            });
            if let Some(known) = same {
                add_stacks(known, &finding);
                take_entries(known, &finding);
                if finding.container.is_some() {
                    known.container = finding.container;
                }
                // Blocks tell more of the cause than a total does: of it only the growth counts.
                let counted = match finding.basis {
                    Basis::Process if known.cause != Cause::Indeterminate => 1,
                    _ => finding.evidence.len(),
                };
                let evidence = finding.evidence.into_iter().take(counted);
                let new: Vec<String> = evidence
                    .filter(|said| !known.evidence.contains(said))
                    .collect();
                known.evidence.extend(new);
                if known.cause == Cause::Indeterminate {
                    known.cause = finding.cause;
                }
                // The code that keeps the blocks stores them in the container; where they are allocated comes second.
                let is_stored = known.container.as_ref().is_some_and(is_object);
                if finding.site.file.is_some() && (is_stored || known.site.file.is_none()) {
                    let allocated = std::mem::replace(&mut known.site, finding.site);
                    if allocated.file.is_some() {
                        known.also.insert(0, allocated);
                        known.also.truncate(MOST_ALSO);
                    }
                }
            } else if finding.basis == Basis::Container || !blocks_tell {
                // If blocks tell what grows, the totals of the process or its heap are not evidence.
                out.push(finding);
            }
        }
        out
    }

    /// The group, with cause and route by the tokens that stay in memory if the growth itself does not tell them.
    fn located(&self, inputs: Inputs, group: &Group) -> (Group, Option<String>) {
        let mut group = group.clone();
        let is_total = group
            .keys
            .first()
            .is_some_and(|key| basis(key) != Basis::Container);
        if !is_total || group.cause != Cause::Indeterminate {
            return (group, None);
        }
        let Some(keeper) = keeper(self.residents.sample(), inputs.attribution) else {
            return (group, None);
        };
        if group
            .route
            .is_some_and(|route| route > RouteId::OTHER && route != keeper.route)
        {
            return (group, None);
        }
        group.cause = Cause::TokenKeyed;
        group.route = Some(keeper.route);
        (group, Some(keeper.said))
    }

    fn signal_finding(&self, inputs: Inputs, group: &Group) -> Option<Finding> {
        let (group, located) = self.located(inputs, group);
        let group = &group;
        let main = group.keys.first()?;
        let one = self.signals.judged().get(main)?;
        let figures = self.signal_figures(inputs, group);
        let members = group
            .keys
            .iter()
            .filter_map(|key| self.signals.judged().get(key));
        let state = if self.lost().requests > options::LOSS_ANY {
            FindingState::None
        } else {
            members.map(|one| one.state).max()?
        };
        let mut sites = self.sites_of(inputs, group).into_iter();
        let mut site = sites.next().unwrap_or_else(unknown_site);
        site.retained_bytes = figures.grown as u64;
        let route = match group.route {
            Some(route) if route == RouteId::OTHER => "(all routes)".to_owned(),
            Some(route) => inputs.attribution.routes.get(route).name.clone(),
            None => UNDECIDED.to_owned(),
        };
        let per = |events: f64| {
            if events > 0.0 {
                figures.grown / events
            } else {
                0.0
            }
        };
        let two = one.explained.as_ref().and_then(|explained| explained.two);
        let (per_new, per_repeat) = match (group.cause, two) {
            (_, Some((new, repeat))) if one.window.net > 0.0 => {
                let each = figures.grown / one.window.net;
                (new * each, repeat * each)
            }
            (Cause::TokenKeyed, _) => (per(figures.new), 0.0),
            (Cause::Background, _) => (0.0, 0.0),
            _ => (per(figures.requests), per(figures.requests)),
        };
        let scale = if one.window.net > 0.0 {
            figures.grown / one.window.net
        } else {
            0.0
        };
        let basis = basis(main);
        let limit = self.memory.limit(self.options.memory_limit);
        let headroom = limit.map(|limit| limit.saturating_sub(self.memory.last().used) as f64);
        let tracker = self.signals.tracker(main);
        let after = |at: Option<Nanos>| at.map(|at| at.since(inputs.start));
        let sure = if basis == Basis::Process {
            PROCESS_CONFIDENCE
        } else {
            1.0
        };
        Some(Finding {
            state,
            cause: group.cause,
            route,
            site,
            also: sites.take(MOST_ALSO).collect(),
            retained_bytes: figures.grown as u64,
            retained_bytes_error: 0,
            retained_is_lower_bound: figures.is_lower_bound,
            container_bytes: 0,
            retained_bytes_per_new_token: per_new,
            retained_bytes_per_repeat_token: per_repeat,
            retained_bytes_per_request: if group.cause == Cause::Background {
                0.0
            } else {
                per(figures.requests)
            },
            blocks: 0,
            matured_bytes: (one.window.rose * scale) as u64,
            evicted_bytes: (one.window.fell * scale) as u64,
            new_tokens: figures.new as u64,
            growth_bytes_per_second: figures.rate.mean,
            confidence: sure * (1.0 - self.lost().requests),
            binding: if group.cause == Cause::Background {
                Binding::None
            } else {
                Binding::Inferred
            },
            time_to_oom_seconds: headroom.and_then(|headroom| time_to_oom(headroom, figures.rate)),
            evidence: sentences::sentences(self, inputs, group, one, &figures)
                .into_iter()
                .chain(located)
                .collect(),
            suspected_after_seconds: after(tracker.suspected),
            confirmed_after_seconds: after(tracker.confirmed),
            basis,
            container: container(main, one, &figures, group.cause),
            precision: Some(precision(
                &figures,
                per_new,
                per_repeat,
                per(figures.requests),
            )),
            hint: None,
        })
    }

    /// The writer sites of the group's signals, best first.
    fn sites_of(&self, inputs: Inputs, group: &Group) -> Vec<SiteSummary> {
        let mut out: Vec<SiteSummary> = Vec::new();
        for key in &group.keys {
            let Some(one) = self.signals.judged().get(key) else {
                continue;
            };
            let filled = one.about.writers.iter().map(|by| SiteSummary {
                function: by.function.clone(),
                file: by.file.clone(),
                line: by.line,
                ..unknown_site()
            });
            let profiled = one
                .about
                .site
                .and_then(|(id, _)| inputs.attribution.sites.get(id))
                .map(|site| {
                    let frame = site.leading();
                    SiteSummary {
                        function: frame.function.clone(),
                        file: frame.file.clone(),
                        line: frame.line,
                        module: frame.module.clone(),
                        retained_bytes: one.window.net.max(0.0) as u64,
                        stack: site.stack.to_vec(),
                    }
                });
            for site in filled.chain(profiled) {
                let known = |other: &SiteSummary| {
                    (&other.function, &other.file) == (&site.function, &site.file)
                };
                if !out.iter().any(known) {
                    out.push(site);
                }
            }
        }
        out
    }
}

/// Takes the figures of a container if its entries are larger than the blocks that were seen of them: small objects of
/// Python are not seen as blocks, and blocks of before a window are not either.
fn take_entries(known: &mut Finding, entries: &Finding) {
    let is_larger = entries.retained_bytes > known.retained_bytes
        && entries.retained_bytes_per_request > known.retained_bytes_per_request;
    if !known.retained_is_lower_bound
        || !is_larger
        || !entries.container.as_ref().is_some_and(is_object)
    {
        return;
    }
    known.retained_bytes = entries.retained_bytes;
    known.retained_bytes_error = entries.retained_bytes_error;
    known.retained_is_lower_bound = entries.retained_is_lower_bound;
    known.retained_bytes_per_new_token = entries.retained_bytes_per_new_token;
    known.retained_bytes_per_repeat_token = entries.retained_bytes_per_repeat_token;
    known.retained_bytes_per_request = entries.retained_bytes_per_request;
    sooner(
        known,
        (entries.growth_bytes_per_second - known.growth_bytes_per_second).max(0.0),
    );
    known.growth_bytes_per_second = entries
        .growth_bytes_per_second
        .max(known.growth_bytes_per_second);
    known.precision.clone_from(&entries.precision);
}

/// Whether it is an object of the program, not a group of goroutines.
pub(in crate::findings) fn is_object(container: &ContainerSummary) -> bool {
    container.kind != GOROUTINES
}

/// Adds the stacks of goroutines to a finding. They are memory besides the heap blocks; other containers
/// consist of those blocks.
fn add_stacks(known: &mut Finding, stacks: &Finding) {
    let kind = stacks.container.as_ref().map(|one| one.kind.as_str());
    if kind != Some(GOROUTINES) {
        return;
    }
    known.retained_bytes += stacks.retained_bytes;
    known.matured_bytes += stacks.matured_bytes;
    known.retained_bytes_per_new_token += stacks.retained_bytes_per_new_token;
    known.retained_bytes_per_repeat_token += stacks.retained_bytes_per_repeat_token;
    known.retained_bytes_per_request += stacks.retained_bytes_per_request;
    sooner(known, stacks.growth_bytes_per_second);
    known.growth_bytes_per_second += stacks.growth_bytes_per_second;
}

/// All figures are made from one growth, so they have its relative error.
fn precision(figures: &Figures, per_new: f64, per_repeat: f64, per_request: f64) -> Precision {
    let rate = figures.rate;
    let part = if rate.mean > 0.0 {
        rate.error / rate.mean
    } else {
        1.0
    };
    Precision {
        per_new_token: per_new * part,
        per_repeat_token: per_repeat * part,
        per_request: per_request * part,
        per_second: rate.error,
        is_of_process: figures.of_process || figures.seen.is_some(),
        is_part: figures.is_lower_bound,
        ..Precision::default()
    }
}

fn basis(key: &SignalKey) -> Basis {
    match key {
        SignalKey::Container(..) => Basis::Container,
        SignalKey::Site(_) => Basis::Profile,
        SignalKey::Heap => Basis::Collector,
        SignalKey::Faults | SignalKey::Process => Basis::Process,
    }
}

fn container(
    key: &SignalKey,
    one: &JudgedSignal,
    figures: &Figures,
    cause: Cause,
) -> Option<ContainerSummary> {
    let SignalKey::Container(path, kind) = key else {
        return None;
    };
    let net = one.window.net;
    let per = |events: f64, wanted: bool| (wanted && events > 0.0).then(|| net / events);
    // Tokens that looked new at first, but were known to the service, are not in the slope.
    let exact = one
        .explained
        .as_ref()
        .filter(|e| e.two.is_none() && matches!(e.variable.what, EventKind::New | EventKind::First))
        .map(|explained| explained.slope);
    let known_as = one.about.known_as.as_ref().unwrap_or(path);
    Some(ContainerSummary {
        path: known_as.clone(),
        kind: kind.clone(),
        entries_start: one.first.value as u64,
        entries_end: one.last.value as u64,
        entries_per_new_token: per(figures.new, cause == Cause::TokenKeyed)
            .map(|each| exact.unwrap_or(each)),
        entries_per_request: per(
            figures.requests,
            matches!(
                cause,
                Cause::PerRequest | Cause::Mixed | Cause::Indeterminate
            ),
        ),
        bytes_per_entry: (net > 0.0 && figures.grown > 0.0).then(|| figures.grown / net),
    })
}
