//! lab/services.toml: the services, their variants and the known answers.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::process::root;

/// The file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Catalog {
    programs: BTreeMap<String, String>,
    #[serde(rename = "service")]
    pub(crate) services: Vec<Service>,
}

/// A service and how it is built and started.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Service {
    pub(crate) name: String,
    /// Inside lab/; build and run are run in it.
    pub(crate) folder: String,
    pub(crate) build: Vec<String>,
    pub(crate) run: Vec<String>,
    pub(crate) variants: Vec<Variant>,
}

/// A variant and its known answer.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Variant {
    pub(crate) name: String,
    pub(crate) expect: Expect,
    pub(crate) cause: Option<String>,
    pub(crate) route: Option<String>,
    pub(crate) function: Option<String>,
    #[serde(default)]
    pub(crate) load: Vec<String>,
    #[serde(default = "usual_warm_up")]
    pub(crate) warm_up: u64,
}

/// The known verdict.
#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Expect {
    /// Confirmed or suspected.
    Leak,
    NoLeak,
}

fn usual_warm_up() -> u64 {
    3
}

impl Catalog {
    pub(crate) fn load() -> Result<Self> {
        let path = root().join("lab/services.toml");
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("cannot understand {}", path.display()))
    }

    /// (program, Debian package).
    pub(crate) fn programs(self) -> impl Iterator<Item = (String, String)> {
        self.programs.into_iter()
    }

    /// The services and variants that match `service/variant`.
    pub(crate) fn rows(&self, pattern: &str) -> Vec<(&Service, &Variant)> {
        self.services
            .iter()
            .flat_map(|service| {
                service
                    .variants
                    .iter()
                    .map(move |variant| (service, variant))
            })
            .filter(|(service, variant)| {
                matches(pattern, &format!("{}/{}", service.name, variant.name))
            })
            .collect()
    }

    /// One of them.
    pub(crate) fn row(&self, service: &str, variant: &str) -> Result<(&Service, &Variant)> {
        self.rows(&format!("{service}/{variant}"))
            .into_iter()
            .next()
            .with_context(|| format!("no {service}/{variant} in lab/services.toml"))
    }
}

/// A glob of letters and `*`.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|left| {
            left.char_indices()
                .map(|(index, _)| index)
                .chain([left.len()])
                .any(|index| matches(rest, &left[index..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::{Catalog, matches};

    #[test]
    fn globs() {
        for pattern in ["*", "axum/*", "*/lru*", "axum/lru-1024", "a*/*4"] {
            assert!(matches(pattern, "axum/lru-1024"), "{pattern}");
        }
        for pattern in ["", "axum", "*/lru", "cpp/*"] {
            assert!(!matches(pattern, "axum/lru-1024"), "{pattern}");
        }
    }

    #[test]
    fn the_file_is_understood_and_has_the_demos() {
        let catalog = Catalog::load().expect("lab/services.toml");
        for service in ["axum", "cpp"] {
            for variant in ["token-cache", "stateless", "lru-1024", "introspection-log"] {
                catalog.row(service, variant).expect(variant);
            }
        }
    }
}
