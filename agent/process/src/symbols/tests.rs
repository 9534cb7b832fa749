//! Real processes: small programs that block inside an allocation, compiled here.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use heaptide_ebpf::{MAX_FRAMES, rule};

use super::*;
use crate::inspect;
use heaptide_judge::events::{FrameKind, Site, SiteId};

const STACK: usize = 16 * 1024;

struct Paused {
    child: Child,
    dir: tempfile::TempDir,
    pc: u64,
    sp: u64,
    bp: u64,
    stack: Vec<u8>,
}

impl Drop for Paused {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn programs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/programs")
}

/// The line of a source that is marked `LINE name`.
fn marked(source: &str, name: &str) -> u32 {
    let file = std::fs::File::open(programs().join(source)).unwrap();
    let mark = format!("LINE {name}");
    let found = BufReader::new(file)
        .lines()
        .position(|line| line.is_ok_and(|l| l.trim_end_matches(" */").ends_with(&mark)));
    found.unwrap() as u32 + 1
}

/// Compiles and starts a program, and waits until it reads standard input.
fn pause(compiler: &str, source: &str, flags: &[&str]) -> Paused {
    let dir = tempfile::tempdir().unwrap();
    let binary = dir.path().join("program");
    let built = Command::new(compiler)
        .args(["-O2", "-g", "-fno-builtin"])
        .args(flags)
        .arg("-o")
        .arg(&binary)
        .arg(programs().join(source))
        .status()
        .expect("a C and C++ compiler is needed");
    assert!(built.success());
    let child = Command::new(&binary).stdin(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    let start = Instant::now();
    // "0 0x0 .." is read(0, ..)
    let reads = || {
        std::fs::read_to_string(format!("/proc/{pid}/syscall"))
            .is_ok_and(|s| s.starts_with("0 0x0 "))
    };
    while !reads() {
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "{source} does not stop"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
    let registers = registers(pid);
    let memory = std::fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut stack = vec![0; STACK];
    let read = memory.read_at(&mut stack, registers.rsp).unwrap();
    stack.truncate(read);
    Paused {
        child,
        dir,
        pc: registers.rip,
        sp: registers.rsp,
        bp: registers.rbp,
        stack,
    }
}

/// Registers of a process that waits in a system call; only tests may stop a process.
fn registers(pid: u32) -> libc::user_regs_struct {
    let pid = pid as libc::pid_t;
    let mut status = 0;
    let null = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: user_regs_struct is plain integers.
    let mut registers: libc::user_regs_struct = unsafe { std::mem::zeroed() };
    // SAFETY: the child is ours; `status` and `registers` are valid for writing.
    unsafe {
        assert_eq!(libc::ptrace(libc::PTRACE_ATTACH, pid, null, null), 0);
        assert_eq!(libc::waitpid(pid, &raw mut status, 0), pid);
        assert_eq!(
            libc::ptrace(libc::PTRACE_GETREGS, pid, null, &raw mut registers),
            0
        );
        assert_eq!(libc::ptrace(libc::PTRACE_DETACH, pid, null, null), 0);
    }
    registers
}

/// Walks a stack as the kernel programs do: with rules only.
fn walk(unwinder: &mut Unwinder, paused: &Paused) -> Vec<u64> {
    let word = |at: u64| {
        let at = (at - paused.sp) as usize;
        u64::from_le_bytes(paused.stack[at..at + 8].try_into().unwrap())
    };
    let (mut sp, mut bp) = (paused.sp, paused.bp);
    let mut frames = vec![paused.pc];
    let mut next = unwinder.rule_exact(paused.pc);
    while frames.len() < MAX_FRAMES {
        let base = match next.kind {
            rule::SP => sp,
            rule::BP => bp,
            rule::END => return frames,
            _ => panic!("no rule after {:x?}", frames.last()),
        };
        let cfa = base.wrapping_add_signed(i64::from(next.cfa_offset));
        if next.rbp_offset != 0 {
            bp = word(cfa.wrapping_add_signed(i64::from(next.rbp_offset)));
        }
        let address = word(cfa - 8);
        sp = cfa;
        frames.push(address);
        next = unwinder.rule(address);
    }
    frames
}

fn resolved(paused: &Paused) -> Site {
    let pid = paused.child.id();
    let mut unwinder = Unwinder::new(pid).unwrap();
    let unwound = unwinder.unwind(paused.pc, true, paused.sp, paused.bp, &paused.stack);
    assert!(!unwound.truncated, "{unwound:x?}");
    assert_eq!(unwound.frames, walk(&mut unwinder, paused));

    // from any return address: that is what the kernel copies
    let rules = unwinder.call_rules(|_| true, 1 << 20);
    assert!(rules.is_sorted_by_key(|(address, _)| *address));
    for address in &unwound.frames[1..] {
        let known = rules.binary_search_by_key(address, |(address, _)| *address);
        assert_eq!(rules[known.unwrap()].1, unwinder.rule(*address));
    }
    assert!(unwinder.call_rules(|_| true, 10).len() <= 10);

    let short = unwinder.unwind(paused.pc, true, paused.sp, paused.bp, &paused.stack[..64]);
    assert!(short.truncated);

    let mut symbolizer = Symbolizer::new(pid).unwrap();
    symbolizer.resolve(SiteId(1), &unwound.frames, true, unwound.truncated)
}

fn names(site: &Site) -> Vec<&str> {
    site.stack.iter().map(|f| f.function.as_str()).collect()
}

fn check(site: &Site, source: &str, callers: &[&str]) {
    let names = names(site);
    let leading = site.leading();
    assert_eq!(
        leading.function.split('(').next(),
        Some(callers[0]),
        "{names:?}"
    );
    let mut last = 0;
    for caller in callers {
        let found = site
            .stack
            .iter()
            .position(|f| f.function.split('(').next() == Some(caller));
        let index = found.unwrap_or_else(|| panic!("{caller} in {names:?}"));
        assert!(index > last, "{names:?}");
        last = index;
        let frame = &site.stack[index];
        assert_eq!(frame.kind, FrameKind::User);
        assert_eq!(frame.line, Some(marked(source, caller)), "{frame:?}");
        assert!(frame.file.as_ref().unwrap().ends_with(source), "{frame:?}");
        assert_eq!(frame.module, "program");
    }
}

#[test]
fn the_caller_of_strdup() {
    for flags in [["-fomit-frame-pointer"], ["-fno-omit-frame-pointer"]] {
        let paused = pause("gcc", "names.c", &flags);
        let site = resolved(&paused);
        check(&site, "names.c", &["keep_name", "handle", "main"]);
        let strdup = site
            .stack
            .iter()
            .find(|f| f.function.ends_with("strdup"))
            .unwrap();
        assert_eq!(strdup.kind, FrameKind::Allocator, "{strdup:?}");
        assert!(strdup.module.starts_with("libc"));
    }
}

#[test]
fn the_caller_of_new() {
    for flags in [["-fomit-frame-pointer"], ["-fno-omit-frame-pointer"]] {
        let paused = pause("g++", "sessions.cc", &flags);
        let site = resolved(&paused);
        check(
            &site,
            "sessions.cc",
            &["Cache::insert", "Service::handle", "main"],
        );
        assert!(names(&site).iter().any(|n| n.starts_with("operator new")));
    }
}

#[test]
fn a_static_position_dependent_program() {
    let paused = pause(
        "gcc",
        "names.c",
        &["-static", "-no-pie", "-fomit-frame-pointer"],
    );
    check(
        &resolved(&paused),
        "names.c",
        &["keep_name", "handle", "main"],
    );
}

/// musl has no unwind information for leaving its functions; stacks end where it calls the first
/// function of a program.
#[test]
fn musl_ends_stacks_where_it_calls_main() {
    let paused = pause("musl-gcc", "names.c", &["-static"]);
    let pid = paused.child.id();
    let mut unwinder = Unwinder::new(pid).unwrap();
    let target = inspect(pid).unwrap();
    let module = target.modules.iter().find(|module| module.main).unwrap();
    let mut kind_in = |function: &str| {
        let mut address = None;
        module.elf.functions(|symbol| {
            if symbol.name == function {
                address = Some(symbol.address);
            }
        });
        let address = address.unwrap_or_else(|| panic!("no {function}"));
        unwinder.rule_exact(address + module.bias).kind
    };
    assert_eq!(kind_in("main"), rule::SP);
    assert_eq!(kind_in("read"), rule::UNKNOWN);
    assert_eq!(kind_in("libc_start_main_stage2"), rule::END);
}

#[test]
fn the_allocator_that_is_really_used() {
    let paused = pause("gcc", "names.c", &[]);
    let target = inspect(paused.child.id()).unwrap();
    let own = &target.allocators[0];
    assert_eq!(own.name, "custom");
    assert!(target.modules[own.module].main);
    let of_libc: Vec<_> = target.allocators[1..]
        .iter()
        .flat_map(|a| &a.functions)
        .collect();
    for name in ["malloc", "free", "calloc", "realloc"] {
        assert!(own.functions.iter().any(|f| f.name == name));
        assert!(of_libc.iter().all(|f| f.name != name), "{of_libc:?}");
    }
    // functions that it does not define are the C library's
    assert!(of_libc.iter().any(|f| f.name == "posix_memalign"));
}

#[test]
fn a_deleted_program_that_ended() {
    let mut paused = pause("gcc", "names.c", &[]);
    std::fs::remove_file(paused.dir.path().join("program")).unwrap();
    let pid = paused.child.id();
    let target = inspect(pid).unwrap();
    assert!(target.modules[0].deleted);
    let mut unwinder = Unwinder::new(pid).unwrap();
    let mut symbolizer = Symbolizer::new(pid).unwrap();
    paused.child.kill().unwrap();
    paused.child.wait().unwrap();
    assert!(!target.is_alive());
    let unwound = unwinder.unwind(paused.pc, true, paused.sp, paused.bp, &paused.stack);
    let site = symbolizer.resolve(SiteId(1), &unwound.frames, true, false);
    check(&site, "names.c", &["keep_name", "handle", "main"]);
}

#[test]
fn a_stripped_static_program() {
    let paused = pause("gcc", "names.c", &["-static", "-s"]);
    let target = inspect(paused.child.id()).unwrap();
    assert!(target.allocators.is_empty());
    assert!(target.without_allocator().contains("static and stripped"));
    let mut symbolizer = Symbolizer::new(paused.child.id()).unwrap();
    let site = symbolizer.resolve(SiteId(1), &[paused.pc, 0x10], true, true);
    assert!(site.stack[0].function.starts_with("program+0x"), "{site:?}");
    assert_eq!(site.stack[1].kind, FrameKind::Unknown);
}

/// `HEAPTIDE_PID=.. cargo test --release -- --ignored --nocapture measure` prints the agent's costs.
#[test]
#[ignore = "a measurement of a process that is named by HEAPTIDE_PID"]
fn measure() {
    let pid = std::env::var("HEAPTIDE_PID").unwrap().parse().unwrap();
    let shown = std::env::var("HEAPTIDE_SHOW").unwrap_or_default();
    let rss = || std::fs::read_to_string("/proc/self/statm").unwrap();
    let rss = || rss().split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4 / 1024;
    println!("rss at start {} MiB", rss());
    let start = Instant::now();
    let target = inspect(pid).unwrap();
    println!(
        "inspect {:?}, rss {} MiB: {:?}",
        start.elapsed(),
        rss(),
        target.limitations
    );
    let start = Instant::now();
    let mut unwinder = Unwinder::new(pid).unwrap();
    println!("unwinder {:?}, rss {} MiB", start.elapsed(), rss());
    for module in &target.modules {
        let start = Instant::now();
        let rules = unwinder.call_rules(|m| m.inode == module.inode, usize::MAX);
        println!(
            "{}: {} rules in {:?}",
            module.name,
            rules.len(),
            start.elapsed()
        );
    }
    println!("rss {} MiB", rss());
    let rules = unwinder.call_rules(|m| m.main, usize::MAX);
    let mut symbolizer = Symbolizer::new(pid).unwrap();
    let mut peak = 0;
    let start = Instant::now();
    let mut slowest = Duration::ZERO;
    let mut seen = std::collections::BTreeSet::new();
    let step = (rules.len() / 4000).max(1);
    for chunk in rules
        .iter()
        .step_by(if shown.is_empty() { step } else { 1 })
        .collect::<Vec<_>>()
        .chunks(24)
    {
        let addresses: Vec<u64> = chunk.iter().map(|(a, _)| *a).collect();
        let one = Instant::now();
        let site = symbolizer.resolve(SiteId(1), &addresses, false, false);
        slowest = slowest.max(one.elapsed());
        peak = peak.max(rss());
        if !shown.is_empty() {
            for frame in site.stack.iter().filter(|f| f.function.contains(&shown)) {
                let file = frame.file.as_deref().unwrap_or("-");
                seen.insert(format!(
                    "{:?} {} {file}:{:?}",
                    frame.kind, frame.function, frame.line
                ));
            }
        }
    }
    println!(
        "symbols {:?}, slowest stack {slowest:?}, peak rss {peak} MiB",
        start.elapsed()
    );
    for line in seen {
        println!("  {line}");
    }
}
