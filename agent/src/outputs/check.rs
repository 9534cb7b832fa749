//! The results of `heaptide check`, and their text form.

use std::fmt::Write as _;

use super::{
    format::{base_name, cause, counted, duration, printable, state},
    text,
};
use heaptide_judge::{
    policy::{Outcome, Ruling},
    report::{Finding, Report},
};

/// Maximum length of a sentence.
const SENTENCE: usize = 600;
/// Maximum length of a route.
const ROUTE: usize = 100;
/// Findings of one policy.
const FINDINGS: usize = 10;

/// All results of one check.
#[derive(Clone, Debug)]
pub struct Checked<'a> {
    /// What had to happen besides the policies.
    pub stages: Vec<Stage>,
    /// One per policy.
    pub outcomes: Vec<Outcome>,
    /// The report of the whole service.
    pub report: &'a Report,
}

/// Something that had to happen: the observation to its end, the load command.
#[derive(Clone, Debug)]
pub struct Stage {
    /// Its name.
    pub name: &'static str,
    /// What must happen.
    pub demand: String,
    /// Why it failed. `None`: it did not.
    pub failure: Option<String>,
    /// The result of the check if it failed and no policy did.
    pub overall: Overall,
}

/// The result of a check, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Overall {
    /// All policies are passed.
    Passed,
    /// The evidence does not decide a policy.
    Undecided,
    /// The process ended before the check did.
    TargetEnded,
    /// The load command failed.
    LoadFailed,
    /// A policy is failed.
    Failed {
        /// By a confirmed finding.
        confirmed: bool,
    },
}

/// One line of the results: a policy or a stage.
pub(super) struct Row<'a> {
    /// Its short name.
    pub(super) name: &'a str,
    /// What it demands.
    pub(super) demand: String,
    /// Its result.
    pub(super) overall: Overall,
    /// Why.
    pub(super) said: String,
    /// The findings that it fails by.
    pub(super) findings: &'a [Finding],
}

impl Overall {
    /// The word for it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Undecided => "not decided",
            Self::TargetEnded => "process ended",
            Self::LoadFailed => "load failed",
            Self::Failed { .. } => "FAILED",
        }
    }

    fn of(ruling: Ruling) -> Self {
        match ruling {
            Ruling::Passed => Self::Passed,
            Ruling::Undecided { .. } => Self::Undecided,
            Ruling::Failed { confirmed } => Self::Failed { confirmed },
        }
    }
}

impl Checked<'_> {
    /// The worst result.
    pub fn overall(&self) -> Overall {
        let rows = self.rows();
        rows.iter()
            .map(|row| row.overall)
            .max()
            .unwrap_or(Overall::Undecided)
    }

    /// Policies, and stages.
    pub(super) fn rows(&self) -> Vec<Row<'_>> {
        let policies = self.outcomes.iter().map(|one| Row {
            name: one.name,
            demand: one.demand.clone(),
            overall: Overall::of(one.ruling),
            said: printable(&one.said, SENTENCE).into_owned(),
            findings: &one.findings[..one.findings.len().min(FINDINGS)],
        });
        let stages = self.stages.iter().map(|stage| Row {
            name: stage.name,
            demand: printable(&stage.demand, SENTENCE).into_owned(),
            overall: match stage.failure {
                Some(_) => stage.overall,
                None => Overall::Passed,
            },
            said: printable(stage.failure.as_deref().unwrap_or_default(), SENTENCE).into_owned(),
            findings: &[],
        });
        policies.chain(stages).collect()
    }

    /// The name of the service's program: the same in every run.
    pub(super) fn program(&self) -> String {
        printable(base_name(&self.report.target.exe), ROUTE).into_owned()
    }

    /// The service and how long it was observed, in one line.
    pub(super) fn subject(&self) -> String {
        format!(
            "{} (pid {}), {}, {}",
            self.program(),
            self.report.target.pid,
            duration(self.report.window.seconds),
            counted(self.report.window.requests, "request", "requests")
        )
    }

    /// The report, and below it the results.
    pub fn text(&self) -> String {
        let mut text = text::render(self.report);
        // Writing to a string cannot fail.
        let _ = writeln!(text, "\ncheck         {}", self.subject());
        for row in self.rows() {
            let _ = writeln!(
                text,
                "{:<14}{}: {}",
                row.overall.word(),
                row.name,
                row.demand
            );
            if !row.said.is_empty() {
                let _ = writeln!(text, "              {}", row.said);
            }
            for finding in row.findings {
                let _ = writeln!(text, "              {}", headline(finding));
            }
        }
        text
    }
}

