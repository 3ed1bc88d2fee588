//! As much HTTP as a page and a stream of events need: one `GET` a connection (RFC 9112).

use std::io::{self, Read as _, Write as _};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::net::Stream;

/// A request's head may have so many bytes.
const LONGEST_HEAD: usize = 8 * 1024;

/// A request may take so long to arrive, and each piece of an answer so long to be taken.
const PATIENCE: Duration = Duration::from_secs(10);

/// What somebody wants.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) path: String,
    query: String,
}

impl Request {
    /// The number that the query has for `name`.
    pub(super) fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        let pairs = self
            .query
            .split('&')
            .filter_map(|pair| pair.split_once('='));
        let mut values = pairs.filter(|(there, _)| *there == name);
        values.next()?.1.parse().ok()
    }
}

/// Why somebody does not get it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Not HTTP, too long, or without a host.
    BadRequest,
    NotFound,
    /// Anything but GET.
    MethodNotAllowed,
    /// The browser means another site, whose name somebody has pointed at this machine (DNS
    /// rebinding): its pages must not read what is shown here.
    MisdirectedRequest,
    /// As many watch as may.
    Unavailable,
}

impl Refusal {
    fn status(self) -> &'static str {
        match self {
            Refusal::BadRequest => "400 Bad Request",
            Refusal::NotFound => "404 Not Found",
            Refusal::MethodNotAllowed => "405 Method Not Allowed",
            Refusal::MisdirectedRequest => "421 Misdirected Request",
            Refusal::Unavailable => "503 Service Unavailable",
        }
    }
}

/// Waits for a request. An error: the connection ended, or took too long, before there was one.
pub(super) fn read_request(mut stream: &Stream) -> io::Result<Result<Request, Refusal>> {
    let until = Instant::now() + PATIENCE;
    let mut head = Vec::new();
    let mut piece = [0; 1024];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        let count = stream.read(&mut piece)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        head.extend_from_slice(&piece[..count]);
        if let Some(end) = memchr::memmem::find(&head, b"\r\n\r\n") {
            return Ok(parse(&head[..end]));
        }
        if head.len() > LONGEST_HEAD {
            return Ok(Err(Refusal::BadRequest));
        }
    }
}

fn parse(head: &[u8]) -> Result<Request, Refusal> {
    let head = std::str::from_utf8(head).map_err(|_| Refusal::BadRequest)?;
    if head.len() > LONGEST_HEAD {
        return Err(Refusal::BadRequest);
    }
    let (request, fields) = head.split_once("\r\n").ok_or(Refusal::BadRequest)?;
    let words: Vec<&str> = request.split(' ').collect();
    let [method, target, version] = words[..] else {
        return Err(Refusal::BadRequest);
    };
    let is_word = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
    if !is_word(method) || !is_word(target) || !version.starts_with("HTTP/1.") {
        return Err(Refusal::BadRequest);
    }
    let mut hosts = Vec::new();
    for field in fields.split("\r\n") {
        let (name, value) = field.split_once(':').ok_or(Refusal::BadRequest)?;
        if !is_word(name) {
            return Err(Refusal::BadRequest);
        }
        if name.eq_ignore_ascii_case("host") {
            hosts.push(value.trim());
        }
    }
    let [host] = hosts[..] else {
        return Err(Refusal::BadRequest);
    };
    if !is_this_machine(host) {
        return Err(Refusal::MisdirectedRequest);
    }
    if method != "GET" {
        return Err(Refusal::MethodNotAllowed);
    }
    if !target.starts_with('/') {
        return Err(Refusal::BadRequest);
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    Ok(Request {
        path: path.to_owned(),
        query: query.to_owned(),
    })
}

/// An address or `localhost`, with or without a port: nobody can point those elsewhere.
fn is_this_machine(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => (address, port.strip_prefix(':').unwrap_or(port)),
        None => host.split_once(':').unwrap_or((host, "")),
    };
    let is_port = port.is_empty() || port.parse::<u16>().is_ok();
    is_port && (name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok())
}

/// What every answer begins with. Nothing of it may be kept, and the page may load nothing but what
/// comes from here.
fn head(status: &str, kind: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\n\
         Content-Type: {kind}\r\n\
         Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; \
         connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'\r\n\
         X-Content-Type-Options: nosniff\r\n\
         Referrer-Policy: no-referrer\r\n\
         Cache-Control: no-store\r\n\
         Connection: close\r\n"
    )
}

