//! `make lab`: the demonstration's server, and a board with buttons that make real clients do one
//! thing each: send a wrong passcode, flood their partner, stop reading. For a class that asks
//! "what happens if".
//!
//! The buttons exist only here. This program has its own listener, which serves the board's page
//! with one more script, passes every other request on to the board, and acts on a `POST`. The
//! board and `chatserver` know nothing about it. It listens on loopback only, and acts only for its
//! own page: other pages that this machine's browser shows can't press a button.
//!
//! `LAB=127.0.0.1:8051` chooses another address, and `--events FILE` records the events.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_macros,
    unreachable_pub,
    dead_code
)]

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use portal_chat::board::{Board, Redactor};
use portal_chat::clock::{Clock, Ticker};
use portal_chat::event::{Events, start_event_file};
use portal_chat::net::threads::Roster;
use portal_chat::server::{Server, Settings};

mod lab_clients;
#[path = "../support/patience.rs"]
mod patience;
mod visitor;
pub use lab_clients::{ACTIONS, Class};
pub use patience::PATIENCE;

/// Maximum length of a request, in bytes. A browser's are much shorter.
const MAX_REQUEST: u64 = 16 * 1024;

fn main() {
    let refuse = |reason: &str| -> ! {
        eprintln!("lab: {reason}");
        std::process::exit(2);
    };
    let address = std::env::var("LAB").unwrap_or("127.0.0.1:8051".to_owned());
    let Ok(address) = address.parse::<SocketAddr>() else {
        refuse(&format!(
            "LAB={address} is not an address with a port, such as 127.0.0.1:8051"
        ))
    };
    let mut words = std::env::args_os().skip(1);
    let recording = match (words.next(), words.next(), words.next()) {
        (None, ..) => None,
        (Some(option), Some(file), None) if option == "--events" => Some(PathBuf::from(file)),
        _ => refuse("the only option is --events FILE, which records the events in FILE"),
    };
    // The board shows every thread of the server.
    Roster::of_this_thread();
    let clock = Clock::new();
    let mut events = Events::new(clock.clone());
    if let Some(file) = recording {
        let queue = events.add_reader(1 << 16);
        if let Err(error) = start_event_file(queue, &file, None) {
            refuse(&format!(
                "can't write {} ({error}): choose another --events FILE",
                file.display()
            ));
        }
    }
    let lab = match Lab::open(address, Settings::default().port, &clock, events) {
        Ok(lab) => lab,
        Err(error) => refuse(&format!("can't listen on {address}: {error}")),
    };
    let emitter = lab.events.clone();
    let beaten = move |_, told| emitter.emit_tick(told);
    let _ticker = Ticker::start(clock, Duration::from_secs(1), beaten).expect("a thread");
    println!("portal   {}", lab.server.portal());
    println!(
        "lab      http://{}/  open this in a browser and press its buttons; press Ctrl-C to stop it",
        lab.address
    );
    // Until Ctrl-C.
    loop {
        thread::park();
    }
}

/// A server, its board, and the listener with the buttons.
pub struct Lab {
    pub address: SocketAddr,
    pub server: Arc<Server>,
    pub events: Events,
    board: Board,
    pub class: Arc<Class>,
}

impl Lab {
    /// Starts everything. `port` is the portal's; if it is taken, the system chooses the ports.
    ///
    /// # Errors
    /// `address` is not a loopback address, or can't be bound.
    pub fn open(
        address: SocketAddr,
        port: u16,
        clock: &Clock,
        mut events: Events,
    ) -> io::Result<Lab> {
        if !address.ip().is_loopback() {
            let reason = "the laboratory can listen only on a loopback address, such as \
                          LAB=127.0.0.1:8051";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        }
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        events.show_texts();
        let redactor = Redactor {
            texts: true,
            secrets: true,
        };
        let inner = SocketAddr::new(address.ip(), 0);
        let board = Board::live(inner, &mut events, redactor, None, &[])?;
        let seconds = Duration::from_secs;
        let settings = Settings {
            port,
            reserve_timeout: seconds(6),
            handshake_timeout: seconds(6),
            idle_timeout: Some(seconds(120)),
            show_passcodes: true,
            ..Settings::default()
        };
        let server = Server::start(&settings, clock.clone(), events.clone()).or_else(|_| {
            let settings = Settings {
                port: 0,
                ..settings
            };
            Server::start(&settings, clock.clone(), events.clone())
        });
        let server = Arc::new(server.map_err(io::Error::other)?);
        let class = Arc::new(Class::new(Arc::clone(&server), events.clone()));
        let (acting, behind) = (Arc::clone(&class), board.address());
        // These threads are the laboratory's, and not on the board.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let class = Arc::clone(&acting);
                thread::spawn(move || {
                    // A browser may close its connection at any time.
                    let _ = serve(stream, address, behind, &class);
                });
            }
        });
        Ok(Lab {
            address,
            server,
            events,
            board,
            class,
        })
    }
}