/// Route, cause and place of a finding in one line.
pub(super) fn headline(finding: &Finding) -> String {
    format!(
        "{} ({}, {}) {}",
        printable(&finding.route, ROUTE),
        cause(finding.cause),
        state(finding.state),
        text::place(finding)
    )
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use heaptide_judge::{fixtures, policy::Policy};

    /// A route, a function and a command that try to break out of every format.
    pub(in crate::outputs) const HOSTILE: &str = "GET /a|b`c`</td><script>x</script>]]>&amp;\"'\u{1b}[31m\u{202e}\n| x | --> @all www.x.y #1 $a$";

    /// A failed policy with a hostile route, an undecided one, and a load command that failed.
    pub(in crate::outputs) fn report() -> Report {
        let mut report = fixtures::leak();
        HOSTILE.clone_into(&mut report.findings[0].route);
        report
    }

    pub(in crate::outputs) fn checked(report: &Report) -> Checked<'_> {
        let policies = [Policy::MaxKeptPerToken(64.0), Policy::MaxGrowth(1e6)];
        Checked {
            stages: vec![
                Stage {
                    name: "observation",
                    demand: "to its end".to_owned(),
                    failure: None,
                    overall: Overall::Undecided,
                },
                Stage {
                    name: "load command",
                    demand: format!("`{HOSTILE}` succeeds"),
                    failure: Some(format!("`{HOSTILE}` exited with 7")),
                    overall: Overall::LoadFailed,
                },
            ],
            outcomes: heaptide_judge::policy::judge(
                &policies,
                std::slice::from_ref(report),
                &|_| true,
            ),
            report,
        }
    }

    #[test]
    fn the_text_says_what_failed_where_and_what_is_open() {
        let report = report();
        let checked = checked(&report);
        assert_eq!(checked.overall(), Overall::Failed { confirmed: true });
        let text = checked.text();
        for part in [
            "\nFAILED        max-kept-per-token: at most 64 B kept per new token\n",
            "(token_keyed, confirmed) app.py:17 get_data",
            "\nnot decided   max-growth: growth of at most 57.2 MiB/min\n",
            "\npassed        observation: ",
            "\nload failed   load command: ",
            "exited with 7",
        ] {
            assert!(text.contains(part), "{part:?} in {text}");
        }
        assert!(
            !text.contains('\u{1b}') && !text.contains('\u{202e}'),
            "{text}"
        );
    }

    #[test]
    fn the_worst_result_counts() {
        let report = fixtures::no_leak();
        let mut none = Checked {
            stages: vec![],
            outcomes: vec![],
            report: &report,
        };
        assert_eq!(none.overall(), Overall::Undecided);
        let mut add = |overall| {
            none.stages.push(Stage {
                name: "s",
                demand: String::new(),
                failure: Some("f".to_owned()),
                overall,
            });
            none.overall()
        };
        for overall in [
            Overall::Undecided,
            Overall::TargetEnded,
            Overall::LoadFailed,
            Overall::Failed { confirmed: false },
            Overall::Failed { confirmed: true },
        ] {
            assert_eq!(add(overall), overall);
        }
        assert_eq!(add(Overall::Undecided), Overall::Failed { confirmed: true });
    }
}
