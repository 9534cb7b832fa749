//! The connections that a process serves: established TCP connections on listening ports.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read as _};

/// Maximum bytes read of each socket table. A row has 150 (`net/ipv4/tcp_ipv4.c`).
const MOST_BYTES: u64 = 4 << 20;
/// Maximum descriptors of a process.
const MOST_FDS: usize = 65_536;
/// Values of `st` in the tables (`include/net/tcp_states.h`).
const ESTABLISHED: &str = "01";
const LISTEN: &str = "0A";

/// Number of connections that a process serves now. The listener may be another process of its network namespace, so
/// a connection that it has opened itself from such a port counts too.
pub fn served(pid: u32) -> io::Result<usize> {
    let mut table = String::new();
    for name in ["tcp", "tcp6"] {
        match File::open(format!("/proc/{pid}/net/{name}")) {
            Ok(file) => {
                file.take(MOST_BYTES).read_to_string(&mut table)?;
            }
            // A kernel without IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    let inodes = inodes(&table);
    if inodes.is_empty() {
        return Ok(0);
    }
    let mut count = 0;
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))?.take(MOST_FDS) {
        // A descriptor closed meanwhile has no link.
        let Ok(link) = fs::read_link(entry?.path()) else {
            continue;
        };
        let inode = link
            .to_str()
            .and_then(|link| link.strip_prefix("socket:["))
            .and_then(|link| link.strip_suffix(']'));
        count += usize::from(inode.is_some_and(|inode| inodes.contains(inode)));
    }
    Ok(count)
}

/// The inodes of the established sockets on listening ports.
fn inodes(table: &str) -> HashSet<&str> {
    let rows = || table.lines().filter_map(row);
    let listening: HashSet<&str> = rows()
        .filter(|row| row.state == LISTEN)
        .map(|row| row.port)
        .collect();
    rows()
        .filter(|row| row.state == ESTABLISHED && listening.contains(row.port))
        .map(|row| row.inode)
        .collect()
}

struct Row<'a> {
    port: &'a str,
    state: &'a str,
    inode: &'a str,
}

/// `sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode ...`
fn row(line: &str) -> Option<Row<'_>> {
    let mut fields = line.split_ascii_whitespace();
    let (_, port) = fields.nth(1)?.rsplit_once(':')?;
    let state = fields.nth(1)?;
    let inode = fields.nth(5)?;
    Some(Row { port, state, inode })
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn only_connections_on_listening_ports_are_served() {
        let table = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 11 1 0 100 0 0 10 0
   1: 0100007F:1F90 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 12 1 0 20 4 30 10 -1
   2: 0100007F:9C40 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 13 1 0 20 4 30 10 -1
   3: 0100007F:1F90 0100007F:9C42 06 00000000:00000000 03:00000ABC 00000000     0        0 0 3 0
 nonsense 1:2
";
        assert_eq!(inodes(table), HashSet::from(["12"]));
    }

    #[test]
    fn a_connection_of_this_process_is_seen() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let pid = std::process::id();
        let before = served(pid).expect("the tables");
        let address = listener.local_addr().expect("its address");
        let _client = TcpStream::connect(address).expect("a connection");
        let _server = listener.accept().expect("the same");
        assert!(served(pid).expect("the tables") > before);
    }
}
