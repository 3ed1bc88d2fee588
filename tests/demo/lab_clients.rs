//! The laboratory's clients: real connections, each of which does what a button says.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use portal_chat::core::seats::SharedSeat;
use portal_chat::event::{Events, ServerEvent};
use portal_chat::server::Server;

use super::visitor::{Ticket, Visitor, request_port};

/// The buttons: the name in the request, and the text on the page.
pub const ACTIONS: &[(&str, &str)] = &[
    ("enter", "right passcode"),
    ("wrong", "wrong passcode"),
    ("silent", "no passcode"),
    ("no-show", "takes a port but does not connect"),
    ("knock", "knocks without a ticket"),
    ("say", "message to the partner"),
    ("everyone", "to everyone"),
    ("room", "to a room"),
    ("never-read", "enters but never reads"),
    ("flood", "floods the partner"),
    ("stop", "stops"),
    ("continue", "continues"),
    ("terminate", "TERMINATE"),
    ("vanish", "closes without TERMINATE"),
];

const NAMES: [&str; 12] = [
    "alice", "bob", "carol", "dave", "erin", "frank", "gina", "hal", "ida", "jan", "kim", "leo",
];

/// Time for which a client floods its partner.
const FLOOD: Duration = Duration::from_secs(4);
/// The length of the text of each message in a flood, in bytes.
const FLOOD_TEXT: usize = 4096;

/// The clients of a laboratory.
pub struct Class {
    server: Arc<Server>,
    events: Events,
    clients: Mutex<Vec<Arc<LabClient>>>,
    entered: AtomicUsize,
}

/// A client in a seat.
struct LabClient {
    name: String,
    seat: u16,
    stream: TcpStream,
    /// True while the client is stopped: it reads nothing.
    stopped: Mutex<bool>,
    changed: Condvar,
    is_member: Mutex<bool>,
}

impl Class {
    pub fn new(server: Arc<Server>, events: Events) -> Class {
        Class {
            server,
            events,
            clients: Mutex::default(),
            entered: AtomicUsize::new(0),
        }
    }

    /// Does what a button says. `seat` selects the client; without it, the client that entered last
    /// is used. Returns what has been done, or the reason why it can't be done.
    pub fn act(self: &Arc<Self>, action: &str, seat: Option<u16>) -> Result<String, String> {
        match action {
            "enter" => self.enter(false),
            "never-read" => self.enter(true),
            "wrong" => {
                let (worker, _) = self.ticket("a client sends a wrong passcode")?;
                let mut visitor = Visitor::at(worker);
                visitor.passcode("guessed");
                visitor.receive("Wrong handshake passcode");
                Ok("the client was rejected: Wrong handshake passcode".to_owned())
            }
            "silent" => {
                let (worker, _) = self.ticket("a client connects and sends no passcode")?;
                // The connection stays open until the server closes it.
                thread::spawn(move || {
                    let stream = TcpStream::connect(worker);
                    stream.map(|mut stream| stream.read_to_end(&mut Vec::new()))
                });
                Ok(format!(
                    "the client is connected to {} and sends nothing",
                    worker.port()
                ))
            }
            "no-show" => {
                let (worker, _) = self.ticket("a client takes a port and does not connect")?;
                Ok(format!("the client has the ticket for {}", worker.port()))
            }
            "knock" => self.knock(),
            _ => {
                let client = self.client(seat)?;
                self.act_as(&client, action)
            }
        }
    }

    fn caption(&self, text: &str, look: &str) {
        self.events.emit(|| ServerEvent::Caption {
            text: text.to_owned(),
            look: Some(look.to_owned()),
        });
    }

    fn ticket(&self, caption: &str) -> Result<Ticket, String> {
        self.caption(caption, "portal");
        let ticket = request_port(self.server.portal());
        ticket.ok_or_else(|| "FULL: all seats are taken; a client must leave first".to_owned())
    }

