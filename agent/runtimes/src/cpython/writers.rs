//! Writer sites of a container: lines that store into the container's name and were in a stack while memory
//! grew. Neither condition is sufficient alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::code::{Code, Store, Via};
use super::stacks::{Sampled, Stacks, kind};
use heaptide_judge::events::{Container, FrameKind, INSTANCES, WriterSite};

/// Maximum writer sites per container.
const MAX_WRITERS: usize = 3;

/// A parsed container path.
#[derive(Debug, PartialEq, Eq)]
struct Wanted<'a> {
    /// The container's own name.
    name: &'a str,
    /// The names before it: modules, classes, functions, objects.
    parts: Vec<&'a str>,
    /// It is a local variable.
    variable: bool,
    /// It is the cache of a decorated function of that name.
    cached: bool,
}

impl<'a> Wanted<'a> {
    fn of(path: &'a str, kind: &str) -> Option<Self> {
        let mut parts = Vec::new();
        let mut variable = false;
        for part in path.split('.') {
            match part.trim_end_matches("[]") {
                "" | "__dict__" | "…" => {}
                "<closure>" | "<locals>" => variable = true,
                // a default value has no name
                "<default>" => return None,
                name => parts.push(name),
            }
        }
        let name = parts.pop()?;
        // below a variable there are attributes again
        let variable = variable
            && path
                .rsplit('.')
                .nth(1)
                .is_some_and(|above| matches!(above, "<closure>" | "<locals>"));
        Some(Self {
            name,
            parts,
            variable,
            cached: kind.starts_with("lru_cache"),
        })
    }

    /// How well a store matches; `None`: not at all.
    fn fit(&self, code: &Code, store: &Store) -> Option<u32> {
        let ((via, name), before) = store.names.split_last()?;
        if name != self.name || (*via == Via::Variable) != self.variable {
            return None;
        }
        let named = before
            .iter()
            .any(|(_, name)| self.parts.contains(&name.as_str()));
        Some(self.relation(code) + u32::from(named))
    }

    /// Similarity of code and container: names of file, class and function.
    fn relation(&self, code: &Code) -> u32 {
        let file = code
            .file
            .as_deref()
            .and_then(|file| file.rsplit('/').next());
        let stem = file.map(|file| file.trim_end_matches(".py"));
        let same_file = stem.is_some_and(|stem| self.parts.contains(&stem));
        let mut scopes: Vec<&str> = code.function.split('.').collect();
        scopes.pop();
        let same_scope = scopes.iter().any(|scope| self.parts.contains(scope))
            || self.variable && self.parts.contains(&last(&code.function));
        2 * u32::from(same_file) + 2 * u32::from(same_scope)
    }

    /// The matching line of a function, and how well it matches.
    fn line(&self, code: &Code) -> Option<(u32, u32)> {
        if self.cached {
            let fits = last(&code.function) == self.name && self.relation(code) > 0;
            return fits.then(|| (self.relation(code), code.first_line()));
        }
        let fits = code
            .stores
            .iter()
            .filter_map(|store| Some((self.fit(code, store)?, store.line)));
        fits.max_by_key(|(fit, line)| (*fit, std::cmp::Reverse(*line)))
    }
}

fn last(qualified: &str) -> &str {
    qualified.rsplit('.').next().unwrap_or(qualified)
}

impl Stacks {
    /// Sets the writer sites of a container, by any of its names, unless they are known already.
    pub(super) fn name_writers(&self, container: &mut Container) {
        if !container.writers.is_empty() {
            return;
        }
        container.writers = self.writer_sites(&container.path, &container.kind);
        if !container.writers.is_empty() {
            return;
        }
        for other in &container.also_at {
            let sites = self.writer_sites(other, &container.kind);
            if !sites.is_empty() {
                container.writers = sites;
                container.known_as = Some(other.clone());
                return;
            }
        }
    }

    /// The writer sites of a path, most frequent first.
    fn writer_sites(&self, path: &str, kind_of: &str) -> Vec<WriterSite> {
        if kind_of == INSTANCES {
            return instantiation_sites(self.sampled.values(), path);
        }
        let Some(wanted) = Wanted::of(path, kind_of) else {
            return Vec::new();
        };
        let fits: FxHashMap<*const Code, (u32, u32)> = self
            .codes
            .values()
            .filter_map(|code| Some((Arc::as_ptr(code), wanted.line(code)?)))
            .collect();
        if fits.is_empty() {
            return Vec::new();
        }
        // function, file and line -> match quality and frequency
        let mut found: BTreeMap<(&str, &str, u32), (u32, u64)> = BTreeMap::new();
        for sampled in self.sampled.values() {
            for (index, (code, _)) in sampled.frames.iter().enumerate() {
                let Some((fit, line)) = fits.get(&Arc::as_ptr(code)).copied() else {
                    continue;
                };
                let claimed = if kind(code.file.as_deref()) == FrameKind::User {
                    Some((code, line))
                } else {
                    // a library's container: use the application's line that called the library
                    let above = &sampled.frames[index + 1..];
                    let user = above
                        .iter()
                        .find(|(code, _)| kind(code.file.as_deref()) == FrameKind::User);
                    user.and_then(|(code, line)| Some((code, (*line)?)))
                };
                if let Some((code, line)) = claimed
                    && let Some(file) = code.file.as_deref()
                {
                    let entry = found.entry((&code.function, file, line)).or_default();
                    entry.0 = entry.0.max(fit);
                    entry.1 += sampled.pages;
                    break;
                }
            }
        }
        best(found)
    }
}

