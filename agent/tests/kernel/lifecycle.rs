//! Changes of a program while it runs or before the attach: libraries replaced on disk, its own mount namespace and
//! root, an allocator that is loaded late, hundreds of threads. Also debug information in other files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::common::books::{Books, Target, differences, of_process};
use super::common::compile::{Malloc, Program, program};
use super::common::process::{Process, run};
use super::common::{Watched, folder, kernel, truth, watch, watch_in};
use serde_json::{Value, json};

const RUN: Duration = Duration::from_secs(60);

fn truth_program() -> PathBuf {
    program(Program::Truth {
        frame_pointers: false,
        malloc: Malloc::Libc,
    })
}

/// Watches a truth program, runs it, and compares.
fn exact(process: Process, variables: &[(&str, &str)]) {
    let mut watched = watch_in(process.id(), &[], variables);
    let mut target = Target { process };
    target.run("go");
    let books = target.run("free-half");
    watched.finish();
    target.agrees(&watched, &books);
}

/// The libraries that the dynamic linker finds for a program, including the linker itself.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let listed = run("ldd", Command::new("ldd").arg(program), RUN);
    let words = listed.output.split_whitespace();
    let mut found: Vec<PathBuf> = words
        .filter(|word| word.starts_with('/'))
        .map(PathBuf::from)
        .collect();
    found.dedup();
    assert!(found.len() >= 2, "{}", listed.output);
    found
}

/// Copies them to where a program with this root finds them.
fn copy_libraries(program: &Path, root: &Path) {
    for library in libraries(program) {
        let to = root.join(library.strip_prefix("/").expect("absolute"));
        fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
        fs::copy(&library, &to).expect("a copy");
    }
}

/// `/service` with this folder as its root. It needs `/proc`, which is mounted only for it.
fn rooted(root: &Path) -> Command {
    fs::create_dir(root.join("proc")).expect("a folder");
    let mut command = Command::new("unshare");
    let mount = "mount --rbind /proc \"$1/proc\" && exec chroot \"$1\" /service";
    command.args(["--mount", "sh", "-c", mount, "sh"]).arg(root);
    command
}

fn c_library(program: &Path) -> PathBuf {
    let mut all = libraries(program).into_iter();
    all.find(|path| path.ends_with("libc.so.6"))
        .expect("a libc")
}

/// A package manager renames a new file over the old one: the process runs from a file without a name.
#[test]
fn upgraded_in_place() {
    let Some(_turn) = kernel("upgraded_in_place") else {
        return;
    };
    let folder = folder();
    let (program, libc) = (folder.path().join("truth"), folder.path().join("libc.so.6"));
    fs::copy(truth_program(), &program).expect("a copy");
    fs::copy(c_library(&program), &libc).expect("a copy");
    let mut command = Command::new(&program);
    command.env("LD_LIBRARY_PATH", folder.path());
    let process = truth::start_as(&mut command);
    for path in [&program, &libc] {
        // Another inode of the same name. It is not a valid program.
        let new = folder.path().join("new");
        fs::write(&new, b"the next version").expect("a file");
        fs::rename(&new, path).expect("a new file in its place");
    }
    exact(process, &[]);
}

/// The path of its C library is another file for it than for heaptide.
#[test]
fn in_a_mount_namespace() {
    let Some(_turn) = kernel("in_a_mount_namespace") else {
        return;
    };
    let folder = folder();
    let program = truth_program();
    let own = folder.path().join("own-libc");
    let libc = fs::canonicalize(c_library(&program)).expect("a path");
    fs::copy(&libc, &own).expect("a copy");
    let mut command = Command::new("unshare");
    let mount = "mount --bind \"$1\" \"$2\" && exec \"$3\"";
    command.args(["--mount", "sh", "-c", mount, "sh"]);
    exact(truth::start_as(command.args([&own, &libc, &program])), &[]);
}

/// As in a container: the paths of its mapped files do not exist outside.
#[test]
fn in_a_root_of_its_own() {
    let Some(_turn) = kernel("in_a_root_of_its_own") else {
        return;
    };
    let folder = folder();
    let program = truth_program();
    copy_libraries(&program, folder.path());
    fs::copy(&program, folder.path().join("service")).expect("a copy");
    exact(truth::start_as(&mut rooted(folder.path())), &[]);
}

