//! A minimal HTTP server for a page, a stream of events and a WebSocket: one `GET` or `HEAD` per
//! connection (RFC 9112).
//!
//! An earlier version that used the `httparse` crate was no shorter, because most of the code
//! validates the head.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::document::{Document, File};
use super::fields::Fields;
use super::forwarded::Forwarded;
use super::hosts::Authority;
pub use super::hosts::Hosts;
pub use super::refusal::{Refusal, RefusedRequest};
use portal_net::limits;
use portal_net::lock::Mutex;
use portal_net::{HandshakeError, Network, Opening, Pending, Share, Stream};

/// Maximum length of a request's first line, in bytes. RFC 9112 recommends at least 8000.
const LONGEST_LINE: usize = 8 * 1024;

/// Maximum length of a request's head, in bytes. Proxies add fields, and browsers send a host's
/// cookies to every one of its ports.
const LONGEST_HEAD: usize = 32 * 1024;

/// Timeout for a request to arrive, and for a response or an event to be written.
const PATIENCE: Duration = Duration::from_secs(10);

/// Maximum time that a connection stays open after a request that was too long has been refused.
/// Until it closes, the connection counts as pending.
const LINGER: Duration = Duration::from_secs(1);

/// A valid request.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    /// The client that sent the request, possibly through proxies.
    pub client: SocketAddr,
    /// True if the method is HEAD, so the response has no content.
    pub is_head: bool,
    /// True for HTTP/1.1, false for HTTP/1.0.
    pub(super) is_1_1: bool,
    pub path: String,
    query: String,
    /// An address or a name, with the port if it is not the scheme's default.
    pub host: String,
    /// `Some(true)` if the browser uses TLS, `None` if unknown.
    pub(super) is_https: Option<bool>,
    fields: Fields,
    /// The bytes received after the head.
    pub rest: Vec<u8>,
}

impl Request {
    /// Returns the value of a field. If several fields have the same name, their values are joined
    /// with commas.
    pub fn field(&self, name: &str) -> Option<String> {
        let values: Vec<&str> = self.fields.all(name).collect();
        (!values.is_empty()).then(|| values.join(", "))
    }

    /// Returns whether the comma-separated field contains `word`, ignoring case.
    pub(super) fn field_has(&self, name: &str, word: &str) -> bool {
        let value = self.field(name).unwrap_or_default();
        value
            .split(',')
            .any(|there| there.trim().eq_ignore_ascii_case(word))
    }

    /// Returns whether the client accepts the gzip coding.
    pub(super) fn accepts_gzip(&self) -> bool {
        let codings = self.field("accept-encoding").unwrap_or_default();
        codings.split(',').any(|coding| {
            let (coding, quality) = coding.split_once(';').unwrap_or((coding, ""));
            let quality = quality.trim().trim_start_matches("q=");
            let is_refused = !quality.is_empty() && quality.trim_matches(['0', '.']).is_empty();
            coding.trim().eq_ignore_ascii_case("gzip") && !is_refused
        })
    }

    /// Parses the value of the query parameter `name` as a number.
    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        let pairs = self
            .query
            .split('&')
            .filter_map(|pair| pair.split_once('='));
        let mut values = pairs.filter(|(there, _)| *there == name);
        values.next()?.1.parse().ok()
    }

    /// Refuses this request.
    pub fn refused(&self, refusal: Refusal) -> RefusedRequest {
        RefusedRequest {
            refusal,
            client: self.client,
            is_head: self.is_head,
        }
    }
}

/// The rules for accepting requests.
#[derive(Clone, Default, Debug)]
pub struct Rules {
    pub hosts: Hosts,
    /// Proxies whose statements about their clients are trusted.
    pub proxies: Vec<Network>,
}

impl Rules {
    /// Returns the share of the pending connections that `peer` may use. A trusted proxy may use
    /// all of them, because all browsers behind it have its address.
    pub fn share_of(&self, peer: SocketAddr) -> Share {
        if self
            .proxies
            .iter()
            .any(|proxies| proxies.contains(peer.ip()))
        {
            Share(limits::HANDSHAKES)
        } else {
            Share::default()
        }
    }
}

