//! No credential in any output: a known credential is sent to a watched server, whose memory the agent searches for
//! tokens. Then all outputs, logs and memory of the agent are searched for it. The same search finds it in the
//! server, which shows that the search works.

use std::fs::{self, File};
use std::io::{Read, Write as _};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::common::http::{Server, answer, ask, free_address, get};
use super::common::process::Process;
use super::common::{ATTACH, FINISH, folder, heaptide, kernel, until};

/// Deadline for the first search of the server's memory. It begins ten seconds after the requests, or later.
const SEARCHED: Duration = Duration::from_secs(120);

/// Deadline for the agent to wipe its search buffer.
const WIPED: Duration = Duration::from_secs(10);

/// Output files of an attach.
const FILES: [&str; 6] = [
    "report.json",
    "capture",
    "flame.svg",
    "profile.pb.gz",
    "page.html",
    "sites.json",
];

#[test]
fn token_is_nowhere() {
    let Some(_turn) = kernel("token_is_nowhere") else {
        return;
    };
    let canary = Canary::new();
    let mut server = Server::start();
    let folder = folder();
    let metrics = free_address();
    let mut agent = attach(&server, folder.path(), &metrics.to_string());

    send(&server, &canary);
    let found = search_memory(server.process.id(), &canary.needles());
    assert!(
        found.iter().any(|place| place.contains("raw token")),
        "the search finds nothing: {found:?}"
    );

    // In this time the agent reads its rings, takes a snapshot, renders the metrics, and searches the server's
    // memory, which contains the credential.
    traffic(&server, &canary);
    until(SEARCHED, "the server's memory was searched", || {
        get(metrics, "/metrics").contains("\nheaptide_tokens_resident_ratio{")
    });
    let mut places = kept(agent.id(), &canary.needles());
    for path in ["/metrics", "/healthz"] {
        places.extend(search(
            path,
            get(metrics, path).as_bytes(),
            &canary.needles(),
        ));
    }
    assert!(
        get(metrics, "/metrics").contains("heaptide_"),
        "no metrics were served"
    );
    places.extend(kept(agent.id(), &canary.needles()));
    agent.signal(libc::SIGINT);
    assert_eq!(agent.wait(FINISH).code(), Some(0), "{}", agent.transcript());
    assert!(
        agent.errors().len() > 200,
        "no log was written at level trace: {}",
        agent.errors()
    );
    places.extend(search(
        "the log",
        agent.errors().as_bytes(),
        &canary.needles(),
    ));
    places.extend(search(
        "standard output",
        agent.output().as_bytes(),
        &canary.needles(),
    ));
    for name in FILES {
        places.extend(search_file(&folder.path().join(name), &canary.needles()));
    }
    let report = report(folder.path());
    assert!(
        report["window"]["requests"].as_u64() >= Some(Canary::REQUESTS),
        "the agent has not seen the requests"
    );
    // The credential was searched for and found, because the server keeps the last head that it has read.
    assert!(
        report["residency"]["resident"].as_u64() >= Some(1),
        "the agent has not found the credential in the server: {}",
        report["residency"]
    );
    assert!(places.is_empty(), "the credential was found: {places:#?}");
    assert!(server.is_well());
}

fn attach(server: &Server, folder: &Path, metrics: &str) -> Process {
    let at = |name: &str| folder.join(name).display().to_string();
    let [report, capture, flame, profile, page, sites] = FILES.map(at);
    let mut command: Command = heaptide(&["attach", &server.process.id().to_string()]);
    command.args([
        "--mode",
        "trace",
        "--for",
        "600s",
        "--format",
        "json",
        "--metrics",
        metrics,
    ]);
    command.args([
        "--output",
        &report,
        "--record",
        &capture,
        "--flamegraph",
        &flame,
    ]);
    command.args(["--pprof", &profile, "--html", &page, "--live-sites", &sites]);
    command.env("RUST_LOG", "trace");
    let mut agent = Process::start("heaptide", &mut command);
    agent.error_line(ATTACH, |line| line.starts_with("attached to"));
    agent
}

