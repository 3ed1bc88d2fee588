//! As much HTTP as a page, a stream of events and a WebSocket need: one `GET` a connection (RFC 9112).
//!
//! (With the `httparse` crate for the head, this file was no shorter: what takes the lines is judging it.)

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
pub(crate) struct Request {
    pub(crate) path: String,
    query: String,
    /// As the request has it: an address or a name, and a port, if it is not 80.
    pub(crate) host: String,
    /// Names in small letters, and their values.
    fields: Vec<(String, String)>,
    /// What came behind the head.
    pub(crate) rest: Vec<u8>,
}

impl Request {
    /// The value of that field; of several, all of them, with commas between.
    pub(crate) fn field(&self, name: &str) -> Option<String> {
        let there = self.fields.iter().filter(|(there, _)| there == name);
        let values: Vec<&str> = there.map(|(_, value)| value.as_str()).collect();
        (!values.is_empty()).then(|| values.join(", "))
    }

    /// Whether `word` is among the words of that field.
    pub(super) fn field_has(&self, name: &str, word: &str) -> bool {
        let value = self.field(name).unwrap_or_default();
        value
            .split(',')
            .any(|there| there.trim().eq_ignore_ascii_case(word))
    }

    /// The number that the query has for `name`.
    pub(crate) fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
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
pub(crate) enum Refusal {
    /// Not HTTP, too long, or without a host.
    BadRequest,
    NotFound,
    /// A page of another site has made the browser ask for this.
    Forbidden,
    /// Anything but GET.
    MethodNotAllowed,
    /// The browser means another site, whose name somebody has pointed at this machine (DNS
    /// rebinding): its pages must not read what is shown here.
    MisdirectedRequest,
    /// That path is a WebSocket's, in version 13.
    UpgradeRequired,
    /// As many are connected as may be.
    Unavailable,
}

impl Refusal {
    fn status(self) -> &'static str {
        match self {
            Refusal::BadRequest => "400 Bad Request",
            Refusal::Forbidden => "403 Forbidden",
            Refusal::NotFound => "404 Not Found",
            Refusal::MethodNotAllowed => "405 Method Not Allowed",
            Refusal::MisdirectedRequest => "421 Misdirected Request",
            Refusal::UpgradeRequired => "426 Upgrade Required",
            Refusal::Unavailable => "503 Service Unavailable",
        }
    }
}

/// Whose names a browser may use for this machine.
#[derive(Clone, Default, Debug)]
pub(crate) struct Hosts {
    /// Beside addresses and `localhost`, which nobody can point elsewhere.
    pub(crate) names: Vec<String>,
}

impl Hosts {
    /// Whether the `Host` of a request means this machine, whatever its port.
    fn mean(&self, host: &str) -> bool {
        let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, port)) => (address, port.strip_prefix(':').unwrap_or(port)),
            None => host.split_once(':').unwrap_or((host, "")),
        };
        let is_port = port.is_empty() || port.parse::<u16>().is_ok();
        let mut names = self.names.iter().map(String::as_str).chain(["localhost"]);
        is_port
            && (names.any(|there| there.eq_ignore_ascii_case(name))
                || name.parse::<IpAddr>().is_ok())
    }
}

/// Waits for a request. An error: the connection ended, or took too long, before there was one.
pub(crate) fn read_request(
    mut stream: &Stream,
    hosts: &Hosts,
) -> io::Result<Result<Request, Refusal>> {
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
            let rest = head.split_off(end + 4);
            head.truncate(end);
            return Ok(parse(&head, hosts).map(|request| Request { rest, ..request }));
        }
        if head.len() > LONGEST_HEAD {
            return Ok(Err(Refusal::BadRequest));
        }
    }
}

