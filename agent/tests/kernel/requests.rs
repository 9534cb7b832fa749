//! Requests as the kernel programs see them, on real connections to a real server. Each is reported once, with its
//! head, status and body, for all ways to read and write.

use std::io::Write;

use super::common::kernel;
use super::common::requests::{Observer, Seen, Server, answer, ask, get, send_apart};

fn start() -> (Server, Observer) {
    let server = Server::start("threads");
    let observer = Observer::attach(server.process.id(), "watch", &[]);
    (server, observer)
}

fn shorts(seen: &[Seen]) -> Vec<(&str, Option<u16>)> {
    seen.iter().map(Seen::short).collect()
}

#[test]
fn heads_in_pieces() {
    let Some(_turn) = kernel("heads_in_pieces") else {
        return;
    };
    let (server, mut observer) = start();
    let request = get(
        "/split/path",
        &["Accept: */*", "Authorization: Bearer abcdefghij"],
    );
    // Whole, in 24 bytes and the rest (hyper), in single bytes.
    let mut stream = server.connect();
    assert_eq!(ask(&mut stream, &request), 200);
    let mut count = 1;
    for at in (1..request.len()).step_by(3).chain([24]) {
        let (one, two) = request.split_at(at);
        send_apart(&mut stream, &[one, two]);
        assert_eq!(answer(&mut stream), 200);
        count += 1;
    }
    let bytes: Vec<&[u8]> = request.chunks(1).collect();
    send_apart(&mut stream, &bytes);
    assert_eq!(answer(&mut stream), 200);
    // The server reads seven bytes at a time.
    assert_eq!(ask(&mut stream, &get("/reader/small", &[])), 200);
    assert_eq!(ask(&mut stream, &request), 200);
    let seen = observer.seen(count + 3);
    for one in seen.iter().filter(|one| one.head != "GET /reader/small") {
        assert_eq!(one.short(), ("GET /split/path", Some(200)));
        assert_eq!((one.token, one.token_uncertain), (Some(1), false));
        assert_eq!(one.binding, "exact");
    }
}

#[test]
fn keep_alive_and_pipelining() {
    let Some(_turn) = kernel("keep_alive_and_pipelining") else {
        return;
    };
    let (server, mut observer) = start();
    for writer in ["write", "joined", "split", "writev"] {
        let mut stream = server.connect();
        assert_eq!(
            ask(&mut stream, &get(&format!("/writer/{writer}"), &[])),
            200
        );
        observer.seen(1);
        for pipelined in [1, 2, 3, 4, 10, 1, 2] {
            let status = |n: usize| if n.is_multiple_of(2) { 200 } else { 404 };
            let path = |n: usize| format!("/status/{}/{n}", status(n));
            let packet: Vec<u8> = (0..pipelined)
                .flat_map(|n| {
                    get(
                        &path(n),
                        &[&format!("Authorization: Bearer {writer}{pipelined}{n}")],
                    )
                })
                .collect();
            stream.write_all(&packet).expect("sent");
            for n in 0..pipelined {
                assert_eq!(answer(&mut stream), status(n));
            }
            let seen = observer.seen(pipelined);
            for (n, one) in seen.iter().enumerate() {
                let head = format!("GET {}", path(n));
                assert_eq!(
                    one.short(),
                    (head.as_str(), Some(status(n))),
                    "{writer} {seen:#?}"
                );
                assert!(
                    one.token.is_some() && one.token != seen[(n + 1) % pipelined].token
                        || pipelined == 1
                );
            }
        }
    }
    // The same on a new connection.
    let mut stream = server.connect();
    let packet = [get("/one", &[]), get("/two", &[]), get("/three", &[])].concat();
    stream.write_all(&packet).expect("sent");
    for _ in 0..3 {
        assert_eq!(answer(&mut stream), 200);
    }
    let seen = observer.seen(3);
    let all = [
        ("GET /one", Some(200)),
        ("GET /two", Some(200)),
        ("GET /three", Some(200)),
    ];
    assert_eq!(shorts(&seen), all);
}

/// Any method is accepted. Other protocols with a similar first line are not requests.
#[test]
fn any_method() {
    let Some(_turn) = kernel("any_method") else {
        return;
    };
    let (server, mut observer) = start();
    let methods = ["PROPFIND", "PURGE", "M-SEARCH", "BASELINE-CONTROL", "OWN"];
    let mut stream = server.connect();
    for method in methods {
        let request = format!("{method} /status/207/dav HTTP/1.1\r\nHost: lab\r\n\r\n");
        assert_eq!(ask(&mut stream, request.as_bytes()), 207);
    }
    let seen = observer.seen(methods.len());
    for (one, method) in seen.iter().zip(methods) {
        let head = format!("{method} /status/207/dav");
        assert_eq!(one.short(), (head.as_str(), Some(207)));
    }
    // Another protocol, whose first word is a valid method. The server closes the connection.
    let mut other = server.connect();
    other
        .write_all(b"DESCRIBE rtsp://lab/a RTSP/1.0\r\n\r\n")
        .expect("sent");
    observer.no_more();
}

