//! Runtimes that are recognised by file names only, one line each in [`TABLE`]. Their heaps are not read. Executables
//! are checked before Rust's runtimes, because some of these runtimes link Rust crates. Libraries are checked after
//! those, because a Rust service may embed a runtime.

use heaptide_process::Inspected;

use crate::door::{Recognised, Runtime};
use crate::threads::Unobserved;

/// A runtime, the names of its executable, and the prefix of its library's name if it has one.
struct Known {
    name: &'static str,
    executables: &'static [&'static str],
    library: Option<&'static str>,
    /// Its heap has a tracing collector.
    collected: bool,
}

static TABLE: &[Known] = &[
    Known {
        name: "node.js",
        executables: &["node", "nodejs"],
        library: Some("libnode.so"),
        collected: true,
    },
    Known {
        name: "jvm",
        executables: &[],
        library: Some("libjvm.so"),
        collected: true,
    },
    Known {
        name: ".net",
        executables: &[],
        library: Some("libcoreclr.so"),
        collected: true,
    },
    Known {
        name: "ruby",
        executables: &["ruby"],
        library: Some("libruby"),
        collected: true,
    },
    Known {
        name: "php",
        executables: &["php", "php-fpm"],
        library: Some("libphp"),
        collected: false,
    },
    Known {
        name: "deno",
        executables: &["deno"],
        library: None,
        collected: true,
    },
    Known {
        name: "bun",
        executables: &["bun"],
        library: None,
        collected: true,
    },
    Known {
        name: "beam",
        executables: &["beam.smp"],
        library: None,
        collected: true,
    },
];

/// Recognises runtimes by the executable.
pub(crate) struct Executables;

impl Runtime for Executables {
    fn recognise(&self, process: &Inspected) -> Option<Recognised> {
        let exe = process.exe.rsplit('/').next().unwrap_or(&process.exe);
        let exe = without_version(exe);
        let known = TABLE.iter().find(|known| known.executables.contains(&exe));
        known.map(recognised)
    }
}

/// Recognises runtimes by a mapped library.
pub(crate) struct Libraries;

impl Runtime for Libraries {
    fn recognise(&self, process: &Inspected) -> Option<Recognised> {
        let mapped = |library: &str| {
            let mut modules = process.modules.iter().filter(|module| !module.main);
            modules.any(|module| module.name.starts_with(library))
        };
        let known = TABLE.iter().find(|known| known.library.is_some_and(mapped));
        known.map(recognised)
    }
}

fn recognised(known: &Known) -> Recognised {
    let name = known.name;
    Recognised {
        name: name.to_string(),
        own_heap: true,
        collected: known.collected,
        limitations: vec![if known.collected {
            format!(
                "the heap of {name} is not read: growth of the process may be garbage and is no evidence, only tokens \
                 that stay in memory are, and no line of code is named"
            )
        } else {
            format!(
                "the heap of {name} is not read: growth is judged by page faults and resident memory, and no line of \
                 code is named"
            )
        }],
        observer: Box::new(Unobserved),
    }
}

/// `php-fpm8.2` is `php-fpm`, `ruby3.1` is `ruby`.
fn without_version(exe: &str) -> &str {
    exe.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(exe: &str) -> Option<String> {
        let process = Inspected {
            pid: 0,
            start_ticks: 0,
            exe: exe.to_owned(),
            threads: Vec::new(),
            mappings: Vec::new(),
            modules: Vec::new(),
            allocators: Vec::new(),
            limitations: Vec::new(),
        };
        Executables.recognise(&process).map(|found| found.name)
    }

    #[test]
    fn executables_by_name() {
        for (exe, name) in [
            ("/usr/bin/node", Some("node.js")),
            ("/usr/sbin/php-fpm8.2", Some("php")),
            ("/usr/bin/ruby3.1", Some("ruby")),
            ("/usr/lib/erlang/erts-13.1/bin/beam.smp", Some("beam")),
            ("/srv/bin/nodeservice", None),
            ("/usr/bin/python3.11", None),
        ] {
            assert_eq!(named(exe).as_deref(), name, "{exe}");
        }
    }
}
