//! The daemon with a real service and a real Prometheus: it finds the service and follows its restart, the alert
//! fires, and nothing is left after its end.

use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::common::http::{Server, connect, free_address, get};
use super::common::leftovers::{Held, traces_calls};
use super::common::process::{Process, run};
use super::common::{ATTACH, FINISH, folder, heaptide, kernel, skip, until};
use super::schema;
use serde_json::Value;

const RULES: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../dashboards/rules/heaptide.rules.yml"
);
/// Deadline for a suspicion: the maturity age, and the growth that a suspicion needs, on a busy machine.
const SUSPECTED: Duration = Duration::from_secs(60);
/// Deadline for a confirmation: three maturity ages of growth, and the growth budget of the small limit.
const CONFIRMED: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(20);

#[test]
fn a_restart_is_followed_and_the_alert_fires() {
    const NAME: &str = "a_restart_is_followed_and_the_alert_fires";
    let Some(_turn) = kernel(NAME) else { return };
    if Command::new("prometheus")
        .arg("--version")
        .output()
        .is_err()
    {
        skip(NAME, "there is no prometheus (Debian's package prometheus)");
        return;
    }
    let folder = folder();
    let metrics = free_address();
    let first = leaky(folder.path());
    let mut agent = daemon(folder.path(), metrics);
    let prometheus = prometheus(folder.path(), metrics);

    until(SOON, "the service is observed", || {
        observed(metrics, first.process.id())
    });
    let gone = first.process.id();
    drop(first);
    let second = leaky(folder.path());
    let pid = second.process.id();
    until(SOON, "the restarted service is observed", || {
        observed(metrics, pid) && !observed(metrics, gone)
    });
    let traffic = second.traffic();
    until(SUSPECTED, "the suspicion fires in Prometheus", || {
        fires(prometheus.1, "HeaptideLeakSuspected")
    });
    until(CONFIRMED, "the confirmation fires in Prometheus", || {
        fires(prometheus.1, "HeaptideLeakConfirmed")
    });
    let described = get(prometheus.1, "/api/v1/alerts");
    for words in ["The cause is token_keyed", "tiny_http.cpp:"] {
        assert!(described.contains(words), "{words}: {described}");
    }
    assert!(get(metrics, "/healthz").contains("200 OK"));
    let answer = get(metrics, "/report/tiny");
    let (_, report) = answer.split_once("\r\n\r\n").expect("an answer");
    let report: Value = serde_json::from_str(report).expect("JSON");
    assert_eq!(report["verdict"], "leak");
    assert_eq!(schema::check(&report), Vec::<String>::new());
    drop(traffic);

    let held = Held::by(agent.id());
    assert!(held.is_complete(), "{held:?}");
    agent.signal(libc::SIGTERM);
    let status = agent.wait(FINISH);
    assert_eq!(status.code(), Some(0), "{}", agent.transcript());
    let told = alerts(&agent.errors(), pid);
    assert_eq!(
        told,
        ["suspect", "confirmed"],
        "one line per change: {}",
        agent.transcript()
    );
    held.goes();

    // The leak is still held, though there is no more traffic that would show it.
    let mut agent = daemon(folder.path(), metrics);
    until(SOON, "the confirmation stands after a restart", || {
        let page = get(metrics, "/metrics");
        let mut lines = page.lines();
        lines.any(|line| line == "heaptide_verdict{target=\"tiny\",verdict=\"leak\"} 1.0")
    });
    agent.signal(libc::SIGTERM);
    assert_eq!(agent.wait(FINISH).code(), Some(0), "{}", agent.transcript());
}

