//! Compares the scanner of request heads, as the kernel runs it, with a simple parser. Every split of the bytes gives
//! the same heads. Fingerprints are SipHash-1-3 of the credential. Fingerprints of its window equal those that a
//! memory scan computes.

mod scanner;

use heaptide_ebpf::head::{self, CHUNK, CUT_HEAD, OPENING, begins_request, is_tchar, step};
use heaptide_ebpf::tail::WINDOW;
use heaptide_ebpf::{MAX_HEAD, METHOD_LEN};

use scanner::*;

#[test]
fn heads_bodies_and_pipelines() {
    let texts: [&[u8]; 12] = [
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET /a?secret=1#f HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer abc.def.ghi\r\n\r\n",
        b"GET /a HTTP/1.1\r\naUTHORIZATION:bEARER     abc\r\nAccept: */*\r\n\r\n",
        b"GET /a HTTP/1.1\r\nAuthorization: Basic QQ==\r\nAuthorization: Bearer second\r\n\r\n",
        b"GET /a HTTP/1.1\r\nAuthorization: Bearer first\r\nAuthorization: Bearer second\r\n\r\n",
        b"GET /a HTTP/1.1\r\nAuthorization: Bearer\r\nX: Bearer abc\r\nAuthorizatio: Bearer x\r\n\r\n",
        b"GET /a HTTP/1.1\r\nX-Authorization: Bearer abc\r\nAuthorizationx: Bearer x\r\n\r\n",
        b"POST /u HTTP/1.1\r\nContent-Length: 20\r\n\r\nGET / HTTP/1.1\r\nAuthGET /b HTTP/1.1\r\n\r\n",
        b"POST /u HTTP/1.1\r\ntransfer-encoding: chunked\r\nContent-Length: 3\r\n\r\n\
          5\r\nhello\r\n12;x=y\r\nGET / HTTP/1.1\r\n\r\n\r\n0\r\n\r\nGET /b HTTP/1.1\r\n\r\n",
        b"DELETE /d HTTP/1.1\r\nContent-Length: 0\r\n\r\nPATCH /p HTTP/1.1\r\n\r\nHEAD /h HTTP/1.1\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\n\r\nPUT /x HTTP/1.0\r\nContent-Length: 4\r\n\r\n\r\n\r\nGET /y HTTP/1.1\r\n\r\n",
        b"GET /a HTTP/1.1\r\nAuthorization: Bearer abc  \r\nContent-Lengthy: 9\r\n\r\n",
    ];
    for text in texts {
        check(&bearer(), text, pick_bearer);
    }
}

/// Any token is a method if a target and a version follow.
#[test]
fn methods_are_tokens() {
    let longest = "M".repeat(METHOD_LEN as usize);
    for method in [
        "PROPFIND",
        "PURGE",
        "M-SEARCH",
        "VERSION-CONTROL",
        "get",
        "!#$%&'*+-.^_`|~9",
        longest.as_str(),
    ] {
        let text = format!(
            "{method} /dav/a?b HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc{method} * HTTP/1.0\r\n\r\n"
        );
        check(&bearer(), text.as_bytes(), pick_bearer);
    }
    for byte in 0..=u8::MAX {
        let wanted = byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        assert_eq!(is_tchar(byte), wanted, "{byte:#x}");
    }
}

/// Variables as nginx sends them.
fn variables<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let first = [
        ("QUERY_STRING", "a=b"),
        ("REQUEST_METHOD", "POST"),
        ("CONTENT_LENGTH", "5"),
        ("REQUEST_URI", "/api/data?a=b"),
        ("PATH_INFO", "/api/data"),
        ("REQUEST_URI_X", "/no"),
    ];
    [&first[..], more].concat()
}

