//! Evaluates request headers: host name, format, compression.

use std::io::{self, Write as _};
use std::net::IpAddr;

use axum::extract::Request;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, Version, header};
use flate2::Compression;
use flate2::write::GzEncoder;

/// Whether the request has a local host name. An HTTP/1.0 request without a name is accepted. More than one name is
/// not: a proxy before this server may have read another one (RFC 9112, section 3.2).
pub(super) fn is_local(request: &Request, bound: IpAddr) -> bool {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return false;
    }
    let named: Authority = match (request.uri().authority(), host) {
        (Some(authority), _) => authority.clone(),
        (None, Some(host)) => match Authority::try_from(host.as_bytes()) {
            Ok(authority) => authority,
            Err(_) => return false,
        },
        (None, None) => return request.version() == Version::HTTP_10,
    };
    let name = named.host().trim_matches(['[', ']']);
    if name.eq_ignore_ascii_case("localhost") {
        return true;
    }
    let local = |address: IpAddr| {
        address == bound
            || address == IpAddr::from([127, 0, 0, 1])
            || address == IpAddr::from(LOCAL_6)
    };
    name.parse().is_ok_and(local)
}

/// `::1`.
const LOCAL_6: [u16; 8] = [0, 0, 0, 0, 0, 0, 0, 1];

/// Whether `OpenMetrics` is preferred to the text format.
pub(super) fn wants_openmetrics(headers: &HeaderMap) -> bool {
    let open = weight(headers, &header::ACCEPT, "application/openmetrics-text");
    let text = weight(headers, &header::ACCEPT, "text/plain");
    open.is_some_and(|open| open > 0.0 && open >= text.unwrap_or(0.0))
}

/// Whether a browser asks.
pub(super) fn wants_html(headers: &HeaderMap) -> bool {
    weight(headers, &header::ACCEPT, "text/html").is_some_and(|weight| weight > 0.0)
}

/// Whether the response may be compressed.
pub(super) fn wants_gzip(headers: &HeaderMap) -> bool {
    weight(headers, &header::ACCEPT_ENCODING, "gzip").is_some_and(|weight| weight > 0.0)
}

/// Quality value of `what` (RFC 9110, 12.4.2); `None`: not listed.
fn weight(headers: &HeaderMap, name: &HeaderName, what: &str) -> Option<f64> {
    let values = headers.get_all(name).iter();
    let all = values.filter_map(|value| value.to_str().ok());
    all.flat_map(|value| value.split(','))
        .filter_map(|one| {
            let mut parts = one.split(';').map(str::trim);
            if !parts.next()?.eq_ignore_ascii_case(what) {
                return None;
            }
            let quality = parts.find_map(|part| part.strip_prefix("q="));
            Some(quality.map_or(1.0, |quality| quality.parse().unwrap_or(0.0)))
        })
        .reduce(f64::max)
}

/// Compresses a text.
pub(super) fn gzip(text: &[u8]) -> io::Result<Vec<u8>> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(text)?;
    packed.finish()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn headers(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    #[test]
    fn openmetrics_only_when_it_is_asked_for() {
        for (accept, open) in [
            ("*/*", false),
            ("text/plain", false),
            ("text/html,application/xhtml+xml,*/*;q=0.8", false),
            ("application/openmetrics-text", true),
            (
                "application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5",
                true,
            ),
            ("application/openmetrics-text;q=0.3, text/plain", false),
            ("application/openmetrics-text;q=0", false),
            ("application/openmetrics-text;q=no", false),
        ] {
            let headers = headers(header::ACCEPT, accept);
            assert_eq!(wants_openmetrics(&headers), open, "{accept}");
        }
        assert!(!wants_openmetrics(&HeaderMap::new()));
        for (accept, gzip) in [
            ("gzip", true),
            ("deflate, GZIP;q=0.5", true),
            ("gzip;q=0", false),
            ("br", false),
        ] {
            let headers = headers(header::ACCEPT_ENCODING, accept);
            assert_eq!(wants_gzip(&headers), gzip, "{accept}");
        }
    }

    #[test]
    fn only_local_names_are_local() {
        let bound = IpAddr::from([127, 0, 0, 5]);
        let local = |host: &str| {
            let request = Request::builder().header(header::HOST, host);
            is_local(&request.body(Body::empty()).unwrap(), bound)
        };
        for host in [
            "localhost",
            "LOCALHOST:9876",
            "127.0.0.1:80",
            "[::1]:9876",
            "127.0.0.5",
        ] {
            assert!(local(host), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example:9876",
            "127.0.0.1.evil.example",
            "127.0.0.6",
            "192.168.0.1:9876",
            "",
            "a b",
        ] {
            assert!(!local(host), "{host}");
        }
        let request = |version| Request::builder().version(version).body(Body::empty());
        assert!(is_local(&request(Version::HTTP_10).unwrap(), bound));
        assert!(!is_local(&request(Version::HTTP_11).unwrap(), bound));
        let absolute = Request::builder().uri("http://evil.example/metrics");
        let absolute = absolute.header(header::HOST, "localhost");
        assert!(!is_local(&absolute.body(Body::empty()).unwrap(), bound));
    }
}
