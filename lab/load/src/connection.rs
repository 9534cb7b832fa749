//! A connection: writes heads as requested (whole, split, pipelined), and reads responses in order.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc::Receiver;

use crate::requests::Plan;
use crate::truth::Truth;

/// Long enough for the peer to receive packets separately.
const BETWEEN_PACKETS: Duration = Duration::from_millis(1);

/// How bytes are sent.
#[derive(Clone, Copy)]
pub(crate) struct Wire {
    pub(crate) target: SocketAddr,
    pub(crate) keep_alive: bool,
    pub(crate) split: usize,
    pub(crate) pipeline: usize,
}

/// Requests to send, taken by the connection that is idle longest (the lock is fair).
pub(crate) type Queue = Arc<tokio::sync::Mutex<Receiver<Plan>>>;

/// Sends requests from the queue until it is closed; reconnects if a connection breaks.
pub(crate) async fn serve(wire: Wire, queue: Queue, truth: Arc<Mutex<Truth>>) {
    let mut open = None;
    loop {
        let mut batch = VecDeque::new();
        {
            let mut queue = queue.lock().await;
            while batch.len() < wire.pipeline
                && let Some(plan) = queue.recv().await
            {
                batch.push_back(plan);
            }
        }
        if batch.is_empty() {
            return;
        }
        open = exchange(wire, open, &mut batch, &truth)
            .await
            .unwrap_or_else(|_| {
                let mut truth = truth.lock().expect("no holder panics");
                for plan in &batch {
                    truth.failed(plan);
                }
                None
            });
        if !wire.keep_alive {
            open = None;
        }
    }
}

/// A connection, and bytes already read for later responses.
struct Open {
    stream: TcpStream,
    read: Vec<u8>,
}

async fn exchange(
    wire: Wire,
    open: Option<Open>,
    batch: &mut VecDeque<Plan>,
    truth: &Mutex<Truth>,
) -> Result<Option<Open>> {
    let mut open = match open {
        Some(open) => open,
        None => connect(wire.target).await?,
    };
    if wire.split > 1 {
        for plan in batch.iter() {
            write_split(&mut open.stream, plan, wire.split).await?;
        }
    } else {
        let bytes: Vec<u8> = batch
            .iter()
            .flat_map(|plan| plan.bytes.iter().copied())
            .collect();
        open.stream.write_all(&bytes).await?;
    }
    let mut closing = false;
    while let Some(plan) = batch.front() {
        let answer = read_answer(&mut open).await?;
        closing = answer.closes;
        let latency = Instant::now().saturating_duration_since(plan.due);
        truth
            .lock()
            .expect("no holder panics")
            .answered(plan, answer.status, latency);
        batch.pop_front();
    }
    Ok((!closing).then_some(open))
}

async fn connect(target: SocketAddr) -> Result<Open> {
    let stream = TcpStream::connect(target).await.context("cannot connect")?;
    // Split heads must be sent in separate packets.
    stream.set_nodelay(true)?;
    Ok(Open {
        stream,
        read: Vec::new(),
    })
}

async fn write_split(stream: &mut TcpStream, plan: &Plan, parts: usize) -> Result<()> {
    let (head, body) = plan.bytes.split_at(plan.head);
    for part in head.chunks(head.len().div_ceil(parts)) {
        stream.write_all(part).await?;
        tokio::time::sleep(BETWEEN_PACKETS).await;
    }
    stream.write_all(body).await?;
    Ok(())
}

struct Answer {
    status: u16,
    closes: bool,
}

/// Reads one response with a `Content-Length`, or up to the end of the connection.
async fn read_answer(open: &mut Open) -> Result<Answer> {
    let head_end = loop {
        if let Some(end) = open.read.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if read_more(open).await? == 0 {
            bail!("the connection ended before an answer");
        }
    };
    let head = String::from_utf8_lossy(&open.read[..head_end]).to_ascii_lowercase();
    let status = head
        .get(9..12)
        .and_then(|digits| digits.parse().ok())
        .context("no status")?;
    let header = |name: &str| {
        head.lines()
            .find_map(|line| line.strip_prefix(name).map(str::trim))
    };
    let length: Option<usize> = header("content-length:").and_then(|value| value.parse().ok());
    let closes = header("connection:") == Some("close");
    if let Some(length) = length {
        while open.read.len() < head_end + length {
            if read_more(open).await? == 0 {
                bail!("the connection ended within an answer");
            }
        }
        open.read.drain(..head_end + length);
        return Ok(Answer { status, closes });
    }
    while read_more(open).await? > 0 {}
    open.read.clear();
    Ok(Answer {
        status,
        closes: true,
    })
}

async fn read_more(open: &mut Open) -> Result<usize> {
    Ok(open.stream.read_buf(&mut open.read).await?)
}
