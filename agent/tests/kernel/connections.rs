//! Connections as the kernel programs follow them: open before the attach, closed unanswered, under a reused
//! descriptor, with garbage, several at once.

use std::io::Write;
use std::net::Shutdown;
use std::thread;
use std::time::Duration;

use super::common::requests::{Observer, Seen, Server, answer, ask, get};
use super::common::{kernel, until};

const SOON: Duration = Duration::from_secs(20);

fn start() -> (Server, Observer) {
    let server = Server::start("threads");
    let observer = Observer::attach(server.process.id(), "watch", &[]);
    (server, observer)
}

/// Number of open descriptors of the server.
fn descriptors(server: &Server) -> usize {
    let path = format!("/proc/{}/fd", server.process.id());
    std::fs::read_dir(path).expect("the server runs").count()
}

fn shorts(seen: &[Seen]) -> Vec<(&str, Option<u16>)> {
    seen.iter().map(Seen::short).collect()
}

#[test]
fn connections_come_and_go() {
    let Some(_turn) = kernel("connections_come_and_go") else {
        return;
    };
    let server = Server::start("threads");
    let mut early = server.connect();
    assert_eq!(ask(&mut early, &get("/unseen", &[])), 200);
    let mut observer = Observer::attach(server.process.id(), "watch", &[]);
    // Open before the attach.
    assert_eq!(
        ask(&mut early, &get("/early", &["Authorization: Bearer early"])),
        200
    );
    assert_eq!(
        ask(&mut early, &get("/early", &["Authorization: Bearer early"])),
        200
    );
    let seen = observer.seen(2);
    for one in &seen {
        assert_eq!(
            (one.short(), one.token),
            (("GET /early", Some(200)), Some(1))
        );
    }
    // The server reuses the lowest descriptor: the same one for each of these.
    let before = descriptors(&server);
    for n in 0..5 {
        let mut stream = server.connect();
        assert_eq!(ask(&mut stream, &get(&format!("/reuse/{n}"), &[])), 200);
        drop(stream);
        until(SOON, "the server has closed it too", || {
            descriptors(&server) == before
        });
    }
    let seen = observer.seen(5);
    for (n, one) in seen.iter().enumerate() {
        assert_eq!(one.short(), (format!("GET /reuse/{n}").as_str(), Some(200)));
    }
    // Closed unanswered, by either side, with a complete head and with a part of one.
    let mut stream = server.connect();
    stream
        .write_all(&get("/drop/whole", &["Authorization: Bearer x"]))
        .expect("sent");
    let seen = observer.seen(1);
    assert_eq!(
        (seen[0].short(), seen[0].token),
        (("GET /drop/whole", None), Some(2))
    );
    let mut stream = server.connect();
    let part = b"GET /never-finished HTTP/1.1\r\nHos";
    stream.write_all(part).expect("sent");
    stream.shutdown(Shutdown::Both).expect("closed");
    let seen = observer.seen(1);
    assert_eq!(seen[0].status, None);
    // Before the version it may be any protocol.
    let mut stream = server.connect();
    stream.write_all(b"GET /never-begun HT").expect("sent");
    stream.shutdown(Shutdown::Both).expect("closed");
    observer.no_more();
    // Several at once, of which only the first is answered. Each has a record.
    let mut stream = server.connect();
    let paths = [
        "/piped/answered",
        "/drop/piped",
        "/piped/third",
        "/piped/last",
    ];
    let heads: Vec<u8> = paths.iter().flat_map(|path| get(path, &[])).collect();
    stream.write_all(&heads).expect("sent");
    let seen = observer.seen(4);
    assert_eq!(
        shorts(&seen),
        [
            ("GET /piped/answered", Some(200)),
            ("GET /drop/piped", None),
            ("GET /piped/third", None),
            ("GET /piped/last", None)
        ]
    );
    // A new connection under the same descriptor has none of its state.
    let mut stream = server.connect();
    assert_eq!(ask(&mut stream, &get("/fresh", &[])), 200);
    assert_eq!(shorts(&observer.seen(1)), [("GET /fresh", Some(200))]);
}

