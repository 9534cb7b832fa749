//! One check of `heaptide doctor`: a line of its output.

use serde::Serialize;

/// Result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum CheckStatus {
    /// No action needed.
    Ok,
    /// It works with limitations.
    Limited,
    /// `attach` would not work.
    Missing,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    pub(super) state: CheckStatus,
    pub(super) name: &'static str,
    /// What was found.
    pub(super) found: String,
    /// What to do if it is not `ok`.
    #[serde(rename = "todo", skip_serializing_if = "String::is_empty")]
    pub(super) advice: String,
    /// It is missing because of the user's permissions, not because of the kernel.
    #[serde(skip)]
    pub(super) rights: bool,
}

impl Check {
    pub(super) fn ok(name: &'static str, found: impl Into<String>) -> Self {
        let advice = String::new();
        Self {
            state: CheckStatus::Ok,
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
            state: CheckStatus::Limited,
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
            state: CheckStatus::Missing,
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
