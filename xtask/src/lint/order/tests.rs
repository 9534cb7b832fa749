//! Tests of the order of imports, on workspaces in a temporary folder.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::broken;

const TABLE: &str = "\
# A page

| crate | modules | job | may use |
|---|---|---|---|
| `low-words` | all | words | nothing |
| `the-agent` | `values` | values | nothing |
| `the-agent` | `source` | reads | `low-words`, `values`; the kernel |
| `the-agent` | `outputs` | shows | `low-words` |
| `the-agent` | `cli` | the command line | all above |

| another | table |
";

/// A workspace of two crates; `files` are those of the upper one, beside its `lib.rs`.
fn workspace(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("ARCHITECTURE.md", TABLE);
    write(
        "Cargo.toml",
        "[workspace]\nmembers = [\"low\", \"agent\"]\n",
    );
    write("low/Cargo.toml", "[package]\nname = \"low-words\"\n");
    write("low/src/lib.rs", "pub mod report;\n");
    write("low/src/report.rs", "pub struct Report;\n");
    write("agent/Cargo.toml", "[package]\nname = \"the-agent\"\n");
    write(
        "agent/src/lib.rs",
        "pub mod cli;\npub mod outputs;\npub mod source;\npub mod values;\n",
    );
    for name in ["cli", "outputs", "source", "values"] {
        let path = format!("agent/src/{name}.rs");
        if !files.iter().any(|(file, _)| path.ends_with(file)) {
            write(&path, "pub struct Thing;\npub fn thing() {}\n");
        }
    }
    for (file, text) in files {
        write(&format!("agent/src/{file}"), text);
    }
    folder
}

fn found(files: &[(&str, &str)]) -> Vec<String> {
    broken(workspace(files).path()).unwrap()
}