#[test]
fn what_is_no_request() {
    let Some(_turn) = kernel("what_is_no_request") else {
        return;
    };
    let (mut server, mut observer) = start();
    let binary: Vec<u8> = (0..40_000_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let upper = vec![b'A'; 100_000];
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x12\x04\0\0\0\0\0".to_vec();
    for garbage in [
        binary,
        upper,
        preface,
        b"\r\n\r\n\0".to_vec(),
        b"get / http/1.1\r\n\r\n".to_vec(),
    ] {
        let mut stream = server.connect();
        // The server may close the connection first.
        let _ = stream.write_all(&garbage);
        let _ = stream.shutdown(Shutdown::Both);
    }
    observer.no_more();
    // A head of a megabyte, in one piece.
    let mut stream = server.connect();
    let huge = format!("X-Huge: {}", "h".repeat(1 << 20));
    assert_eq!(
        ask(
            &mut stream,
            &get("/huge", &[&huge, "Authorization: Bearer late"])
        ),
        200
    );
    let seen = observer.seen(1);
    assert_eq!(seen[0].short(), ("GET /huge", Some(200)));
    assert_eq!((seen[0].token, seen[0].token_uncertain), (None, true));
    // The connection still works. Queries are removed, and long paths are cut.
    let query = "/q?token=secret&a=/b/c#fragment";
    assert_eq!(ask(&mut stream, &get(query, &[])), 200);
    let long = format!("/{}", "p".repeat(300));
    assert_eq!(ask(&mut stream, &get(&long, &[])), 200);
    let seen = observer.seen(2);
    assert_eq!((seen[0].head.as_str(), seen[0].path_cut), ("GET /q", false));
    assert_eq!(seen[1].head, format!("GET {long}")[..128]);
    assert!(seen[1].path_cut);
    assert!(server.process.runs());
}

/// With two connections on two threads, the binding is exact. If one thread reads from several connections before it
/// answers, the binding is inferred.
#[test]
fn threads_are_exact_and_loops_inferred() {
    let Some(_turn) = kernel("threads_are_exact_and_loops_inferred") else {
        return;
    };
    let (server, mut observer) = start();
    let clients: Vec<_> = (0..2)
        .map(|client| {
            let mut stream = server.connect();
            thread::spawn(move || {
                for _ in 0..200 {
                    let token = format!("Authorization: Bearer {client}");
                    assert_eq!(
                        ask(&mut stream, &get(&format!("/client/{client}"), &[&token])),
                        200
                    );
                }
            })
        })
        .collect();
    for client in clients {
        client.join().expect("a client");
    }
    let seen = observer.seen(400);
    for client in 0..2 {
        let head = format!("GET /client/{client}");
        let own: Vec<_> = seen.iter().filter(|one| one.head == head).collect();
        assert_eq!(own.len(), 200);
        assert!(
            own.iter()
                .all(|one| one.token == own[0].token && one.binding == "exact")
        );
    }
    observer.finish();
    drop(server);

    let server = Server::start("poll");
    let mut observer = Observer::attach(server.process.id(), "watch", &[]);
    let before = descriptors(&server);
    let mut streams: Vec<_> = (0..4).map(|_| server.connect()).collect();
    until(SOON, "the server has accepted them", || {
        descriptors(&server) == before + streams.len()
    });
    // With one open request the binding is exact.
    assert_eq!(ask(&mut streams[0], &get("/alone", &[])), 200);
    assert_eq!(observer.seen(1)[0].binding, "exact");
    for round in 0..5 {
        for (n, stream) in streams.iter_mut().enumerate() {
            stream
                .write_all(&get(&format!("/poll/{round}/{n}"), &[]))
                .expect("sent");
        }
        for stream in &mut streams {
            assert_eq!(answer(stream), 200);
        }
    }
    let seen = observer.seen(20);
    let inferred = seen.iter().filter(|one| one.binding == "inferred").count();
    assert!(inferred >= 18, "{seen:#?}");
    assert!(seen.iter().all(|one| one.status == Some(200)));
}
