//! `cargo xtask layouts go`: one file of `agent/runtimes/src/go/versions` per minor version, from the DWARF of
//! `program.go`, built by the lab's toolchain.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::dwarf::Types;
use crate::lab::go;
use crate::process::{self, root};

/// Source of a field's value.
enum Figure {
    /// Offset of a field.
    Offset(&'static str, &'static str),
    /// Size of a field.
    Bytes(&'static str, &'static str),
    /// Size of a structure.
    Size(&'static str),
}
use Figure::{Bytes, Offset, Size};

/// A structure of `layout.rs`: the field of `Layout`, its type, and its fields with their sources.
type Row = (
    &'static str,
    &'static str,
    &'static [(&'static str, Figure)],
);

/// These structures, except that of net/http, whose fields differ between versions.
const FIGURES: &[Row] = &[
    (
        "goroutine",
        "Goroutine",
        &[
            ("stack_low", Offset("runtime.g", "stack.lo")),
            ("stack_high", Offset("runtime.g", "stack.hi")),
            ("saved_sp", Offset("runtime.g", "sched.sp")),
            ("saved_pc", Offset("runtime.g", "sched.pc")),
            ("saved_bp", Offset("runtime.g", "sched.bp")),
            ("status", Offset("runtime.g", "atomicstatus.value")),
            ("created_at", Offset("runtime.g", "gopc")),
            ("starts_at", Offset("runtime.g", "startpc")),
            ("current", Offset("runtime.m", "curg")),
        ],
    ),
    (
        "span",
        "Span",
        &[
            ("start", Offset("runtime.mspan", "startAddr")),
            ("pages", Offset("runtime.mspan", "npages")),
            ("free", Offset("runtime.mspan", "freeindex")),
            ("objects", Offset("runtime.mspan", "nelems")),
            ("counter_bytes", Bytes("runtime.mspan", "nelems")),
            ("cache", Offset("runtime.mspan", "allocCache")),
            ("bits", Offset("runtime.mspan", "allocBits")),
            ("sweep", Offset("runtime.mspan", "sweepgen")),
            ("allocated", Offset("runtime.mspan", "allocCount")),
            ("class", Offset("runtime.mspan", "spanclass")),
            ("state", Offset("runtime.mspan", "state.s.value")),
            ("before", Offset("runtime.mspan", "allocCountBeforeCache")),
            ("size", Offset("runtime.mspan", "elemsize")),
        ],
    ),
    (
        "collector",
        "Collector",
        &[
            (
                "live",
                Offset("runtime.gcControllerState", "heapLive.value"),
            ),
            ("marked", Offset("runtime.gcControllerState", "heapMarked")),
            ("cycles", Offset("runtime.workType", "cycles.value")),
            ("processors", Offset("runtime.workType", "stwprocs")),
            ("mark_ended", Offset("runtime.workType", "tMarkTerm")),
            ("ended", Offset("runtime.workType", "tEnd")),
        ],
    ),
    (
        "bucket",
        "Bucket",
        &[
            ("next", Offset("runtime.bucket", "allnext")),
            ("size", Offset("runtime.bucket", "size")),
            ("frames", Offset("runtime.bucket", "nstk")),
            ("bytes", Size("runtime.bucket")),
            ("allocations", Offset("runtime.memRecord", "active.allocs")),
            ("frees", Offset("runtime.memRecord", "active.frees")),
        ],
    ),
];