/// Rules that can be replaced while the server runs.
#[derive(Clone, Default, Debug)]
pub struct SharedRules(Arc<Mutex<Arc<Rules>>>);

impl SharedRules {
    pub fn new(rules: Rules) -> SharedRules {
        SharedRules(Arc::new(Mutex::new(Arc::new(rules))))
    }

    /// Returns the current rules.
    pub fn get(&self) -> Arc<Rules> {
        Arc::clone(&self.0.lock())
    }

    /// Replaces the proxies, for the requests that arrive from now on.
    pub fn set_proxies(&self, proxies: &[Network]) {
        let mut rules = self.0.lock();
        *rules = Arc::new(Rules {
            hosts: rules.hosts.clone(),
            proxies: proxies.to_vec(),
        });
    }
}

/// The two endpoints of a request's connection.
#[derive(Clone, Copy, Debug)]
struct Ends {
    peer: SocketAddr,
    here: SocketAddr,
}

/// Reads a request.
///
/// # Errors
/// The connection was closed or timed out before the request was complete.
pub fn read_request(
    caller: &Pending,
    rules: &Rules,
) -> io::Result<Result<Request, RefusedRequest>> {
    let stream = caller.stream();
    let ends = Ends {
        peer: stream.peer(),
        here: stream.local_addr()?,
    };
    let until = Instant::now() + PATIENCE;
    let mut bytes = Vec::new();
    let mut piece = [0; 1024];
    loop {
        let count = caller.read_until(until, &mut piece)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(&piece[..count]);
        match received(&bytes) {
            Received::Part => {}
            Received::Refused(refusal) => {
                return Ok(Err(RefusedRequest {
                    refusal,
                    client: ends.peer,
                    is_head: false,
                }));
            }
            Received::Head { head, rest } => {
                let rest = bytes[rest..].to_vec();
                let request = judge(&bytes[head], rules, ends);
                return Ok(request.map(|request| Request { rest, ..request }));
            }
        }
    }
}

/// The received part of a request.
#[derive(Debug, PartialEq, Eq)]
enum Received {
    /// The head is not complete yet.
    Part,
    /// The head without the empty lines around it, and the offset of the bytes after it.
    Head {
        head: std::ops::Range<usize>,
        rest: usize,
    },
    /// The bytes are not a valid request.
    Refused(Refusal),
}

fn received(bytes: &[u8]) -> Received {
    if let Some(opening) = Opening::of(bytes) {
        return Received::Refused(Refusal::Opening(opening));
    }
    let mut start = 0;
    // Skip empty lines, which some clients send after a previous request.
    while let Some(length) = empty_line(&bytes[start..]) {
        start += length;
    }
    let mut line = start;
    while let Some(length) = memchr::memchr(b'\n', &bytes[line..]) {
        if line == start && length > LONGEST_LINE {
            return Received::Refused(Refusal::TargetTooLong);
        }
        line += length + 1;
        if line > LONGEST_HEAD {
            return Received::Refused(Refusal::HeadTooLong);
        }
        if let Some(length) = empty_line(&bytes[line..]) {
            return Received::Head {
                head: start..line,
                rest: line + length,
            };
        }
    }
    if line == start && bytes.len() - start > LONGEST_LINE {
        Received::Refused(Refusal::TargetTooLong)
    } else if bytes.len() > LONGEST_HEAD {
        Received::Refused(Refusal::HeadTooLong)
    } else {
        Received::Part
    }
}

/// Returns the length of the empty line at the beginning of `bytes`. A single LF also ends a line
/// (RFC 9112, 2.2).
fn empty_line(bytes: &[u8]) -> Option<usize> {
    let endings: [&[u8]; 2] = [b"\r\n", b"\n"];
    let ending = endings.into_iter().find(|ending| bytes.starts_with(ending));
    ending.map(<[u8]>::len)
}

/// A request's head, split into its parts.
struct Head<'h> {
    method: &'h str,
    target: &'h str,
    is_1_1: bool,
    fields: Fields,
}

