//! What the daemon says of itself: whether it can work, and whether it observes anything. Pure.

use crate::outputs::metrics::Standing;

/// Targets that are named in a message.
const NAMED: usize = 5;

/// What a scan has found.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Found<'a> {
    /// Names of the targets.
    pub(super) targets: &'a [&'a str],
    /// Why nothing can be observed: the kernel programs, or `/proc`.
    pub(super) obstacle: Option<&'a str>,
    /// Processes that match a target.
    pub(super) matching: usize,
    /// Processes that are observed.
    pub(super) observed: usize,
    /// Why a process cannot be observed.
    pub(super) failure: Option<&'a str>,
}

/// Derives the standing from the facts.
pub(super) fn standing(found: &Found<'_>) -> Standing {
    let unhealthy = match (found.obstacle, found.failure) {
        (Some(obstacle), _) => Some(obstacle.to_owned()),
        (None, Some(failure)) if found.observed == 0 && found.matching > 0 => {
            Some(format!("nothing can be observed: {failure}"))
        }
        _ => None,
    };
    let idle = (found.observed == 0 && !found.targets.is_empty()).then(|| {
        if let Some(unhealthy) = &unhealthy {
            return unhealthy.clone();
        }
        let first: Vec<&str> = found.targets.iter().take(NAMED).copied().collect();
        let names = match found.targets.len().saturating_sub(NAMED) {
            0 => first.join(", "),
            more => format!("{} and {more} more", first.join(", ")),
        };
        match found.matching {
            0 => format!("nothing is observed: no process matches {names}"),
            count => format!("nothing is observed yet: {count} processes match {names}"),
        }
    });
    Standing { unhealthy, idle }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_that_observes_nothing_says_so() {
        let targets = ["api", "web"];
        let found = Found {
            targets: &targets,
            matching: 2,
            observed: 1,
            failure: Some("no rights"),
            ..Found::default()
        };
        assert_eq!(standing(&found), Standing::default(), "one is observed");
        let none = standing(&Found {
            observed: 0,
            ..found
        });
        let why = Some("nothing can be observed: no rights".to_owned());
        assert_eq!((none.unhealthy, none.idle), (why.clone(), why));
        let absent = standing(&Found {
            matching: 0,
            observed: 0,
            failure: None,
            ..found
        });
        let why = "nothing is observed: no process matches api, web";
        assert_eq!(
            (absent.unhealthy, absent.idle.as_deref()),
            (None, Some(why))
        );
        let many = ["a", "b", "c", "d", "e", "f", "g"];
        let absent = standing(&Found {
            targets: &many,
            ..Found::default()
        });
        let idle = absent.idle.expect("idle");
        assert!(idle.ends_with("a, b, c, d, e and 2 more"), "{idle}");
        let broken = standing(&Found {
            obstacle: Some("no programs"),
            ..Found::default()
        });
        assert_eq!(broken.unhealthy.as_deref(), Some("no programs"));
        assert_eq!(broken.idle, None, "there are no targets");
        assert_eq!(standing(&Found::default()), Standing::default());
    }
}
