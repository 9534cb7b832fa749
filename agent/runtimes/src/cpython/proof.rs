//! Verifies a layout against a process: many objects must be consistent. A version newer than the table is read with
//! the nearest layout only after this check.

use std::time::Duration;

use heaptide_process::memory::{Budget, ProcessMemory};

use super::code::Code;
use super::interpreter::Interpreter;
use super::layout::FramePointer;
use super::memory::Pages;
use super::objects;
use super::paths::text;
use super::types::{Types, c_string};

/// Bytes of cached pages.
const PAGES: usize = 4 << 20;
/// Its budget.
const BYTES: u64 = 64 << 20;
const OBJECTS: u64 = 100_000;
const TIME: Duration = Duration::from_secs(1);
/// Modules whose names are checked, and objects per list of the collector.
const MODULES: usize = 64;
const LISTED: usize = 2000;
/// Minimum number of checked objects, functions and list entries.
const LEAST: u64 = 500;
const LEAST_FUNCTIONS: u64 = 20;
const LEAST_LISTED: u64 = 500;

/// Consistent and inconsistent objects: a program changes while it is read.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    good: u64,
    bad: u64,
}

impl Tally {
    fn count(&mut self, good: bool) {
        if good {
            self.good += 1;
        } else {
            self.bad += 1;
        }
    }

    /// There are enough, and nearly all are consistent.
    fn holds(self, least: u64) -> bool {
        self.good >= least && self.bad * 20 <= self.good
    }
}

struct Proof {
    pages: Pages<ProcessMemory>,
    types: Types,
}

/// Whether the layout of an interpreter is consistent with this process.
pub(super) fn proved(pid: u32, start_ticks: u64, python: &Interpreter) -> bool {
    let memory = ProcessMemory::new(pid, start_ticks);
    let budget = Budget::new(BYTES, OBJECTS, TIME);
    let mut proof = Proof {
        pages: Pages::new(memory, PAGES, budget),
        types: Types::new(std::sync::Arc::clone(&python.layout)),
    };
    proof.of(python).unwrap_or(false) && proof.pages.is_the_same()
}

impl Proof {
    /// The name of an object's type.
    fn type_of(&mut self, object: u64) -> Option<String> {
        let layout = self.types.layout();
        self.types.of(&mut self.pages, object)?;
        let class = self.pages.field(object, layout.ob_type)?;
        let name = self.pages.field(class, layout.tp_name)?;
        c_string(&mut self.pages, name)
    }

    fn is(&mut self, object: u64, name: &str) -> bool {
        self.type_of(object).as_deref() == Some(name)
    }

    fn pairs(&mut self, dictionary: u64) -> Option<Vec<(u64, u64)>> {
        let layout = self.types.layout();
        let (mut pairs, mut scratch) = (Vec::new(), Vec::new());
        if !self.is(dictionary, "dict") {
            return None;
        }
        let pages = &mut self.pages;
        objects::dict(pages, &layout, dictionary, &mut pairs, &mut scratch).ok()?;
        Some(pairs)
    }

    fn of(&mut self, python: &Interpreter) -> Option<bool> {
        let layout = self.types.layout();
        let interpreter = self.pages.field(python.runtime, layout.interpreters_head)?;
        let modules = self.pages.field(interpreter, layout.modules)?;
        let modules = self.pairs(modules)?;
        let (mut named, mut values, mut functions) =
            (Tally::default(), Tally::default(), Tally::default());
        for (name, module) in modules.into_iter().take(MODULES) {
            named.count(text(&mut self.pages, &mut self.types, name, 1024).is_some());
            if !self.is(module, "module") {
                // Some modules replace themselves by another object.
                continue;
            }
            let names = self.pages.field(module, layout.module_dict)?;
            let Some(pairs) = self.pairs(names) else {
                values.count(false);
                continue;
            };
            for (name, value) in pairs {
                let kind = self.type_of(value);
                values.count(self.is(name, "str") && kind.is_some());
                if kind.as_deref() == Some("function") {
                    let code = self.pages.field(value, layout.function_code).unwrap_or(0);
                    functions.count(self.is_code(code));
                }
            }
        }
        let threads = self.threads(interpreter)?;
        let holder = if layout.gc_in_runtime {
            python.runtime
        } else {
            interpreter
        };
        let listed = self.listed(holder)?;
        tracing::debug!(
            ?named,
            ?values,
            ?functions,
            ?listed,
            threads,
            "proof of a layout"
        );
        Some(
            named.holds(10)
                && values.holds(LEAST)
                && functions.holds(LEAST_FUNCTIONS)
                && listed.holds(LEAST_LISTED)
                && threads,
        )
    }