fn judge(head: &[u8], rules: &Rules, ends: Ends) -> Result<Request, RefusedRequest> {
    let head = parse(head);
    let fields = head.as_ref().map(|head| &head.fields);
    let forwarded = Forwarded::read(
        ends.peer,
        fields.unwrap_or(&Fields::default()),
        &rules.proxies,
    );
    let is_head = head.as_ref().is_ok_and(|head| head.method == "HEAD");
    let request = head.and_then(|head| asked(head, &rules.hosts, ends.here, forwarded));
    request.map_err(|refusal| RefusedRequest {
        refusal,
        client: forwarded.client,
        is_head,
    })
}

/// Returns whether `text` is a token, such as a method or a field's name (RFC 9110, 5.6.2).
pub fn is_token(text: &[u8]) -> bool {
    let is_in = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty() && text.iter().all(is_in)
}

fn parse(head: &[u8]) -> Result<Head<'_>, Refusal> {
    let mut lines = head
        .strip_suffix(b"\n")
        .unwrap_or(head)
        .split(|&byte| byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let first = lines.next().unwrap_or_default();
    let no_request = Refusal::BadRequest(
        "this is not an HTTP request: its first line is not METHOD TARGET HTTP/1.1",
    );
    let Ok(first) = std::str::from_utf8(first) else {
        return Err(no_request);
    };
    let words: Vec<&str> = first.split(' ').collect();
    let [method, target, version] = words[..] else {
        return Err(no_request);
    };
    let is_target = !target.is_empty() && target.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_token(method.as_bytes()) || !is_target {
        return Err(no_request);
    }
    let is_1_1 = match version.strip_prefix("HTTP/").map(str::as_bytes) {
        Some(b"1.0") => false,
        // A later minor version is treated like HTTP/1.1.
        Some([b'1', b'.', b'1'..=b'9']) => true,
        Some([b'0'..=b'9', b'.', b'0'..=b'9']) => return Err(Refusal::VersionNotSupported),
        _ => return Err(no_request),
    };
    let field = |line: &[u8]| {
        let colon = memchr::memchr(b':', line);
        let no_field = Refusal::BadRequest("a header line is not NAME: VALUE");
        let (name, value) = line.split_at(colon.ok_or_else(|| no_field.clone())?);
        let is_text = |byte: &u8| !byte.is_ascii_control() || *byte == b'\t';
        if !is_token(name) || !value.iter().all(is_text) {
            return Err(no_field);
        }
        // Bytes outside ASCII have no defined meaning (RFC 9110, 5.5).
        let value = String::from_utf8_lossy(value[1..].trim_ascii()).into_owned();
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        Ok((name, value))
    };
    Ok(Head {
        method,
        target,
        is_1_1,
        fields: lines.map(field).collect::<Result<_, _>>()?,
    })
}

