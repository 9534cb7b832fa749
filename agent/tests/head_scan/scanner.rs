//! The scanner as the kernel runs it, a simple parser, and their comparison.

use std::hash::Hasher;

use heaptide_ebpf::head::{
    BODY, CHUNK, CUT_PATH, EVENT_BEGIN, EVENT_HEAD, LOST, Parser, Scan, skip_body, step,
};
use heaptide_ebpf::sip::Sip;
use heaptide_ebpf::tail::{self, Tail, TailKey, WINDOW};
use heaptide_ebpf::{CredentialPattern, PATH_LEN, PATTERN_LEN, Settings};
use siphasher::sip::SipHasher13;

pub(crate) const KEY: [u64; 2] = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];
pub(crate) const TAIL_KEY: TailKey = [3, 5, 0x9e37_79b9_7f4a_7c15, 0xd6e8_feb8_6659_fd93];

/// A parsed request head.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Head {
    pub(crate) path: String,
    pub(crate) token: u64,
    /// Fingerprint and filter of the token's window.
    pub(crate) tail: (u64, u32),
    pub(crate) bytes: u32,
    pub(crate) body: u64,
    pub(crate) path_cut: bool,
}

pub(crate) const SETTINGS: Settings = Settings {
    key: KEY,
    tail_key: TAIL_KEY,
    sample_from: 0,
    capacity: 0,
};

pub(crate) fn pattern(header: &str, scheme: &str, cookie: bool) -> CredentialPattern {
    let padded = |text: &str| {
        let mut bytes = [0; PATTERN_LEN];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        bytes
    };
    CredentialPattern {
        header: padded(header),
        scheme: padded(scheme),
        header_len: header.len() as u32,
        scheme_len: scheme.len() as u32,
        cookie: u64::from(cookie),
    }
}

pub(crate) fn bearer() -> CredentialPattern {
    pattern("authorization:", "bearer ", false)
}

pub(crate) fn scan() -> Box<Scan> {
    let parser = Parser {
        sip: Sip::default(),
        tail: Tail::default(),
        token_len: 0,
        state: 0,
        matched: 0,
        candidates: 0,
        content_length: 0,
        body_left: 0,
        head_bytes: 0,
        chunked: 0,
        uwsgi: 0,
        value_left: 0,
        path_done: 0,
        path_len: 0,
        token: 0,
        tail_fingerprint: 0,
        tail_filter: 0,
        cut: 0,
        path: [0; PATH_LEN],
    };
    Box::new(Scan {
        position: 0,
        end: 0,
        event: 0,
        reserved: 0,
        parser,
        data: [0xff; CHUNK + 8],
    })
}

/// A packet of uWSGI's protocol.
pub(crate) fn packet(kind: u8, variables: &[(&str, &str)]) -> Vec<u8> {
    let mut vars = Vec::new();
    for text in variables.iter().flat_map(|(name, value)| [name, value]) {
        vars.extend((text.len() as u16).to_le_bytes());
        vars.extend(text.as_bytes());
    }
    let size = (vars.len() as u16).to_le_bytes();
    [&[kind, size[0], size[1], 0][..], &vars].concat()
}

/// Scans pieces as the kernel's `reading` does. `Err`: the scan was given up.
pub(crate) fn scanned(
    pattern: &CredentialPattern,
    pieces: &[&[u8]],
) -> Result<Vec<Head>, Vec<Head>> {
    let mut scan = scan();
    let mut heads = Vec::new();
    let mut begun = 0;
    for chunk in pieces.iter().flat_map(|piece| piece.chunks(CHUNK)) {
        scan.data[..chunk.len()].copy_from_slice(chunk);
        (scan.position, scan.end) = (0, chunk.len() as u32);
        while scan.position < scan.end {
            if scan.parser.state == BODY {
                let rest = scan.end - scan.position;
                scan.position += skip_body(&mut scan.parser, rest);
                continue;
            }
            scan.event = 0;
            while step(&mut scan, &SETTINGS, pattern) == 0 {}
            match scan.event {
                EVENT_BEGIN => begun += 1,
                EVENT_HEAD => heads.push(head(&scan.parser)),
                _ if scan.parser.state == LOST => return Err(heads),
                _ => {}
            }
            assert!(heads.len() <= begun, "a head without a beginning");
        }
    }
    Ok(heads)
}

