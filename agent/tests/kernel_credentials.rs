//! Credentials as the kernel half sees them: equal ones are equal and different ones differ, wherever
//! in the head they stand and however the head arrives.

mod common;

use std::collections::HashSet;

use common::kernel;
use common::requests::{Observer, Server, answer, ask, get, send_apart};

fn start(more: &[&str]) -> (Server, Observer) {
    let server = Server::start("threads");
    let observer = Observer::attach(server.process.id(), "watch", more);
    (server, observer)
}

/// Sends a request for each of these header lines; the tokens seen, in order.
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
        // One that differs in its last byte only; the first again, split within its token.
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

/// 16 KiB of head count: a token just inside them is seen, one beyond is missed and that is said.
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
