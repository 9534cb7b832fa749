//! Fingerprints of credentials in the kernel programs: equal credentials have equal fingerprints and different ones
//! have different fingerprints, for any position in the head and any split of the head.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::common::kernel;
use super::common::requests::{Observer, Server, answer, ask, get, send_apart};
use super::common::source::watching;
use heaptide::observe::{Observing as _, Source, TargetOptions};
use heaptide::settings;
use heaptide::values::Credential;
use heaptide_judge::events::{Fingerprint, Observation};

fn start(more: &[&str]) -> (Server, Observer) {
    let server = Server::start("threads");
    let observer = Observer::attach(server.process.id(), "watch", more);
    (server, observer)
}

/// Sends a request with each of these sets of header lines. Returns the tokens seen, in order.
fn tokens(server: &Server, observer: &mut Observer, heads: &[Vec<&str>]) -> Vec<Option<u64>> {
    let mut stream = server.connect();
    for lines in heads {
        assert_eq!(ask(&mut stream, &get("/t", lines)), 200);
    }
    observer
        .seen(heads.len())
        .iter()
        .map(|one| one.token)
        .collect()
}

#[test]
fn bearer_in_any_form() {
    let Some(_turn) = kernel("bearer_in_any_form") else {
        return;
    };
    let (server, mut observer) = start(&[]);
    let same = [
        vec!["Authorization: Bearer abc.def"],
        vec!["authorization: bearer abc.def"],
        vec!["AUTHORIZATION:BEARER abc.def"],
        vec!["aUtHoRiZaTiOn:   bEaReR    abc.def   "],
        vec![
            "Accept: */*",
            "Cookie: a=b",
            "Authorization: Bearer abc.def",
        ],
        vec![
            "Authorization: Bearer abc.def",
            "Accept: */*",
            "Cookie: a=b",
        ],
        vec![
            "Authorization: Basic QWxhZGRpbjo=",
            "Authorization: Bearer abc.def",
        ],
        vec![
            "Authorization: Bearer abc.def",
            "Authorization: Bearer other",
        ],
    ];
    assert_eq!(
        tokens(&server, &mut observer, &same),
        vec![Some(1); same.len()]
    );
    let none = [
        vec![],
        vec!["Authorization: Basic QWxhZGRpbjo="],
        vec!["Authorization: DPoP abc.def"],
        vec!["Authorization: Bearer"],
        vec!["Authorization: Bearer "],
        vec!["Authorization: Bearerabc"],
        vec!["X-Authorization: Bearer abc.def"],
        vec!["X: Authorization: Bearer abc.def"],
        vec!["Cookie: authorization=Bearer abc.def"],
    ];
    assert_eq!(
        tokens(&server, &mut observer, &none),
        vec![None; none.len()]
    );
}

#[test]
fn bearer_of_every_length() {
    let Some(_turn) = kernel("bearer_of_every_length") else {
        return;
    };
    let (server, mut observer) = start(&[]);
    let mut stream = server.connect();
    let lengths: Vec<usize> = (1..=64).chain([4000]).collect();
    let request = |length: usize, last: char| {
        let token = format!("{}{last}", "a".repeat(length - 1));
        get(
            "/l",
            &[&format!("Authorization: Bearer {token}"), "Accept: */*"],
        )
    };
    let mut all = HashSet::new();
    for &length in &lengths {
        // A token that differs in its last byte only, and the first one again, split within the token.
        let (one, two) = (request(length, 'x'), request(length, 'y'));
        assert_eq!(ask(&mut stream, &one), 200);
        assert_eq!(ask(&mut stream, &two), 200);
        let (front, back) = one.split_at(one.len() - 17 - length / 2 - 1);
        send_apart(&mut stream, &[front, back]);
        assert_eq!(answer(&mut stream), 200);
        let seen = observer.seen(3);
        let token = |n: usize| seen[n].token.expect("a token");
        assert!(
            all.insert(token(0)) && all.insert(token(1)),
            "{length}: {seen:#?}"
        );
        assert_eq!(token(0), token(2), "length {length}");
    }
    assert_eq!(all.len(), 2 * lengths.len());
}

/// The first 16 KiB of a head are scanned. A token just inside is seen. One beyond is missed and reported as
/// uncertain.
#[test]
fn bearer_at_the_end_of_long_heads() {
    let Some(_turn) = kernel("bearer_at_the_end_of_long_heads") else {
        return;
    };
    let (server, mut observer) = start(&[]);
    let mut stream = server.connect();
    let token = "Authorization: Bearer abc";
    assert_eq!(ask(&mut stream, &get("/h", &[token])), 200);
    let before = get("/h", &["X: "]).len() - 2;
    for (line_starts_at, seen) in [
        (16 * 1024 - 3000, true),
        (16 * 1024, true),
        (16 * 1024 + 1, false),
    ] {
        let fill = format!("X: {}", "f".repeat(line_starts_at - before));
        let request = get("/h", &[&fill, token]);
        assert_eq!(ask(&mut stream, &request), 200);
        let pieces: Vec<&[u8]> = request.chunks(5000).collect();
        send_apart(&mut stream, &pieces);
        assert_eq!(answer(&mut stream), 200);
        let skip = usize::from(line_starts_at == 16 * 1024 - 3000);
        let all = observer.seen(2 + skip);
        for one in &all[skip..] {
            let wanted = if seen { (Some(1), false) } else { (None, true) };
            assert_eq!(
                (one.token, one.token_uncertain),
                wanted,
                "token at {line_starts_at}"
            );
        }
    }
}