/// Answers with a whole document.
pub(super) fn answer(stream: &Stream, kind: &str, body: &str) -> io::Result<()> {
    send(stream, &(head("200 OK", kind) + &length(body)), body)
}

/// Answers that there is nothing.
pub(super) fn refuse(stream: &Stream, refusal: Refusal) -> io::Result<()> {
    let body = format!("{}\n", refusal.status());
    let mut begin = head(refusal.status(), "text/plain; charset=utf-8") + &length(&body);
    if refusal == Refusal::MethodNotAllowed {
        begin += "Allow: GET\r\n";
    }
    send(stream, &begin, &body)
}

fn length(body: &str) -> String {
    format!("Content-Length: {}\r\n", body.len())
}

fn send(mut stream: &Stream, head: &str, body: &str) -> io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    write_all(&mut stream, &format!("{head}\r\n{body}"))
}

/// Begins a stream of events (the HTML standard's `text/event-stream`).
pub(super) fn begin_events(stream: &Stream) -> io::Result<()> {
    send(stream, &head("200 OK", "text/event-stream"), "")
}

/// Sends one event. A viewer who takes nothing for [`PATIENCE`] is given up.
pub(super) fn send_event(mut stream: &Stream, kind: &str, data: &str) -> io::Result<()> {
    // JSON has no raw line feed, which would end the event.
    write_all(&mut stream, &format!("event: {kind}\ndata: {data}\n\n"))
}

/// Sends a comment, so that a connection that is dead is found out.
pub(super) fn keep_alive(mut stream: &Stream) -> io::Result<()> {
    write_all(&mut stream, ": still here\n\n")
}

/// All of it within [`PATIENCE`], and not so long for each byte of it.
fn write_all(stream: &mut &Stream, text: &str) -> io::Result<()> {
    let until = Instant::now() + PATIENCE;
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        if Instant::now() > until {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match stream.write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => rest = &rest[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(head: &str) -> Result<Request, Refusal> {
        parse(head.as_bytes())
    }

    #[test]
    fn a_get_is_understood() {
        let request = parsed("GET /events?from=12&speed=2.5 HTTP/1.1\r\nhost: localhost:8050");
        let request = request.unwrap();
        assert_eq!(request.path, "/events");
        assert_eq!(request.number("from"), Some(12));
        assert_eq!(request.number("speed"), Some(2.5));
        assert_eq!(request.number::<u64>("count"), None);
    }

    #[test]
    fn everything_else_is_refused() {
        use Refusal::{BadRequest, MethodNotAllowed, MisdirectedRequest};
        for (head, refusal) in [
            ("", BadRequest),
            ("GET / HTTP/1.1", BadRequest),
            ("GET / HTTP/1.1\r\nA: b", BadRequest),
            ("GET /\r\nHost: localhost", BadRequest),
            ("GET / HTTP/2\r\nHost: localhost", BadRequest),
            ("GET  / HTTP/1.1\r\nHost: localhost", BadRequest),
            (
                "GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost",
                BadRequest,
            ),
            ("GET / HTTP/1.1\r\nHost: localhost\r\n folded", BadRequest),
            (
                "GET http://localhost/ HTTP/1.1\r\nHost: localhost",
                BadRequest,
            ),
            ("POST / HTTP/1.1\r\nHost: localhost", MethodNotAllowed),
            ("HEAD / HTTP/1.1\r\nHost: localhost", MethodNotAllowed),
            ("GET / HTTP/1.1\r\nHost: evil.example", MisdirectedRequest),
            (
                "POST / HTTP/1.1\r\nHost: evil.example:8050",
                MisdirectedRequest,
            ),
            (
                "GET / HTTP/1.1\r\nHost: localhost.evil.example",
                MisdirectedRequest,
            ),
            (
                "GET / HTTP/1.1\r\nHost: 127.0.0.1:80:90",
                MisdirectedRequest,
            ),
        ] {
            assert_eq!(parsed(head), Err(refusal), "{head:?}");
        }
        for host in [
            "localhost",
            "LOCALHOST:8050",
            "127.0.0.1",
            "[::1]:8050",
            "192.0.2.7:1",
        ] {
            assert!(
                parsed(&format!("GET / HTTP/1.1\r\nHost: {host}")).is_ok(),
                "{host}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_head_makes_it_panic(head in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&head);
        }
    }
}
