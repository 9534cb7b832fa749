//! Token residency: how many tokens are still in memory after their requests. Pure.
//!
//! [`Residents::summary`] is the last reliable search. [`evidence`] is its sentence for a finding.

use crate::events::{Nanos, Residency, ResidentToken};
use crate::report::{Cause, ResidencySummary, ResidentAge};

use super::units::number;

/// Age, in seconds, from which a complete search is replaced by a newer partial one.
const STALE_SECONDS: f64 = 300.0;
/// Minimum number of tokens for a statement about the oldest ones.
const ENOUGH: u64 = 50;
/// Minimum resident part of the old tokens for "kept", and maximum for "not kept".
const KEPT: f64 = 0.5;
const NOT_KEPT: f64 = 0.05;

/// The latest searches of one target.
#[derive(Clone, Debug, Default)]
pub struct Residents {
    /// The latest complete search.
    whole: Option<Residency>,
    /// The latest partial search, if it is newer.
    part: Option<Residency>,
}

impl Residents {
    /// Takes the result of a search.
    pub fn observe(&mut self, residency: &Residency) {
        if residency.cut {
            self.part = Some(residency.clone());
        } else {
            self.whole = Some(residency.clone());
            self.part = None;
        }
    }

    /// The sample of the latest search, partial or not.
    pub fn sample(&self) -> &[ResidentToken] {
        let latest = self.part.as_ref().or(self.whole.as_ref());
        latest.map_or(&[], |residency| &residency.sample)
    }

    /// Forgets all searches, because the address space was replaced.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    /// The summary of the latest reliable search at `now`.
    pub fn summary(&self, now: Nanos) -> Option<ResidencySummary> {
        let fresh = |one: &&Residency| now.since(one.at) < STALE_SECONDS;
        self.whole
            .as_ref()
            .filter(fresh)
            .or(self.part.as_ref())
            .or(self.whole.as_ref())
            .and_then(summary)
    }
}

fn summary(residency: &Residency) -> Option<ResidencySummary> {
    let ages: Vec<ResidentAge> = residency
        .ages
        .iter()
        .map(|age| ResidentAge {
            at_least_seconds: age.at_least_seconds,
            tokens: age.tokens,
            resident: age.resident.min(age.tokens),
        })
        .collect();
    let all = since(&ages, 0)?;
    let mut said = said(all, residency.cut);
    let old = oldest(&ages)?;
    if old.at_least_seconds > all.at_least_seconds {
        said = format!(
            "{said} ({} of the {} over {} s)",
            number(old.resident as f64),
            number(old.tokens as f64),
            number(old.at_least_seconds as f64),
        );
    }
    Some(ResidencySummary {
        tokens: all.tokens,
        resident: all.resident,
        scanned_bytes: residency.scanned_bytes,
        cut: residency.cut,
        said,
        ages,
    })
}

/// `of 3,000 tokens whose requests ended over 10 s ago, 3,000 are still in memory`.
fn said(age: ResidentAge, cut: bool) -> String {
    format!(
        "of {} tokens whose requests ended over {} s ago, {}{} are still in memory",
        number(age.tokens as f64),
        age.at_least_seconds,
        if cut { "at least " } else { "" },
        number(age.resident as f64),
    )
}

/// The sum over all ages from `from` on.
fn since(ages: &[ResidentAge], from: usize) -> Option<ResidentAge> {
    let ages = ages.get(from..)?;
    let first = ages.first()?;
    Some(ResidentAge {
        at_least_seconds: first.at_least_seconds,
        tokens: ages.iter().map(|age| age.tokens).sum(),
        resident: ages.iter().map(|age| age.resident).sum(),
    })
}

/// The oldest tokens, as many ages as needed for a statement. The youngest may only wait for a garbage
/// collection.
fn oldest(ages: &[ResidentAge]) -> Option<ResidentAge> {
    (0..ages.len())
        .rev()
        .filter_map(|from| since(ages, from))
        .find(|age| age.tokens >= ENOUGH)
        .or_else(|| since(ages, 0))
}

/// Whether most old tokens are kept.
pub fn are_kept(summary: &ResidencySummary) -> bool {
    oldest(&summary.ages)
        .is_some_and(|old| old.tokens >= ENOUGH && old.resident as f64 >= KEPT * old.tokens as f64)
}

