//! Learned plateaus: how much each function or container kept when it was full. They are stored across restarts of
//! heaptide. A cache that fills again after a restart or a deploy is not suspected until it exceeds its
//! plateau. A plateau has names of the program only: no token, no request.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::attribution::Attribution;
use crate::growth::SeriesKey;

use super::window::Window;

/// Maximum number of plateaus. The smallest are dropped first.
const MOST: usize = 512;
/// Tolerance: a series is within its plateau up to this factor.
const ROOM: f64 = 1.25;
/// Minimum seconds of history for a plateau.
const LEAST_SECONDS: f64 = 60.0;
/// Minimum holders for a plateau. With fewer there is no suspicion.
const LEAST_HOLDERS: f64 = 20.0;

/// What a function kept for a route, or a container had, when it was full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Plateau {
    /// Maximum live holders; entries of a container.
    pub holders: f64,
    /// Maximum mature bytes; 0 for a container.
    pub bytes: f64,
}

/// All plateaus of a service by `route, function` or `container PATH`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Plateaus {
    all: BTreeMap<String, Plateau>,
}

impl Plateaus {
    /// Whether there is no plateau.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Merges other plateaus. Of two plateaus with one name the larger is kept.
    pub fn learn(&mut self, other: &Self) {
        for (name, plateau) in &other.all {
            self.raise(name.clone(), *plateau);
        }
    }

    /// Records a series that is full. `peak`: its maximum mature bytes.
    pub(super) fn full(&mut self, name: String, window: &Window, peak: f64) {
        if window.seconds >= LEAST_SECONDS && window.alive >= LEAST_HOLDERS {
            let (holders, bytes) = (window.alive, peak);
            self.raise(name, Plateau { holders, bytes });
        }
    }

    /// Records a container that is full after `seconds`, with at most `entries`.
    pub(super) fn full_container(&mut self, name: String, seconds: f64, entries: f64) {
        if seconds >= LEAST_SECONDS && entries >= LEAST_HOLDERS {
            let (holders, bytes) = (entries, 0.0);
            self.raise(name, Plateau { holders, bytes });
        }
    }

    /// Forgets the plateau of a series or container that was confirmed.
    pub(super) fn outgrown(&mut self, name: &str) {
        self.all.remove(name);
    }

    /// Whether a series is within its plateau.
    pub(super) fn holds(&self, name: &str, window: &Window) -> bool {
        self.all.get(name).is_some_and(|plateau| {
            window.alive <= ROOM * plateau.holders && window.net <= ROOM * plateau.bytes
        })
    }

    /// Whether a container is within its plateau.
    pub(super) fn holds_container(&self, name: &str, entries: f64) -> bool {
        self.all
            .get(name)
            .is_some_and(|plateau| entries <= ROOM * plateau.holders)
    }

    fn raise(&mut self, name: String, plateau: Plateau) {
        let known = self.all.entry(name).or_default();
        known.holders = known.holders.max(plateau.holders);
        known.bytes = known.bytes.max(plateau.bytes);
        if self.all.len() > MOST {
            let least = self
                .all
                .iter()
                .min_by(|a, b| a.1.bytes.total_cmp(&b.1.bytes));
            if let Some(name) = least.map(|(name, _)| name.clone()) {
                self.all.remove(&name);
            }
        }
    }
}

/// The name of a plateau: route and function. Lines change between builds, so they are not part of it.
pub(super) fn name(attribution: &Attribution, key: SeriesKey) -> String {
    let route = &attribution.routes.get(key.route).name;
    let (function, _) = attribution.sites.describe(key.leading);
    format!("{route}, {function}")
}

/// The name of a container's plateau.
pub(super) fn container(path: &str) -> String {
    format!("container {path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_go_first_and_the_larger_stays() {
        let mut plateaus = Plateaus::default();
        for n in 0..600u32 {
            let plateau = Plateau {
                holders: 30.0,
                bytes: f64::from(n),
            };
            plateaus.raise(format!("{n}"), plateau);
        }
        assert_eq!(plateaus.all.len(), MOST);
        assert!(!plateaus.all.contains_key("0") && plateaus.all.contains_key("599"));
        let mut other = Plateaus::default();
        other.raise(
            "599".to_owned(),
            Plateau {
                holders: 10.0,
                bytes: 1e6,
            },
        );
        plateaus.learn(&other);
        assert_eq!(
            plateaus.all["599"],
            Plateau {
                holders: 30.0,
                bytes: 1e6
            }
        );
        let text = serde_json::to_string(&plateaus).expect("plain data");
        assert_eq!(
            serde_json::from_str::<Plateaus>(&text).expect("the same"),
            plateaus
        );
    }
}
