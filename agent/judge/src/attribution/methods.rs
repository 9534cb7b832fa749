//! Request methods as outputs show them. A client can send any method, and methods become labels of metrics, so
//! unknown ones are limited in number and form.

/// Methods of the registry (RFC 9110, 16.1.2), and those of caches and `UPnP`.
const KNOWN: [&str; 44] = [
    "ACL",
    "BASELINE-CONTROL",
    "BIND",
    "BREW",
    "CHECKIN",
    "CHECKOUT",
    "CONNECT",
    "COPY",
    "DELETE",
    "GET",
    "HEAD",
    "LABEL",
    "LINK",
    "LOCK",
    "M-SEARCH",
    "MERGE",
    "MKACTIVITY",
    "MKCALENDAR",
    "MKCOL",
    "MKREDIRECTREF",
    "MKWORKSPACE",
    "MOVE",
    "NOTIFY",
    "OPTIONS",
    "ORDERPATCH",
    "PATCH",
    "POST",
    "PROPFIND",
    "PROPPATCH",
    "PURGE",
    "PUT",
    "QUERY",
    "REBIND",
    "REPORT",
    "SEARCH",
    "SUBSCRIBE",
    "TRACE",
    "UNBIND",
    "UNCHECKOUT",
    "UNLINK",
    "UNLOCK",
    "UNSUBSCRIBE",
    "UPDATE",
    "VERSION-CONTROL",
];
/// Maximum number of other methods that are shown per service.
const MOST: usize = 8;
/// Maximum length of a method.
const LONGEST: usize = 24;
/// Label of all other methods.
const OTHER: &str = "other";

/// The methods of one service that are shown in addition to the known ones.
#[derive(Debug, Default)]
pub struct Methods {
    seen: Vec<String>,
}

impl Methods {
    /// The label of `method`. `None`: it is not a method. `answered`: the service has served the request, so it
    /// supports the method.
    pub fn shown(&mut self, method: &str, answered: bool) -> Option<String> {
        let label = label(method)?;
        if label == OTHER || KNOWN.contains(&label) || self.seen.iter().any(|seen| seen == label) {
            return Some(label.to_owned());
        }
        if !answered || self.seen.len() >= MOST {
            return Some(OTHER.to_owned());
        }
        self.seen.push(label.to_owned());
        Some(label.to_owned())
    }
}

/// The method itself if it has the usual form (capitals, `-` and `_`), `other` for other tokens, `None` if it is not
/// a token.
pub fn label(method: &str) -> Option<&str> {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if method.is_empty() || method.len() > LONGEST || !method.bytes().all(token) {
        return None;
    }
    let capital = |b: u8| b.is_ascii_uppercase() || matches!(b, b'-' | b'_');
    Some(if method.bytes().all(capital) {
        method
    } else {
        OTHER
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invented_methods_are_bounded_and_hidden() {
        let mut methods = Methods::default();
        let mut shown = |method: &str, answered| methods.shown(method, answered);
        for known in KNOWN {
            assert_eq!(shown(known, false).as_deref(), Some(known));
        }
        assert_eq!(shown("SCAN", false).as_deref(), Some(OTHER));
        for number in 0..100_u8 {
            let own = format!("OWN-{}", char::from(b'A' + number % 26));
            let expected = if number % 26 < 8 { own.as_str() } else { OTHER };
            assert_eq!(shown(&own, true).as_deref(), Some(expected));
        }
        for token in ["get", "eyJhbGciOiJIUzI1NiJ9", "PUT2", OTHER] {
            assert_eq!(shown(token, true).as_deref(), Some(OTHER), "{token}");
        }
        for none in ["", "G T", "G\u{e9}T", "\u{1}", "?", &"M".repeat(25)] {
            assert_eq!(shown(none, true), None, "{none}");
        }
    }
}
