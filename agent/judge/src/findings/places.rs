//! Code locations of findings.

use crate::attribution::Attribution;
use crate::events::{Binding, FrameKind, SiteId};
use crate::report::{Basis, Cause, Finding, FindingState, SiteSummary};

/// The biggest site of a series, with the bytes of the whole series.
pub(super) fn summary(
    attribution: &Attribution,
    sites: &[(SiteId, f64)],
    bytes: f64,
) -> Option<SiteSummary> {
    let site = sites
        .iter()
        .find_map(|(id, _)| attribution.sites.get(*id))?;
    let frame = site.leading();
    Some(SiteSummary {
        function: frame.function.clone(),
        file: frame.file.clone(),
        line: frame.line,
        module: frame.module.clone(),
        retained_bytes: bytes as u64,
        stack: site.stack.to_vec(),
    })
}

/// Puts the application's own site first, unless it keeps less than a fifth of the biggest site: a
/// developer looks for a line of the application.
pub(super) fn put_own_code_first(sites: &mut [SiteSummary]) {
    let is_own = |site: &SiteSummary| site.stack.iter().any(|f| f.kind == FrameKind::User);
    let most = sites.first().map_or(0, |site| site.retained_bytes);
    let own = sites
        .iter()
        .position(|site| is_own(site) && site.retained_bytes >= most / 5);
    if let Some(own) = own {
        sites[..=own].rotate_right(1);
    }
}

/// The site without a known stack.
pub(super) fn unknown_site() -> SiteSummary {
    SiteSummary {
        function: "(unknown)".to_owned(),
        file: None,
        line: None,
        module: String::new(),
        retained_bytes: 0,
        stack: Vec::new(),
    }
}

/// A finding with only a cause and a site.
pub(super) fn blank(cause: Cause, site: SiteSummary) -> Finding {
    Finding {
        state: FindingState::None,
        cause,
        route: String::new(),
        site,
        also: Vec::new(),
        retained_bytes: 0,
        retained_bytes_error: 0,
        retained_is_lower_bound: false,
        container_bytes: 0,
        retained_bytes_per_new_token: 0.0,
        retained_bytes_per_repeat_token: 0.0,
        retained_bytes_per_request: 0.0,
        blocks: 0,
        matured_bytes: 0,
        evicted_bytes: 0,
        new_tokens: 0,
        growth_bytes_per_second: 0.0,
        confidence: 1.0,
        binding: Binding::None,
        time_to_oom_seconds: None,
        evidence: Vec::new(),
        suspected_after_seconds: None,
        confirmed_after_seconds: None,
        basis: Basis::Blocks,
        container: None,
        precision: None,
        hint: None,
    }
}
