//! `heaptide ps`: processes with runtime, allocators, memory, and what can be observed in each.

use std::fmt::Write as _;
use std::io::IsTerminal as _;

use anyhow::Result;
use comfy_table::{CellAlignment, Table, presets};
use regex::Regex;
use serde_json::{Value, json};

use super::list::{self, ProcessRow};
use crate::{
    cli::{ExitCode, Format, Ps},
    outputs::{file, format},
};
use heaptide_judge::events::Workload;
use heaptide_process::plan::programs::ALLOC_RESULT;
use heaptide_process::plan::{Plan, PlanOptions, Probe};

/// Characters of a command line in the table.
const COMMAND: usize = 60;

/// Characters of a container's id in the table, as container tools print it.
const SHORT_ID: usize = 12;

/// Runs it.
pub(super) fn ps(args: &Ps) -> Result<ExitCode> {
    let wanted = args.command.as_deref().map(Regex::new).transpose()?;
    let mut rows = list::list(wanted.as_ref());
    if let Some(runtime) = &args.runtime {
        rows.retain(|row| row.runtime.starts_with(runtime.as_str()));
    }
    let text = match args.format {
        Format::Text => table(&rows, args.verbose, std::io::stdout().is_terminal()),
        Format::Json => {
            let rows: Vec<Value> = rows.iter().map(|row| object(row, args.verbose)).collect();
            serde_json::to_string_pretty(&rows)? + "\n"
        }
    };
    if rows.is_empty() {
        file::tell("heaptide: no process matches");
    }
    file::print("the list", text.as_bytes())?;
    Ok(ExitCode::Success)
}

/// Long command lines are cut only if it `is_terminal`.
fn table(rows: &[ProcessRow], verbose: bool, is_terminal: bool) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(["PID", "RSS", "RUNTIME", "ALLOCATORS", "RUNS IN", "COMMAND"]);
    for row in rows {
        let command = if row.cmdline.is_empty() {
            &row.comm
        } else {
            &row.cmdline
        };
        table.add_row([
            row.pid.to_string(),
            format::bytes(row.rss as f64),
            or_dash(&row.runtime),
            or_dash(&row.allocators.join(",")),
            or_dash(&runs_in(&row.workload)),
            format::printable(command, if is_terminal { COMMAND } else { usize::MAX }).into_owned(),
        ]);
    }
    for column in table.column_iter_mut().take(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    if verbose {
        for row in rows {
            explain(row, &mut text);
        }
    }
    text
}

/// The unit, or the container with the beginning of its id.
fn runs_in(workload: &Workload) -> String {
    let Some(id) = &workload.container else {
        return workload.unit.clone().unwrap_or_default();
    };
    let runtime = workload.container_runtime.as_deref().unwrap_or("container");
    format!("{runtime}:{}", id.get(..SHORT_ID).unwrap_or(id))
}

fn or_dash(text: &str) -> String {
    if text.is_empty() {
        "-".to_owned()
    } else {
        text.to_owned()
    }
}

/// The probes of a process with their positions, and its limitations.
fn explain(row: &ProcessRow, text: &mut String) {
    let plan = plan_of(row.pid);
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "\npid {} {}",
        row.pid,
        format::printable(&row.comm, COMMAND)
    );
    // A function may occur many times, once per instance of a generic; it is printed once.
    let mut lines: Vec<(String, usize)> = Vec::new();
    for probe in places(&plan) {
        let line = format!("  {:<7} {}", probe.program.purpose.word(), probe.why);
        match lines.iter_mut().find(|(known, _)| *known == line) {
            Some(known) => known.1 += 1,
            None => lines.push((line, 1)),
        }
    }
    for (line, times) in lines {
        let times = if times > 1 {
            format!(" ({times} times)")
        } else {
            String::new()
        };
        let _ = writeln!(text, "{line}{times}");
    }
    for limitation in row.limitations.iter().chain(&plan.limitations) {
        let _ = writeln!(text, "  note    {limitation}");
    }
}

fn object(row: &ProcessRow, verbose: bool) -> Value {
    let mut object = json!({
        "pid": row.pid,
        "comm": row.comm,
        "cmdline": row.cmdline,
        "rss_bytes": row.rss,
        "runtime": row.runtime,
        "allocators": row.allocators,
        "workload": row.workload,
        "limitations": row.limitations,
    });
    if verbose {
        let plan = plan_of(row.pid);
        let probes: Vec<Value> = places(&plan).map(place).collect();
        object["probes"] = probes.into();
        object["limitations"] = row
            .limitations
            .iter()
            .chain(&plan.limitations)
            .map(String::as_str)
            .collect();
    }
    object
}

/// One probe as JSON.
pub(super) fn place(probe: &Probe) -> Value {
    json!({
        "symbol": probe.symbol,
        "purpose": probe.program.purpose.word(),
        "offset": probe.file_offset - probe.entry_offset,
        "why": probe.why,
    })
}

/// The plan for a process; empty if it is unreadable, because its row has the reason.
fn plan_of(pid: u32) -> Plan {
    let options = PlanOptions {
        allocations: true,
        ..PlanOptions::default()
    };
    heaptide_runtimes::inspect(pid).map_or_else(|_| Plan::default(), |target| target.plan(&options))
}

/// The probes without return probes, which share the position of their entry probe.
pub(super) fn places(plan: &Plan) -> impl Iterator<Item = &Probe> {
    plan.probes
        .iter()
        .filter(|probe| !probe.program.is_return && probe.program != ALLOC_RESULT)
}
