//! A GET over loopback, for `/health` and `/truth`.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// The body of a response with status 200.
pub(crate) fn get(port: u16, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))
        .with_context(|| format!("cannot connect to port {port}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    // HTTP/1.0: the response ends with the connection and is never chunked.
    let request = format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n\r\n");
    stream.write_all(request.as_bytes()).context("cannot ask")?;
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .with_context(|| format!("no answer to GET {path}"))?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("the response has no head")?;
    ensure!(
        head.split(' ').nth(1) == Some("200"),
        "GET {path}: {}",
        head.lines().next().unwrap_or("")
    );
    Ok(body.to_owned())
}

/// The service's own counts.
pub(crate) fn truth(port: u16) -> Result<Value> {
    serde_json::from_str(&get(port, "/truth")?).context("/truth is not JSON")
}

/// A port for a service.
pub(crate) fn free_port() -> Result<u16> {
    Ok(heaptide_ports::claim()
        .context("a port for a service")?
        .port())
}
