//! Frames of Go code, from the program's function table. No debug information is needed.

use crate::Module;
use crate::pclntab::{Place, Table};
use heaptide_judge::events::{Frame, FrameKind};

/// A Go executable's names.
pub(super) struct GoNames {
    table: Table,
    /// Path of the standard library's sources at build time, with a trailing slash; empty if paths
    /// were trimmed.
    library: String,
}

impl GoNames {
    /// Names of the executable of process `pid`; `None` if it is not Go.
    pub(super) fn open(module: &Module, pid: u32) -> Option<Self> {
        let table = Table::open(&module.elf, pid, module.bias)?;
        let mut start = None;
        table.each(|name, function| {
            if name == "runtime.main" {
                start = Some(function.entry);
            }
        });
        let file = table.places(start?).pop()?.file?;
        let library = file.strip_suffix("runtime/proc.go")?.to_string();
        Some(Self { table, library })
    }

    /// The frames at an instruction (address in the file), innermost first; empty if it is not Go
    /// code.
    pub(super) fn frames(&self, module: &Module, address: u64) -> Vec<Frame> {
        let places = self.table.places(address);
        places
            .into_iter()
            .map(|place| Frame {
                kind: kind(&place, &self.library),
                function: place.function,
                file: place.file,
                line: place.line,
                module: module.name.clone(),
            })
            .collect()
    }
}

/// The kind of a frame.
fn kind(place: &Place, library: &str) -> FrameKind {
    let function = place.function.as_str();
    if function.starts_with("runtime.") || function.starts_with("internal/runtime/") {
        // the runtime allocates and starts goroutines; it is never the cause
        return FrameKind::Allocator;
    }
    let Some(file) = place.file.as_deref() else {
        return FrameKind::Library;
    };
    let standard = if library.is_empty() {
        // trimmed paths: those of the standard library begin with its package, whose first segment
        // has no dot
        !function.starts_with("main.") && !first_part(file).contains('.') && is_standard(file)
    } else {
        file.starts_with(library)
    };
    let foreign = ["/pkg/mod/", "/vendor/", "/gocode/src/", "@v"]
        .iter()
        .any(|part| file.contains(part));
    if standard || foreign || file.starts_with('<') || file.starts_with("_cgo") {
        FrameKind::Library
    } else {
        FrameKind::User
    }
}

fn first_part(path: &str) -> &str {
    path.split('/').next().unwrap_or(path)
}

/// First segments of the standard library's packages.
fn is_standard(file: &str) -> bool {
    const PACKAGES: &str = " archive arena bufio builtin bytes cmp compress container context crypto database \
        debug embed encoding errors expvar flag fmt go hash html image index internal io iter log maps math \
        mime net os path plugin reflect regexp runtime slices sort strconv strings structs sync syscall \
        testing text time unicode unique unsafe vendor weak ";
    PACKAGES
        .split_whitespace()
        .any(|package| package == first_part(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(function: &str, file: &str, library: &str) -> FrameKind {
        let place = Place {
            function: function.to_string(),
            file: Some(file.to_string()),
            line: Some(1),
        };
        kind(&place, library)
    }

    #[test]
    fn whose_code() {
        let root = "/usr/local/go/src/";
        for (function, file, expected) in [
            (
                "runtime.mallocgc",
                "/usr/local/go/src/runtime/malloc.go",
                FrameKind::Allocator,
            ),
            (
                "net/http.(*conn).serve",
                "/usr/local/go/src/net/http/server.go",
                FrameKind::Library,
            ),
            ("main.getData", "/home/me/app/main.go", FrameKind::User),
            (
                "example.com/app/store.Keep",
                "/home/me/app/store/store.go",
                FrameKind::User,
            ),
            (
                "github.com/a/b.F",
                "/root/go/pkg/mod/github.com/a/b@v1.2.0/f.go",
                FrameKind::Library,
            ),
            (
                "github.com/a/b.F",
                "/usr/share/gocode/src/github.com/a/b/f.go",
                FrameKind::Library,
            ),
        ] {
            assert_eq!(of(function, file, root), expected, "{function}");
        }
        for (function, file, expected) in [
            (
                "net/http.(*conn).serve",
                "net/http/server.go",
                FrameKind::Library,
            ),
            ("main.getData", "example.com/app/main.go", FrameKind::User),
            ("app/store.Keep", "app/store/store.go", FrameKind::User),
            (
                "github.com/a/b.F",
                "github.com/a/b@v1.2.0/f.go",
                FrameKind::Library,
            ),
        ] {
            assert_eq!(of(function, file, ""), expected, "{function}");
        }
    }
}
