//! One check of `heaptide doctor`: a line of its output.

use serde::Serialize;

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// Nothing to do.
    Ok,
    /// It works, but not in full.
    Limited,
    /// `attach` would not work.
    Missing,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    pub(super) state: State,
    pub(super) name: &'static str,
    /// What was found.
    pub(super) found: String,
    /// What to do, when something is not `ok`.
    #[serde(rename = "todo", skip_serializing_if = "String::is_empty")]
    pub(super) advice: String,
    /// It is missing because of the user's rights, not because of the kernel.
    #[serde(skip)]
    pub(super) rights: bool,
}

impl Check {
    pub(super) fn ok(name: &'static str, found: impl Into<String>) -> Self {
        let advice = String::new();
        Self {
            state: State::Ok,
            name,
            found: found.into(),
            advice,
            rights: false,
        }
    }

    pub(super) fn limited(
        name: &'static str,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self {
            state: State::Limited,
            advice: advice.into(),
            ..Self::ok(name, found)
        }
    }

    pub(super) fn missing(
        name: &'static str,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self {
            state: State::Missing,
            advice: advice.into(),
            ..Self::ok(name, found)
        }
    }

    pub(super) fn forbidden(
        name: &'static str,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self {
            rights: true,
            ..Self::missing(name, found, advice)
        }
    }
}
