//! An agent that watches requests only, the requests that it has reported, and the lab's server for requests.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;

use super::compile::{Program, program};
use super::http;
use super::process::Process;
use super::{ATTACH, FINISH, folder, heaptide};

const PATIENCE: Duration = Duration::from_secs(20);
/// The agent reads its ring every 50 ms. A record that is missing after this time will not come.
const MORE: Duration = Duration::from_millis(250);

/// A line of `--requests`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct Seen {
    pub(crate) id: u64,
    pub(crate) head: String,
    pub(crate) path_cut: bool,
    pub(crate) status: Option<u16>,
    /// A number for the credential's fingerprint.
    pub(crate) token: Option<u64>,
    pub(crate) token_uncertain: bool,
    pub(crate) binding: String,
    pub(crate) body_bytes: u64,
    pub(crate) again: bool,
    pub(crate) seconds: f64,
}

impl Seen {
    /// The fields that most tests compare.
    pub(crate) fn short(&self) -> (&str, Option<u16>) {
        (&self.head, self.status)
    }
}

/// The agent.
pub(crate) struct Observer {
    agent: Process,
    file: PathBuf,
    folder: TempDir,
    taken: usize,
    compared: bool,
}

impl Observer {
    /// Watches a process. The probes are attached when this returns.
    pub(crate) fn attach(target: u32, mode: &str, options: &[&str]) -> Self {
        let folder = folder();
        let file = folder.path().join("requests.json");
        let at = |name: &str| folder.path().join(name).display().to_string();
        let (report, lines) = (at("report.json"), at("requests.json"));
        let pid = target.to_string();
        let mut arguments = vec!["attach", &pid, "--mode", mode, "--for", "600s"];
        arguments.extend(["--format", "json", "--output", &report]);
        arguments.extend(["--requests", &lines]);
        arguments.extend(options);
        let mut agent = Process::start("heaptide", &mut heaptide(&arguments));
        agent.error_line(ATTACH, |line| line.starts_with("attached to"));
        Self {
            agent,
            file,
            folder,
            taken: 0,
            compared: false,
        }
    }

    /// All complete lines that it has written.
    pub(crate) fn lines(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.file).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let lines = whole.lines().map(serde_json::from_str);
        lines.collect::<Result<_, _>>().expect("JSON lines")
    }

    /// The lines of requests. The file has sites, heaps and censuses too.
    fn requests(&self) -> Vec<Value> {
        let mut lines = self.lines();
        lines.retain(|line| line.get("id").is_some());
        lines
    }

    /// The requests since the last call. Waits for `count` of them. A superfluous request fails the next call or the
    /// check at the end.
    pub(crate) fn seen(&mut self, count: usize) -> Vec<Seen> {
        let deadline = Instant::now() + PATIENCE;
        let mut lines = self.requests();
        while lines.len() < self.taken + count && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(20));
            lines = self.requests();
        }
        let new = lines[self.taken..].iter().cloned();
        self.taken = lines.len();
        self.compared = true;
        let seen: Vec<Seen> = new
            .map(|line| serde_json::from_value(line).expect("a request"))
            .collect();
        assert_eq!(seen.len(), count, "requests: {seen:#?}");
        seen
    }

    /// Checks that no further request comes.
    pub(crate) fn no_more(&self) {
        thread::sleep(MORE);
        let lines = self.requests();
        let more = &lines[self.taken..];
        assert!(more.is_empty(), "superfluous requests: {more:#?}");
    }

    /// Ends the agent. Returns the report and all lines, with those of live memory at the end.
    pub(crate) fn finish(mut self) -> (Value, Vec<Value>) {
        self.agent.signal(libc::SIGINT);
        let status = self.agent.wait(FINISH);
        assert_eq!(status.code(), Some(0), "{}", self.agent.transcript());
        let report = std::fs::read_to_string(self.folder.path().join("report.json"));
        let report = serde_json::from_str(&report.expect("a report")).expect("JSON");
        (report, self.lines())
    }
}

impl Drop for Observer {
    /// If requests were compared with those sent, there must be no superfluous ones.
    fn drop(&mut self) {
        if self.compared && !thread::panicking() {
            self.no_more();
        }
    }
}

/// A running `lab/requests/server.cpp`.
pub(crate) struct Server {
    pub(crate) process: Process,
    address: SocketAddr,
}

impl Server {
    /// Starts it with `threads` or `poll`.
    pub(crate) fn start(how: &str) -> Self {
        let mut command = Command::new(program(Program::Requests));
        let mut process = Process::start("requests", command.arg(how));
        let line = process.line(PATIENCE, |line| line.starts_with("port "));
        let port = line[5..].parse().expect("a port");
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        Self { process, address }
    }

    /// A new connection to it.
    pub(crate) fn connect(&self) -> TcpStream {
        http::connect(self.address)
    }
}

/// Reads one answer with a `Content-Length`. Returns its status.
pub(crate) fn answer(stream: &mut TcpStream) -> u16 {
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(b"\r\n\r\n") {
        assert_eq!(stream.read(&mut byte).expect("an answer"), 1, "no answer");
        text.push(byte[0]);
    }
    let text = String::from_utf8(text).expect("a head");
    let length = text.split("Content-Length: ").nth(1).map_or(0, |rest| {
        rest.lines()
            .next()
            .map_or(0, |n| n.parse().expect("a length"))
    });
    let mut body = vec![0; length];
    stream.read_exact(&mut body).expect("a body");
    text[9..12].parse().expect("a status")
}

/// Sends one request and reads its answer.
pub(crate) fn ask(stream: &mut TcpStream, request: &[u8]) -> u16 {
    stream.write_all(request).expect("the request is sent");
    answer(stream)
}

/// A GET with header lines.
pub(crate) fn get(path: &str, lines: &[&str]) -> Vec<u8> {
    let mut text = format!("GET {path} HTTP/1.1\r\nHost: lab\r\n");
    for line in lines {
        text.push_str(line);
        text.push_str("\r\n");
    }
    text.push_str("\r\n");
    text.into_bytes()
}

/// Sends bytes as separate packets. The server reads each of them separately.
pub(crate) fn send_apart(stream: &mut TcpStream, parts: &[&[u8]]) {
    for part in parts {
        stream.write_all(part).expect("a part is sent");
        thread::sleep(Duration::from_millis(8));
    }
}
