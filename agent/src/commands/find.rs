//! Finds the process that a user names: by its pid, or by a name that only one process has.

use std::fmt::Write as _;

use super::list;
use crate::{cli::Attach, outputs::format, values::Named};
use heaptide_judge::events::Workload;
use heaptide_process::{identity, workload};

/// Maximum processes in a message.
const SHOWN: usize = 10;
/// Maximum characters of a command line in a message.
const COMMAND: usize = 60;

/// Why a name is not that of one process.
#[derive(Debug, thiserror::Error)]
pub(super) enum FindError {
    /// No process has it.
    #[error("no process is called `{0}`: `heaptide ps` lists the names and pids")]
    None(String),
    /// Several have it.
    #[error("{count} processes are called `{name}`: use the pid of one of them\n{rows}")]
    Several {
        /// The name.
        name: String,
        /// How many.
        count: usize,
        /// Some of them, a line each.
        rows: String,
    },
}

/// The pid of the process that `heaptide attach` names.
pub(super) fn target(args: &Attach) -> Result<u32, FindError> {
    match (&args.process, &args.unit, &args.container) {
        (Some(named), ..) => pid(named),
        (None, Some(unit), _) => main_of(unit, |one| workload::is_unit(one, unit)),
        (None, None, Some(id)) => main_of(id, |one| workload::is_container(one, id)),
        (None, None, None) => Err(FindError::None(String::new())),
    }
}

/// The process of a unit or container whose parent is outside of it.
fn main_of(name: &str, is_wanted: impl Fn(&Workload) -> bool) -> Result<u32, FindError> {
    let mut all = list::pids();
    all.retain(|pid| *pid != std::process::id() && is_wanted(&workload::of(*pid)));
    let children: Vec<u32> = all
        .iter()
        .flat_map(|pid| identity::children(*pid))
        .collect();
    all.retain(|pid| !children.contains(pid));
    only(name, &all)
}

/// The pid of the process.
pub(super) fn pid(named: &Named) -> Result<u32, FindError> {
    let name = match named {
        Named::Pid(pid) => return Ok(*pid),
        Named::Name(name) => name,
    };
    let mut found: Vec<u32> = list::pids()
        .into_iter()
        .filter(|pid| is_called(*pid, name))
        .collect();
    found.retain(|pid| *pid != std::process::id());
    only(name, &found)
}

/// The only process of these.
fn only(name: &str, found: &[u32]) -> Result<u32, FindError> {
    match found {
        [] => Err(FindError::None(name.to_owned())),
        [pid] => Ok(*pid),
        several => {
            let mut rows = String::new();
            for pid in several.iter().take(SHOWN) {
                let rss = identity::stat(*pid).map_or(0, |stat| stat.rss_pages * 4096);
                let command = identity::cmdline(*pid);
                let command = format::printable(&command, COMMAND);
                // Writing to a string cannot fail.
                let _ = writeln!(rows, "  {pid}  {}  {command}", format::bytes(rss as f64));
            }
            if several.len() > SHOWN {
                let _ = writeln!(rows, "  and {} more", several.len() - SHOWN);
            }
            Err(FindError::Several {
                name: name.to_owned(),
                count: several.len(),
                rows: rows.trim_end().to_owned(),
            })
        }
    }
}

/// Whether this is the name of the main thread, of the executable, or the first word of the command line.
fn is_called(pid: u32, name: &str) -> bool {
    let Ok(stat) = identity::stat(pid) else {
        return false;
    };
    if stat.kernel_thread() || stat.dead() {
        return false;
    }
    let cmdline = identity::cmdline(pid);
    let first = cmdline.split(' ').next().unwrap_or_default();
    let exe = identity::exe(pid).unwrap_or_default();
    stat.comm == name || format::base_name(first) == name || format::base_name(&exe) == name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_must_be_that_of_one_process() {
        assert_eq!(pid(&Named::Pid(7)).unwrap(), 7);
        let none = pid(&Named::Name("no such program".to_owned())).unwrap_err();
        assert!(none.to_string().contains("heaptide ps"), "{none}");
        let start = |name: &str| {
            let folder = tempfile::tempdir().unwrap();
            let program = folder.path().join(name);
            std::os::unix::fs::symlink("/bin/sleep", &program).unwrap();
            let child = std::process::Command::new(&program).arg("60").spawn();
            (child.unwrap(), folder)
        };
        let name = format!("once{}", std::process::id());
        let (mut one, _folder) = start(&name);
        let found = pid(&Named::Name(name.clone()));
        let (mut other, _other_folder) = start(&name);
        let several = pid(&Named::Name(name)).unwrap_err().to_string();
        for child in [&mut one, &mut other] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert_eq!(found.unwrap(), one.id());
        assert!(several.starts_with("2 processes are called"), "{several}");
        assert!(
            several.contains(&format!("  {}  ", other.id())),
            "{several}"
        );
    }
}