/// What the kernel programs (`agent-ebpf/src/go`) assume for all versions. For a version with other values they must be
/// changed first; no file is written before.
const SAME: &[(&str, &str, u64)] = &[
    ("runtime.g", "m", 48),
    ("net/http.response", "conn", 0),
    ("net/http.response", "req", 8),
    ("bufio.Reader", "buf", 0),
    ("bufio.Reader", "r", 40),
    ("bufio.Reader", "w", 48),
    ("net/http.Request", "Method", 0),
    ("net/http.Request", "URL", 16),
    ("net/http.Request", "Header", 56),
    ("net/http.Request", "ContentLength", 88),
    ("net/url.URL", "Path", 56),
    (H2_HEAD, "Fields", 8),
    (H2_WRITER, "rws", 0),
    (H2_STATE, "stream", 0),
    ("internal/abi.Type", "Kind_", 23),
    ("internal/abi.PtrType", "Elem", 48),
    ("internal/abi.StructType", "Fields", 56),
];
/// The same for sizes.
const SAME_SIZES: &[(&str, u64)] = &[
    ("internal/abi.StructField", 24),
    ("vendor/golang.org/x/net/http2/hpack.HeaderField", 40),
];

/// HTTP/2 was moved to a separate package: `http2X` of net/http is `X` there.
const H2_HEAD: &str = "net/http.http2MetaHeadersFrame";
const H2_WRITER: &str = "net/http.http2responseWriter";
const H2_STATE: &str = "net/http.http2responseWriterState";
const H2: [&str; 2] = ["net/http.http2", "net/http/internal/http2."];

/// Up to Go 1.23: map, and bucket of a map of headers.
const BUCKETS: (&str, &str) = ("runtime.hmap", "bucket<string,[]string>");
/// From 1.24 on; a key and its value are adjacent.
const GROUPS: (&str, &str) = (
    "internal/runtime/maps.Map",
    "noalg.map.group[string][]string",
);

pub(super) fn run(versions: &[String]) -> Result<()> {
    let present: Vec<String> = go::versions()
        .filter(|version| go::is_there(version))
        .map(str::to_owned)
        .collect();
    let versions = if versions.is_empty() {
        &present
    } else {
        versions
    };
    ensure!(
        !versions.is_empty(),
        "there is no Go toolchain: run `cargo xtask setup --lab`"
    );
    for version in versions {
        go::toolchain(version)?;
        let path = file(version);
        fs::write(&path, extract(version)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
        println!("{}", path.display());
    }
    Ok(())
}

/// The file of a minor version (`1.25`).
fn file(version: &str) -> PathBuf {
    let name = format!("{}.rs", version.replace('.', "_"));
    root().join("agent/runtimes/src/go/versions").join(name)
}

/// Contents of the file.
fn extract(version: &str) -> Result<String> {
    let folder = tempfile::tempdir()?;
    let program = folder.path().join("program");
    process::run(&mut build(version, &program))?;
    let types = Types::read(&program)?;
    same(&types).with_context(|| format!("Go {version} does not match the kernel programs"))?;
    render(&types, version).with_context(|| format!("Go {version}"))
}

/// `go build`, with the cache of the lab's builds.
fn build(version: &str, program: &Path) -> Command {
    let lab = root().join("lab/go");
    let mut build = go::command(version);
    build
        .env("GOPATH", &lab)
        .env("GOCACHE", lab.join("target/cache"))
        .args(["build", "-o"])
        .arg(program)
        .arg(root().join("xtask/src/layouts/program.go"));
    build
}

/// Name of an HTTP/2 structure in this version.
fn named(types: &Types, name: &str) -> String {
    let elsewhere = name.replace(H2[0], H2[1]);
    if types.has(name) {
        name.to_owned()
    } else {
        elsewhere
    }
}

fn same(types: &Types) -> Result<()> {
    for (name, path, wanted) in SAME {
        let (offset, _) = types.field(&named(types, name), path)?;
        ensure!(
            offset == *wanted,
            "{name}.{path} is at {offset}, not at {wanted}"
        );
    }
    for (name, wanted) in SAME_SIZES {
        let size = types.size(name)?;
        ensure!(size == *wanted, "{name} has {size} bytes, not {wanted}");
    }
    Ok(())
}

/// The layout of maps, after checking that the kernel programs support it.
fn maps(types: &Types) -> Result<&'static str> {
    let offset = |name, path| Ok::<u64, anyhow::Error>(types.field(name, path)?.0);
    if types.has(GROUPS.0) {
        let walked = [
            offset(GROUPS.0, "dirPtr")?,
            offset(GROUPS.0, "dirLen")?,
            offset("internal/runtime/maps.table", "groups")?,
            types.size(GROUPS.1)?,
            types.size("noalg.struct { key string; elem []string }")?,
        ];
        ensure!(walked == [16, 24, 16, 328, 40], "maps are {walked:?}");
        return Ok("GROUPS");
    }
    let walked = [
        offset(BUCKETS.0, "B")?,
        offset(BUCKETS.0, "buckets")?,
        types.size(BUCKETS.1)?,
    ];
    ensure!(walked == [9, 16, 336], "maps are {walked:?}");
    Ok("BUCKETS")
}

