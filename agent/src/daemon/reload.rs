//! What a changed configuration means for the running daemon. Pure.

use std::time::Duration;

use crate::config::{Agent, Config};
use crate::values::{Credential, Mode};

/// Puts the values in use back where a new one needs a restart, and returns the names of those keys.
pub(super) fn put_back(old: &Agent, new: &mut Agent) -> Vec<&'static str> {
    let mut refused = Vec::new();
    macro_rules! fixed {
        ($($key:ident),*) => {$(
            if old.$key != new.$key {
                new.$key.clone_from(&old.$key);
                refused.push(stringify!($key));
            }
        )*};
    }
    // The port is bound before capabilities are dropped; the log and the search are set up once; another state file has
    // another past.
    fixed!(metrics, log, log_format, residency, state);
    refused
}

/// Whether processes of a target are observed in another way, so that they must be attached again.
pub(super) fn is_changed(old: &Config, new: &Config, name: &str) -> bool {
    settings(old, name) != settings(new, name)
}

/// How the processes of a target are observed. Selectors are left out: the next scan detaches from processes that they
/// no longer select.
#[derive(PartialEq)]
struct Settings<'a> {
    follow_children: bool,
    memory_limit: Option<u64>,
    expect_cache: Option<u64>,
    horizon: Duration,
    handlers: &'a [String],
    credential: &'a Credential,
    mode: Mode,
    budget: Option<f64>,
}

fn settings<'a>(config: &'a Config, name: &str) -> Option<Settings<'a>> {
    let target = config.targets.iter().find(|target| target.name == name)?;
    Some(Settings {
        follow_children: target.follow_children,
        memory_limit: target.memory_limit,
        expect_cache: target.expect_cache,
        horizon: config.horizon_of(target),
        handlers: &target.handlers,
        credential: config.credential_of(target),
        mode: config.mode_of(target),
        budget: config.budget_of(target),
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn config(text: &str) -> Config {
        crate::config::parse(text, Path::new("h.toml")).unwrap()
    }

    #[test]
    fn what_needs_a_restart_is_named_and_put_back() {
        let old = config("").agent;
        let mut new = config(
            "[agent]\nmetrics = \"127.0.0.1:1\"\nlog_format = \"text\"\nresidency = false\noverhead = \"7%\"\n\
             log = \"debug\"\nstate = \"/x\"\n",
        )
        .agent;
        assert_eq!(
            put_back(&old, &mut new),
            ["metrics", "log", "log_format", "residency", "state"]
        );
        assert_eq!(
            (new.metrics, new.log_format, new.residency),
            (old.metrics, old.log_format, old.residency)
        );
        assert_eq!((&new.log, &new.state), (&old.log, &old.state));
        assert!((new.overhead - 0.07).abs() < 1e-9, "this one is applied");
        assert!(put_back(&old, &mut new).is_empty());
    }

    #[test]
    fn only_a_target_that_is_observed_in_another_way_is_attached_again() {
        let all = |agent: &str, a: &str, b: &str| {
            config(&format!(
                "[agent]\n{agent}[[target]]\nname = \"a\"\n{a}[[target]]\nname = \"b\"\n{b}"
            ))
        };
        let old = all("", "exe = \"a\"\n", "exe = \"b\"\nmode = \"trace\"\n");
        let changed = |new: &Config| ["a", "b"].map(|name| is_changed(&old, new, name));
        for (agent, a, b, expected) in [
            ("", "", "", [false, false]),
            ("scan_interval = \"1s\"\n", "", "", [false, false]),
            // Mode trace has no budget, and this target has its own mode.
            ("overhead = \"7%\"\n", "", "", [true, false]),
            ("mode = \"sample\"\n", "", "", [true, false]),
            ("credential = \"cookie:sid\"\n", "", "", [true, true]),
            ("horizon = \"1d\"\n", "", "", [true, true]),
            ("", "", "expect_cache = 10\n", [false, true]),
            (
                "",
                "cmdline = 'x'\n",
                "memory_limit = \"1MiB\"\n",
                [false, true],
            ),
        ] {
            let new = all(
                agent,
                &format!("exe = \"a\"\n{a}"),
                &format!("exe = \"b\"\nmode = \"trace\"\n{b}"),
            );
            assert_eq!(changed(&new), expected, "{agent}{a}{b}");
        }
        let gone = config("[[target]]\nname = \"a\"\nexe = \"other\"\n");
        assert_eq!(changed(&gone), [false, true]);
    }
}
