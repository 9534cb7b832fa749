//! Classifies a path segment: a word that may be shown, or an identifier that is hidden.
//!
//! The rule is conservative: hiding a literal loses a little detail, but a secret that was shown cannot be
//! withdrawn.

use std::borrow::Cow;

use super::methods;

/// Maximum length of a word without separator.
const LONGEST_WORD: usize = 18;
/// Maximum length of a segment.
const LONGEST: usize = 40;
/// Maximum number of consecutive consonants. English words have up to 5 (`lengths`).
const MOST_CONSONANTS: usize = 5;

/// Whether `segment` is a plain word of an API (`users`, `v1`, `api-keys`, `index.html`), neither a
/// number, date, uuid, hash, e-mail nor anything token-like.
pub fn is_literal(segment: &str) -> bool {
    if segment.is_empty() || segment.len() > LONGEST {
        return false;
    }
    if !segment
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    {
        return false;
    }
    if !segment.bytes().any(|b| b.is_ascii_alphabetic()) {
        return false;
    }
    let digits = segment.bytes().filter(u8::is_ascii_digit).count();
    let hex = segment.bytes().all(|b| b.is_ascii_hexdigit());
    if digits > 2 || (hex && segment.len() >= 8) {
        return false;
    }
    let mut words = 0;
    for word in segment
        .split(['-', '_', '.'])
        .filter(|word| !word.is_empty())
    {
        words += 1;
        if words > 6 || !is_word(word) {
            return false;
        }
    }
    words > 0
}

/// `head` without an incomplete last segment. If the path was cut, the rest of that segment could be taken
/// for a word.
pub fn whole(head: &str, cut: bool) -> Cow<'_, str> {
    match head.rsplit_once('/') {
        Some((before, _)) if cut => format!("{before}/{{id}}").into(),
        _ => head.into(),
    }
}

/// `head` as a capture may hold it: without query, with `{id}` for each segment that is not a word. It
/// gives the same route as `head`.
pub fn mask(head: &str) -> String {
    if head.starts_with("handler ") {
        return head.to_owned();
    }
    let head = head.split(['?', '#', ';']).next().unwrap_or_default();
    let Some((method, target)) = head.split_once(' ') else {
        // Not HTTP: its route is `other`.
        return String::new();
    };
    let method = methods::label(method).unwrap_or("?");
    let target = target.split(' ').next().unwrap_or_default();
    let path = match target.split_once("://") {
        Some((_, rest)) if !target.starts_with('/') => rest.find('/').map_or("/", |at| &rest[at..]),
        _ => target,
    };
    let segments = path.split('/').map(|s| {
        if s.is_empty() || s == "*" || is_literal(s) {
            s
        } else {
            "{id}"
        }
    });
    format!("{method} {}", segments.collect::<Vec<_>>().join("/"))
}

/// `users`, `userProfile`, `v1`, `oauth2`, `URL`; not `17`, `xK9`, `bcdfghjk`.
fn is_word(word: &str) -> bool {
    let letters = word.trim_end_matches(|c: char| c.is_ascii_digit());
    if letters.is_empty() {
        // The 2 of `v1.2`.
        return word.len() == 1;
    }
    if letters.len() > LONGEST_WORD || letters.bytes().any(|b| b.is_ascii_digit()) {
        return false;
    }
    let upper = letters.bytes().filter(u8::is_ascii_uppercase).count();
    if upper > 3 && upper < letters.len() {
        return false;
    }
    let mut run = 0;
    let mut vowels = 0;
    for b in letters.bytes() {
        if matches!(
            b.to_ascii_lowercase(),
            b'a' | b'e' | b'i' | b'o' | b'u' | b'y'
        ) {
            vowels += 1;
            run = 0;
        } else {
            run += 1;
            if run > MOST_CONSONANTS {
                return false;
            }
        }
    }
    vowels > 0 || letters.len() <= 4
}

#[cfg(test)]
mod tests {
    use super::{is_literal, mask, whole};

    #[test]
    fn a_cut_path_ends_with_an_identifier() {
        assert_eq!(whole("GET /a/users/acc", true), "GET /a/users/{id}");
        assert_eq!(whole("GET /a/users/acc", false), "GET /a/users/acc");
        assert_eq!(mask(&whole("GET /a/users/acc", true)), "GET /a/users/{id}");
    }

    #[test]
    fn words_stay() {
        for word in [
            "api",
            "users",
            "v1",
            "v2",
            "oauth2",
            "api-keys",
            "user_profile",
            "userProfile",
            "index.html",
            "health",
            "graphql",
            "URL",
            "sso",
            "favicon.ico",
            "robots.txt",
            ".well-known",
            "v1.2",
        ] {
            assert!(is_literal(word), "{word}");
        }
    }

    #[test]
    fn what_one_resource_has_does_not() {
        for id in [
            "",
            "17",
            "2",
            "2024-05-01",
            "550e8400-e29b-41d4-a716-446655440000",
            "deadbeefcafe",
            "d41d8cd98f00b204e9800998ecf8427e",
            "alice@example.org",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc",
            "dGhpcyBpcyBzZWNyZXQ",
            "a%20b",
            "user:17",
            "xkcdpqrstv",
            "SGVsbG8gd29ybGQhIQ==",
            "0x1f",
            "AbCdEfGh",
            "thisisaverylongsegmentwithoutanyseparatoratall",
            "order-12345",
            "\u{e9}t\u{e9}",
        ] {
            assert!(!is_literal(id), "{id}");
        }
    }
}
