//! `heaptide check PID`: observes a process during a load test, and exits by policies.

use std::{
    path::Path,
    process::ExitStatus,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use regex::Regex;

use super::{
    diff, find, judge,
    load::{self, Load, LoadError},
    observe, report,
};
use crate::{
    cli::{Check, ExitCode},
    kernel,
    outputs::{
        check::{Checked, Overall, Stage},
        file, json, junit, markdown,
    },
    privileges::{self, More},
    session::Session,
};
use heaptide_judge::{
    policy::{self, Policy},
    report::Report,
};

/// Interval of forgetting children that have ended.
const TIDY: Duration = Duration::from_secs(1);

/// Runs `heaptide check`.
pub(super) fn check(args: &Check) -> Result<ExitCode> {
    // Before capabilities are dropped: it runs with those of the caller.
    let mut load = match args.load.as_slice() {
        [] => None,
        command => Some(Load::prepare(command)?),
    };
    keep_needed(args)?;
    let pid = find::pid(&args.process)?;
    heaptide_runtimes::inspect(pid)?;
    report::check_paths(&outputs(args))?;
    let baseline = args.baseline.as_deref();
    let baseline = baseline.map(|path| diff::load(path, judge::options(&args.observe.judge)));
    let baseline = baseline.transpose()?;
    let routes = args.route.as_deref().map(Regex::new).transpose();
    let routes = routes.context("--route")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let stop = Arc::new(AtomicBool::new(false));
    let mut session = Session::new(observe::source_options(&args.observe)?)?;
    runtime.block_on(async { observe::stop_on_signals(&stop) })?;
    session.attach(pid, judge::options(&args.observe.judge))?;
    let name = observe::name(&session, pid);
    file::tell(&format!("attached to {name} (pid {pid})"));
    let end = watch(&mut session, pid, args, load.as_mut(), &stop)?;
    let load_name = load.as_ref().map(|load| load.name().to_owned());
    // The rest of the load would only delay the end.
    drop(load);
    session.finish()?;
    let gone = session.pids().iter().all(|pid| session.ended(*pid));

    let reports: Vec<Report> = session
        .pids()
        .into_iter()
        .filter_map(|pid| session.report(pid))
        .collect();
    let worst = session.worst(&session.pids());
    let worst = worst.context("nothing was observed")?;
    let selected = |route: &str| routes.as_ref().is_none_or(|wanted| wanted.is_match(route));
    let mut outcomes = policy::judge(&policies(args), &reports, &selected);
    outcomes
        .extend(baseline.map(|baseline| policy::baseline::against(&baseline, &worst, &reports)));
    let checked = Checked {
        stages: stages(&end, gone.then_some(pid), load_name),
        outcomes,
        report: &worst,
    };
    let mut results = vec![file::print("the results", checked.text().as_bytes())];
    if let Some(path) = &args.junit {
        results.push(junit::write(&checked, path));
    }
    if let Some(path) = &args.markdown {
        results.push(markdown::write(&checked, path));
    }
    if let Some(path) = &args.report {
        results.push(json::write(&worst, Some(path)));
    }
    let stacks = session.stacks(worst.target.pid);
    for (output, path) in &args.files.0 {
        results.push((output.write)(&worst, &stacks, path));
    }
    drop(session);
    runtime.shutdown_timeout(Duration::from_secs(1));
    report::first_error(results, code(checked.overall()))
}

/// The end of the observation.
enum End {
    /// The time is over.
    Time,
    /// The load command has ended.
    Load(ExitStatus),
    /// The load command could not be started or waited for.
    NoLoad(LoadError),
    /// The process has ended.
    Target,
    /// A signal.
    Signal,
}

fn watch(
    session: &mut Session,
    observed: u32,
    args: &Check,
    mut load: Option<&mut Load>,
    stop: &AtomicBool,
) -> Result<End> {
    let until = match (&load, args.duration) {
        (Some(load), _) => format!("until `{}` ends", load.name()),
        (None, Some(most)) => format!(
            "for {}",
            crate::outputs::format::duration(most.as_secs_f64())
        ),
        (None, None) => "until it ends".to_owned(),
    };
    file::tell(&format!("checking {until}"));
    if let Some(load) = &mut load
        && let Err(error) = load.begin()
    {
        return Ok(End::NoLoad(error));
    }
    let begun = Instant::now();
    let mut tidied = begun;
    loop {
        if stop.load(Ordering::Relaxed) {
            return Ok(End::Signal);
        }
        session.step()?;
        if session.pids().iter().all(|pid| session.ended(*pid)) {
            return Ok(End::Target);
        }
        match load.as_mut().map_or(Ok(None), |load| load.ended()) {
            Ok(Some(status)) => return Ok(End::Load(status)),
            Ok(None) => {}
            Err(error) => return Ok(End::NoLoad(error)),
        }
        if args.duration.is_some_and(|most| begun.elapsed() >= most) {
            return Ok(End::Time);
        }
        if tidied.elapsed() >= TIDY {
            tidied = Instant::now();
            session.drop_ended(observed);
        }
    }
}

/// What had to happen besides the policies, and whether it did. `gone`: the process, if it has ended.
fn stages(end: &End, gone: Option<u32>, load: Option<String>) -> Vec<Stage> {
    let failure = match (gone, end) {
        (Some(pid), _) => Some(format!(
            "pid {pid} ended before the check did, so nothing can be passed"
        )),
        (None, End::Signal) => {
            Some("the check was interrupted, so nothing can be passed".to_owned())
        }
        (None, End::NoLoad(_)) => Some("there was no load, so nothing can be passed".to_owned()),
        (None, End::Time | End::Load(_) | End::Target) => None,
    };
    let mut stages = vec![Stage {
        name: "observation",
        demand: "the process runs until the end of the check".to_owned(),
        failure,
        overall: gone.map_or(Overall::Undecided, |_| Overall::TargetEnded),
    }];
    if let Some(name) = load {
        let unfinished = Some(format!("`{name}` was ended, because the check had ended"));
        let (failure, overall) = match end {
            End::Load(status) => {
                let failed = load::failure(*status).map(|how| format!("`{name}` {how}"));
                (failed, Overall::LoadFailed)
            }
            End::NoLoad(error) => (Some(error.to_string()), Overall::LoadFailed),
            End::Time | End::Target | End::Signal => (unfinished, Overall::Undecided),
        };
        stages.push(Stage {
            name: "load command",
            demand: format!("`{name}` succeeds"),
            failure,
            overall,
        });
    }
    stages
}

fn policies(args: &Check) -> Vec<Policy> {
    let given = [
        args.max_growth.map(Policy::MaxGrowth),
        args.max_kept_per_request.map(Policy::MaxKeptPerRequest),
        args.max_kept_per_token.map(Policy::MaxKeptPerToken),
    ];
    let given: Vec<Policy> = given.into_iter().flatten().collect();
    if given.is_empty() && args.baseline.is_none() {
        vec![Policy::Verdict]
    } else {
        given
    }
}

fn code(overall: Overall) -> ExitCode {
    match overall {
        Overall::Passed => ExitCode::Success,
        Overall::Failed { confirmed: true } => ExitCode::Confirmed,
        Overall::Failed { confirmed: false } => ExitCode::Suspect,
        Overall::LoadFailed => ExitCode::LoadFailed,
        Overall::TargetEnded => ExitCode::NoSuchProcess,
        Overall::Undecided => ExitCode::InsufficientEvidence,
    }
}

/// The files that will be written.
fn outputs(args: &Check) -> Vec<(&'static str, &Path)> {
    let own = [
        ("the JUnit results", &args.junit),
        ("the Markdown summary", &args.markdown),
        ("the report", &args.report),
    ];
    let own = own
        .into_iter()
        .filter_map(|(what, path)| Some((what, path.as_deref()?)));
    let files = args.files.0.iter();
    own.chain(files.map(|(output, path)| (output.flag, path.as_path())))
        .collect()
}

/// Drops capabilities that are not needed.
fn keep_needed(args: &Check) -> Result<()> {
    kernel::look_up_events();
    let files: Vec<&Path> = outputs(args).into_iter().map(|(_, path)| path).collect();
    privileges::keep_needed(&More {
        port: None,
        files: &files,
        refused: Some(kernel::wants_admin),
    })
    .context("cannot drop unneeded capabilities")
}
