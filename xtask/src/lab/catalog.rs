//! lab/services.toml: the services, their variants and the known answers.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use crate::process::root;

/// The file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Catalog {
    programs: BTreeMap<String, String>,
    /// Shared variants and answers, by name.
    #[serde(default)]
    answers: BTreeMap<String, Vec<Variant>>,
    #[serde(rename = "service")]
    pub(crate) services: Vec<Service>,
}

/// A service and how it is built and started.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Service {
    /// May have a slash: `python/flask-sync`.
    pub(crate) name: String,
    /// Folder in lab/, in which build and run are executed.
    pub(crate) folder: String,
    #[serde(default)]
    pub(crate) build: Vec<String>,
    pub(crate) run: Vec<String>,
    /// Additional environment.
    #[serde(default)]
    pub(crate) env: BTreeMap<String, String>,
    /// The interpreter whose virtual environment it runs in.
    pub(crate) python: Option<String>,
    /// Its program has no symbols, so source lines are unknown.
    #[serde(default)]
    pub(crate) stripped: bool,
    /// The Go toolchain that builds it.
    pub(crate) go: Option<String>,
    /// Programs without which it is skipped. Setup does not install them.
    #[serde(default)]
    pub(crate) needs: Vec<String>,
    /// Default mode of heaptide.
    #[serde(default = "usual_mode")]
    pub(crate) mode: String,
    /// Memory limit above the initial usage in MiB, instead of the default.
    pub(crate) headroom_mib: Option<u64>,
    /// Additional arguments of the load generator, before the variant's.
    #[serde(default)]
    pub(crate) load: Vec<String>,
    /// Number of processes that answer requests.
    #[serde(default = "one")]
    pub(crate) workers: u32,
    /// Its shared variants ...
    pub(crate) answers: Option<String>,
    /// ... all of them, or only these.
    #[serde(default)]
    pub(crate) only: Vec<String>,
    /// Those judged by `cargo xtask test`; the first variant of such a service is also started and its counts compared.
    #[serde(default)]
    pub(crate) tested: Vec<String>,
    /// Those judged by `cargo xtask test --all` too.
    #[serde(default)]
    pub(crate) slow: Vec<String>,
    #[serde(default)]
    pub(crate) variants: Vec<Variant>,
}

/// A variant and its known answer.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Variant {
    pub(crate) name: String,
    pub(crate) expect: Expect,
    pub(crate) cause: Option<String>,
    pub(crate) route: Option<String>,
    pub(crate) function: Option<String>,
    /// Suffix of the growing container's path, if containers can be seen.
    pub(crate) container: Option<String>,
    #[serde(default)]
    pub(crate) load: Vec<String>,
    #[serde(default = "usual_warm_up")]
    pub(crate) warm_up: u64,
}

/// The known verdict.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Expect {
    /// Confirmed or suspected.
    Leak,
    NoLeak,
    /// Not a leak, but indistinguishable before it is full: a suspicion is right too.
    NotConfirmed,
}

fn usual_warm_up() -> u64 {
    3
}

/// The mode with the most complete findings.
fn usual_mode() -> String {
    "trace".to_owned()
}

fn one() -> u32 {
    1
}

impl Catalog {
    pub(crate) fn load() -> Result<Self> {
        let path = root().join("lab/services.toml");
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("cannot understand {}", path.display()))
    }

    /// Reads the file and resolves shared variants.
    fn parse(text: &str) -> Result<Self> {
        let mut catalog: Self = toml::from_str(text)?;
        for service in &mut catalog.services {
            if let Some(name) = &service.answers {
                let answers = catalog
                    .answers
                    .get(name)
                    .with_context(|| format!("{}: no answers.{name}", service.name))?;
                let is_wanted = |variant: &&Variant| {
                    service.only.is_empty() || service.only.contains(&variant.name)
                };
                service
                    .variants
                    .extend(answers.iter().filter(is_wanted).cloned());
            }
            let named = [&service.only, &service.tested, &service.slow];
            for name in named.into_iter().flatten() {
                ensure!(
                    service.variants.iter().any(|variant| variant.name == *name),
                    "{}: no variant {name}",
                    service.name
                );
            }
        }
        Ok(catalog)
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
            .filter(|(service, variant)| matches(pattern, &row_name(service, variant)))
            .collect()
    }

    /// One of them. `axum` is short for `rust/axum`.
    pub(crate) fn row(&self, service: &str, variant: &str) -> Result<(&Service, &Variant)> {
        self.rows(&format!("{service}/{variant},*/{service}/{variant}"))
            .into_iter()
            .next()
            .with_context(|| format!("no {service}/{variant} in lab/services.toml"))
    }
}

/// `service/variant`.
pub(crate) fn row_name(service: &Service, variant: &Variant) -> String {
    format!("{}/{}", service.name, variant.name)
}

/// Comma-separated patterns with `*`.
fn matches(patterns: &str, text: &str) -> bool {
    patterns.split(',').any(|pattern| is_like(pattern, text))
}

fn is_like(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|left| {
            left.char_indices()
                .map(|(index, _)| index)
                .chain([left.len()])
                .any(|index| is_like(rest, &left[index..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::{Catalog, Expect, matches};

    #[test]
    fn globs() {
        for pattern in [
            "*",
            "axum/*",
            "*/lru*",
            "axum/lru-1024",
            "a*/*4",
            "cpp/*,axum/*",
        ] {
            assert!(matches(pattern, "axum/lru-1024"), "{pattern}");
        }
        for pattern in ["", "axum", "*/lru", "cpp/*"] {
            assert!(!matches(pattern, "axum/lru-1024"), "{pattern}");
        }
        assert!(matches("python/*", "python/flask-sync/token-cache"));
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

    const SHARED: &str = r#"
        programs = {}
        [[answers.web]]
        name = "cache"
        expect = "leak"
        [[answers.web]]
        name = "full"
        expect = "not_confirmed"
        [[service]]
        name = "python/all"
        folder = "python"
        run = ["server"]
        answers = "web"
        [[service]]
        name = "python/some"
        folder = "python"
        run = ["server"]
        answers = "web"
        only = ["full"]
    "#;

    #[test]
    fn services_share_answers() {
        let catalog = Catalog::parse(SHARED).expect("the file");
        assert_eq!(catalog.rows("python/*").len(), 3);
        let (_, full) = catalog.row("python/some", "full").expect("full");
        assert_eq!(full.expect, Expect::NotConfirmed);
        assert!(catalog.row("python/some", "cache").is_err());
    }

    #[test]
    fn a_variant_that_is_not_there_is_an_error() {
        let text = SHARED.replace("only = [\"full\"]", "only = [\"fill\"]");
        let error = Catalog::parse(&text).err().expect("an error").to_string();
        assert_eq!(error, "python/some: no variant fill");
    }
}