#[test]
fn imports_in_the_order_are_fine() {
    let source = "\
use low_words::report::{self, Report};
use crate::values;
use std::fmt::{self, Display};

fn f(_: Report, _: report::Report, _: fmt::Error) {
    values::thing();
    println!(\"{:?}\", crate::values::thing());
}
";
    let cli = "use crate::{outputs::Thing, source};\nfn f(_: low_words::report::Report) { source::f() }\n";
    assert_eq!(
        found(&[("source.rs", source), ("cli.rs", cli)]),
        Vec::<String>::new()
    );
}

#[test]
fn an_import_against_the_order_is_named_with_its_line_and_rule() {
    let source = "//! Reads.\n\nuse std::fmt;\nuse crate::{\n    values,\n    cli::Thing,\n};\n";
    assert_eq!(
        found(&[("source.rs", source)]),
        [
            "agent/src/source.rs:6: `crate::cli::Thing` is of the-agent (cli); the-agent (source) may \
             use `low-words`, `values`"
        ]
    );
}

#[test]
fn a_stage_not_named_is_refused_though_it_is_above() {
    let broken = found(&[("outputs.rs", "use crate::values::Thing;\n")]);
    assert_eq!(broken.len(), 1, "{broken:?}");
    assert!(broken[0].contains("outputs.rs:1: `crate::values::Thing`"));
}

#[test]
fn paths_written_out_are_seen() {
    for (line, code) in [
        (1, "fn f() { crate::cli::thing() }"),
        (1, "fn f() { super::cli::thing() }"),
        (1, "fn f() -> Option<crate::cli::Thing> { None }"),
        (1, "struct S { things: Vec<super::cli::Thing> }"),
        (1, "impl crate::cli::Thing {}"),
        (
            2,
            "fn f() {\n    println!(\"{}\", vec![crate::cli::thing()].len());\n}",
        ),
        (2, "fn f() {\n    use crate::cli::thing;\n    thing();\n}"),
        (
            2,
            "mod inner {\n    fn f() { super::super::cli::thing() }\n}",
        ),
        (1, "pub use crate::cli as other;"),
        (1, "use super::cli::*;"),
        (1, "macro_rules! m { () => { $crate::cli::thing() } }"),
    ] {
        let broken = found(&[("source.rs", code)]);
        assert!(
            broken.len() == 1 && broken[0].starts_with(&format!("agent/src/source.rs:{line}: `")),
            "{code}: {broken:?}"
        );
    }
}

#[test]
fn a_crate_below_may_not_name_one_above() {
    let folder = workspace(&[]);
    let report = folder.path().join("low/src/report.rs");
    fs::write(report, "fn f() { the_agent::cli::thing() }\n").unwrap();
    let broken = broken(folder.path()).unwrap();
    assert_eq!(broken.len(), 1, "{broken:?}");
    assert!(broken[0].ends_with("is of the-agent (cli); low-words may use nothing"));
}

#[test]
fn a_reexport_does_not_hide_what_is_imported() {
    let broken = found(&[
        ("values.rs", "pub use crate::cli::Thing;\n"),
        ("source.rs", "use crate::values::Thing;\n"),
    ]);
    assert_eq!(broken.len(), 2, "{broken:?}");
    assert!(broken[0].contains("source.rs:1: `crate::values::Thing` is of the-agent (cli)"));
    assert!(broken[1].contains("values.rs:1: `crate::cli::Thing`"));
}

#[test]
fn tests_may_import_what_they_like() {
    let source = "\
#[cfg(test)]
use crate::cli::Thing;
#[cfg(any(test, feature = \"fixtures\"))]
fn helper() { crate::cli::thing() }
struct S;
impl S {
    #[cfg(test)]
    fn helper() { crate::cli::thing() }
}
#[cfg(test)]
mod tests {
    use crate::cli::Thing;
}
#[cfg(test)]
mod no_such_file;
";
    assert_eq!(found(&[("source.rs", source)]), Vec::<String>::new());
    let real = "#[cfg(not(test))]\nuse crate::cli::Thing;\n";
    assert_eq!(found(&[("source.rs", real)]).len(), 1);
}

#[test]
fn a_cycle_of_files_is_named_with_its_lines() {
    let broken = found(&[
        ("source.rs", "mod one;\nmod three;\nmod two;\n"),
        ("source/one.rs", "use super::two::Two;\npub struct One;\n"),
        (
            "source/two.rs",
            "//! Two.\npub struct Two(super::three::Three);\n",
        ),
        (
            "source/three.rs",
            "use super::one;\npub struct Three;\nfn f(_: one::One) {}\n",
        ),
    ]);
    assert_eq!(
        broken,
        [
            "3 files import one another: agent/src/source/one.rs, agent/src/source/three.rs, \
          agent/src/source/two.rs\n    \
          agent/src/source/one.rs:1: `super::two::Two` is in agent/src/source/two.rs\n    \
          agent/src/source/three.rs:3: `one::One` is in agent/src/source/one.rs\n    \
          agent/src/source/two.rs:2: `super::three::Three` is in agent/src/source/three.rs"
        ]
    );
}

#[test]
fn a_parent_and_a_child_that_use_one_another_are_a_cycle() {
    let parent = "mod child;\npub struct Parent;\npub use child::Child;\n";
    let child = "use super::Parent;\npub struct Child(Parent);\n";
    let broken = found(&[("source.rs", parent), ("source/child.rs", child)]);
    assert_eq!(broken.len(), 1, "{broken:?}");
    assert!(broken[0].starts_with("2 files import one another: agent/src/source.rs"));
}

#[test]
fn declarations_and_reexports_are_no_cycle() {
    // The parent defines nothing: a name imported through it counts for its defining file.
    let parent = "mod one;\nmod two;\npub use one::One;\npub use two::Two;\n";
    let one = "pub struct One;\n";
    let two = "use super::One;\npub struct Two(One);\n";
    let files = [
        ("source.rs", parent),
        ("source/one.rs", one),
        ("source/two.rs", two),
    ];
    assert_eq!(found(&files), Vec::<String>::new());
}

#[test]
fn a_module_without_a_row_is_named() {
    let folder = workspace(&[("extra.rs", "pub struct Thing;\n")]);
    let root = folder.path().join("agent/src/lib.rs");
    let declared = fs::read_to_string(&root).unwrap() + "mod extra;\n";
    fs::write(root, declared).unwrap();
    assert_eq!(
        broken(folder.path()).unwrap(),
        ["agent/src/extra.rs: the-agent's module extra has no row in ARCHITECTURE.md's table"]
    );
}

#[test]
fn a_row_without_its_module_is_named() {
    let folder = workspace(&[]);
    let row = "\n| `the-agent` | `gone` | job | nothing |\n\n| another";
    let table = TABLE.replace("\n\n| another", row);
    fs::write(folder.path().join("ARCHITECTURE.md"), table).unwrap();
    assert_eq!(
        broken(folder.path()).unwrap(),
        ["ARCHITECTURE.md: the-agent has no module `gone`"]
    );
}

#[test]
fn a_table_that_is_no_order_is_refused() {
    for (row, says) in [
        ("| `the-agent` | `x` | job | `y` |", "no row above has `y`"),
        ("| `the-agent` | `x` | job | y |", "not a list of names"),
        ("| `the-agent` | `x` | job |", "3 cells"),
        ("| `the-agent` | `cli` | job | nothing |", "a row already"),
    ] {
        let folder = workspace(&[]);
        let table = TABLE.replace("\n\n| another", &format!("\n{row}\n\n| another"));
        fs::write(folder.path().join("ARCHITECTURE.md"), table).unwrap();
        let error = format!("{:#}", broken(folder.path()).unwrap_err());
        assert!(error.contains(says), "{row}: {error}");
    }
    let folder = workspace(&[]);
    fs::write(folder.path().join("ARCHITECTURE.md"), "no table").unwrap();
    assert!(broken(folder.path()).is_err());
}

#[test]
fn the_repository_is_read_whole() {
    let tree = super::Tree::read(&crate::process::root()).unwrap();
    let here = Path::new(file!());
    let has = |file: &Path| {
        tree.modules
            .iter()
            .any(|module| Path::new(&module.file) == file)
    };
    assert!(has(&here.with_file_name("table.rs")), "{}", here.display());
    assert!(!has(here), "a file of tests");
    assert!(
        has(Path::new("agent/judge/src/report.rs")) && has(Path::new("agent-ebpf/src/maps.rs"))
    );
}