    fn knock(&self) -> Result<String, String> {
        // The bottom of the stack, because the next client gets the top.
        let free = self.server.free_ports().last().map(|port| port.get());
        let port = free.unwrap_or_else(|| self.server.workers()[0].get());
        let worker = SocketAddr::new(self.server.portal().ip(), port);
        self.caption(
            "a client connects to a worker without a ticket",
            &port.to_string(),
        );
        let knock = move || Visitor::at(worker).receive("Wrong handshake passcode");
        if free.is_none() {
            thread::spawn(knock);
            return Ok(format!(
                "{port} is occupied, so the connection waits in that port's backlog"
            ));
        }
        knock();
        Ok(format!("{port} rejected the client"))
    }

    fn enter(self: &Arc<Self>, never_reads: bool) -> Result<String, String> {
        let number = self.entered.fetch_add(1, Ordering::Relaxed);
        let round = number / NAMES.len();
        let name = NAMES[number % NAMES.len()].to_owned();
        let name = if round == 0 {
            name
        } else {
            format!("{name}{round}")
        };
        let caption = match never_reads {
            true => format!("{name} enters and then never reads"),
            false => format!("{name} connects with the right passcode"),
        };
        let (worker, passcode) = self.ticket(&caption)?;
        let mut visitor = Visitor::at(worker);
        visitor.passcode(&passcode);
        visitor.receive("Connection successful");
        visitor.log_in(&name);
        let client = Arc::new(LabClient {
            name: name.clone(),
            seat: worker.port(),
            stream: visitor.into_stream(),
            stopped: Mutex::new(never_reads),
            changed: Condvar::new(),
            is_member: Mutex::new(false),
        });
        let mut clients = self.clients.lock().unwrap();
        // A client that never reads does not notice that its connection is closed.
        clients.retain(|other| other.seat != client.seat);
        clients.push(Arc::clone(&client));
        drop(clients);
        let class = Arc::clone(self);
        thread::spawn(move || {
            client.read();
            class.forget(&client);
        });
        Ok(format!("{name} has the seat of {}", worker.port()))
    }

    /// Returns whether the client in that seat has bytes that it has not read.
    pub fn has_unread(&self, seat: u16) -> bool {
        let client = self.client(Some(seat)).expect("a client");
        client.stream.set_nonblocking(true).unwrap();
        let unread = client.stream.peek(&mut [0]);
        client.stream.set_nonblocking(false).unwrap();
        matches!(unread, Ok(1..))
    }

    fn forget(&self, gone: &Arc<LabClient>) {
        let mut clients = self.clients.lock().unwrap();
        clients.retain(|client| !Arc::ptr_eq(client, gone));
    }

    /// The clients that the server still serves. A stopped client does not notice its end.
    fn alive(&self) -> Vec<Arc<LabClient>> {
        let mut clients = self.clients.lock().unwrap().clone();
        clients.retain(|client| {
            let seats = self.server.state().seats.all().iter();
            let mut connected = seats.filter_map(SharedSeat::connection);
            let address = client.stream.local_addr().ok();
            connected.any(|there| Some(there.peer) == address && !there.outbox.has_ended())
        });
        clients
    }

    /// The seats whose clients are stopped.
    pub fn stopped_seats(&self) -> Vec<u16> {
        let mut clients = self.alive();
        clients.retain(|client| *client.stopped.lock().unwrap());
        clients.iter().map(|client| client.seat).collect()
    }

    /// Returns whether anybody else is a member of the lobby.
    fn has_company_in_lobby(&self, client: &LabClient) -> bool {
        let clients = self.alive();
        let mut others = clients.iter().filter(|other| other.seat != client.seat);
        others.any(|other| *other.is_member.lock().unwrap())
    }

    fn has_partner(&self, client: &LabClient) -> bool {
        let state = self.server.state();
        let mut seats = state.seats.all().iter();
        let seat = seats.find(|seat| seat.port.get() == client.seat);
        seat.is_some_and(|seat| state.service.welcomed(seat.number.partner()).is_some())
    }

