//! How much a finding keeps, in one line.

use std::fmt::Write as _;

use crate::outputs::format::{bytes, count, counted, percent, printable, site_location};
use heaptide_judge::report::{Basis, Cause, ContainerSummary, Finding};

/// Maximum length of a name.
pub(super) const NAME: usize = 100;
/// Maximum length of a container's path.
pub(super) const CONTAINER: usize = 160;

/// How much a finding keeps, in one line. The live views show it too.
pub fn kept(finding: &Finding) -> String {
    let new = bytes(finding.retained_bytes_per_new_token);
    let repeat = bytes(finding.retained_bytes_per_repeat_token);
    let request = bytes(finding.retained_bytes_per_request);
    let freed = freed(finding);
    let held = held(finding);
    let sign = if finding.retained_is_lower_bound {
        ">= "
    } else {
        "+"
    };
    match finding.cause {
        Cause::TokenKeyed => format!(
            "{sign}{new} kept per new token, {repeat} per repeated token; {}, {freed}",
            counted(finding.new_tokens, "token", "tokens")
        ),
        Cause::Mixed => {
            format!(
                "{sign}{new} kept per new token and {sign}{repeat} per repeated token; {held}, {freed}"
            )
        }
        Cause::PerRequest => {
            format!("{sign}{request} kept per request, whatever its token; {held}, {freed}")
        }
        Cause::Background => format!(
            "{sign}{}/s without requests; {held}, {freed}",
            bytes(finding.growth_bytes_per_second)
        ),
        // No request was seen.
        Cause::Indeterminate if finding.retained_bytes_per_request <= 0.0 => format!(
            "{sign}{}/s, which requests cause it is not known; {held}, {freed}",
            bytes(finding.growth_bytes_per_second)
        ),
        Cause::Indeterminate => format!(
            "{sign}{request} kept per request, too few new or repeated tokens to determine the \
             cause; {held}, {freed}"
        ),
        Cause::BoundedCache | Cause::WarmUp | Cause::AllocatorRetention | Cause::WorkingSet => {
            format!(
                "{} held in {held}, {freed}",
                bytes(finding.retained_bytes as f64)
            )
        }
    }
}

/// Where it is kept: a line of code, or else the container. The live views show it too.
pub fn place(finding: &Finding) -> String {
    let site = &finding.site;
    let function = printable(&site.function, NAME);
    if site.file.is_some() {
        return format!("{} {function}", site_location(site));
    }
    match &finding.container {
        Some(container) => format!(
            "{} ({})",
            printable(&container.path, CONTAINER),
            printable(&container.kind, NAME)
        ),
        None if finding.basis != Basis::Blocks && site.stack.is_empty() => {
            "kept by unknown code".to_owned()
        }
        None => format!("{function} ({})", site_location(site)),
    }
}

/// What holds the memory: blocks, entries of a container, or the measured total.
fn held(finding: &Finding) -> String {
    if let Some(container) = &finding.container {
        let entries = container
            .entries_end
            .saturating_sub(container.entries_start);
        return counted(entries, "entry more", "entries more");
    }
    match finding.basis {
        Basis::Blocks => counted(finding.blocks, "block", "blocks"),
        Basis::Container => "a container".to_owned(),
        Basis::Collector => "seen in the collector's heap".to_owned(),
        Basis::Profile => "seen in the runtime's heap profile".to_owned(),
        Basis::Process => "seen in the process's memory only".to_owned(),
    }
}

/// `app.claims_cache (dict) 1,000 -> 3,000 entries, 1.00 per new token, 1.9 KiB each`.
pub(super) fn container_line(container: &ContainerSummary) -> String {
    let mut text = format!(
        "{} ({}) {} -> {} entries",
        printable(&container.path, CONTAINER),
        printable(&container.kind, NAME),
        count(container.entries_start),
        count(container.entries_end)
    );
    if let Some(each) = container.entries_per_new_token {
        let _ = write!(text, ", {each:.2} per new token");
    } else if let Some(each) = container.entries_per_request {
        let _ = write!(text, ", {each:.2} per request");
    }
    if let Some(each) = container.bytes_per_entry {
        let _ = write!(text, ", {} each", bytes(each));
    }
    text
}

pub(super) fn freed(finding: &Finding) -> String {
    if finding.evicted_bytes == 0 {
        return "none freed".to_owned();
    }
    let ratio = finding.evicted_bytes as f64 / finding.matured_bytes.max(1) as f64;
    format!("{} freed", percent(ratio.min(1.0)))
}