/// Location of the matched pattern in a request: a string since 1.23, behind a pointer in 1.22, absent before.
fn pattern(types: &Types) -> Result<String> {
    let request = "net/http.Request";
    if let Ok((offset, _)) = types.field(request, "Pattern") {
        return Ok(format!("Some(Pattern::Text({offset}))"));
    }
    let Ok((offset, _)) = types.field(request, "pat") else {
        return Ok("None".to_owned());
    };
    let (text, _) = types.field("net/http.pattern", "str")?;
    ensure!(text == 0, "net/http.pattern.str is at {text}, not at 0");
    Ok(format!("Some(Pattern::Behind({offset}))"))
}

fn render(types: &Types, version: &str) -> Result<String> {
    let release = go::release(version)?;
    let pattern = pattern(types)?;
    let used = if pattern == "None" { "" } else { "Pattern, " };
    let mut text = format!(
        "//! Go {version}, from the DWARF of a program built by Go {release}; written by `cargo xtask layouts go`.\n\n\
         use heaptide_ebpf::go_maps;\n\n\
         use crate::go::layout::{{Bucket, Collector, Goroutine, Http, Layout, {used}Span}};\n\n\
         pub(super) const LAYOUT: Layout = Layout {{\n"
    );
    for (field, kind, figures) in FIGURES {
        writeln!(text, "    {field}: {kind} {{")?;
        for (name, figure) in *figures {
            let value = match figure {
                Offset(structure, path) => types.field(structure, path)?.0,
                Bytes(structure, path) => types.field(structure, path)?.1,
                Size(structure) => types.size(structure)?,
            };
            writeln!(text, "        {name}: {value},")?;
        }
        writeln!(text, "    }},")?;
    }
    let (reader, _) = types.field("net/http.conn", "bufr")?;
    let (status, _) = types.field("net/http.response", "status")?;
    let (http2_status, _) = types.field(&named(types, H2_STATE), "status")?;
    writeln!(text, "    http: Http {{")?;
    writeln!(text, "        reader: {reader},")?;
    writeln!(text, "        status: {status},")?;
    writeln!(text, "        http2_status: {http2_status},")?;
    writeln!(text, "        pattern: {pattern},")?;
    writeln!(text, "        maps: go_maps::{},", maps(types)?)?;
    writeln!(text, "    }},\n}};")?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every file equals a new extraction, and every toolchain of the lab has a file.
    #[test]
    fn go_layouts_are_those_of_the_toolchains() {
        let mut compared = 0;
        for version in go::versions() {
            let path = file(version);
            let text = fs::read_to_string(&path);
            let text = text.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            if !go::is_there(version) {
                eprintln!("SKIPPED Go {version}: its layout is not compared: no toolchain");
                continue;
            }
            let fresh = extract(version).unwrap_or_else(|error| panic!("{error:#}"));
            assert_eq!(text, fresh, "run `cargo xtask layouts go {version}`");
            compared += 1;
        }
        eprintln!("{compared} versions of Go compared");
    }

    #[test]
    fn a_structure_that_is_elsewhere_is_refused() {
        let types = Types::read(&std::env::current_exe().expect("a path")).expect("DWARF");
        let error = same(&types).expect_err("this is no Go program");
        assert!(error.to_string().contains("runtime.g"), "{error:#}");
    }
}
