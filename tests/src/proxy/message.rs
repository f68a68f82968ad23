//! HTTP/1.1 messages as bytes: read whole, examined, and forwarded unchanged.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};

const HEAD_BYTES_MAX: usize = 64 << 10;
const BODY_BYTES_MAX: u64 = 256 << 20;

/// A request or an answer.
#[derive(Debug)]
pub struct Message {
    /// All bytes, as they arrived.
    pub bytes: Vec<u8>,
    head: String,
}

impl Message {
    fn first_line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }

    /// Method and target of a request.
    pub fn line(&self) -> String {
        self.first_line().trim_end_matches(" HTTP/1.1").to_owned()
    }

    /// The length of the head, including the empty line at its end.
    pub fn head_bytes(&self) -> usize {
        self.head.len()
    }

    /// The method of a request.
    fn method(&self) -> &str {
        self.first_line().split(' ').next().unwrap_or_default()
    }

    pub fn is_put(&self) -> bool {
        self.method() == "PUT"
    }

    pub fn is_head(&self) -> bool {
        self.method() == "HEAD"
    }

    /// Whether the request changes nothing on the server.
    pub fn is_read(&self) -> bool {
        matches!(self.method(), "GET" | "HEAD")
    }

    /// The status of an answer; 0 if it has none.
    pub fn status(&self) -> u16 {
        self.first_line().split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    /// The value of a header; `name` is in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// Whether the connection ends after this message.
    pub fn closes(&self) -> bool {
        self.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

/// Reads the next request; `None` if the client sends no more.
pub async fn read_request(from: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Message>> {
    let Some(mut message) = read_head(from).await? else { return Ok(None) };
    read_body(from, &mut message, false).await?;
    Ok(Some(message))
}

/// Reads the answer to a request. An answer to HEAD has no body, whatever length it states.
pub async fn read_response(from: &mut (impl AsyncBufRead + Unpin), to_head: bool) -> io::Result<Message> {
    loop {
        let mut message = read_head(from).await?.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        // Interim answers concern only the server and the proxy.
        if message.status() / 100 == 1 {
            continue;
        }
        if !to_head && !matches!(message.status(), 204 | 304) {
            read_body(from, &mut message, true).await?;
        }
        return Ok(message);
    }
}

async fn read_head(from: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Message>> {
    let mut bytes = Vec::new();
    loop {
        let before = bytes.len();
        let read = from.take((HEAD_BYTES_MAX - before) as u64).read_until(b'\n', &mut bytes).await?;
        if read == 0 && before == 0 {
            return Ok(None);
        }
        if read == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        if matches!(&bytes[before..], b"\r\n" | b"\n") {
            break;
        }
    }
    let head = String::from_utf8_lossy(&bytes).into_owned();
    Ok(Some(Message { bytes, head }))
}

async fn read_body(from: &mut (impl AsyncBufRead + Unpin), message: &mut Message, is_answer: bool) -> io::Result<()> {
    let chunked = message.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
    let length = message.header("content-length").and_then(|length| length.parse::<u64>().ok());
    match length {
        _ if chunked => read_chunks(from, &mut message.bytes).await,
        Some(length) => read_exactly(from, &mut message.bytes, length).await,
        // Without a length, an answer ends with its connection, and a request has no body.
        None if is_answer && message.closes() => {
            from.take(BODY_BYTES_MAX).read_to_end(&mut message.bytes).await.map(|_| ())
        }
        None => Ok(()),
    }
}

async fn read_exactly(from: &mut (impl AsyncBufRead + Unpin), bytes: &mut Vec<u8>, length: u64) -> io::Result<()> {
    if length > BODY_BYTES_MAX {
        return Err(io::Error::other(format!("a body of {length} bytes")));
    }
    let read = from.take(length).read_to_end(bytes).await?;
    if (read as u64) < length { Err(io::Error::from(io::ErrorKind::UnexpectedEof)) } else { Ok(()) }
}

async fn read_chunks(from: &mut (impl AsyncBufRead + Unpin), bytes: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let start = bytes.len();
        from.take(HEAD_BYTES_MAX as u64).read_until(b'\n', bytes).await?;
        let line = String::from_utf8_lossy(&bytes[start..]).into_owned();
        let size = line.trim().split(';').next().unwrap_or_default();
        let size = u64::from_str_radix(size, 16).map_err(io::Error::other)?;
        // The chunk and the line end after it. After the last chunk there may be trailers, but
        // nobody here sends any.
        read_exactly(from, bytes, size + 2).await?;
        if size == 0 {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    #[test]
    fn messages_end_where_they_end() {
        let requests = b"PUT /a HTTP/1.1\r\nContent-Length: 3\r\nIf-None-Match: *\r\n\r\nabcGET /b HTTP/1.1\r\n\r\n";
        let mut from = requests.as_slice();
        run(async {
            let put = read_request(&mut from).await.unwrap().unwrap();
            assert!(put.is_put() && put.bytes.ends_with(b"abc"));
            assert_eq!(put.header("if-none-match"), Some("*"));
            let get = read_request(&mut from).await.unwrap().unwrap();
            assert!(get.is_read() && get.header("if-none-match").is_none());
            assert!(read_request(&mut from).await.unwrap().is_none());
        });
        let check = |bytes: &[u8], to_head: bool, left: &[u8]| {
            let mut from = bytes;
            let status = run(async { read_response(&mut from, to_head).await.unwrap().status() });
            assert_eq!((status, from), (200, left));
        };
        check(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP", false, b"HTTP");
        check(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nHTTP", true, b"HTTP");
        check(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP", false, b"HTTP");
        check(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false, b"");
        let mut cut = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok".as_slice();
        assert!(run(read_response(&mut cut, false)).is_err());
    }
}