    /// A code object with a file, a name and lines.
    fn is_code(&mut self, code: u64) -> bool {
        self.is(code, "code")
            && Code::read(&mut self.pages, &mut self.types, code).is_some_and(|code| {
                // Its first instructions may have no line.
                let lines = (0..16).any(|word| code.line(word).is_some());
                code.file.is_some() && code.first_line() > 0 && lines
            })
    }

    /// Thread states refer to their interpreter, and their frames have code.
    fn threads(&mut self, interpreter: u64) -> Option<bool> {
        let layout = self.types.layout();
        let state = self.pages.field(interpreter, layout.threads_head)?;
        if self.pages.field(state, layout.tstate_interp)? != interpreter {
            return Some(false);
        }
        let frame = match layout.tstate_frame {
            FramePointer::Direct(at) => self.pages.field(state, at)?,
            FramePointer::Through(at, then) => {
                let through = self.pages.field(state, at)?;
                self.pages.field(through, then)?
            }
        };
        if frame == 0 {
            return Some(true);
        }
        let code = self.pages.field(frame, layout.frame_code)? & !7;
        Some(self.type_of(code).is_some())
    }

    /// The collector's lists are doubly linked lists of objects.
    fn listed(&mut self, holder: u64) -> Option<Tally> {
        let layout = self.types.layout();
        let mut tally = Tally::default();
        self.pages.forget_all();
        for generation in 0..3 {
            let head =
                holder.wrapping_add(layout.gc_generations + generation * layout.gc_generation);
            let mut before = head;
            let mut at = self.pages.word(head)? & !3;
            for _ in 0..LISTED {
                // The lowest bits are flags of the collector.
                let back = self.pages.field(at, 8)? & !3;
                if at == head {
                    tally.count(back == before);
                    break;
                }
                let object = at.wrapping_add(layout.gc_head);
                let sound = back == before && self.types.of(&mut self.pages, object).is_some();
                tally.count(sound);
                if !sound {
                    break;
                }
                before = at;
                at = self.pages.word(at)? & !3;
            }
        }
        Some(tally)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{BufRead as _, BufReader};
    use std::path::PathBuf;
    use std::process::{Child, Command, Stdio};
    use std::sync::Arc;

    use super::super::known;
    use super::super::version::{Build, Version};
    use super::super::{runtime_address, versions};
    use super::*;

    /// An interpreter that ends with the test.
    struct Python(Child);

    impl Python {
        fn start(program: &PathBuf) -> Self {
            let code =
                "import argparse, json, logging, http.client; print('ready', flush=True); input()";
            let mut command = Command::new(program);
            command.args(["-c", code]);
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut child = command.spawn().expect("it starts");
            let mut line = String::new();
            let output = child.stdout.take().expect("a pipe");
            let read = BufReader::new(output).read_line(&mut line);
            assert!(read.is_ok_and(|bytes| bytes > 0));
            Self(child)
        }
    }

    impl Drop for Python {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn interpreters() -> Vec<PathBuf> {
        let home = std::env::var_os("PYENV_ROOT")
            .map(PathBuf::from)
            .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".pyenv")));
        let below = home.and_then(|home| fs::read_dir(home.join("versions")).ok());
        let pyenv = below.into_iter().flatten().flatten();
        let pyenv = pyenv.map(|entry| entry.path().join("bin/python3"));
        let system = [
            "/usr/bin/python3",
            "/usr/bin/python3.14",
            "/usr/bin/python3.15",
        ];
        let all = pyenv.chain(system.map(PathBuf::from));
        all.filter(|path| path.exists()).collect()
    }

    /// Each interpreter matches the layout of its own version only.
    #[test]
    fn the_layout_of_its_version_is_proved_and_no_other() {
        let mut tried = 0;
        for program in interpreters() {
            let child = Python::start(&program);
            let process = heaptide_process::inspect(child.0.id()).expect("a live process");
            let found = process
                .modules
                .iter()
                .find_map(|module| Some((module, runtime_address(module)?)));
            let Some((module, address)) = found else {
                continue;
            };
            let build = Build::of(module, address);
            let Some(version) = build.version.filter(|version| version.minor >= 8) else {
                continue;
            };
            tried += 1;
            for table in versions::TABLE {
                let as_if = Version {
                    minor: table.minor,
                    ..version
                };
                let Some(layout) = known::of(as_if, build.offsets.as_ref()) else {
                    continue;
                };
                let python = Interpreter {
                    version,
                    runtime: address.wrapping_add(module.bias),
                    layout: Arc::clone(&layout),
                    context_copy: None,
                };
                assert_eq!(
                    proved(process.pid, process.start_ticks, &python),
                    layout.minor == version.minor,
                    "{} as 3.{}",
                    program.display(),
                    layout.minor
                );
            }
        }
        if tried == 0 {
            println!("SKIPPED: there is no CPython of a known version here");
        }
    }
}