fn parse(head: &[u8], hosts: &Hosts) -> Result<Request, Refusal> {
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
    let fields = fields.split("\r\n").map(|field| {
        let (name, value) = field.split_once(':').ok_or(Refusal::BadRequest)?;
        if !is_word(name) {
            return Err(Refusal::BadRequest);
        }
        Ok((name.to_ascii_lowercase(), value.trim().to_owned()))
    });
    let fields: Vec<(String, String)> = fields.collect::<Result<_, _>>()?;
    let mut meant = fields.iter().filter(|(name, _)| name == "host");
    let (Some((_, host)), None) = (meant.next(), meant.next()) else {
        return Err(Refusal::BadRequest);
    };
    let host = host.clone();
    if !hosts.mean(&host) {
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
        host,
        fields,
        rest: Vec::new(),
    })
}

/// What a page may load, where its parts are files of their own: nothing but what comes from here.
const OWN_PARTS: &str = "script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'";

/// What every answer begins with. Nothing of it may be kept, and a page may load only what `loads` says.
fn head(status: &str, kind: &str, loads: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\n\
         Content-Type: {kind}\r\n\
         Content-Security-Policy: default-src 'none'; {loads}; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'\r\n\
         X-Content-Type-Options: nosniff\r\n\
         Referrer-Policy: no-referrer\r\n\
         Cache-Control: no-store\r\n\
         Connection: close\r\n"
    )
}

/// Answers with a whole document.
pub(crate) fn answer(stream: &Stream, kind: &str, body: &str) -> io::Result<()> {
    send(
        stream,
        &(head("200 OK", kind, OWN_PARTS) + &length(body)),
        body,
    )
}

/// Answers with a page that is one document, script and style included: those with this `nonce` run, and
/// nothing else does. It may open WebSockets to where it comes from. (`'self'` covers those, but not in older
/// Safari.)
pub(crate) fn answer_page(stream: &Stream, body: &str, nonce: &str, host: &str) -> io::Result<()> {
    let loads = format!(
        "script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self' ws://{host} wss://{host}"
    );
    let head = head("200 OK", "text/html; charset=utf-8", &loads);
    send(stream, &(head + &length(body)), body)
}

/// Agrees to speak something else from here on.
pub(super) fn switch_protocols(stream: &Stream, fields: &str) -> io::Result<()> {
    send(
        stream,
        &format!("HTTP/1.1 101 Switching Protocols\r\n{fields}"),
        "",
    )
}

/// Answers that there is nothing.
pub(crate) fn refuse(mut stream: &Stream, refusal: Refusal) -> io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    write_all(&mut stream, &self::refusal(refusal))
}

/// The answer that there is nothing.
pub(crate) fn refusal(refusal: Refusal) -> String {
    let body = format!("{}\n", refusal.status());
    let mut begin = head(refusal.status(), "text/plain; charset=utf-8", OWN_PARTS) + &length(&body);
    if refusal == Refusal::MethodNotAllowed {
        begin += "Allow: GET\r\n";
    }
    if refusal == Refusal::UpgradeRequired {
        begin += "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";
    }
    format!("{begin}\r\n{body}")
}

fn length(body: &str) -> String {
    format!("Content-Length: {}\r\n", body.len())
}

fn send(mut stream: &Stream, head: &str, body: &str) -> io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    write_all(&mut stream, &format!("{head}\r\n{body}"))
}

/// Begins a stream of events (the HTML standard's `text/event-stream`).
pub(crate) fn begin_events(stream: &Stream) -> io::Result<()> {
    send(stream, &head("200 OK", "text/event-stream", OWN_PARTS), "")
}

/// Sends one event. A viewer who takes nothing for [`PATIENCE`] is given up.
pub(crate) fn send_event(mut stream: &Stream, kind: &str, data: &str) -> io::Result<()> {
    // JSON has no raw line feed, which would end the event.
    write_all(&mut stream, &format!("event: {kind}\ndata: {data}\n\n"))
}

/// Sends a comment, so that a connection that is dead is found out.
pub(crate) fn keep_alive(mut stream: &Stream) -> io::Result<()> {
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
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn parsed(head: &str) -> Result<Request, Refusal> {
        parse(head.as_bytes(), &Hosts::default())
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
            let _ = parse(&head, &Hosts::default());
        }
    }
}