/// The configuration changes while the daemon runs: to an invalid one, to one with another target and with keys that need
/// a restart, to one with other settings of that target, and to one without targets. What a change does not concern goes
/// on.
#[test]
fn the_configuration_is_read_again() {
    let Some(_turn) = kernel("the_configuration_is_read_again") else {
        return;
    };
    let folder = folder();
    let metrics = free_address();
    let (server, other) = (
        leaky(folder.path()),
        Server::start_as(&Server::copy(folder.path()), &[]),
    );
    let pid = server.process.id();
    let mut agent = daemon(folder.path(), metrics);
    until(SOON, "the service is observed", || observed(metrics, pid));
    assert!(traces_calls(agent.id()));
    let config = folder.path().join("heaptide.toml");
    let good = fs::read_to_string(&config).expect("the configuration");
    let daemon = agent.id().to_string();
    let reload = || {
        let mut command = heaptide(&["reload", "--pid", &daemon]);
        run("heaptide", &mut command, SOON).code
    };
    let successful = |value: &str| {
        let line = format!("\nheaptide_config_last_reload_successful {value}\n");
        get(metrics, "/metrics").contains(&line)
    };
    assert!(successful("1.0"));

    fs::write(&config, "[agent]\nmetriks = 1\n").expect("written");
    assert_eq!(reload(), Some(64), "an invalid file is not even tried");
    assert!(successful("1.0"));
    agent.signal(libc::SIGHUP);
    agent.error_line(SOON, |line| {
        line.contains("stays in use") && line.contains("metriks")
    });
    until(SOON, "the failure is exported", || successful("0.0"));
    assert!(observed(metrics, pid), "the old configuration is in use");

    let exe = Server::copy(folder.path()).display().to_string();
    let with = |target: &str| {
        format!(
            "{good}[[target]]\nname = \"other\"\npid = {}\nexe = \"{exe}\"\n{target}",
            other.process.id()
        )
    };
    let refused = with("").replacen(
        "[agent]",
        "[agent]\nlog_format = \"text\"\nresidency = false",
        1,
    );
    fs::write(&config, refused).expect("written");
    let seconds = || sample_of(metrics, "heaptide_observed_seconds{target=\"tiny\"}");
    let before = seconds();
    assert_eq!(reload(), Some(0));
    agent.error_line(SOON, |line| {
        line.contains("restart") && line.contains("log_format, residency")
    });
    let processes = |count: &str| {
        let line = format!("\nheaptide_target_processes{{target=\"other\"}} {count}\n");
        get(metrics, "/metrics").contains(&line)
    };
    until(SOON, "the new target is observed", || processes("1.0"));
    assert!(successful("0.0"), "the file as a whole is not in use");

    fs::write(&config, with("expect_cache = 7\n")).expect("written");
    assert_eq!(reload(), Some(0));
    agent.error_line(SOON, |line| line.contains("its configuration has changed"));
    until(SOON, "all of the file is in use", || successful("1.0"));
    until(SOON, "it is observed again", || processes("1.0"));
    until(SOON, "the first target goes on", || seconds() > before);
    let detached = agent.errors();
    let detached: Vec<&str> = detached
        .lines()
        .filter(|line| line.contains("no longer observed"))
        .collect();
    assert!(
        matches!(detached[..], [one] if one.contains("\"other\"")),
        "{detached:?}"
    );

    fs::write(&config, format!("[agent]\nmetrics = \"{metrics}\"\n")).expect("written");
    agent.signal(libc::SIGHUP);
    until(SOON, "nothing is observed", || !observed(metrics, pid));
    until(SOON, "system calls are not traced any more", || {
        !traces_calls(agent.id())
    });
    agent.signal(libc::SIGINT);
    assert_eq!(agent.wait(FINISH).code(), Some(0), "{}", agent.transcript());
}

/// Each target has its own counters. A busy target adds no cost and no losses to those of an idle one.
#[test]
fn targets_count_for_themselves() {
    let Some(_turn) = kernel("targets_count_for_themselves") else {
        return;
    };
    let folder = folder();
    let metrics = free_address();
    let (busy, quiet) = (leaky(folder.path()), leaky(folder.path()));
    let mut agent = daemon(folder.path(), metrics);
    until(SOON, "both services are observed", || {
        observed(metrics, busy.process.id()) && observed(metrics, quiet.process.id())
    });
    let traffic = busy.traffic();
    let hits = |of: &Server| {
        sample(
            metrics,
            "heaptide_process_probe_hits_total",
            of.process.id(),
        )
    };
    until(SOON, "the busy one is counted", || {
        hits(&busy) > Some(500.0)
    });
    drop(traffic);
    let (much, little) = (hits(&busy), hits(&quiet));
    // A thread that waits for a connection calls hardly any probed function.
    assert!(little < Some(50.0), "{much:?} and {little:?}");
    agent.signal(libc::SIGTERM);
    assert_eq!(agent.wait(FINISH).code(), Some(0), "{}", agent.transcript());
}

/// A thousand unfinished requests block neither a client of the metrics nor the attach to a new target.
#[test]
fn half_sent_requests_stop_nobody() {
    const CROWD: usize = 1_000;
    let Some(_turn) = kernel("half_sent_requests_stop_nobody") else {
        return;
    };
    raise_open_files(2 * CROWD as u64);
    let folder = folder();
    let metrics = free_address();
    let mut agent = daemon(folder.path(), metrics);
    // Only sockets: the daemon may still open maps and programs.
    let sockets = || {
        let open = fs::read_dir(format!("/proc/{}/fd", agent.id()));
        let links = open.expect("the daemon's descriptors").flatten();
        let links = links.filter_map(|one| fs::read_link(one.path()).ok());
        links
            .filter(|link| link.to_string_lossy().starts_with("socket:"))
            .count()
    };
    let before = sockets();
    let crowd: Vec<TcpStream> = (0..CROWD)
        .map(|_| {
            let mut stream = connect(metrics);
            let half = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX-Half: ";
            // The connection may be closed already.
            let _ = stream.write_all(half);
            stream
        })
        .collect();
    assert!(get(metrics, "/healthz").contains("200 OK"));
    let after = sockets();
    assert!(after < before + 100, "{before} sockets, then {after}");
    let server = leaky(folder.path());
    until(SOON, "a new service is observed", || {
        observed(metrics, server.process.id())
    });
    assert!(get(metrics, "/metrics").contains("heaptide_refused_connections_total 9"));
    drop(crowd);
    agent.signal(libc::SIGTERM);
    assert_eq!(agent.wait(FINISH).code(), Some(0), "{}", agent.transcript());
}