fn asked(
    head: Head<'_>,
    hosts: &Hosts,
    here: SocketAddr,
    forwarded: Forwarded,
) -> Result<Request, Refusal> {
    let mut lines = head.fields.all("host");
    let host = match (lines.next(), lines.next()) {
        (Some(host), None) => host.to_owned(),
        // HTTP/1.0 does not require a Host.
        (None, _) if !head.is_1_1 => {
            SocketAddr::new(here.ip().to_canonical(), here.port()).to_string()
        }
        (None, _) => return Err(Refusal::BadRequest("the request has no Host header")),
        (Some(_), Some(_)) => {
            return Err(Refusal::BadRequest(
                "the request has more than one Host header",
            ));
        }
    };
    drop(lines);
    let (absolute, target) = match absolute(head.target) {
        Some((host, target)) => (Some(host), target),
        None => (None, head.target),
    };
    let bad_host = || Refusal::BadRequest("the request's Host header is not NAME or NAME:PORT");
    let mut named = Authority::parse(&host).ok_or_else(bad_host)?;
    // The host in the URL replaces the Host field (RFC 9112, 3.2.2).
    if let Some(absolute) = absolute {
        named = Authority::parse(absolute).ok_or_else(bad_host)?;
    }
    let host = absolute.map_or(host, str::to_owned);
    if !hosts.mean(&named) {
        return Err(Refusal::MisdirectedRequest { host });
    }
    let is_head = match head.method {
        "GET" => false,
        "HEAD" => true,
        _ => return Err(Refusal::MethodNotAllowed),
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let path = match path {
        "" if absolute.is_some() => "/",
        path if path.starts_with('/') => path,
        _ => {
            return Err(Refusal::BadRequest(
                "the request's target is neither a path nor a URL",
            ));
        }
    };
    Ok(Request {
        client: forwarded.client,
        is_head,
        is_1_1: head.is_1_1,
        path: path.to_owned(),
        query: query.to_owned(),
        host,
        is_https: forwarded.is_https,
        fields: head.fields,
        rest: Vec::new(),
    })
}

/// Splits a target that is a URL into its host and the target on that host.
fn absolute(target: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = target.split_once("://")?;
    let is_web = ["http", "https"]
        .iter()
        .any(|web| scheme.eq_ignore_ascii_case(web));
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    is_web.then(|| rest.split_at(end))
}

/// The content security policy for a page that consists of several files. It may load only files
/// from this server.
const OWN_PARTS: &str = "script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'";

/// Returns the first part of every response. It forbids caching; `loads` is the policy for the
/// parts that a page may load.
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

/// Answers with a complete document.
pub fn answer(stream: &Stream, request: &Request, kind: &str, body: &str) -> io::Result<()> {
    answer_with(stream, request, "200 OK", kind, body)
}

/// Answers with a complete document and the given status.
pub(super) fn answer_with(
    stream: &Stream,
    request: &Request,
    status: &str,
    kind: &str,
    body: &str,
) -> io::Result<()> {
    let head = head(status, kind, OWN_PARTS);
    send(
        stream,
        &(head + &length(body)),
        content(request.is_head, body),
    )
}

/// Answers with a page. It may open WebSockets to its own host; `'self'` would cover these, except
/// in older versions of Safari.
pub(crate) fn answer_page(
    stream: &Stream,
    request: &Request,
    document: &Document,
) -> io::Result<()> {
    let host = &request.host;
    let sockets = match request.is_https {
        Some(true) => format!("wss://{host}"),
        Some(false) => format!("ws://{host}"),
        None => format!("ws://{host} wss://{host}"),
    };
    let loads = format!("{}; connect-src 'self' {sockets}", document.policy());
    let about = ("text/html; charset=utf-8", &*loads, document.etag());
    let compressed = Some(document.compressed());
    answer_constant(stream, request, about, document.html(), compressed)
}

/// Answers with a file that belongs to a page.
pub(crate) fn answer_file(stream: &Stream, request: &Request, file: &File) -> io::Result<()> {
    let about = (file.kind, OWN_PARTS, &*file.etag);
    answer_constant(stream, request, about, file.content, file.compressed())
}

/// Answers with constant content of a type, which may load the sources in `loads`. A browser keeps
/// the content, and asks each time whether it has changed (RFC 9110, 13.1.2).
fn answer_constant(
    mut stream: &Stream,
    request: &Request,
    (kind, loads, etag): (&str, &str, &str),
    content: &[u8],
    compressed: Option<&[u8]>,
) -> io::Result<()> {
    let (coding, content) = match compressed.filter(|_| request.accepts_gzip()) {
        Some(compressed) => ("Content-Encoding: gzip\r\n", compressed),
        None => ("", content),
    };
    let is_known = request.field("if-none-match").is_some_and(|known| {
        let mut known = known.split(',').map(str::trim);
        known.any(|known| known == "*" || known.trim_start_matches("W/") == etag)
    });
    let status = if is_known {
        "304 Not Modified"
    } else {
        "200 OK"
    };
    let head = head(status, kind, loads).replace("no-store", "no-cache");
    let length = match is_known {
        true => String::new(),
        false => format!("Content-Length: {}\r\n", content.len()),
    };
    let head = format!("{head}ETag: {etag}\r\nVary: Accept-Encoding\r\n{coding}{length}\r\n");
    let content = match request.is_head || is_known {
        true => &[],
        false => content,
    };
    stream.set_write_timeout(Some(PATIENCE))?;
    write_all(&mut stream, &[head.as_bytes(), content].concat())
}

/// Answers with 101. From then on, the connection uses another protocol.
pub(super) fn switch_protocols(stream: &Stream, fields: &str) -> io::Result<()> {
    send(
        stream,
        &format!("HTTP/1.1 101 Switching Protocols\r\n{fields}"),
        "",
    )
}

/// Answers a refused request.
pub fn refuse_request(mut stream: &Stream, refused: &RefusedRequest) -> io::Result<()> {
    if refused.refusal == Refusal::Opening(Opening::Tls) {
        return Ok(());
    }
    let answer = refusal_to(&refused.refusal, refused.is_head);
    stream.set_write_timeout(Some(PATIENCE))?;
    write_all(&mut stream, answer.as_bytes())?;
    if matches!(
        refused.refusal,
        Refusal::TargetTooLong | Refusal::HeadTooLong
    ) {
        linger(stream)?;
    }
    Ok(())
}

/// Reads until the client closes the connection, for at most [`LINGER`]. Closing a socket with
/// unread bytes would reset the connection, and the client might not see the response (RFC 9112,
/// 9.6).
fn linger(mut stream: &Stream) -> io::Result<()> {
    stream.shutdown(Shutdown::Write)?;
    let until = Instant::now() + LINGER;
    let mut scrap = [0; 1024];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        stream.set_read_timeout(Some(left))?;
        if stream.read(&mut scrap)? == 0 {
            return Ok(());
        }
    }
}

