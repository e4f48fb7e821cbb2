//! Requests over connections that are kept, as a proxy sends them.

use std::time::{Duration, Instant};

use futures::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// One answer.
pub struct Answer {
    pub status: u16,
    pub body: String,
}

/// Sends the requests of each list over a connection of its own, one after the other, and all lists at the same time.
/// Gives each answer to `check`. Returns how long all of it took.
pub async fn send(address: &str, lists: Vec<Vec<String>>, check: impl Fn(&Answer) + Clone) -> Duration {
    let mut connections = Vec::new();
    for requests in lists {
        let stream = TcpStream::connect(address).await.expect("the server listens");
        stream.set_nodelay(true).expect("it is a TCP connection");
        connections.push((stream, requests));
    }
    let begun = Instant::now();
    join_all(connections.into_iter().map(|(mut stream, requests)| {
        let check = check.clone();
        async move {
            let mut buffer = Vec::with_capacity(4096);
            for request in requests {
                stream.write_all(request.as_bytes()).await.expect("the server reads");
                check(&answer(&mut stream, &mut buffer).await);
            }
        }
    }))
    .await;
    begun.elapsed()
}

async fn answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Answer {
    buffer.clear();
    loop {
        let read = stream.read_buf(buffer).await.expect("the server answers");
        assert!(read > 0, "the server closed the connection: {}", String::from_utf8_lossy(buffer));
        let Some(end) = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { continue };
        let head = std::str::from_utf8(&buffer[..end]).expect("the head is text");
        let length = header(head, "content-length").map_or(0, |length| length.parse().expect("it is a number"));
        if buffer.len() < end + 4 + length {
            continue;
        }
        let status = head.get(9..12).and_then(|status| status.parse().ok()).expect("there is a status");
        let body = String::from_utf8(buffer[end + 4..].to_vec()).expect("the body is text");
        return Answer { status, body };
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (found, value) = line.split_once(": ")?;
        found.eq_ignore_ascii_case(name).then_some(value)
    })
}