/// Sends the credential in different ways: whole, split over two reads, with another case of the header, where
/// heaptide does not look for it (a cookie, another header), in a query, and in an unfinished request.
fn send(server: &Server, canary: &Canary) {
    let token = &canary.token;
    let mut stream = server.connect();
    let requests = [
        format!("GET /api/data HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {token}\r\n\r\n"),
        format!("GET /api/data HTTP/1.1\r\nHost: t\r\naUTHORIZATION:  bearer   {token} \r\n\r\n"),
        format!("GET /api/data HTTP/1.1\r\nHost: t\r\nCookie: session={token}; a=b\r\n\r\n"),
        format!("GET /api/data HTTP/1.1\r\nHost: t\r\nX-Api-Key: {token}\r\n\r\n"),
        format!("GET /api/data?access_token={token} HTTP/1.1\r\nHost: t\r\n\r\n"),
        format!(
            "GET /api/data HTTP/1.1\r\nAuthorization: Basic {}\r\n\r\n",
            base64(token.as_bytes())
        ),
    ];
    for request in requests.iter().cycle().take(Canary::REQUESTS as usize) {
        assert!(ask(&mut stream, request.as_bytes()).contains("200"));
    }
    for cut in (10..requests[0].len()).step_by(40) {
        let mut stream = server.connect();
        let (first, second) = requests[0].as_bytes().split_at(cut);
        stream.write_all(first).expect("sent");
        std::thread::sleep(Duration::from_millis(5));
        stream.write_all(second).expect("sent");
        assert!(answer(&mut stream).contains("200"));
    }
    let mut stream = server.connect();
    stream
        .write_all(&requests[0].as_bytes()[..requests[0].len() - 30])
        .expect("sent");
}

/// Requests with other tokens, because a search needs at least ten tokens. The last head that the server reads has
/// the canary's token.
fn traffic(server: &Server, canary: &Canary) {
    let mut stream = server.connect();
    let request = |token: &str| {
        format!("GET /api/data HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {token}\r\n\r\n")
    };
    for number in 0..20 {
        let other = request(&format!(
            "{number}-another-token-of-some-length-{number:020}"
        ));
        assert!(ask(&mut stream, other.as_bytes()).contains("200"));
    }
    assert!(ask(&mut stream, request(&canary.token).as_bytes()).contains("200"));
}

fn report(folder: &Path) -> serde_json::Value {
    let report = fs::read_to_string(folder.join("report.json")).expect("a report");
    serde_json::from_str(&report).expect("JSON")
}

/// Needles that stay in a process's memory. The agent's search buffer may contain them until it is wiped after the
/// search, so the memory is searched several times.
fn kept(pid: u32, needles: &Needles) -> Vec<String> {
    let first = search_memory(pid, needles);
    if first.is_empty() {
        return first;
    }
    eprintln!("found by the first search: {first:#?}");
    let deadline = Instant::now() + WIPED;
    loop {
        let again = search_memory(pid, needles);
        if again.is_empty() || Instant::now() > deadline {
            return again;
        }
    }
}

/// A JWT that exists nowhere else.
struct Canary {
    token: String,
    subject: String,
}

type Needles = Vec<(String, Vec<u8>)>;

impl Canary {
    const REQUESTS: u64 = 60;

