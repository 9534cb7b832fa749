//! Builds of the lab's C++ programs: each is compiled once, and copied for each test binary.

mod kept;

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};

use tempfile::TempDir;

/// A program, and how it is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Program {
    /// `lab/truth`, with or without frame pointers.
    Truth {
        /// `-fno-omit-frame-pointer`.
        frame_pointers: bool,
        /// Where its malloc comes from.
        malloc: Malloc,
    },
    /// `lab/bench/tiny_http.cpp`.
    TinyHttp,
    /// `lab/requests/server.cpp`.
    Requests,
    /// `lab/requests/handlers.cpp`.
    Handlers,
    /// `lab/bench/pairs.cpp`, static and stripped.
    StaticStripped,
    /// `agent/tests/fixtures/programs/otel_memory.c`.
    OtelMemory,
    /// `agent/tests/fixtures/programs/crowd.cpp`.
    Crowd,
    /// `agent/tests/fixtures/programs/paths.cpp`.
    Paths,
    /// snmalloc as a library to be preloaded.
    Snmalloc,
}

/// Where a program's malloc comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Malloc {
    /// The C library, shared.
    Libc,
    /// The C library, linked in.
    LibcStatic,
    /// A shared library of this name.
    Library(&'static str),
    /// An archive of this name.
    Archive(&'static str),
    /// jemalloc's archive with its functions under this prefix, beside the C library's malloc.
    Prefixed(&'static str),
    /// musl's C library, shared.
    Musl,
    /// musl's C library, linked in.
    MuslStatic,
}

type Built = (TempDir, HashMap<Program, PathBuf>);

/// The program's path. It is built at the first call. Statics are not dropped, so the operating system has to clean
/// up the temporary folder; it holds three small files.
pub(crate) fn program(program: Program) -> PathBuf {
    static BUILT: OnceLock<Mutex<Built>> = OnceLock::new();
    let built = BUILT.get_or_init(|| Mutex::new((super::folder(), HashMap::new())));
    let mut built = built
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(path) = built.1.get(&program) {
        return path.clone();
    }
    let path = built.0.path().join(format!("program{}", built.1.len()));
    build(program, &path);
    built.1.insert(program, path.clone());
    path
}

fn build(program: Program, to: &Path) {
    let mut arguments = Arguments::default();
    arguments.add(["-O2", "-g", "-Wall", "-Wextra", "-pthread"]);
    match program {
        Program::Truth { malloc, .. } if malloc.is_musl() => {}
        Program::OtelMemory => arguments.add(["-x", "c"]),
        // The headers of C++17 are the newest that can be used without their library.
        _ => arguments.add(["-std=c++20"]),
    }
    match program {
        Program::Truth {
            frame_pointers,
            malloc,
        } => {
            arguments.add([if frame_pointers {
                "-fno-omit-frame-pointer"
            } else {
                "-fomit-frame-pointer"
            }]);
            arguments = malloc.linked(arguments);
        }
        Program::TinyHttp => arguments.add([super::lab("bench/tiny_http.cpp")]),
        Program::Requests => arguments.add([super::lab("requests/server.cpp")]),
        Program::Handlers => arguments.add([super::lab("requests/handlers.cpp")]),
        Program::OtelMemory => arguments.add([super::fixture("programs/otel_memory.c")]),
        Program::Snmalloc => {
            let sources = snmalloc().expect("asked for before");
            arguments.add(SNMALLOC);
            arguments.add([OsStr::new("-I"), sources.as_os_str()]);
            let files = ["new.cc", "malloc.cc"];
            arguments.add(files.map(|file| sources.join("snmalloc/override").join(file)));
            arguments.add(["-latomic"]);
        }
        Program::Crowd => arguments.add([super::fixture("programs/crowd.cpp")]),
        Program::Paths => arguments.add([super::fixture("programs/paths.cpp")]),
        Program::StaticStripped => {
            arguments.add(["-static", "-s"]);
            arguments.add([super::lab("bench/pairs.cpp")]);
        }
    }
    // Each test program has its own copy. Otherwise tests that run at the same time would start the same file.
    std::fs::copy(kept::compiled(&arguments.0), to).expect("copied");
}

/// Arguments of a compiler.
#[derive(Clone, Default)]
struct Arguments(Vec<OsString>);

impl Arguments {
    fn add(&mut self, more: impl IntoIterator<Item = impl Into<OsString>>) {
        self.0.extend(more.into_iter().map(Into::into));
    }

    /// Compiles each source separately, so that objects are reused for all ways of linking, and adds the objects.
    fn compile(&mut self, sources: &[PathBuf]) {
        let mut objects = Vec::new();
        for source in sources {
            let mut one = self.clone();
            one.add([OsStr::new("-c"), source.as_os_str()]);
            objects.push(kept::compiled(&one.0));
        }
        self.add(objects);
    }
}

impl Malloc {
    fn is_musl(self) -> bool {
        matches!(self, Self::Musl | Self::MuslStatic)
    }

    /// The arguments that link the truth program with this malloc. `arguments` are those of the compiler.
    fn linked(self, mut arguments: Arguments) -> Arguments {
        let mut sources = sources("truth");
        if self.is_musl() {
            sources.retain(|path| !path.ends_with("cxx_family.cpp"));
            sources.push(super::lab("truth/musl/no_cxx.cpp"));
            arguments.add(MUSL);
        }
        if let Self::Prefixed(prefix) = self {
            arguments.add([format!("-DPREFIX={prefix}"), "-include".to_owned()]);
            arguments.add([super::lab("truth/prefixed/jemalloc.hpp")]);
        }
        arguments.compile(&sources);
        match self {
            Self::Prefixed(prefix) => arguments.add([prefixed(prefix)]),
            Self::LibcStatic | Self::MuslStatic => arguments.add(["-static"]),
            // No symbol of it is referenced, so the linker would leave it out.
            Self::Library(name) => {
                arguments.add(["-Wl,--no-as-needed".to_owned(), format!("-l{name}")]);
            }
            Self::Archive(name) => arguments.add([format!("-l:lib{name}.a")]),
            Self::Libc | Self::Musl => {}
        }
        if self.is_musl() {
            arguments.add(["-nodefaultlibs", "-lc", "-lgcc"]);
        }
        arguments
    }
}

/// The flags of snmalloc's own build of its preloadable library.
const SNMALLOC: &[&str] = &[
    "-w",
    "-mcx16",
    "-fPIC",
    "-shared",
    "-fno-exceptions",
    "-fno-rtti",
    "-ftls-model=initial-exec",
    "-DSNMALLOC_USE_WAIT_ON_ADDRESS=1",
];

/// The C++ sources of snmalloc in its crate, which a service of the lab uses. `None`: the crate was not fetched.
pub(crate) fn snmalloc() -> Option<PathBuf> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--format-version", "1", "--offline"]);
    cargo.args(["--features", "lab-axum/allocators"]);
    cargo.args(["--filter-platform", "x86_64-unknown-linux-gnu"]);
    let output = cargo.current_dir(super::lab("")).output().ok()?;
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
    let packages = metadata["packages"].as_array()?;
    let package = packages.iter().find(|one| one["name"] == "snmalloc-sys")?;
    let manifest = Path::new(package["manifest_path"].as_str()?);
    Some(manifest.parent()?.join("snmalloc/src"))
}

/// Functions of jemalloc that get the prefix in a build with one.
const PREFIXED: [&str; 20] = [
    "malloc",
    "calloc",
    "realloc",
    "free",
    "memalign",
    "valloc",
    "aligned_alloc",
    "posix_memalign",
    "mallctl",
    "mallctlbymib",
    "mallctlnametomib",
    "mallocx",
    "rallocx",
    "xallocx",
    "dallocx",
    "sdallocx",
    "sallocx",
    "nallocx",
    "malloc_usable_size",
    "malloc_stats_print",
];

/// jemalloc's archive as `--with-jemalloc-prefix` would have made it.
fn prefixed(prefix: &str) -> PathBuf {
    const ARCHIVE: &str = "/usr/lib/x86_64-linux-gnu/libjemalloc.a";
    let mut arguments = Arguments::default();
    arguments.add(PREFIXED.map(|name| format!("--redefine-sym={name}={prefix}{name}")));
    arguments.add([ARCHIVE]);
    kept::made(&arguments.0, |output| {
        let mut objcopy = Command::new("objcopy");
        objcopy.args(&arguments.0).arg(output);
        objcopy
    })
}

/// Arguments for g++ with musl's headers and start files instead of glibc's, and with only those C++ headers that
/// need no library.
const MUSL: &[&str] = &[
    "-std=c++17",
    "-fno-exceptions",
    "-fno-rtti",
    "-specs=/usr/lib/x86_64-linux-musl/musl-gcc.specs",
    "-isystem/usr/include/c++/12",
    "-isystem/usr/include/x86_64-linux-gnu/c++/12",
    "-isystem/usr/include/x86_64-linux-musl",
    "-D__GLIBC_PREREQ(x,y)=0",
];

fn sources(folder: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(super::lab(folder)).expect("the lab's folder");
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "cpp"));
    files.sort();
    files
}
