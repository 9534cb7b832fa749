//! How much a finding keeps, in a line.

use std::fmt::Write as _;

use crate::outputs::format::{bytes, count, counted, percent, printable, site_location};
use heaptide_judge::report::{Basis, Cause, ContainerSummary, Finding};

/// Longest name printed.
pub(super) const NAME: usize = 100;
/// Longest path of a container printed.
pub(super) const CONTAINER: usize = 160;

/// One line of how much is kept, the sentence of the verdict: also the plain live view's.
pub fn kept(finding: &Finding) -> String {
    let new = bytes(finding.retained_bytes_per_new_token);
    let repeat = bytes(finding.retained_bytes_per_repeat_token);
    let request = bytes(finding.retained_bytes_per_request);
    let let_go = let_go(finding);
    let held = held(finding);
    match finding.cause {
        Cause::TokenKeyed => format!(
            "+{new} kept per new token, {repeat} per repeated token; {}, {let_go}",
            counted(finding.new_tokens, "token", "tokens")
        ),
        Cause::Mixed => {
            format!("+{new} kept per new token and +{repeat} per repeated token; {held}, {let_go}")
        }
        Cause::PerRequest => {
            format!("+{request} kept per request, whatever its token; {held}, {let_go}")
        }
        Cause::Background => format!(
            "+{}/s without a request; {held}, {let_go}",
            bytes(finding.growth_bytes_per_second)
        ),
        Cause::Indeterminate => format!(
            "+{request} kept per request, too few new or repeated tokens to tell which; {held}, \
             {let_go}"
        ),
        Cause::BoundedCache | Cause::WarmUp | Cause::AllocatorRetention | Cause::WorkingSet => {
            format!(
                "{} held in {held}, {let_go}",
                bytes(finding.retained_bytes as f64)
            )
        }
    }
}

/// Where it is kept: a line of code, else the container, also the live views'.
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
            "what keeps it is not known".to_owned()
        }
        None => format!("{function} ({})", site_location(site)),
    }
}

/// What holds the memory: blocks, entries of a container, or what was measured.
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

pub(super) fn let_go(finding: &Finding) -> String {
    if finding.evicted_bytes == 0 {
        return "none let go".to_owned();
    }
    let ratio = finding.evicted_bytes as f64 / finding.matured_bytes.max(1) as f64;
    format!("{} let go", percent(ratio.min(1.0)))
}
