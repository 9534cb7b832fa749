//! Runtimes that are recognised by file names only, one line each in [`TABLE`]. Their heaps are not read. Executables
//! are checked before Rust's runtimes, because some of these runtimes link Rust crates. Libraries are checked after
//! those, because a Rust service may embed a runtime.

use heaptide_process::{Inspected, Module};
use regex::Regex;

use crate::door::{Recognised, Runtime};
use crate::functions::captured;
use crate::threads::Unobserved;

/// A runtime, the names of its executable, and the prefix of its library's name if it has one.
struct Known {
    name: &'static str,
    executables: &'static [&'static str],
    library: Option<&'static str>,
    /// Its heap has a tracing collector.
    collected: bool,
    /// Its strings may be in UTF-16: always in .NET, in the JVM if they are not compact.
    wide_strings: bool,
    /// Its version in the path of the executable or the library.
    version: Option<&'static str>,
    /// Its version in the read-only data of that file.
    version_inside: Option<&'static str>,
}

static TABLE: &[Known] = &[
    Known {
        name: "node.js",
        executables: &["node", "nodejs"],
        library: Some("libnode.so"),
        collected: true,
        wide_strings: false,
        version: Some(r"/v(\d+\.\d+\.\d+)/bin/node$"),
        version_inside: Some(r"/node-v(\d+\.\d+\.\d+)\.tar"),
    },
    Known {
        name: "jvm",
        executables: &[],
        library: Some("libjvm.so"),
        collected: true,
        wide_strings: true,
        version: Some(r"(?:java|jdk|jre|openjdk|temurin|corretto|zulu)-?(\d+(?:\.\d+)*)[^/]*/"),
        version_inside: None,
    },
    Known {
        name: ".net",
        executables: &[],
        library: Some("libcoreclr.so"),
        collected: true,
        wide_strings: true,
        version: Some(r"/Microsoft\.NETCore\.App/(\d+\.\d+\.\d+)[^/]*/"),
        version_inside: None,
    },
    Known {
        name: "ruby",
        executables: &["ruby"],
        library: Some("libruby"),
        collected: true,
        wide_strings: false,
        version: Some(r"/libruby[^/]*\.so\.(\d+\.\d+(?:\.\d+)?)$|/ruby(\d+\.\d+)$"),
        version_inside: None,
    },
    Known {
        name: "php",
        executables: &["php", "php-fpm"],
        library: Some("libphp"),
        collected: false,
        wide_strings: false,
        version: Some(r"/(?:lib)?php(?:-fpm)?(\d+\.\d+)(?:\.so)?$"),
        version_inside: None,
    },
    Known {
        name: "deno",
        executables: &["deno"],
        library: None,
        collected: true,
        wide_strings: false,
        version: None,
        version_inside: None,
    },
    Known {
        name: "bun",
        executables: &["bun"],
        library: None,
        collected: true,
        wide_strings: false,
        version: None,
        version_inside: None,
    },
    Known {
        name: "beam",
        executables: &["beam.smp"],
        library: None,
        collected: true,
        wide_strings: false,
        version: Some(r"/erts-(\d+(?:\.\d+)*)/"),
        version_inside: None,
    },
];

/// Recognises runtimes by the executable.
pub(crate) struct Executables;

impl Runtime for Executables {
    fn recognise(&self, process: &Inspected) -> Option<Recognised> {
        let exe = process.exe.rsplit('/').next().unwrap_or(&process.exe);
        let exe = without_version(exe);
        let known = TABLE.iter().find(|known| known.executables.contains(&exe));
        known.map(|known| recognised(known, process))
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
        known.map(|known| recognised(known, process))
    }
}

fn recognised(known: &Known, process: &Inspected) -> Recognised {
    let name = known.name;
    Recognised {
        name: match version(known, process) {
            Some(version) => format!("{name} {version}"),
            None => name.to_string(),
        },
        own_heap: true,
        collected: known.collected,
        wide_strings: known.wide_strings,
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

/// Its version, if the path or the contents of its file tell it.
fn version(known: &Known, process: &Inspected) -> Option<String> {
    let library = |module: &&Module| {
        let prefix = known.library;
        !module.main && prefix.is_some_and(|prefix| module.name.starts_with(prefix))
    };
    let module = process.modules.iter().find(library);
    let in_path = || {
        let pattern = Regex::new(known.version?).ok()?;
        let paths = module.map(|module| module.path.as_str());
        let mut paths = paths.into_iter().chain([process.exe.as_str()]);
        paths.find_map(|path| {
            let found = pattern.captures(path)?;
            let group = found.iter().skip(1).flatten().next()?;
            Some(group.as_str().to_owned())
        })
    };
    let inside = || captured(module.or(process.modules.first())?, known.version_inside?);
    in_path().or_else(inside)
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
    fn versions_in_paths_of_libraries() {
        for (name, path, version) in [
            (
                "jvm",
                "/usr/lib/jvm/java-17-openjdk-amd64/lib/server/libjvm.so",
                "17",
            ),
            ("jvm", "/opt/jdk-21.0.2/lib/server/libjvm.so", "21.0.2"),
            (
                ".net",
                "/usr/share/dotnet/shared/Microsoft.NETCore.App/8.0.11/libcoreclr.so",
                "8.0.11",
            ),
            (
                "ruby",
                "/usr/lib/x86_64-linux-gnu/libruby-3.1.so.3.1.2",
                "3.1.2",
            ),
        ] {
            let known = TABLE.iter().find(|known| known.name == name).unwrap();
            let pattern = Regex::new(known.version.unwrap()).unwrap();
            let found = pattern.captures(path).unwrap();
            assert_eq!(
                found.iter().skip(1).flatten().next().unwrap().as_str(),
                version
            );
        }
        let patterns = TABLE
            .iter()
            .flat_map(|known| [known.version, known.version_inside]);
        assert!(
            patterns
                .flatten()
                .all(|pattern| Regex::new(pattern).is_ok())
        );
    }

    #[test]
    fn executables_by_name() {
        for (exe, name) in [
            ("/usr/bin/node", Some("node.js")),
            ("/opt/versions/v22.1.0/bin/node", Some("node.js 22.1.0")),
            ("/usr/sbin/php-fpm8.2", Some("php 8.2")),
            ("/usr/bin/ruby3.1", Some("ruby 3.1")),
            ("/usr/local/bin/ruby", Some("ruby")),
            ("/usr/lib/erlang/erts-13.1/bin/beam.smp", Some("beam 13.1")),
            ("/srv/bin/nodeservice", None),
            ("/usr/bin/python3.11", None),
        ] {
            assert_eq!(named(exe).as_deref(), name, "{exe}");
        }
    }
}
