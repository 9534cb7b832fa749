//! Go: recognised by its build information or its function table; its limitations.

mod blocks;
mod goroutines;
mod layout;
mod observer;
mod probes;
mod profile;
mod program;
mod reader;
mod variables;
mod versions;

use heaptide_process::Inspected;
use heaptide_process::plan as kernel;

use crate::door::{Recognised, Runtime};
use observer::GoObserver;
use program::{Program, program, version};

/// Go.
pub(crate) struct Go;

impl Runtime for Go {
    fn recognise(&self, process: &Inspected) -> Option<Recognised> {
        recognise(process)
    }

    fn known(&self) -> (&'static str, Vec<String>) {
        let versions = versions::minors().map(|minor| format!("1.{minor}"));
        ("Go", versions.collect())
    }

    fn programs(&self) -> &'static [kernel::Program] {
        probes::PROGRAMS
    }
}

fn recognise(process: &Inspected) -> Option<Recognised> {
    let main = process.modules.first()?;
    let go = [".go.buildinfo", ".gopclntab", ".note.go.buildid"]
        .iter()
        .any(|name| main.elf.section(name).is_some());
    if !go {
        return None;
    }
    let version = version(main);
    let program = program(process.pid, main, version.as_deref());
    let name = match &version {
        Some(version) => format!("go {version}"),
        None => "go".to_string(),
    };
    Some(Recognised {
        limitations: limitations(&name, program.as_ref()),
        name,
        own_heap: true,
        collected: true,
        wide_strings: false,
        observer: Box::new(GoObserver::new(process, program)),
    })
}

/// The limitations of a program.
fn limitations(name: &str, program: Option<&Program>) -> Vec<String> {
    let mut limitations = vec![limitation(name, program)];
    let known = program.filter(|program| program.layout.is_some());
    limitations.extend(known.into_iter().flat_map(Program::missing));
    if let Some(server) = known.and_then(|program| program.other_server) {
        limitations.push(format!(
            "it has the HTTP server of {server}: requests are traced by system calls and bound to threads"
        ));
    }
    limitations
}

fn limitation(name: &str, program: Option<&Program>) -> String {
    match program {
        None => format!(
            "{name} has no function table that heaptide can read (Go 1.20 and later): only \
             mappings, resident memory and C allocations (cgo) are seen"
        ),
        Some(Program { layout: None, .. }) => format!(
            "the layout of {name} is unknown: requests are traced by system calls and bound to \
             threads; its heap profile and goroutines are not read"
        ),
        Some(_) => "Go's heap is sampled, about one object per 8 KiB: bytes kept per request are \
             estimates"
            .to_string(),
    }
}