/// A program without symbols, and its separate debug file.
fn split(folder: &Path) -> (PathBuf, PathBuf) {
    let (program, debug) = (folder.join("service"), folder.join("service.debug"));
    fs::copy(truth_program(), &program).expect("a copy");
    let tool = |name: &'static str, arguments: &[&str], paths: &[&Path]| {
        let done = run(name, Command::new(name).args(arguments).args(paths), RUN);
        assert_eq!(done.code, Some(0), "{}", done.errors);
    };
    tool("objcopy", &["--only-keep-debug"], &[&program, &debug]);
    let link = format!("--add-gnu-debuglink={}", debug.display());
    tool("objcopy", &["--strip-all", &link], &[&program]);
    (program, debug)
}

/// The build id of a program.
fn build_id(program: &Path) -> String {
    let notes = run(
        "readelf",
        Command::new("readelf").arg("-n").arg(program),
        RUN,
    );
    let id = notes.output.split("Build ID: ").nth(1).expect("a build id");
    id.split_whitespace().next().expect("a word").to_owned()
}

/// `agrees` compares files and lines too, which can only come from the debug file.
#[test]
fn debug_information_beside_the_program() {
    let Some(_turn) = kernel("debug_information_beside_the_program") else {
        return;
    };
    let folder = folder();
    let (program, _debug) = split(folder.path());
    exact(truth::start_as(&mut Command::new(program)), &[]);
}

#[test]
fn debug_information_by_build_id() {
    let Some(_turn) = kernel("debug_information_by_build_id") else {
        return;
    };
    let root = folder();
    let (program, debug) = split(root.path());
    copy_libraries(&program, root.path());
    let id = build_id(&program);
    let to = root.path().join("usr/lib/debug/.build-id").join(&id[..2]);
    fs::create_dir_all(&to).expect("a folder");
    fs::rename(debug, to.join(format!("{}.debug", &id[2..]))).expect("moved");
    exact(truth::start_as(&mut rooted(root.path())), &[]);
}

/// In the cache of a debuginfod client.
#[test]
fn debug_information_fetched_before() {
    let Some(_turn) = kernel("debug_information_fetched_before") else {
        return;
    };
    let folder = folder();
    let (program, debug) = split(folder.path());
    let to = folder.path().join("cache").join(build_id(&program));
    fs::create_dir_all(&to).expect("a folder");
    fs::rename(debug, to.join("debuginfo")).expect("moved");
    let cache = folder.path().join("cache").display().to_string();
    let process = truth::start_as(&mut Command::new(program));
    exact(process, &[("DEBUGINFOD_CACHE_PATH", &cache)]);
}

fn crowd() -> (Process, Watched) {
    let mut target = Process::start("crowd", &mut Command::new(program(Program::Crowd)));
    target.line(RUN, |line| line.starts_with("ready "));
    let watched = watch(target.id(), &[]);
    (target, watched)
}

fn ask(target: &mut Process, words: &str) {
    target.say(words);
    target.line(RUN, |line| line == "done");
}

/// Checks the live blocks of one function, and that nothing was lost.
fn kept(watched: &Watched, target: &Process, function: &str, blocks: u64, size: u64) {
    let books: Books = serde_json::from_value(json!({
        "pid": target.id(),
        "sites": [
            { "function": function, "kind": "heap", "bytes": blocks * size, "blocks": blocks },
        ],
    }))
    .expect("books");
    let seen = of_process(&watched.read("sites.json"), target.id());
    let wrong: String = differences(&books, &seen)
        .lines()
        .filter(|line| line.contains(function) || !line.contains("no such site"))
        .collect();
    assert!(wrong.is_empty(), "{wrong}\n{}", watched.agent.transcript());
}

#[test]
fn five_hundred_threads() {
    let Some(_turn) = kernel("five_hundred_threads") else {
        return;
    };
    let (mut target, mut watched) = crowd();
    ask(&mut target, "threads 500");
    watched.finish();
    kept(&watched, &target, "keep_one", 50_000, 72);
}

#[test]
fn an_allocator_loaded_late() {
    let Some(_turn) = kernel("an_allocator_loaded_late") else {
        return;
    };
    let (mut target, mut watched) = crowd();
    ask(&mut target, "load libmimalloc.so.2");
    let late = |line: &str| line.contains("libmimalloc") && line.contains("mapped later");
    watched.agent.error_line(RUN, late);
    ask(&mut target, "late");
    watched.finish();
    kept(&watched, &target, "keep_late", 250, 200);
    let report: Value = serde_json::from_str(&watched.read("report.json")).expect("JSON");
    let said = report["target"]["allocators"].to_string();
    assert!(
        said.contains("glibc") && said.contains("mimalloc"),
        "{said}"
    );
}
