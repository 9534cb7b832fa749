//! heaptide's source within the test itself.

use heaptide::observe::{Source, SourceOptions, TargetOptions};
use heaptide::settings;
use heaptide::values::Credential;

/// A source in mode `watch`.
pub(crate) fn watching() -> Source {
    let options = SourceOptions {
        settings: settings::settings(4096).expect("settings"),
        target: TargetOptions {
            credential: settings::pattern(&Credential::Bearer).expect("a pattern"),
            allocations: false,
            automatic: false,
            at_once: false,
            budget: None,
            handlers: Vec::new(),
            memory_limit: None,
            follow: true,
        },
        stacks: true,
        residency: false,
        enable_go_profile: false,
    };
    Source::new(options).expect("the kernel half")
}