pub(crate) fn head(parser: &Parser) -> Head {
    Head {
        path: String::from_utf8_lossy(&parser.path[..parser.path_len as usize]).into_owned(),
        token: parser.token,
        tail: (parser.tail_fingerprint, parser.tail_filter),
        bytes: parser.head_bytes,
        body: if parser.chunked == 0 {
            parser.content_length
        } else {
            0
        },
        path_cut: parser.cut & CUT_PATH != 0,
    }
}

pub(crate) fn fingerprint(token: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(KEY[0], KEY[1]);
    hasher.write(token);
    if token.is_empty() {
        0
    } else {
        hasher.finish().max(1)
    }
}

/// The window of a complete token: its last 16 bytes, if they are ASCII.
pub(crate) fn window(token: &[u8]) -> (u64, u32) {
    let Some(start) = token.len().checked_sub(WINDOW) else {
        return (0, 0);
    };
    let word = |at: usize| u64::from_le_bytes(token[at..at + 8].try_into().expect("eight bytes"));
    if !token[start..].is_ascii() {
        return (0, 0);
    }
    let mut hasher = SipHasher13::new_with_keys(TAIL_KEY[0], TAIL_KEY[1]);
    hasher.write(&token[start..]);
    let filter = tail::filter(&TAIL_KEY, [word(start), word(start + 8)]);
    (hasher.finish(), filter)
}

/// The simple parser: complete text, lines and words.
pub(crate) fn expected(text: &[u8], pick: fn(&str, &str) -> Option<String>) -> Vec<Head> {
    let mut heads = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let end = at
            + text[at..]
                .windows(4)
                .position(|w| w == b"\r\n\r\n")
                .expect("a whole head")
            + 4;
        let head = String::from_utf8_lossy(&text[at..end]).into_owned();
        let mut lines = head.split("\r\n");
        let mut words = lines.next().unwrap_or_default().split(' ');
        let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let path = format!("{method} {}", target.split(['?', '#']).next().unwrap_or(""));
        let (mut token, mut tail, mut length, mut chunked) = (0, (0, 0), 0, false);
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let name = name.to_ascii_lowercase();
            match name.as_str() {
                "content-length" => length = value.trim().parse().expect("a length"),
                "transfer-encoding" => chunked = true,
                _ => {}
            }
            if token == 0
                && let Some(one) = pick(&name, value.trim())
            {
                token = fingerprint(one.as_bytes());
                tail = window(one.as_bytes());
            }
        }
        heads.push(Head {
            path: path.chars().take(PATH_LEN).collect(),
            token,
            tail,
            bytes: (end - at) as u32,
            body: if chunked { 0 } else { length },
            path_cut: path.len() > PATH_LEN,
        });
        at = if chunked {
            let last = text[end..].windows(5).position(|w| w == b"0\r\n\r\n");
            end + last.expect("the last chunk") + 5
        } else {
            end + length as usize
        };
    }
    heads
}

pub(crate) fn pick_bearer(name: &str, value: &str) -> Option<String> {
    let (scheme, token) = value.split_once(' ')?;
    (name == "authorization" && scheme.eq_ignore_ascii_case("bearer")).then(|| {
        token
            .trim_start_matches(' ')
            .split(' ')
            .next()
            .unwrap_or("")
            .to_owned()
    })
}

/// Compares both for every split in two, also with a first piece of 24 bytes, and for pieces of many sizes.
pub(crate) fn same_however_split(pattern: &CredentialPattern, text: &[u8], expected: &[Head]) {
    let said = String::from_utf8_lossy(text);
    let said = said.chars().take(300).collect::<String>();
    let step = if text.len() > 4000 { 97 } else { 1 };
    for at in (0..=text.len()).step_by(step) {
        let (one, two) = text.split_at(at);
        assert_eq!(
            scanned(pattern, &[one, two]).as_deref(),
            Ok(expected),
            "split at {at}: {said}"
        );
    }
    for size in [
        1, 2, 3, 5, 7, 8, 9, 13, 24, 31, 64, 100, 1023, 1024, 1025, 4096,
    ] {
        let pieces: Vec<&[u8]> = text.chunks(size).collect();
        assert_eq!(
            scanned(pattern, &pieces).as_deref(),
            Ok(expected),
            "pieces of {size}: {said}"
        );
    }
}

pub(crate) fn check(
    pattern: &CredentialPattern,
    text: &[u8],
    pick: fn(&str, &str) -> Option<String>,
) {
    same_however_split(pattern, text, &expected(text, pick));
}