/// uWSGI's protocol, as nginx and uWSGI's router send it, with the body behind it.
#[test]
fn packets_of_uwsgi() {
    let token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl";
    let bearer_token = format!("Bearer {token}");
    let found = |text: &[u8], token: &str| Head {
        path: "POST /api/data".to_owned(),
        token: fingerprint(token.as_bytes()),
        tail: window(token.as_bytes()),
        bytes: text.len() as u32 - 5,
        body: 5,
        path_cut: false,
    };
    let long = "x".repeat(3000);
    for (more, wanted) in [
        (
            &[
                ("HTTP_AUTHORIZATION", bearer_token.as_str()),
                ("HTTP_HOST", "x"),
            ][..],
            token,
        ),
        (
            &[("HTTP_X", &long), ("HTTP_AUTHORIZATION", &bearer_token)],
            token,
        ),
        (
            &[("HTTP_AUTHORIZATION", "Basic abc"), ("HTTP_ACCEPT", "*/*")],
            "",
        ),
        (&[("HTTP_AUTHORIZATION", "Bearer"), ("HTTP_EMPTY", "")], ""),
        (
            &[
                ("HTTP_AUTHORIZATIO", "Bearer x"),
                ("AUTHORIZATION", "Bearer x"),
            ],
            "",
        ),
        (
            &[("HTTP_AUTHORIZATIONX", "Bearer x"), ("HTTP_HOST", "x")],
            "",
        ),
    ] {
        let mut text = packet(0, &variables(more));
        text.extend(b"hello");
        same_however_split(&bearer(), &text, &[found(&text, wanted)]);
    }
    // Other kinds of packets, and what only begins like one.
    let no_target = [("REQUEST_METHOD", "GET"), ("HTTP_HOST", "example.org")];
    for text in [
        packet(5, &variables(&[])),
        packet(0, &no_target),
        b"\0\x05\0\0abcde".to_vec(),
        b"\0\x40\0\0\x02\0\0\0\x02\0ab".to_vec(),
        vec![0; 64],
    ] {
        let pieces: [&[u8]; 1] = [&text];
        assert_eq!(scanned(&bearer(), &pieces), Err(Vec::new()));
    }
}

/// A method may be any word, so only the text after it shows that this is a request.
#[test]
fn other_protocols_are_no_requests() {
    let too_long = format!("{} / HTTP/1.1\r\n\r\n", "M".repeat(METHOD_LEN as usize + 1));
    let endless = format!("GET /{} HTTP/1.1\r\n\r\n", "p".repeat(70_000));
    for text in [
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "EHLO example.org\r\n",
        "USER anonymous\r\n",
        "set key 0 0 3\r\nabc\r\n",
        "*1\r\n$4\r\nPING\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "OPTIONS rtsp://example.org/a RTSP/1.0\r\nCSeq: 1\r\n\r\n",
        "INVITE sip:bob@example.org SIP/2.0\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET / HTTP/2.0\r\n\r\n",
        "GET / HTTP/1.x\r\n\r\n",
        "GET  HTTP/1.1\r\n\r\n",
        "GET /\r\n\r\n",
        "GET /\0 HTTP/1.1\r\n\r\n",
        "GE\u{e9}T / HTTP/1.1\r\n\r\n",
        too_long.as_str(),
        endless.as_str(),
    ] {
        for size in [1, 7, 4096] {
            let pieces: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
            let mut shown = text.to_owned();
            shown.truncate(80);
            assert_eq!(scanned(&bearer(), &pieces), Err(Vec::new()), "{shown}");
        }
    }
}

/// A connection that was open before is recognised by the first bytes of one read.
#[test]
fn openings_of_requests() {
    let begins = |text: &str| {
        let mut bytes = [0xff; OPENING];
        let len = text.len().min(OPENING);
        bytes[..len].copy_from_slice(&text.as_bytes()[..len]);
        begins_request(&bytes, len as u32)
    };
    for text in [
        "GET / HTTP/1.1",
        "PROPFIND /a",
        "M-SEARCH * HTTP/1.1",
        "CONNECT example.org:443",
        "GET http://example.org/",
        "BASELINE-CONTROL /a HTTP/1.1 and more than that",
        "get /",
    ] {
        assert!(begins(text), "{text}");
    }
    for text in [
        "",
        "GET",
        "GET ",
        " / HTTP/1.1",
        "HTTP/1.1 200 OK",
        "*1\r\n$4\r\nPING",
        "{\"a\": 1}",
        "\u{1} /",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa /",
    ] {
        assert!(!begins(text), "{text}");
    }
}

#[test]
fn tokens_of_every_length() {
    for length in (0..=64).chain([127, 128, 129, 1000, 4000]) {
        let token: String = (0..length)
            .map(|n| char::from(b'!' + (n * 7 % 90) as u8))
            .collect();
        let text =
            format!("GET /t HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nA: b\r\n\r\n");
        check(&bearer(), text.as_bytes(), pick_bearer);
    }
}

/// A token with a non-ASCII byte has a fingerprint. It has no window if the byte is within the window.
#[test]
fn windows_are_ascii() {
    for at in 0..40 {
        let mut text = b"GET /t HTTP/1.1\r\nAuthorization: Bearer ".to_vec();
        let mut token = [b'x'; 41];
        token[at] = 0xe9;
        text.extend(token);
        text.extend(b"\r\n\r\n");
        let seen = scanned(&bearer(), &[&text]).expect("a head");
        assert_eq!(seen[0].token, fingerprint(&token));
        assert_eq!(seen[0].tail, window(&token), "at {at}");
        assert_eq!(seen[0].tail.0 != 0, at < 41 - WINDOW, "at {at}");
    }
}