/// Answers a client whose handshake failed because it did not use TLS.
pub fn refuse_plain_text(stream: &Stream, error: &HandshakeError) -> Option<RefusedRequest> {
    let HandshakeError::PlainText(first) = error else {
        return None;
    };
    let refusal = Opening::of(first).map_or(Refusal::PlainText, Refusal::Opening);
    stream.send_in_plain(self::refusal(refusal.clone()).as_bytes());
    Some(RefusedRequest {
        refusal,
        client: stream.peer(),
        is_head: false,
    })
}

/// Returns the complete response for a refused GET request.
pub fn refusal(refusal: Refusal) -> String {
    refusal_to(&refusal, false)
}

fn refusal_to(refusal: &Refusal, is_head: bool) -> String {
    let status = refusal.status();
    let body = format!("{status}\n{refusal}\n");
    let begin = head(status, "text/plain; charset=utf-8", OWN_PARTS) + &length(&body);
    let (fields, content) = (refusal.fields(), content(is_head, &body));
    format!("{begin}{fields}\r\n{content}")
}

fn length(body: &str) -> String {
    format!("Content-Length: {}\r\n", body.len())
}

fn content(is_head: bool, body: &str) -> &str {
    if is_head { "" } else { body }
}

fn send(mut stream: &Stream, head: &str, body: &str) -> io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    write_all(&mut stream, format!("{head}\r\n{body}").as_bytes())
}

/// Begins a stream of events (the HTML standard's `text/event-stream`).
pub fn begin_events(stream: &Stream) -> io::Result<()> {
    stream.break_when_stuck();
    // Without this field, nginx would buffer events until it has 4 KB.
    let head = head("200 OK", "text/event-stream", OWN_PARTS) + "X-Accel-Buffering: no\r\n";
    send(stream, &head, "")
}

/// Sends one event.
///
/// # Errors
/// The connection was closed, or the event could not be sent within `PATIENCE`.
pub fn send_event(mut stream: &Stream, kind: &str, data: &str) -> io::Result<()> {
    // JSON contains no raw line feeds, which would end the event.
    write_all(
        &mut stream,
        format!("event: {kind}\ndata: {data}\n\n").as_bytes(),
    )
}

