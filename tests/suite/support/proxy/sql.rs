//! The proxy for PostgreSQL. It parses enough of the protocol to recognize each complete statement and its complete
//! answer.
//!
//! <https://www.postgresql.org/docs/current/protocol-message-formats.html>. A statement is one Query message, or
//! several messages up to a Sync, one of which is an Execute. In both cases, `ReadyForQuery` ends the answer.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::trace::{Fault, Passage, To, Trace};

/// The interval at which to check whether the client has closed a connection whose next bytes must not be read yet.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

const QUERY: u8 = b'Q';
const PARSE: u8 = b'P';
const BIND: u8 = b'B';
const EXECUTE: u8 = b'E';
const SYNC: u8 = b'S';
const READY_FOR_QUERY: u8 = b'Z';
const ERROR: u8 = b'E';

/// Serves until the future is dropped.
pub(super) async fn serve(listener: TcpListener, server: String, trace: Arc<Trace>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        while connections.try_join_next().is_some() {}
        let (server, trace) = (server.clone(), Arc::clone(&trace));
        let generation = trace.generation();
        connections.spawn(async move {
            // The error is ignored, because tests kill both ends and cut connections on purpose.
            drop(forward(client, &server, &trace, generation).await);
        });
    }
}

/// Forwards both directions of one connection, until one end closes it or a fault ends it.
async fn forward(client: TcpStream, server: &str, trace: &Trace, generation: u64) -> io::Result<()> {
    let server = TcpStream::connect(server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut from_client, to_client) = client.into_split();
    let (from_server, mut to_server) = server.into_split();
    // The first message has no type. It begins with its length, which includes the length field.
    let mut start = vec![0; 4];
    from_client.read_exact(&mut start).await?;
    let length = u32::from_be_bytes([start[0], start[1], start[2], start[3]]);
    start.resize(length as usize, 0);
    from_client.read_exact(&mut start[4..]).await?;
    to_server.write_all(&start).await?;

    // Each Query or Sync that was forwarded, with its call, in the order of the answers.
    let (asked, awaited) = mpsc::unbounded_channel();
    tokio::select! {
        end = ask(from_client, to_server, asked, trace, generation) => end,
        end = answer(from_server, to_client, awaited, trace) => end,
    }
}

async fn ask(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    asked: mpsc::UnboundedSender<Option<Passage>>,
    trace: &Trace,
    generation: u64,
) -> io::Result<()> {
    let mut statements: HashMap<Vec<u8>, String> = HashMap::new();
    let mut bound = String::new();
    let mut executed = None;
    let mut only_reads = false;
    let mut unit = Vec::new();
    loop {
        let (type_, message) = read(&mut from).await?;
        let body = &message[5..];
        match type_ {
            PARSE => {
                let (name, rest) = text(body);
                statements.insert(name.to_vec(), String::from_utf8_lossy(text(rest).0).into_owned());
            }
            BIND => bound = statements.get(text(text(body).1).0).cloned().unwrap_or_default(),
            EXECUTE => executed = Some(bound.clone()),
            QUERY => executed = Some(String::from_utf8_lossy(text(body).0).into_owned()),
            _ => {}
        }
        unit.extend_from_slice(&message);
        if matches!(type_, QUERY | SYNC) {
            let mut passage = match executed.take().map(|statement| one_line(&statement, &mut only_reads)) {
                Some(statement) => tokio::select! {
                    passage = trace.arrive(generation, To::Database, statement, String::new()) => Some(passage),
                    // The transaction of a client that is killed while it waits is rolled back at once.
                    end = closed(&from) => return end,
                },
                None => None,
            };
            if let Some(passage) = &mut passage
                && matches!(passage.fault, Some(Fault::Disconnect))
            {
                trace.answered(passage, "disconnected");
                return Ok(());
            }
            if asked.send(passage).is_err() {
                return Ok(());
            }
        } else if unit.len() < 5 || !matches!(type_, PARSE | BIND | EXECUTE | b'D' | b'C') {
            // A password or a termination message: no later message belongs to it.
        } else {
            continue;
        }
        to.write_all(&unit).await?;
        unit.clear();
    }
}

async fn answer(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut awaited: mpsc::UnboundedReceiver<Option<Passage>>,
    trace: &Trace,
) -> io::Result<()> {
    let mut open: VecDeque<Option<Passage>> = VecDeque::new();
    // The server sends one `ReadyForQuery` before the first statement.
    open.push_back(None);
    let mut error = None;
    let mut unit = Vec::new();
    loop {
        let (type_, message) = read(&mut from).await?;
        while let Ok(passage) = awaited.try_recv() {
            open.push_back(passage);
        }
        if type_ == ERROR {
            error = sql_state(&message[5..]);
        }
        unit.extend_from_slice(&message);
        let is_lost = |open: &VecDeque<Option<Passage>>| {
            open.front().is_some_and(|passage| passage.as_ref().is_some_and(is_lost))
        };
        if type_ != READY_FOR_QUERY {
            if !is_lost(&open) {
                to.write_all(&unit).await?;
                unit.clear();
            }
            continue;
        }
        if let Some(Some(mut passage)) = open.pop_front() {
            let answer = error.take().unwrap_or_else(|| "ok".to_owned());
            match passage.fault {
                Some(Fault::LoseAnswer) => {
                    trace.answered(&mut passage, format!("{answer} (lost)"));
                    return Ok(());
                }
                Some(Fault::KeepAnswer) => {
                    trace.answered(&mut passage, format!("{answer} (kept)"));
                    // The controller gets nothing more but the end of the connection.
                    loop {
                        read(&mut from).await?;
                    }
                }
                _ => trace.answered(&mut passage, answer),
            }
        }
        error = None;
        to.write_all(&unit).await?;
        unit.clear();
    }
}

/// Waits until the other end has closed the connection.
async fn closed(from: &OwnedReadHalf) -> io::Result<()> {
    while from.as_ref().peek(&mut [0]).await? > 0 {
        sleep(LOOK_AGAIN).await;
    }
    Ok(())
}

fn is_lost(passage: &Passage) -> bool {
    matches!(passage.fault, Some(Fault::LoseAnswer | Fault::KeepAnswer))
}

/// Reads a complete message with its type.
async fn read(from: &mut OwnedReadHalf) -> io::Result<(u8, Vec<u8>)> {
    let mut message = vec![0; 5];
    from.read_exact(&mut message).await?;
    let length = u32::from_be_bytes([message[1], message[2], message[3], message[4]]);
    message.resize(1 + length as usize, 0);
    from.read_exact(&mut message[5..]).await?;
    Ok((message[0], message))
}

/// Returns the text up to the first zero byte, and the bytes after it.
fn text(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    (&bytes[..end], bytes.get(end + 1..).unwrap_or_default())
}

/// Returns the SQL state of an error. Each field of an error is a letter and a text; `C` is the SQL state.
fn sql_state(mut fields: &[u8]) -> Option<String> {
    while let Some((letter, rest)) = fields.split_first() {
        let (value, next) = text(rest);
        if *letter == b'C' {
            return Some(String::from_utf8_lossy(value).into_owned());
        }
        fields = next;
    }
    None
}

/// Returns the statement on one line. Marks the end of a read-only transaction with `READ ONLY`.
fn one_line(statement: &str, only_reads: &mut bool) -> String {
    if statement.starts_with("BEGIN") {
        *only_reads = statement.contains("READ ONLY");
    }
    let end = if *only_reads && statement == "COMMIT" { " READ ONLY" } else { "" };
    statement.split_whitespace().collect::<Vec<_>>().join(" ") + end
}