/// Raises the limit of open files, because this process holds many connections.
fn raise_open_files(wanted: u64) {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: a valid limit to fill.
    let read = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    assert_eq!(read, 0);
    limit.rlim_cur = wanted.max(limit.rlim_cur);
    limit.rlim_max = limit.rlim_max.max(limit.rlim_cur);
    // SAFETY: a valid limit; these tests run as root, who may raise the hard one.
    let set = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    assert_eq!(set, 0);
}

/// The value of a series.
fn sample_of(metrics: SocketAddr, series: &str) -> Option<f64> {
    let text = get(metrics, "/metrics");
    let value = text.lines().find_map(|line| line.strip_prefix(series))?;
    value.trim().parse().ok()
}

/// A metric of a process.
fn sample(metrics: SocketAddr, name: &str, pid: u32) -> Option<f64> {
    let (start, label) = (format!("{name}{{"), format!("pid=\"{pid}\""));
    let text = get(metrics, "/metrics");
    let line = text
        .lines()
        .find(|line| line.starts_with(&start) && line.contains(&label))?;
    line.rsplit(' ').next()?.parse().ok()
}

/// A server that [`daemon`] finds, and no other daemon.
fn leaky(folder: &Path) -> Server {
    Server::start_as(&Server::copy(folder), &["--leak"])
}

/// Starts the daemon and waits until it has loaded.
fn daemon(folder: &Path, metrics: SocketAddr) -> Process {
    let path = folder.join("heaptide.toml");
    let exe = Server::copy(folder).display().to_string();
    let state = folder.join("state.json").display().to_string();
    let config = format!(
        "[agent]\nmetrics = \"{metrics}\"\nmode = \"trace\"\nscan_interval = \"1s\"\n\
         report_interval = \"1s\"\nprocess_metrics = true\nstate = \"{state}\"\n\
         [[target]]\nname = \"tiny\"\nexe = \"{exe}\"\ncmdline = '--leak$'\nmemory_limit = \"24MiB\"\n"
    );
    fs::write(&path, config).expect("the configuration is written");
    let path = path.display().to_string();
    let mut agent = Process::start("heaptide", &mut heaptide(&["run", "--config", &path]));
    agent.error_line(ATTACH, |line| line.contains("heaptide is running"));
    agent
}

/// Debian's Prometheus with the repository's rules, and its address.
fn prometheus(folder: &Path, metrics: SocketAddr) -> (Process, SocketAddr) {
    let rules = fs::read_to_string(RULES).expect("the rules");
    // Only the conditions are tested here. Their durations are tested with promtool.
    let rules = rules
        .replace("for: 10m", "for: 1s")
        .replace("for: 5m", "for: 1s");
    fs::write(folder.join("rules.yml"), rules).expect("written");
    let config = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\n\
         rule_files: [rules.yml]\n\
         scrape_configs:\n- job_name: heaptide\n  static_configs: [{{targets: ['{metrics}']}}]\n"
    );
    let path = folder.join("prometheus.yml");
    fs::write(&path, config).expect("written");
    let address = free_address();
    let mut command = Command::new("prometheus");
    command
        .arg(format!("--config.file={}", path.display()))
        .arg(format!(
            "--storage.tsdb.path={}",
            folder.join("data").display()
        ))
        .arg(format!("--web.listen-address={address}"));
    let mut process = Process::start("prometheus", &mut command);
    process.error_line(SOON, |line| line.contains("ready to receive web requests"));
    (process, address)
}

/// Whether an alert of the service fires in Prometheus.
fn fires(prometheus: SocketAddr, alert: &str) -> bool {
    // ALERTS{alertname="...",alertstate="firing",target="tiny"}
    let query = format!(
        "/api/v1/query?query=ALERTS%7Balertname%3D%22{alert}%22%2Calertstate%3D%22firing%22%2C\
         target%3D%22tiny%22%7D"
    );
    let answer = get(prometheus, &query);
    assert!(answer.contains("\"status\":\"success\""), "{answer}");
    answer.contains("\"route\":\"GET /api/data\"")
}

fn observed(metrics: SocketAddr, pid: u32) -> bool {
    get(metrics, "/metrics").contains(&format!(
        "heaptide_process_info{{target=\"tiny\",pid=\"{pid}\""
    ))
}

/// Changes of a process's verdict in the log. Every line of the log is JSON.
fn alerts(log: &str, pid: u32) -> Vec<String> {
    log.lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap_or_else(|_| panic!("{line}")))
        .filter(|line| line["pid"] == pid)
        .filter_map(|line| Some(line["alert"].as_str()?.to_owned()))
        .collect()
}