/// Application lines that create instances of a class: the first frame outside of the class above its
/// `__init__`.
fn instantiation_sites<'a>(
    sampled: impl Iterator<Item = &'a Sampled>,
    class: &str,
) -> Vec<WriterSite> {
    let (module, name) = class.rsplit_once('.').unwrap_or(("", class));
    let init = format!("{name}.__init__");
    let stem = module.rsplit('.').next().unwrap_or(module);
    let own = |code: &Code| {
        let file = code.file.as_deref();
        let base = file.and_then(|file| file.rsplit('/').next());
        base.is_some_and(|base| base.trim_end_matches(".py") == stem)
            && code.function.starts_with(&format!("{name}."))
    };
    let mut found: BTreeMap<(&str, &str, u32), (u32, u64)> = BTreeMap::new();
    for sampled in sampled {
        let frames = &sampled.frames;
        let inits = |(code, _): &(Arc<Code>, Option<u32>)| own(code) && code.function == init;
        let Some(at) = frames.iter().position(inits) else {
            continue;
        };
        let creator = frames[at..]
            .iter()
            .find(|(code, _)| !own(code) && kind(code.file.as_deref()) == FrameKind::User);
        if let Some((code, Some(line))) = creator
            && let Some(file) = code.file.as_deref()
        {
            let entry = found.entry((&code.function, file, *line)).or_default();
            entry.0 = 1;
            entry.1 += sampled.pages;
        }
    }
    best(found)
}

/// The best matches. If several match only in the last name, none.
fn best(found: BTreeMap<(&str, &str, u32), (u32, u64)>) -> Vec<WriterSite> {
    let fit = found.values().map(|(fit, _)| *fit).max().unwrap_or(0);
    let mut sites: Vec<WriterSite> = found
        .into_iter()
        .filter(|(_, (one, _))| *one == fit)
        .map(|((function, file, line), (_, samples))| WriterSite {
            function: function.to_owned(),
            file: Some(file.to_owned()),
            line: Some(line),
            samples,
        })
        .collect();
    if fit == 0 && sites.len() > 1 {
        return Vec::new();
    }
    sites.sort_by(|a, b| (b.samples, &a.file, a.line).cmp(&(a.samples, &b.file, b.line)));
    sites.truncate(MAX_WRITERS);
    sites
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_apart() {
        let of = |path| Wanted::of(path, "dict").map(|w| (w.name, w.parts, w.variable));
        assert_eq!(
            of("service.auth.Cache.by_token[]"),
            Some(("by_token", vec!["service", "auth", "Cache"], false))
        );
        assert_eq!(
            of("app.worker.<locals>.events"),
            Some(("events", vec!["app", "worker"], true))
        );
        assert_eq!(
            of("app.worker.<locals>.box.events"),
            Some(("events", vec!["app", "worker", "box"], false))
        );
        assert_eq!(of("app.handler.<default>"), None);
        assert_eq!(of(""), None);
    }

    #[test]
    fn several_that_only_share_a_name_are_none() {
        let lines = |fits: &[u32]| {
            let found = fits.iter().enumerate();
            let found = found.map(|(n, fit)| (("f", "app.py", n as u32 + 1), (*fit, 3)));
            best(found.collect())
                .iter()
                .filter_map(|f| f.line)
                .collect::<Vec<_>>()
        };
        assert_eq!(lines(&[0]), [1]);
        assert!(lines(&[0, 0]).is_empty());
        assert_eq!(lines(&[0, 2]), [2]);
        assert_eq!(lines(&[2, 2]), [1, 2]);
    }

    #[test]
    fn what_makes_instances_is_the_code_above_the_class() {
        let frame = |function: &str, file: &str, line| {
            let code = Code::named(function, file);
            (Arc::new(code), Some(line))
        };
        let sampled = |frames, pages| Sampled { frames, pages };
        let init = || frame("Session.__init__", "/app/models.py", 5);
        let open = || frame("Session.open", "/app/models.py", 20);
        let stacks = [
            // through a class method, and through a library
            sampled(vec![init(), open(), frame("login", "/app/views.py", 31)], 3),
            sampled(
                vec![
                    init(),
                    frame("copy", "/usr/lib/python3.11/copy.py", 1),
                    frame("login", "/app/views.py", 31),
                ],
                2,
            ),
            // another class of that name without a creator
            sampled(
                vec![
                    frame("Session.__init__", "/app/other.py", 5),
                    frame("logout", "/app/views.py", 40),
                ],
                9,
            ),
            sampled(vec![frame("login", "/app/views.py", 33)], 9),
        ];
        let said = instantiation_sites(stacks.iter(), "shop.models.Session");
        let said: Vec<_> = said
            .iter()
            .map(|by| (by.function.as_str(), by.line, by.samples))
            .collect();
        assert_eq!(said, [("login", Some(31), 5)]);
    }
}
