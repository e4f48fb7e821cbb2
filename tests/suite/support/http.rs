//! A minimal HTTP client for what a program serves.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// An HTTP response.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// The status line and the headers, in lower case.
    pub headers: String,
    pub body: String,
}

/// Gets this path from the server at this address, with the `Accept` header of a client that takes any format.
pub async fn get(address: &str, path: &str) -> Result<Answer, String> {
    ask(address, &format!("GET {path}"), "Accept: */*").await
}

/// Sends a request, such as `GET /metrics`, with one additional header. With HTTP 1.0, no answer has chunks.
pub async fn ask(address: &str, what: &str, header: &str) -> Result<Answer, String> {
    exchange(address, &format!("{what} HTTP/1.0\r\nHost: {address}\r\n{header}\r\n\r\n"))
        .await
        .map_err(|problem| format!("{what} at {problem}"))
}

/// Sends a whole request of HTTP 1.0, and returns the answer.
pub async fn exchange(address: &str, request: &str) -> Result<Answer, String> {
    let said = talk(address, request).await.map_err(|error| format!("{address}: {error}"))?;
    let parsed = || {
        let (head, body) = said.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some(Answer { status, headers: head.to_lowercase(), body: body.to_owned() })
    };
    parsed().ok_or_else(|| format!("{address}: no answer by HTTP: {said:?}"))
}

async fn talk(address: &str, request: &str) -> std::io::Result<String> {
    let mut connection = TcpStream::connect(address).await?;
    connection.write_all(request.as_bytes()).await?;
    let mut said = String::new();
    connection.read_to_string(&mut said).await?;
    Ok(said)
}
