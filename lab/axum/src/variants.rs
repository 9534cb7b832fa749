//! The variants: what each keeps, one file per family.

use anyhow::{Context as _, Result};

use crate::Service;
use crate::kept::Kept;

mod attribution;
mod bounded_caches;
pub(crate) mod full_caches;
mod not_per_request;
mod per_request;
mod rare;
pub(crate) mod token_caches;
mod transient;

/// A way of using memory.
pub(crate) struct Variant {
    pub(crate) name: &'static str,
    /// The benign service with this variant's routes.
    pub(crate) routes: fn(Service) -> Service,
    /// Present contents of its container.
    pub(crate) kept: fn() -> Kept,
}

/// All variants. lab/services.toml has their known answers.
static VARIANTS: &[Variant] = &[
    Variant {
        name: "stateless",
        routes: |app| app,
        kept: Kept::default,
    },
    Variant {
        name: "token-cache",
        routes: token_caches::by_token,
        kept: token_caches::kept_by_token,
    },
    Variant {
        name: "big-claims",
        routes: token_caches::by_token,
        kept: token_caches::kept_by_token,
    },
    Variant {
        name: "subject-cache",
        routes: token_caches::by_subject,
        kept: token_caches::kept_by_subject,
    },
    Variant {
        name: "lru-1024",
        routes: bounded_caches::lru,
        kept: bounded_caches::kept_lru,
    },
    Variant {
        name: "ttl",
        routes: bounded_caches::ttl,
        kept: bounded_caches::kept_timed,
    },
    Variant {
        name: "ttl-batch",
        routes: bounded_caches::ttl_batch,
        kept: bounded_caches::kept_timed,
    },
    Variant {
        name: "introspection-log",
        routes: per_request::introspection_log,
        kept: per_request::kept_log,
    },
    Variant {
        name: "body-retained",
        routes: per_request::body_retained,
        kept: per_request::kept_bodies,
    },
    Variant {
        name: "thread-local",
        routes: per_request::thread_local_claims,
        kept: per_request::kept_thread_local,
    },
    Variant {
        name: "background",
        routes: not_per_request::background,
        kept: not_per_request::kept,
    },
    Variant {
        name: "warm-up",
        routes: not_per_request::warm_up,
        kept: not_per_request::kept_warm_up,
    },
    Variant {
        name: "request-state",
        routes: transient::request_state,
        kept: Kept::default,
    },
    Variant {
        name: "working-set",
        routes: transient::working_set,
        kept: Kept::default,
    },
    Variant {
        name: "pool",
        routes: transient::pool,
        kept: Kept::default,
    },
    Variant {
        name: "burst-retention",
        routes: transient::burst,
        kept: Kept::default,
    },
    Variant {
        name: "lru-5000-full",
        routes: full_caches::lru,
        kept: Kept::default,
    },
    Variant {
        name: "two-caches-full",
        routes: full_caches::two,
        kept: Kept::default,
    },
    Variant {
        name: "ttl-300-full",
        routes: full_caches::aged,
        kept: Kept::default,
    },
    Variant {
        name: "quota-64",
        routes: rare::quota,
        kept: rare::kept_quotas,
    },
    Variant {
        name: "one-in-20",
        routes: rare::one_in_20,
        kept: rare::kept_slow,
    },
    Variant {
        name: "missing-path",
        routes: rare::missing_paths,
        kept: rare::kept_missing,
    },
    Variant {
        name: "attribution",
        routes: attribution::routes,
        kept: attribution::kept,
    },
    Variant {
        name: "children",
        routes: attribution::routes_with_children,
        kept: attribution::kept,
    },
];

/// The variant of that name.
pub(crate) fn find(name: &str) -> Result<&'static Variant> {
    VARIANTS
        .iter()
        .find(|variant| variant.name == name)
        .with_context(|| {
            let names: Vec<_> = VARIANTS.iter().map(|variant| variant.name).collect();
            format!("unknown variant {name}; known ones: {}", names.join(", "))
        })
}