    /// Returns the client in that seat, or the one that entered last.
    fn client(&self, seat: Option<u16>) -> Result<Arc<LabClient>, String> {
        let clients = self.alive();
        let found = match seat {
            Some(seat) => clients.iter().rev().find(|client| client.seat == seat),
            None => clients.last(),
        };
        let reason = match seat {
            Some(seat) => format!("the laboratory has no client on port {seat}"),
            None => "there is no client: press \"right passcode\" first".to_owned(),
        };
        found.map(Arc::clone).ok_or(reason)
    }

    fn act_as(self: &Arc<Self>, client: &Arc<LabClient>, action: &str) -> Result<String, String> {
        let name = client.name.clone();
        let done = |text: &str| Ok(format!("{name} {text}"));
        let show = |text: &str| self.caption(&format!("{name} {text}"), &client.seat.to_string());
        match action {
            "say" => {
                show("sends a message to the partner");
                client.document(&format!("<message>hello from {name}</message>"));
                match self.has_partner(client) {
                    true => done("has sent the message"),
                    false => done("has sent the message, but has no partner to receive it"),
                }
            }
            "everyone" => {
                show("sends a message to everyone");
                client.command("PM", "<message>hello, everyone</message>");
                done("has sent the message")
            }
            "room" => {
                show("sends a message to the room lobby");
                if !std::mem::replace(&mut *client.is_member.lock().unwrap(), true) {
                    client.command("JOIN", "<room>lobby</room><here/>");
                }
                client.command("SAY", "<room>lobby</room><message>hello, lobby</message>");
                match self.has_company_in_lobby(client) {
                    true => done("has sent the message"),
                    false => done(
                        "has joined the room and sent the message, but is its only member: press \"to a room\" for another client, too",
                    ),
                }
            }
            "flood" => {
                show("floods the partner");
                let flooding = Arc::clone(client);
                thread::spawn(move || flooding.flood());
                match self.has_partner(client) {
                    true => done("is sending as fast as the server reads, for four seconds"),
                    false => done(
                        "is sending for four seconds, but has no partner: each message is answered NO PARTNER",
                    ),
                }
            }
            "stop" => {
                show("is stopped and reads nothing");
                client.stop(true);
                done("reads nothing")
            }
            "continue" => {
                show("continues and reads what arrived in the meantime");
                client.stop(false);
                done("reads again")
            }
            "terminate" => {
                show("sends TERMINATE");
                client.command("TERMINATE", "");
                client.stop(false);
                done("has sent TERMINATE")
            }
            "vanish" => {
                show("closes the connection without TERMINATE");
                let _ = client.stream.shutdown(Shutdown::Both);
                client.stop(false);
                done("is gone")
            }
            _ => Err(format!("the laboratory has no button {action}")),
        }
    }
}

impl LabClient {
    /// Reads until the connection is closed, except while the client is stopped.
    fn read(&self) {
        let mut buffer = [0; 16 * 1024];
        let mut stream = &self.stream;
        loop {
            // A peek leaves the bytes in the socket, so a client that is stopped in the meantime
            // does not read them.
            match self.stream.peek(&mut [0]) {
                Ok(1..) => {}
                // Another thread asks whether there is anything to read.
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                _ => return,
            }
            let mut stopped = self.stopped.lock().unwrap();
            while *stopped {
                stopped = self.changed.wait(stopped).unwrap();
            }
            drop(stopped);
            match stream.read(&mut buffer) {
                Ok(1..) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                _ => return,
            }
        }
    }

    fn stop(&self, is_stopped: bool) {
        *self.stopped.lock().unwrap() = is_stopped;
        self.changed.notify_all();
    }

    fn document(&self, elements: &str) {
        // If the connection is closed, the board shows it.
        let _ = writeln!(&self.stream, "<CLIENT>{elements}</CLIENT>");
    }

    fn command(&self, command: &str, elements: &str) {
        self.document(&format!("<command>{command}</command>{elements}"));
    }

    fn flood(&self) {
        let until = Instant::now() + FLOOD;
        let message = format!(
            "<CLIENT><message>{}</message></CLIENT>\n",
            "flood ".repeat(FLOOD_TEXT / 6)
        );
        while Instant::now() < until {
            if (&self.stream).write_all(message.as_bytes()).is_err() {
                return;
            }
        }
    }
}
