//! Command lines that are accepted and refused, and the exit codes.

use super::*;
use crate::values::{Credential, Mode};

fn attach(args: &[&str]) -> Attach {
    let args = ["heaptide", "attach"].iter().chain(args);
    match Cli::try_parse_from(args).map(|cli| cli.command) {
        Ok(Command::Attach(attach)) => attach,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_definition_is_sound() {
    definition().debug_assert();
}

#[test]
fn attach_has_defaults() {
    let attach = attach(&["17"]);
    assert_eq!(attach.process, Some(Named::Pid(17)));
    assert_eq!(attach.duration, None);
    assert_eq!(attach.observe.mode, Mode::Auto);
    assert!((attach.observe.overhead - 0.03).abs() < 1e-9);
    assert_eq!(attach.observe.credential, Credential::Bearer);
    assert_eq!(attach.output, OutputArgs::default());
    assert!(
        attach.observe.handlers.is_empty()
            && !attach.observe.no_stacks
            && !attach.observe.no_residency
    );
}

#[test]
fn attach_takes_every_flag() {
    let attach = attach(&[
        "17",
        "--for",
        "60s",
        "--mode",
        "trace",
        "--overhead",
        "5%",
        "--memory-limit",
        "512MiB",
        "--expect-cache",
        "1024",
        "--handler",
        "a",
        "--handler",
        "^b",
        "--credential",
        "header:X-Api-Key",
        "--no-stacks",
        "--no-residency",
        "--format",
        "json",
        "--output",
        "r.json",
        "--flamegraph",
        "f.svg",
        "--pprof",
        "p.pb.gz",
        "--record",
        "c",
        "--metrics",
        "127.0.0.1:9876",
        "--exit-code",
    ]);
    assert_eq!(attach.duration, Some(Duration::from_secs(60)));
    assert_eq!(attach.observe.mode, Mode::Trace);
    assert_eq!(attach.observe.judge.memory_limit, Some(512 << 20));
    assert_eq!(attach.observe.judge.expect_cache, Some(1024));
    assert_eq!(attach.observe.handlers, ["a", "^b"]);
    assert_eq!(
        attach.observe.credential,
        Credential::Header("X-Api-Key".into())
    );
    assert_eq!(attach.metrics.unwrap().port(), 9876);
    assert_eq!(attach.output.format, Format::Json);
    assert!(attach.output.exit_code && attach.observe.no_stacks && attach.observe.no_residency);
}

#[test]
fn other_commands() {
    let of =
        |args: &[&str]| Cli::try_parse_from(["heaptide"].iter().chain(args)).map(|cli| cli.command);
    assert!(matches!(
        of(&["replay", "c", "--format", "json", "--pprof", "p"]),
        Ok(Command::Replay(replay)) if replay.output.files.0.len() == 1
    ));
    assert!(matches!(
        of(&["diff", "a", "b", "--format", "json", "--exit-code"]),
        Ok(Command::Diff(diff)) if diff.exit_code && diff.format == Format::Json
    ));
    assert!(matches!(
        of(&["run"]),
        Ok(Command::Run(run)) if run.config.ends_with("heaptide/heaptide.toml")
    ));
    assert!(matches!(of(&["ps", "-v"]), Ok(Command::Ps(ps)) if ps.verbose));
    assert!(matches!(of(&["doctor"]), Ok(Command::Doctor(_))));
    assert!(matches!(
        of(&["check-config", "f"]),
        Ok(Command::CheckConfig(_))
    ));
}

#[test]
fn check_needs_an_end_and_takes_policies() {
    let of = |args: &[&str]| {
        let args = ["heaptide", "check"].iter().chain(args);
        match Cli::try_parse_from(args).map(|cli| cli.command) {
            Ok(Command::Check(check)) => Some(check),
            Ok(other) => panic!("{other:?}"),
            Err(_) => None,
        }
    };
    let check = of(&["17", "--for", "60s", "--max-growth", "60MiB/min"]).expect("accepted");
    assert_eq!(check.duration, Some(Duration::from_secs(60)));
    assert_eq!(check.max_growth, Some(1_048_576.0));
    assert!(check.load.is_empty() && check.observe.mode == Mode::Auto);
    let limits = ["--max-kept-per-request", "64B", "--max-kept-per-token", "0"];
    let files = [
        "--junit",
        "j.xml",
        "--markdown",
        "m.md",
        "--report",
        "r.json",
    ];
    let rest = ["--html", "r.html", "--route", "^GET", "--mode", "trace"];
    let load = ["--", "./load.sh", "--for", "x"];
    let args = [&["api"][..], &limits, &files, &rest, &load].concat();
    let check = of(&args).expect("accepted");
    assert_eq!(check.max_kept_per_request, Some(64.0));
    assert_eq!(check.max_kept_per_token, Some(0.0));
    assert_eq!(check.load, ["./load.sh", "--for", "x"]);
    assert_eq!(check.files.0.len(), 1);
    assert_eq!(check.observe.mode, Mode::Trace);
    for bad in [
        &["17"][..],
        &["17", "--"],
        &["17", "--for", "60s", "--", "load"],
        &["17", "--for", "60s", "--max-growth", "1MiB"],
        &["17", "--for", "60s", "--max-kept-per-token", "-1"],
        &["17", "--for", "60s", "--route", "("],
    ] {
        assert_eq!(of(bad), None, "{bad:?}");
    }
}

#[test]
fn wrong_usage_exits_64_and_help_0() {
    let code = |args: &[&str]| parse(["heaptide"].iter().chain(args)).unwrap_err();
    assert_eq!(code(&["--help"]), ExitCode::Success);
    assert_eq!(code(&["attach", "--help"]), ExitCode::Success);
    assert_eq!(code(&["--version"]), ExitCode::Success);
    for bad in [
        &["attach"][..],
        &["attach", "0"],
        &["attach", "1", "--for", "soon"],
        &["attach", "1", "--overhead", "0%"],
        &["attach", "1", "--memory-limit", "much"],
        &["attach", "1", "--handler", "("],
        &["attach", "1", "--metrics", "nowhere"],
        &["attach", "1", "--colour"],
        &["diff", "a"],
        &["fly"],
    ] {
        assert_eq!(code(bad), ExitCode::Usage, "{bad:?}");
    }
}

#[test]
fn verdicts_have_exit_codes() {
    let of = |verdict| ExitCode::from(verdict) as u8;
    assert_eq!(of(Verdict::NoLeak), 0);
    assert_eq!(of(Verdict::Leak), 1);
    assert_eq!(of(Verdict::Suspect), 2);
    assert_eq!(of(Verdict::InsufficientEvidence), 4);
}

#[test]
fn a_process_is_named_in_one_way() {
    for good in [
        &["attach", "17"][..],
        &["attach", "nginx"],
        &["attach", "--unit", "api"],
        &["attach", "--container", "0123456789ab"],
    ] {
        let words = std::iter::once("heaptide").chain(good.iter().copied());
        assert!(Cli::try_parse_from(words).is_ok(), "{good:?}");
    }
    for bad in [
        &["attach"][..],
        &["attach", "17", "--unit", "api"],
        &["attach", "17", "--container", "0123456789ab"],
        &["attach", "--unit", "api", "--container", "0123456789ab"],
    ] {
        let words = std::iter::once("heaptide").chain(bad.iter().copied());
        assert!(Cli::try_parse_from(words).is_err(), "{bad:?}");
    }
}
