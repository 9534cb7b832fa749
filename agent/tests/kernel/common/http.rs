//! The lab's tiny HTTP server, and raw requests to any server.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::compile::{Program, program};
use super::process::Process;

const PATIENCE: Duration = Duration::from_secs(20);
const START: Duration = Duration::from_secs(30);

/// Waits until a service listens.
pub(crate) fn wait_for(service: &mut Process, address: SocketAddr) {
    let deadline = Instant::now() + START;
    while TcpStream::connect(address).is_err() {
        assert!(
            service.runs() && Instant::now() < deadline,
            "it does not listen: {}",
            service.transcript()
        );
        thread::sleep(Duration::from_millis(20));
    }
}

/// A running `lab/bench/tiny_http.cpp`.
pub(crate) struct Server {
    /// The process.
    pub(crate) process: Process,
    address: SocketAddr,
}

impl Server {
    /// Starts it on a free port.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same in a variant that keeps memory for each new token.
    pub(crate) fn start_leaky() -> Self {
        Self::start_with(&["--leak"])
    }

    /// The same with these arguments.
    pub(crate) fn start_with(arguments: &[&str]) -> Self {
        Self::start_as(&program(Program::TinyHttp), arguments)
    }

    /// The same from a copy of the program ([`Server::copy`]).
    pub(crate) fn start_as(program: &Path, arguments: &[&str]) -> Self {
        let mut command = Command::new(program);
        let mut process = Process::start("tiny_http", command.args(arguments));
        let line = process.line(PATIENCE, |line| line.starts_with("port "));
        let port = line[5..].parse().expect("a port");
        Self {
            process,
            address: SocketAddr::from(([127, 0, 0, 1], port)),
        }
    }

    /// A copy of the program, for a daemon that must not find the servers of other tests.
    pub(crate) fn copy(folder: &Path) -> PathBuf {
        let copy = folder.join("tiny");
        let original = program(Program::TinyHttp);
        if !copy.exists() && fs::hard_link(&original, &copy).is_err() {
            fs::copy(&original, &copy).expect("a copy of the server");
        }
        copy
    }

    /// Sends it requests until the traffic is dropped.
    pub(crate) fn traffic(&self) -> Traffic {
        Traffic::start(self.address, "/api/data", Duration::from_millis(8))
    }

    /// The same with over a thousand requests per second.
    pub(crate) fn rush(&self) -> Traffic {
        Traffic::start(self.address, "/api/data", Duration::from_micros(600))
    }

    /// Keeps one processor busy with few requests, until the traffic is dropped.
    pub(crate) fn burn(&self) -> Traffic {
        Traffic::start(self.address, "/busy", Duration::ZERO)
    }

    /// A new connection to it.
    pub(crate) fn connect(&self) -> TcpStream {
        connect(self.address)
    }

    /// Whether it answers a simple request.
    pub(crate) fn is_well(&mut self) -> bool {
        self.process.runs()
            && ask(
                &mut self.connect(),
                b"GET /well HTTP/1.1\r\nHost: t\r\n\r\n",
            )
            .contains("200 OK")
    }
}

/// Requests on one connection, two of three with a new token; `traffic` sends about a hundred per second.
pub(crate) struct Traffic {
    answered: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Traffic {
    fn start(address: SocketAddr, path: &'static str, pause: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let answered = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&answered);
        let thread = thread::spawn(move || {
            let mut stream = connect(address);
            for number in 0_u64.. {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let token = if number % 3 == 2 { number - 1 } else { number };
                let request = format!(
                    "GET {path} HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer token-{token}\r\n\r\n"
                );
                // The server may have ended.
                if stream.write_all(request.as_bytes()).is_err() || !is_answered(&mut stream) {
                    return;
                }
                count.store(number + 1, Ordering::Relaxed);
                thread::sleep(pause);
            }
        });
        Self {
            answered,
            stop,
            thread: Some(thread),
        }
    }

    /// Requests answered so far.
    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Whether the tiny server's answer arrived completely.
fn is_answered(stream: &mut TcpStream) -> bool {
    let mut text = Vec::new();
    let mut chunk = [0; 256];
    while !text.ends_with(b"ok\n") {
        match stream.read(&mut chunk) {
            Ok(read @ 1..) => text.extend(&chunk[..read]),
            _ => return false,
        }
    }
    true
}

/// A connection with timeouts.
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_nodelay(true).expect("no delay");
    stream
}

/// Sends one request and reads the server's (short) answer.
pub(crate) fn ask(stream: &mut TcpStream, request: &[u8]) -> String {
    stream.write_all(request).expect("the request is sent");
    answer(stream)
}

/// Reads one of the tiny server's answers.
pub(crate) fn answer(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(b"ok\n") && stream.read(&mut byte).expect("an answer") == 1 {
        text.push(byte[0]);
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Sends bytes that need not be HTTP. The server may close the connection at any time.
pub(crate) fn throw(stream: &mut TcpStream, bytes: &[u8]) {
    for chunk in bytes.chunks(16 * 1024) {
        if stream.write_all(chunk).is_err() {
            return;
        }
    }
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("the server hangs"),
        _ => {}
    }
}

/// The complete answer to a GET on a new connection.
pub(crate) fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = connect(address);
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream
        .write_all(request.as_bytes())
        .expect("the request is sent");
    let mut text = Vec::new();
    stream.read_to_end(&mut text).expect("an answer");
    String::from_utf8_lossy(&text).into_owned()
}

/// A free address, for a server that takes its port as an argument.
pub(crate) fn free_address() -> SocketAddr {
    heaptide_ports::claim().expect("a port")
}
