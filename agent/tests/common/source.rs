//! heaptide's source within the test itself.

use heaptide::observe::{Source, SourceOptions, TargetOptions};
use heaptide::settings;
use heaptide::values::Credential;

/// A source in mode `watch`.
pub(crate) fn watching() -> Source {
    let settings = settings::settings(&Credential::Bearer, 4096).expect("settings");
    let options = SourceOptions {
        settings,
        target: TargetOptions {
            allocations: false,
            automatic: false,
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