    fn new() -> Self {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("after 1970")
            .as_nanos() as u64;
        let mut state = now ^ u64::from(std::process::id()) << 40 | 1;
        let mut random = |letters: usize| -> String {
            let mut letter = || {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                char::from(b'a' + ((state >> 33) % 26) as u8)
            };
            (0..letters).map(|_| letter()).collect()
        };
        let (key, subject, signature) = (random(24), random(32), random(43));
        // The random part is first, because the usual beginning of a JWT is in many programs.
        let header = base64(format!(r#"{{"kid":"{key}","alg":"HS256","typ":"JWT"}}"#).as_bytes());
        let payload = base64(format!(r#"{{"sub":"{subject}","exp":4102444800}}"#).as_bytes());
        let part = |text: &str| text.trim_end_matches('=').to_owned();
        Self {
            token: format!("{}.{}.{signature}", part(&header), part(&payload)),
            subject,
        }
    }

    /// The searched byte strings: the token, its parts and their beginnings, contents of the payload, and the token
    /// in base64 at each of its three possible alignments in a longer text.
    fn needles(&self) -> Needles {
        let mut needles = vec![
            ("raw token".to_owned(), self.token.clone().into_bytes()),
            (
                "decoded subject".to_owned(),
                self.subject.clone().into_bytes(),
            ),
        ];
        for (part, name) in self
            .token
            .split('.')
            .zip(["header", "payload", "signature"])
        {
            needles.push((format!("JWT {name}"), part.as_bytes().to_vec()));
            needles.push((
                format!("beginning of the JWT {name}"),
                part.as_bytes()[..24].to_vec(),
            ));
            needles.push((
                format!("end of the JWT {name}"),
                part.as_bytes()[part.len() - 20..].to_vec(),
            ));
        }
        for skipped in 0..3 {
            let text = base64(&self.token.as_bytes()[skipped..]);
            let inner = text.as_bytes()[..text.len() - 4].to_vec();
            needles.push((format!("base64 of the token, alignment {skipped}"), inner));
        }
        needles
    }
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let at = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
        let word = at(0) << 16 | at(1) << 8 | at(2);
        for i in 0..4_usize {
            let letter = LETTERS[(word >> (18 - 6 * i)) as usize & 63];
            text.push(if i <= chunk.len() {
                char::from(letter)
            } else {
                '='
            });
        }
    }
    text
}

fn search(place: &str, bytes: &[u8], needles: &Needles) -> Vec<String> {
    let mut found = Vec::new();
    for (name, needle) in needles {
        // The first byte is compared first, because hundreds of megabytes are searched.
        let mut rest = bytes;
        while let Some(at) = rest.iter().position(|byte| *byte == needle[0]) {
            rest = &rest[at..];
            if rest.starts_with(needle) {
                found.push(format!("{name} in {place}"));
                break;
            }
            rest = &rest[1..];
        }
    }
    found
}

fn search_file(path: &Path, needles: &Needles) -> Vec<String> {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(!bytes.is_empty(), "{} is empty", path.display());
    let name = path.display().to_string();
    let mut found = search(&name, &bytes, needles);
    let mut unpacked = Vec::new();
    // Of a truncated file, the part that can be unpacked is searched.
    let _ = flate2::read::MultiGzDecoder::new(bytes.as_slice()).read_to_end(&mut unpacked);
    let _ = flate2::read::ZlibDecoder::new(bytes.as_slice()).read_to_end(&mut unpacked);
    found.extend(search(&format!("{name}, unpacked"), &unpacked, needles));
    found
}

/// Searches all readable memory of a process.
fn search_memory(pid: u32, needles: &Needles) -> Vec<String> {
    const PIECE: u64 = 16 << 20;
    const OVERLAP: u64 = 1024;
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("its mappings");
    let memory = File::open(format!("/proc/{pid}/mem")).expect("its memory");
    let mut buffer = vec![0; (PIECE + OVERLAP) as usize];
    let mut found = Vec::new();
    let mut bytes_read = 0;
    for line in maps.lines().filter(|line| {
        line.split(' ')
            .nth(1)
            .is_some_and(|mode| mode.starts_with('r'))
    }) {
        let range = line
            .split(' ')
            .next()
            .and_then(|range| range.split_once('-'));
        let (from, to) = range.expect("a range");
        let parse = |text| u64::from_str_radix(text, 16).expect("an address");
        let (mut at, end) = (parse(from), parse(to));
        while at < end {
            let length = (end - at).min(PIECE + OVERLAP) as usize;
            // Pages of devices and [vvar] cannot be read. They contain no data of the process.
            let Ok(got @ 1..) = memory.read_at(&mut buffer[..length], at) else {
                break;
            };
            bytes_read += got;
            let place = format!("memory of process {pid} at {at:#x}: {line}");
            found.extend(search(&place, &buffer[..got], needles));
            at += (got as u64).min(PIECE);
        }
    }
    assert!(
        bytes_read > 1 << 20,
        "only {bytes_read} bytes of process {pid} could be read"
    );
    found
}

#[test]
fn base64_is_base64() {
    for (plain, encoded) in [
        ("", ""),
        ("f", "Zg=="),
        ("fo", "Zm8="),
        ("foo", "Zm9v"),
        ("foobar", "Zm9vYmFy"),
    ] {
        assert_eq!(base64(plain.as_bytes()), encoded);
    }
}