#[test]
fn other_credentials() {
    let whole = |name: &str, value: &str| (name == "x-api-key").then(|| value.to_owned());
    for value in ["k", "a key with spaces", "Bearer x;y=z"] {
        let text = format!("GET / HTTP/1.1\r\nX-Api-KEY:  {value}\r\nX-Api-Key2: no\r\n\r\n");
        check(&pattern("x-api-key:", "", false), text.as_bytes(), whole);
    }
    let sid = |name: &str, value: &str| {
        let mut cookies = value
            .split(';')
            .filter_map(|one| one.trim().split_once('='));
        let found = cookies.find(|one| one.0 == "sid");
        (name == "cookie")
            .then(|| found.map(|one| one.1.to_owned()))
            .flatten()
    };
    for value in [
        "sid=one",
        "sid=one; a=b",
        "a=b; sid=one; c=d",
        "a=b;sid=one",
        "xsid=no; sidx=no; sid=one",
        "xsid=no",
        "Sid=no",
        "a=sid=no; b",
        "s=1; si=2; ; ;;sid=three",
    ] {
        let text = format!("GET / HTTP/1.1\r\nCookie: {value}\r\nCookies: sid=no\r\n\r\n");
        check(&pattern("cookie:", "sid=", true), text.as_bytes(), sid);
    }
    let dpop = |name: &str, value: &str| {
        let (scheme, token) = value.split_once(' ')?;
        (name == "authorization" && scheme.eq_ignore_ascii_case("dpop")).then(|| token.to_owned())
    };
    for value in ["DPoP abc", "dpop abc", "Bearer abc", "DPoPx abc"] {
        let text = format!("GET / HTTP/1.1\r\nAuthorization: {value}\r\n\r\n");
        check(
            &pattern("authorization:", "dpop ", false),
            text.as_bytes(),
            dpop,
        );
    }
}

#[test]
fn long_paths_are_cut_and_flagged() {
    for length in [120, 123, 124, 125, 126, 400] {
        let text = format!("GET /{} HTTP/1.1\r\n\r\n", "p".repeat(length));
        check(&bearer(), text.as_bytes(), pick_bearer);
    }
}

/// A token on the last line within the maximum length counts. One a line later does not, and is reported as missed.
#[test]
fn long_heads() {
    let head = |fill: usize| {
        let line = "GET / HTTP/1.1\r\nX: ";
        let fill = "f".repeat(fill - line.len() - 2);
        format!("{line}{fill}\r\nAuthorization: Bearer abc\r\n\r\n")
    };
    let inside = head(MAX_HEAD as usize);
    check(&bearer(), inside.as_bytes(), pick_bearer);
    let beyond = head(MAX_HEAD as usize + 1);
    let seen = scanned(&bearer(), &[beyond.as_bytes()]).expect("a head");
    assert_eq!((seen[0].token, seen[0].bytes as usize), (0, beyond.len()));
    let mut scan = scan();
    for chunk in beyond.as_bytes().chunks(CHUNK) {
        scan.data[..chunk.len()].copy_from_slice(chunk);
        (scan.position, scan.end, scan.event) = (0, chunk.len() as u32, 0);
        while scan.position < scan.end {
            scan.event = 0;
            while step(&mut scan, &SETTINGS, &bearer()) == 0 {}
        }
    }
    assert_eq!(scan.parser.cut & CUT_HEAD, CUT_HEAD);
}

/// Every scan ends: garbage is rejected or accepted, and never scanned for ever.
#[test]
fn garbage_ends() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as u8
    };
    let starts: [&[u8]; 6] = [
        b"\0\x50\0\0\x0e\0REQUEST_METHOD\x03\0GET\x0b\0REQUEST_URI",
        b"",
        b"GET ",
        b"GET / HTTP/1.1\r\nAuthorization: Bearer ",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999999999\r\n\r\n",
    ];
    for round in 0..2000 {
        let mut text = starts[round % starts.len()].to_vec();
        let length = 10 + usize::from(random()) * 20;
        text.extend(std::iter::repeat_with(&mut random).take(length));
        // Both results are allowed.
        let _ = scanned(&bearer(), &[&text]);
    }
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x12\x04\0";
    assert_eq!(scanned(&bearer(), &[preface]), Err(Vec::new()));
}

#[test]
fn words_in_lower_case() {
    for byte in 0..=u8::MAX {
        for place in 0..8 {
            let mut word = *b"aZ[@z\x80\xc1A";
            word[place] = byte;
            let lower = head::bytes::lower(u64::from_le_bytes(word));
            assert_eq!(
                lower.to_le_bytes(),
                word.map(|byte| byte.to_ascii_lowercase())
            );
        }
    }
}