#[test]
fn bodies() {
    let Some(_turn) = kernel("bodies") else {
        return;
    };
    let (server, mut observer) = start();
    let mut stream = server.connect();
    let post = |path: &str, line: &str| {
        format!("POST {path} HTTP/1.1\r\nHost: lab\r\nAuthorization: Bearer t\r\n{line}\r\n\r\n")
            .into_bytes()
    };
    let decoy = b"GET /decoy HTTP/1.1\r\nAuthorization: Bearer decoy\r\n\r\n".to_vec();
    let length = format!("Content-Length: {}", decoy.len());
    let mut expected = Vec::new();
    let mut body_bytes = Vec::new();

    // With the head, after it, and in the middle of it.
    let whole = [post("/length", &length), decoy.clone()].concat();
    for at in [whole.len(), whole.len() - decoy.len(), whole.len() - 20, 30] {
        let (one, two) = whole.split_at(at);
        send_apart(&mut stream, &[one, two]);
        assert_eq!(answer(&mut stream), 200);
        expected.push("POST /length");
        body_bytes.push(decoy.len() as u64);
    }
    let large = vec![b'G'; 3 << 20];
    stream
        .write_all(&post("/large", &format!("Content-Length: {}", large.len())))
        .expect("sent");
    assert_eq!(ask(&mut stream, &large), 200);
    expected.push("POST /large");
    body_bytes.push(large.len() as u64);

    let size = format!("{:x};name=value\r\n", decoy.len());
    let parts = [
        post("/chunked", "Transfer-Encoding: chunked"),
        size.into_bytes(),
        decoy.clone(),
        b"\r\n3\r\nabc\r\n".to_vec(),
        b"0\r\n\r\n".to_vec(),
    ];
    send_apart(&mut stream, &parts.each_ref().map(Vec::as_slice));
    assert_eq!(answer(&mut stream), 200);
    assert_eq!(ask(&mut stream, &parts.concat()), 200);
    // The next request in the same packet is seen too.
    let both = [parts.concat(), get("/after", &["Authorization: Bearer t"])].concat();
    assert_eq!(ask(&mut stream, &both), 200);
    assert_eq!(answer(&mut stream), 200);
    expected.extend([
        "POST /chunked",
        "POST /chunked",
        "POST /chunked",
        "GET /after",
    ]);
    body_bytes.extend([0; 4]);

    // The server sends a status of 100 first.
    stream.write_all(&post("/continue", &length)).expect("sent");
    assert_eq!(answer(&mut stream), 100);
    assert_eq!(ask(&mut stream, &decoy), 200);
    expected.push("POST /continue");
    body_bytes.push(decoy.len() as u64);

    let seen = observer.seen(expected.len());
    for (one, (head, bytes)) in seen.iter().zip(expected.iter().zip(body_bytes)) {
        assert_eq!(one.short(), (*head, Some(200)), "{seen:#?}");
        assert_eq!((one.body_bytes, one.token), (bytes, Some(1)), "{one:?}");
    }
}

#[test]
fn every_way_to_read_and_write() {
    let Some(_turn) = kernel("every_way_to_read_and_write") else {
        return;
    };
    let (server, mut observer) = start();
    let readers = ["read", "readv", "recvfrom", "recvmsg", "peek", "small"];
    let writers = [
        "write",
        "writev",
        "crumbs",
        "sendto",
        "sendmsg",
        "sendfile",
        "split",
        "splithead",
    ];
    for reader in readers {
        let mut stream = server.connect();
        assert_eq!(
            ask(&mut stream, &get(&format!("/reader/{reader}"), &[])),
            200
        );
        for writer in writers {
            assert_eq!(
                ask(&mut stream, &get(&format!("/writer/{writer}"), &[])),
                200
            );
            let line = "Authorization: Bearer the-same-in-every-case-and-longer-than-a-piece";
            assert_eq!(ask(&mut stream, &get("/status/404", &[line])), 404);
            assert_eq!(ask(&mut stream, &get("/status/500", &[line])), 500);
        }
        let seen = observer.seen(1 + 3 * writers.len());
        for (three, writer) in seen[1..].chunks(3).zip(writers) {
            let first = format!("GET /writer/{writer}");
            let all = [
                (first.as_str(), Some(200)),
                ("GET /status/404", Some(404)),
                ("GET /status/500", Some(500)),
            ];
            assert_eq!(shorts(three), all, "{reader}");
            assert_eq!(
                (three[1].token, three[2].token),
                (Some(1), Some(1)),
                "{reader} {writer}"
            );
        }
    }
}
