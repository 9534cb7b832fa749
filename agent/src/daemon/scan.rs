//! The running processes, from `/proc`.

use std::fs;
use std::io;
use std::path::Path;

use super::select::ProcessFacts;
use heaptide_process::workload;

/// Maximum length of a command line; patterns see its beginning.
const CMDLINE: usize = 16 * 1024;

/// The processes in `proc` (`/proc`), by pid. Those that end during the scan are omitted.
pub fn scan(proc: &Path) -> io::Result<Vec<ProcessFacts>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(proc)? {
        // The directory changes during the scan; an unreadable entry is gone.
        let Ok(entry) = entry else { continue };
        let pid = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        if let Some(process) = pid.and_then(|pid| read(proc, pid)) {
            found.push(process);
        }
    }
    found.sort_by_key(|process| process.pid);
    Ok(found)
}

/// One process. `None` if there is none, or it is a zombie.
pub fn read(proc: &Path, pid: u32) -> Option<ProcessFacts> {
    let folder = proc.join(pid.to_string());
    let stat = fs::read(folder.join("stat")).ok()?;
    let stat = parse_stat(&String::from_utf8_lossy(&stat))?;
    if stat.state == 'Z' || stat.state == 'X' {
        return None;
    }
    // If access to these is denied, they match no selector.
    let exe = fs::read_link(folder.join("exe")).unwrap_or_default();
    let cmdline = fs::read(folder.join("cmdline")).unwrap_or_default();
    let cgroup = fs::read_to_string(folder.join("cgroup")).unwrap_or_default();
    let exe = exe.to_string_lossy();
    Some(ProcessFacts {
        pid,
        start_ticks: stat.start_ticks,
        ppid: stat.ppid,
        comm: stat.comm,
        // An upgrade replaced the file; it is still the same service.
        exe: exe.strip_suffix(" (deleted)").unwrap_or(&exe).to_owned(),
        cmdline: join_arguments(&cmdline),
        workload: workload::parse(&cgroup),
        cgroup: memory_cgroup(&cgroup),
    })
}

#[derive(Debug, PartialEq)]
struct Stat {
    comm: String,
    state: char,
    ppid: u32,
    start_ticks: u64,
}

/// `/proc/PID/stat`, `proc_pid_stat(5)`. The name is in parentheses and may contain any byte, including
/// parentheses and spaces: the last closing parenthesis ends it.
fn parse_stat(text: &str) -> Option<Stat> {
    let (head, fields) = text.rsplit_once(')')?;
    let (_, comm) = head.split_once('(')?;
    let mut fields = fields.split_ascii_whitespace();
    Some(Stat {
        comm: comm.to_owned(),
        state: fields.next()?.chars().next()?,
        ppid: fields.next()?.parse().ok()?,
        // Field 22; the state is field 3.
        start_ticks: fields.nth(17)?.parse().ok()?,
    })
}

/// Arguments are NUL-separated; a process may overwrite them (`gunicorn: master [web]`).
fn join_arguments(raw: &[u8]) -> String {
    let raw = &raw[..raw.len().min(CMDLINE)];
    let text = String::from_utf8_lossy(raw);
    text.trim_end_matches('\0')
        .replace('\0', " ")
        .trim_end()
        .to_owned()
}

/// The path in the unified hierarchy (v2, `0::/path`); with v1 that of the memory controller, whose limit
/// applies.
fn memory_cgroup(text: &str) -> String {
    let lines = || {
        text.lines().filter_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            Some((parts.next()?, parts.next()?))
        })
    };
    lines()
        .find(|(controllers, _)| controllers.split(',').any(|one| one == "memory"))
        .or_else(|| lines().find(|(controllers, _)| controllers.is_empty()))
        .map_or_else(String::new, |(_, path)| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_of_a_name_that_tries_to_confuse() {
        let text = "17 (a) S 1 (b)) R 5 17 17 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 8812345 1 2";
        assert_eq!(
            parse_stat(text),
            Some(Stat {
                comm: "a) S 1 (b)".into(),
                state: 'R',
                ppid: 5,
                start_ticks: 8_812_345
            })
        );
        for bad in [
            "",
            "17",
            "17 (a",
            "17 (a) R",
            "17 (a) R x 1",
            "17 (a) R 1 2 3",
        ] {
            assert_eq!(parse_stat(bad), None, "{bad}");
        }
    }

    #[test]
    fn arguments_are_joined() {
        assert_eq!(join_arguments(b"api\0--port\x0080\0"), "api --port 80");
        assert_eq!(
            join_arguments(b"gunicorn: master [web]\0\0\0"),
            "gunicorn: master [web]"
        );
        assert_eq!(join_arguments(b""), "");
        assert_eq!(join_arguments(&vec![b'a'; 100_000]).len(), CMDLINE);
    }

    #[test]
    fn cgroups_of_both_versions() {
        assert_eq!(
            memory_cgroup("0::/system.slice/a.service\n"),
            "/system.slice/a.service"
        );
        let hybrid = "5:cpu,cpuacct:/c\n4:memory:/m/a:b\n0::/u\n";
        assert_eq!(memory_cgroup(hybrid), "/m/a:b");
        assert_eq!(memory_cgroup("1:name=systemd:/x\n0::/u\n"), "/u");
        assert_eq!(memory_cgroup(""), "");
    }

    #[test]
    fn this_process_is_found() {
        let pid = std::process::id();
        let found = scan(Path::new("/proc")).unwrap();
        let own = found.iter().find(|process| process.pid == pid).unwrap();
        assert_eq!(own.exe, std::env::current_exe().unwrap().to_string_lossy());
        assert!(own.start_ticks > 0 && own.ppid > 0 && !own.cmdline.is_empty());
        assert!(own.comm.len() <= 15);
    }

    #[test]
    fn a_process_that_is_gone_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("17")).unwrap();
        fs::create_dir(folder.path().join("18")).unwrap();
        fs::write(folder.path().join("18/stat"), "18 (z) Z 1").unwrap();
        fs::write(folder.path().join("uptime"), "1 1").unwrap();
        assert_eq!(scan(folder.path()).unwrap(), []);
        assert!(scan(&folder.path().join("no")).is_err());
    }
}