#[test]
fn named_headers() {
    let Some(_turn) = kernel("named_headers") else {
        return;
    };
    let (server, mut observer) = start(&["--credential", "header:X-Api-Key"]);
    let heads = [
        vec!["X-Api-Key: one"],
        vec!["x-api-key:one", "Authorization: Bearer two"],
        vec!["X-API-KEY:   one  three"],
        vec!["X-Api-Key: one three"],
        vec!["X-Api-Key2: one"],
        vec!["My-X-Api-Key: one"],
        vec!["Authorization: Bearer one"],
        vec!["X-Api-Key:"],
    ];
    let seen = tokens(&server, &mut observer, &heads);
    assert_eq!(
        seen,
        [Some(1), Some(1), Some(2), Some(3), None, None, None, None]
    );
}

#[test]
fn named_cookies() {
    let Some(_turn) = kernel("named_cookies") else {
        return;
    };
    let (server, mut observer) = start(&["--credential", "cookie:sid"]);
    let heads = [
        vec!["Cookie: sid=one; a=b; c=d"],
        vec!["Cookie: a=b; sid=one; c=d"],
        vec!["cookie: a=b; c=d; sid=one"],
        vec!["COOKIE:sid=one"],
        vec!["Cookie: a=b;sid=one;c=d"],
        vec!["Cookie: a=b", "Cookie: sid=one"],
        vec!["Cookie: xsid=no; sidx=no; sid=one"],
        vec!["Cookie: sid=two"],
        vec!["Cookie: xsid=one"],
        vec!["Cookie: a=sid=one"],
        vec!["Cookie: sidx=one; Sid=one"],
        vec!["Set-Cookie: sid=one", "Authorization: Bearer sid=one"],
    ];
    let seen = tokens(&server, &mut observer, &heads);
    assert_eq!(seen[..7], [Some(1); 7]);
    assert_eq!(seen[7..], [Some(2), None, None, None, None]);
}

#[test]
fn other_schemes() {
    let Some(_turn) = kernel("other_schemes") else {
        return;
    };
    let (server, mut observer) = start(&["--credential", "scheme:DPoP"]);
    let heads = [
        vec!["Authorization: DPoP abc"],
        vec!["authorization: dpop  abc"],
        vec!["Authorization: DPoP abd"],
        vec!["Authorization: Bearer abc"],
        vec!["Authorization: DPoPx abc"],
    ];
    let seen = tokens(&server, &mut observer, &heads);
    assert_eq!(seen, [Some(1), Some(1), Some(2), None, None]);
}

/// Options of a target with a credential of its own.
fn options(credential: &Credential) -> TargetOptions {
    TargetOptions {
        credential: settings::pattern(credential).expect("a pattern"),
        allocations: false,
        automatic: false,
        at_once: false,
        budget: None,
        handlers: Vec::new(),
        memory_limit: None,
        follow: false,
    }
}

/// The credentials of the next `count` requests, with their processes.
fn observed(source: &mut Source, count: usize) -> Vec<(u32, Option<Fingerprint>)> {
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut seen = Vec::new();
    while seen.len() < count {
        assert!(Instant::now() < deadline, "{count} requests: {seen:?}");
        source.wait(Duration::from_millis(50));
        source.pump(&mut |pid, observation| {
            if let Observation::Request(request) = observation {
                seen.push((pid, request.token));
            }
        });
    }
    seen
}

/// One kernel object serves targets with different credentials. Their fingerprints have the same keys.
#[test]
fn one_source_different_credentials() {
    let Some(_turn) = kernel("one_source_different_credentials") else {
        return;
    };
    let (first, second) = (Server::start("threads"), Server::start("threads"));
    let pids = [first.process.id(), second.process.id()];
    let mut source = watching();
    let attach = |source: &mut Source, pid, credential: &Credential| {
        let attached = source.attach_with(pid, options(credential), &mut |_, _| {});
        attached.expect("attached");
    };
    let cookie = Credential::Cookie("sid".into());
    attach(&mut source, pids[0], &Credential::Bearer);
    attach(&mut source, pids[1], &cookie);

    // Both servers get each of these in turn. The bearer token of one request is the cookie of another.
    let mut streams = [first.connect(), second.connect()];
    let heads = [("one", "two"), ("two", "one"), ("one", "one"), ("", "two")];
    let mut ask_both = |source: &mut Source| {
        for (bearer, cookie) in heads {
            let bearer = format!("Authorization: Bearer {bearer}");
            let cookie = format!("Cookie: sid={cookie}");
            for stream in &mut streams {
                assert_eq!(ask(stream, &get("/c", &[&bearer, &cookie])), 200);
            }
        }
        let seen = observed(source, 2 * heads.len());
        pids.map(|of| {
            let own = seen.iter().filter(|(pid, _)| *pid == of);
            own.map(|(_, token)| *token).collect::<Vec<_>>()
        })
    };
    let [bearers, cookies] = ask_both(&mut source);
    let (one, two) = (bearers[0], bearers[1]);
    assert!(one.is_some() && two.is_some() && one != two, "{bearers:?}");
    assert_eq!(bearers, [one, two, one, None]);
    assert_eq!(cookies, [two, one, one, two], "the same keys: {bearers:?}");

    // Attached again with the other server's credential, on connections that are open already.
    for (pid, credential) in pids.into_iter().zip([&cookie, &Credential::Bearer]) {
        source.detach(pid);
        attach(&mut source, pid, credential);
    }
    let [cookies, bearers] = ask_both(&mut source);
    assert_eq!(bearers, [one, two, one, None]);
    assert_eq!(cookies, [two, one, one, two]);
}