/// Answers one request.
fn serve(
    stream: TcpStream,
    own: SocketAddr,
    board: SocketAddr,
    class: &Arc<Class>,
) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream.try_clone()?.take(MAX_REQUEST));
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim_end().is_empty() {
            break;
        }
        lines.push(line.trim_end().to_owned());
    }
    let mut words = lines.first().map_or("", String::as_str).split(' ');
    let (method, target) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    let header = |name: &str| {
        let mut headers = lines.iter().skip(1).filter_map(|line| line.split_once(':'));
        let found = headers.find(|(there, _)| there.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value.trim())
    };
    let port = own.port();
    let hosts = [
        own.to_string(),
        format!("localhost:{port}"),
        format!("127.0.0.1:{port}"),
    ];
    let host = header("Host");
    if !hosts.iter().any(|known| known == host) {
        return answer(
            &stream,
            "421 Misdirected Request",
            "use the address that the laboratory printed",
        );
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    match (method, path, path.strip_prefix("/lab/")) {
        // Only the laboratory's own page may press a button.
        ("POST", _, Some(_)) if header("Origin") != format!("http://{host}") => answer(
            &stream,
            "403 Forbidden",
            "only the laboratory's own page may do this",
        ),
        ("POST", _, Some(action)) => {
            let seat = query
                .strip_prefix("seat=")
                .and_then(|seat| seat.parse().ok());
            match Class::act(class, action, seat) {
                Ok(done) => answer(&stream, "200 OK", &done),
                Err(reason) => answer(&stream, "409 Conflict", &reason),
            }
        }
        ("GET", "/lab/stopped", _) => {
            let seats = class.stopped_seats();
            let seats: Vec<String> = seats.iter().map(u16::to_string).collect();
            answer(&stream, "200 OK", &seats.join(" "))
        }
        ("GET", "/lab.js", _) => part(&stream, "text/javascript", include_str!("lab.js")),
        ("GET", "/lab.css", _) => part(&stream, "text/css", include_str!("lab.css")),
        ("GET", "/", _) => {
            let page = pass_on(board, "/")?;
            let mut whole = String::new();
            BufReader::new(page).read_to_string(&mut whole)?;
            let (head, body) = whole.split_once("\r\n\r\n").unwrap_or_default();
            // The policy of the board's page also applies to this one.
            let head: String = head
                .lines()
                .filter(|line| !line.starts_with("Content-Length:"))
                .map(|line| format!("{line}\r\n"))
                .collect();
            let more = "<link rel=\"stylesheet\" href=\"lab.css\"><script src=\"lab.js\" defer></script></head>";
            let body = body.replacen("</head>", more, 1);
            (&stream).write_all(format!("{head}\r\n{body}").as_bytes())
        }
        ("GET", ..) => {
            io::copy(&mut pass_on(board, target)?, &mut &stream)?;
            Ok(())
        }
        _ => answer(
            &stream,
            "405 Method Not Allowed",
            "the laboratory accepts only GET and the requests of its buttons",
        ),
    }
}

/// Sends a request to the board, and returns the connection with its answer.
fn pass_on(board: SocketAddr, target: &str) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(board)?;
    write!(stream, "GET {target} HTTP/1.1\r\nHost: {board}\r\n\r\n")?;
    Ok(stream)
}

fn answer(stream: &TcpStream, status: &str, sentence: &str) -> io::Result<()> {
    respond(stream, status, "text/plain", sentence)
}

fn part(stream: &TcpStream, kind: &str, text: &str) -> io::Result<()> {
    respond(stream, "200 OK", kind, text)
}

fn respond(mut stream: &TcpStream, status: &str, kind: &str, text: &str) -> io::Result<()> {
    let length = text.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}; charset=utf-8\r\nContent-Length: {length}\r\n\
         Content-Security-Policy: default-src 'none'\r\nX-Content-Type-Options: nosniff\r\n\
         Cache-Control: no-store\r\nConnection: close\r\n\r\n{text}"
    )
}