/// Sends a comment, to detect a dead connection.
pub fn keep_alive(mut stream: &Stream) -> io::Result<()> {
    write_all(&mut stream, b": still here\n\n")
}

/// Writes all bytes. [`PATIENCE`] limits the total time, because a slow peer could otherwise
/// prolong it with each byte.
fn write_all(stream: &mut &Stream, bytes: &[u8]) -> io::Result<()> {
    let until = Instant::now() + PATIENCE;
    let mut rest = bytes;
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

    /// Parses a request with a complete head, from a direct connection.
    pub(crate) fn request(bytes: &[u8], rules: &Rules) -> Result<Request, RefusedRequest> {
        let ends = Ends {
            peer: "192.0.2.1:4000".parse().unwrap(),
            here: "192.0.2.7:8080".parse().unwrap(),
        };
        match received(bytes) {
            Received::Head { head, rest } => {
                judge(&bytes[head], rules, ends).map(|request| Request {
                    rest: bytes[rest..].to_vec(),
                    ..request
                })
            }
            Received::Refused(refusal) => Err(RefusedRequest {
                refusal,
                client: ends.peer,
                is_head: false,
            }),
            Received::Part => panic!("the head is incomplete"),
        }
    }

    /// Parses a request with this head, which is given without its final empty line.
    pub(crate) fn parsed(head: &str) -> Result<Request, Refusal> {
        let bytes = format!("{head}\r\n\r\n").into_bytes();
        request(&bytes, &Rules::default()).map_err(|refused| refused.refusal)
    }

    fn status(head: &str) -> String {
        let status = parsed(head).map_or_else(|refusal| refusal.status(), |_| "200 OK");
        status[..3].to_owned()
    }

    #[test]
    fn a_get_request_is_parsed() {
        let request = parsed("GET /events?from=12&speed=2.5 HTTP/1.1\r\nhost: localhost:8050");
        let request = request.unwrap();
        assert_eq!((request.path.as_str(), request.is_head), ("/events", false));
        assert_eq!(request.number("from"), Some(12));
        assert_eq!(request.number("speed"), Some(2.5));
        assert_eq!(request.number::<u64>("count"), None);
        assert!(
            parsed("HEAD / HTTP/1.1\r\nHost: localhost")
                .unwrap()
                .is_head
        );
    }

    #[test]
    fn everything_else_is_refused() {
        for (head, wanted) in [
            ("GET / HTTP/1.1", "400"),
            ("GET / HTTP/1.1\r\nA: b", "400"),
            ("GET /\r\nHost: localhost", "400"),
            ("GET / HTTP/2\r\nHost: localhost", "400"),
            ("GET / http/1.1\r\nHost: localhost", "400"),
            ("GET / HTTP/2.0\r\nHost: localhost", "505"),
            ("PRI * HTTP/2.0", "505"),
            ("GET  / HTTP/1.1\r\nHost: localhost", "400"),
            (" GET / HTTP/1.1\r\nHost: localhost", "400"),
            ("\rGET / HTTP/1.1\r\nHost: localhost", "400"),
            ("GET /\u{e9} HTTP/1.1\r\nHost: localhost", "400"),
            ("G(T / HTTP/1.1\r\nHost: localhost", "400"),
            (
                "GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost",
                "400",
            ),
            (
                "GET / HTTP/1.0\r\nHost: localhost\r\nHost: localhost",
                "400",
            ),
            ("GET / HTTP/1.1\r\nHost: localhost\r\n folded", "400"),
            ("GET / HTTP/1.1\r\n Host: localhost", "400"),
            ("GET / HTTP/1.1\r\nHost : localhost", "400"),
            ("GET / HTTP/1.1\r\nHost: localhost\r\n: b", "400"),
            ("GET / HTTP/1.1\r\nHost: localhost\r\nA: b\rc", "400"),
            ("GET / HTTP/1.1\r\nHost: localhost\r\nA: b\0c", "400"),
            ("GET / HTTP/1.1\r\nHost:", "400"),
            ("GET / HTTP/1.1\r\nHost: 127.0.0.1:80:90", "400"),
            ("GET / HTTP/1.1\r\nHost: a b", "400"),
            ("GET nothing HTTP/1.1\r\nHost: localhost", "400"),
            ("GET ftp://localhost/ HTTP/1.1\r\nHost: localhost", "400"),
            ("POST / HTTP/1.1\r\nHost: localhost", "405"),
            ("OPTIONS * HTTP/1.1\r\nHost: localhost", "405"),
            ("CONNECT localhost:80 HTTP/1.1\r\nHost: localhost", "405"),
            ("get / HTTP/1.1\r\nHost: localhost", "405"),
            ("GET / HTTP/1.1\r\nHost: evil.example", "421"),
            ("POST / HTTP/1.1\r\nHost: evil.example:8050", "421"),
            ("GET / HTTP/1.1\r\nHost: localhost.evil.example", "421"),
        ] {
            assert_eq!(status(head), wanted, "{head:?}");
        }
        for host in [
            "localhost",
            "LOCALHOST:8050",
            "127.0.0.1",
            "[::1]:8050",
            "192.0.2.7:1",
        ] {
            assert_eq!(
                status(&format!("GET / HTTP/1.1\r\nHost: {host}")),
                "200",
                "{host}"
            );
        }
    }

    #[test]
    fn empty_lines_before_a_request_and_bare_line_feeds_are_accepted() {
        for before in ["\r\n", "\n", "\r\n\r\n\r\n\n"] {
            let head = format!("{before}GET /a HTTP/1.1\r\nHost: localhost");
            assert_eq!(parsed(&head).unwrap().path, "/a", "{before:?}");
        }
        let bytes = b"\nGET /a HTTP/1.1\nHost: localhost\n\nrest\n\n";
        let request = request(bytes, &Rules::default()).unwrap();
        assert_eq!(
            (request.path.as_str(), &*request.rest),
            ("/a", &b"rest\n\n"[..])
        );
    }

    #[test]
    fn http_1_0_requires_no_host() {
        let host = |head: &str| parsed(head).map(|request| request.host);
        assert_eq!(host("GET / HTTP/1.0"), Ok("192.0.2.7:8080".to_owned()));
        assert_eq!(
            host("GET / HTTP/1.0\r\nHost: localhost"),
            Ok("localhost".to_owned())
        );
        assert_eq!(status("GET / HTTP/1.0\r\nHost: evil.example"), "421");
    }

    #[test]
    fn a_whole_url_names_host_and_path() {
        let named = |target: &str, host: &str| {
            let request = parsed(&format!("GET {target} HTTP/1.1\r\nHost: {host}"))?;
            Ok((request.host, request.path, request.query))
        };
        let wanted = |host: &str, path: &str, query: &str| {
            Ok((host.to_owned(), path.to_owned(), query.to_owned()))
        };
        assert_eq!(
            named("http://localhost/a?b=1", "evil.example"),
            wanted("localhost", "/a", "b=1")
        );
        assert_eq!(
            named("HTTPS://127.0.0.1:81", "localhost"),
            wanted("127.0.0.1:81", "/", "")
        );
        assert_eq!(
            named("http://localhost?b=http://c/", "localhost"),
            wanted("localhost", "/", "b=http://c/")
        );
        assert_eq!(
            named("/a?b=http://c/", "localhost"),
            wanted("localhost", "/a", "b=http://c/")
        );
        let host = "evil.example".to_owned();
        assert_eq!(
            named("http://evil.example/", "localhost"),
            Err(Refusal::MisdirectedRequest { host })
        );
        for target in ["http:///", "http://a@localhost/", "http://localhost:x/"] {
            assert!(
                matches!(named(target, "localhost"), Err(Refusal::BadRequest(_))),
                "{target}"
            );
        }
        // HTTP/1.1 requires the Host field even if the target is a URL.
        assert_eq!(status("GET http://localhost/ HTTP/1.1"), "400");
        assert_eq!(status("GET http://localhost/ HTTP/1.0"), "200");
    }

    #[test]
    fn values_may_contain_bytes_outside_ascii() {
        let bytes = b"GET / HTTP/1.1\r\nHost: localhost\r\nCookie: caf\xe9\ttab\r\nEmpty:\r\n\r\n";
        let request = request(bytes, &Rules::default()).unwrap();
        assert_eq!(request.field("cookie").unwrap(), "caf\u{fffd}\ttab");
        assert_eq!(request.field("empty").unwrap(), "");
    }

    #[test]
    fn a_head_may_have_32_kib_and_its_first_line_8() {
        let head = |line: usize, all: usize| {
            let mut head = format!(
                "GET /{} HTTP/1.1\r\nHost: localhost\r\nA: ",
                "p".repeat(line - 15)
            );
            head += &"x".repeat(all - head.len() - 2);
            head
        };
        for (line, all, wanted) in [
            (8000, 16 * 1024, "200"),
            (8 * 1024 - 1, 32 * 1024, "200"),
            (8 * 1024 + 1, 16 * 1024, "414"),
            (100, 32 * 1024 + 1, "431"),
            (100, 100 * 1024, "431"),
        ] {
            assert_eq!(status(&head(line, all)), wanted, "{line} {all}");
        }
        // A request that is too long is refused before all of it has arrived.
        assert_eq!(received(&[b'x'; LONGEST_LINE]), Received::Part);
        let long = received(&[b'x'; LONGEST_LINE + 1]);
        assert_eq!(long, Received::Refused(Refusal::TargetTooLong));
        let mut long = b"GET / HTTP/1.1\r\nA: ".to_vec();
        long.resize(LONGEST_HEAD + 1, b'x');
        assert_eq!(received(&long), Received::Refused(Refusal::HeadTooLong));
        // The number of empty lines is also limited.
        assert_eq!(
            received(&[b'\n'; LONGEST_HEAD + 1]),
            Received::Refused(Refusal::HeadTooLong)
        );
    }

    #[test]
    fn other_protocols_are_recognised_as_soon_as_they_are_clear() {
        for (bytes, opening) in [
            (&b"\x16\x03\x01"[..], Opening::Tls),
            (
                b"PROXY TCP4 192.0.2.1 192.0.2.7 1 2\r\nGET / HTTP/1.1\r\n",
                Opening::Proxy(1),
            ),
            (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c", Opening::Proxy(2)),
        ] {
            assert_eq!(
                received(bytes),
                Received::Refused(Refusal::Opening(opening))
            );
            // No decision is possible with fewer bytes.
            for length in 0..bytes.len() {
                let part = received(&bytes[..length]);
                assert!(
                    part == Received::Part || Opening::of(&bytes[..length]).is_some(),
                    "{length}"
                );
            }
        }
    }

    #[test]
    fn a_refusal_names_the_client_behind_the_proxy() {
        let rules = Rules {
            hosts: Hosts::default(),
            proxies: vec!["192.0.2.0/24".parse().unwrap()],
        };
        let bytes =
            b"HEAD / HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n";
        let refused = request(bytes, &rules).unwrap_err();
        assert_eq!(
            (refused.client.to_string(), refused.is_head),
            ("203.0.113.9:4000".to_owned(), true)
        );
        let whole = refusal_to(&refused.refusal, false);
        let (head, body) = whole.split_once("\r\n\r\n").unwrap();
        assert!(body.contains("--web-name evil.example"), "{body}");
        let without = refusal_to(&refused.refusal, true);
        assert_eq!(without, format!("{head}\r\n\r\n"));
    }

    proptest! {
        #[test]
        fn no_head_makes_it_panic(head in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Received::Head { .. } = received(&head) {
                let _ = request(&head, &Rules::default());
            }
        }

        #[test]
        fn a_request_is_the_same_in_one_piece_and_in_many(cut in 0_usize..60) {
            let bytes = b"\r\nGET /a HTTP/1.1\r\nHost: localhost\r\n\r\nmore";
            let cut = cut.min(bytes.len());
            let whole = received(bytes);
            let part = received(&bytes[..cut]);
            prop_assert!(part == Received::Part || part == whole);
        }
    }
}