/// The evidence for or against a finding of this cause.
pub fn evidence(summary: &ResidencySummary, cause: Cause) -> Option<String> {
    let old = oldest(&summary.ages).filter(|age| age.tokens > 0)?;
    let ratio = old.resident as f64 / old.tokens as f64;
    let said = said(old, summary.cut);
    match cause {
        Cause::TokenKeyed | Cause::Mixed | Cause::PerRequest | Cause::Indeterminate => {}
        _ => return None,
    }
    if ratio >= KEPT {
        Some(format!("{said}: tokens themselves are kept"))
    } else if ratio <= NOT_KEPT && !summary.cut {
        Some(format!("{said}: what is kept is not the tokens themselves"))
    } else {
        Some(said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::TokenStrings;

    fn search(at: u64, cut: bool, ages: &[(u64, u64, u64)]) -> Residency {
        Residency {
            at: Nanos(at * 1_000_000_000),
            scanned_bytes: 40 << 20,
            cut,
            sample: Vec::new(),
            strings: TokenStrings::Unknown,
            ages: ages
                .iter()
                .map(
                    |&(at_least_seconds, tokens, resident)| crate::events::ResidentAge {
                        at_least_seconds,
                        tokens,
                        resident,
                    },
                )
                .collect(),
        }
    }

    fn of(ages: &[(u64, u64, u64)]) -> ResidencySummary {
        summary(&search(0, false, ages)).unwrap()
    }

    #[test]
    fn kept_tokens_support_a_token_keyed_finding() {
        let all = of(&[(10, 1000, 1000), (30, 2000, 2000)]);
        assert_eq!((all.tokens, all.resident), (3000, 3000));
        assert_eq!(
            all.said,
            "of 3,000 tokens whose requests ended over 10 s ago, 3,000 are still in memory \
             (2,000 of the 2,000 over 30 s)"
        );
        let said = evidence(&all, Cause::TokenKeyed).unwrap();
        assert!(said.ends_with("tokens themselves are kept"), "{said}");
        assert_eq!(evidence(&all, Cause::Background), None);
    }

    #[test]
    fn tokens_that_are_gone_say_so() {
        let gone = of(&[(10, 1000, 30), (30, 2000, 7)]);
        let said = evidence(&gone, Cause::PerRequest).unwrap();
        assert!(said.contains("of 2,000 tokens") && said.ends_with("not the tokens themselves"));
    }

    /// The last collection was 30 s ago, so younger tokens are still in memory. The oldest decide.
    #[test]
    fn the_oldest_decide_when_there_are_enough() {
        let collected = of(&[(10, 2000, 2000), (30, 3000, 3), (300, 20, 0)]);
        let said = evidence(&collected, Cause::Indeterminate).unwrap();
        assert!(said.contains("of 3,020 tokens whose requests ended over 30 s ago, 3 are"));
        let few = of(&[(10, 30, 30)]);
        assert_eq!(
            few.said,
            "of 30 tokens whose requests ended over 10 s ago, 30 are still in memory"
        );
    }

    #[test]
    fn a_part_never_says_that_tokens_are_gone() {
        let part = summary(&search(0, true, &[(10, 1000, 5)])).unwrap();
        let said = evidence(&part, Cause::TokenKeyed).unwrap();
        assert!(said.ends_with("at least 5 are still in memory"), "{said}");
    }

    #[test]
    fn the_last_whole_search_counts_while_it_is_fresh() {
        let mut residents = Residents::default();
        let at = |seconds: u64| Nanos(seconds * 1_000_000_000);
        assert_eq!(residents.summary(at(1)), None);
        residents.observe(&search(10, true, &[(10, 100, 50)]));
        assert_eq!(residents.summary(at(11)).unwrap().resident, 50);
        residents.observe(&search(20, false, &[(10, 100, 90)]));
        residents.observe(&search(40, true, &[(10, 100, 40)]));
        assert_eq!(residents.summary(at(41)).unwrap().resident, 90);
        assert_eq!(residents.summary(at(320)).unwrap().resident, 40);
        residents.forget();
        assert_eq!(residents.summary(at(321)), None);
        residents.observe(&search(330, false, &[]));
        assert_eq!(
            residents.summary(at(331)),
            None,
            "no token was searched for"
        );
    }
}
