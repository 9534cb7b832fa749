//! `heaptide doctor`: whether heaptide works on this host, its limitations, and the cost of a probe.

mod check;
mod checks;

use std::fmt::Write as _;

use anyhow::Result;
use serde_json::json;

use self::check::{Check, CheckStatus};
use super::ps;
use crate::{
    cli::{Doctor, ExitCode, Format},
    kernel::{self, KernelError},
    observe::{Observing as _, Source, SourceError, SourceOptions, TargetOptions},
    outputs::file,
    privileges::{self, More},
    settings,
    values::Credential,
};
use heaptide_process::plan::PlanOptions;

/// Runs it.
pub(super) fn doctor(args: &Doctor) -> Result<ExitCode> {
    let mut checks = checks::host();
    kernel::look_up_events();
    // From here on with the daemon's capabilities.
    if let Err(why) = privileges::keep_needed(&More {
        refused: Some(kernel::wants_admin),
        ..More::default()
    }) {
        let found = format!("cannot drop unneeded ones: {why}");
        checks.push(Check::limited(
            "capabilities",
            found,
            "please report this line",
        ));
    }
    let places = places();
    let (loaded, pair_ns) = load();
    checks.extend(loaded);
    let code = exit_code(&checks);
    let text = match args.format {
        Format::Text => text(&checks, &places, code),
        Format::Json => {
            let attach = code == ExitCode::Success;
            let places: Vec<_> = places.iter().map(ps::place).collect();
            let value = json!({
                "attach": attach,
                "checks": checks,
                "nanoseconds_per_pair": pair_ns,
                "places": places,
            });
            serde_json::to_string_pretty(&value)? + "\n"
        }
    };
    file::print("the result", text.as_bytes())?;
    Ok(code)
}

fn exit_code(checks: &[Check]) -> ExitCode {
    let missing = || {
        checks
            .iter()
            .filter(|check| check.state == CheckStatus::Missing)
    };
    if missing().any(|check| check.rights) {
        ExitCode::NotPermitted
    } else if missing().next().is_some() {
        ExitCode::Unsupported
    } else {
        ExitCode::Success
    }
}

/// Loads the programs and measures their cost in a child process.
fn load() -> (Vec<Check>, Option<f64>) {
    const PROGRAMS: &str = "programs";
    let (settings, credential) = match settings::settings(settings::CAPACITY)
        .and_then(|made| Ok((made, settings::pattern(&Credential::Bearer)?)))
    {
        Ok(made) => made,
        Err(why) => return (vec![Check::missing(PROGRAMS, why.to_string(), "")], None),
    };
    let options = SourceOptions {
        settings,
        target: TargetOptions {
            credential,
            allocations: true,
            automatic: false,
            at_once: false,
            budget: None,
            handlers: Vec::new(),
            memory_limit: None,
            follow: false,
        },
        enable_go_profile: false,
        stacks: true,
        residency: false,
    };
    let mut source = match Source::new(options) {
        Ok(source) => source,
        Err(why) => return (vec![refused(PROGRAMS, &why)], None),
    };
    if let Err(why) = source.try_all() {
        return (vec![refused(PROGRAMS, &why)], None);
    }
    let held = source.map_bytes() >> 20;
    let mut checks = vec![Check::ok(
        PROGRAMS,
        format!("all loaded; their maps hold {held} MiB of kernel memory"),
    )];
    if source.limitations().is_empty() {
        checks.push(Check::ok(
            "tracepoints",
            "all attached: requests, mappings, forks and execs",
        ));
    }
    // Already reported with the capabilities.
    let missing = privileges::missing();
    let mut limitations = source.limitations();
    limitations.retain(|one| !missing.contains(one));
    for limitation in limitations {
        let advice = "nothing; reports name it as a limitation";
        checks.push(Check::limited("tracepoints", &limitation, advice));
    }
    let cost = source.calibrate();
    let pair_ns = cost.as_ref().ok().copied().filter(|cost| *cost > 0.0);
    checks.push(match cost {
        Ok(cost) if cost > 0.0 => {
            let words =
                format!("{cost:.0} ns of the target's CPU per malloc and free, with stacks");
            Check::ok("probe cost", words)
        }
        Ok(_) => Check::limited(
            "probe cost",
            "could not be measured",
            "run `heaptide --log debug doctor`; overhead is reported as 0 until then",
        ),
        Err(why) => refused("probe cost", &why),
    });
    (checks, pair_ns)
}

fn refused(name: &'static str, why: &SourceError) -> Check {
    match why {
        SourceError::Kernel(KernelError::NotPermitted { .. })
        | SourceError::Target(heaptide_process::ProcessError::NotPermitted { .. }) => {
            Check::forbidden(name, format!("not tried: {why}"), "run it as root")
        }
        _ => Check::missing(
            name,
            why.to_string(),
            "if the kernel is 5.15 or newer, please report this line",
        ),
    }
}

/// Positions of probes on malloc and free of this host's libc, which the agent uses itself.
fn places() -> Vec<heaptide_process::plan::Probe> {
    let options = PlanOptions {
        allocations: true,
        ..PlanOptions::default()
    };
    let Ok(own) = heaptide_runtimes::inspect(std::process::id()) else {
        return Vec::new();
    };
    let plan = own.plan(&options);
    ps::places(&plan)
        .filter(|probe| ["malloc", "free"].contains(&&*probe.symbol))
        .cloned()
        .collect()
}

fn text(checks: &[Check], places: &[heaptide_process::plan::Probe], code: ExitCode) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    for check in checks {
        let state = match check.state {
            CheckStatus::Ok => "ok",
            CheckStatus::Limited => "limited",
            CheckStatus::Missing => "missing",
        };
        let _ = write!(text, "{state:<8} {:<20} {}", check.name, check.found);
        if !check.advice.is_empty() {
            let _ = write!(text, "\n{:<29} -> {}", "", check.advice);
        }
        text.push('\n');
    }
    for probe in places {
        let _ = writeln!(
            text,
            "{:<8} {:<20} {}",
            "ok",
            format!("place of {}", probe.symbol),
            probe.why
        );
    }
    text.push_str(match code {
        ExitCode::Success => "heaptide can attach on this host.\n",
        ExitCode::NotPermitted => "heaptide cannot trace: not permitted (exit code 77).\n",
        _ => "heaptide cannot trace: the kernel lacks a feature (exit code 69).\n",
    });
    if code != ExitCode::Success {
        text.push_str(
            "`heaptide attach PID` still reads the memory of a process and the containers of Python, without requests.\n",
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_come_before_the_kernel() {
        let ok = Check::ok("a", "b");
        let limited = Check::limited("a", "b", "c");
        let missing = Check::missing("a", "b", "c");
        let forbidden = Check::forbidden("a", "b", "c");
        assert_eq!(exit_code(&[ok.clone(), limited.clone()]), ExitCode::Success);
        assert_eq!(exit_code(&[ok, missing.clone()]), ExitCode::Unsupported);
        assert_eq!(
            exit_code(&[missing, forbidden, limited]),
            ExitCode::NotPermitted
        );
    }
}
