//! The limits that bare sockets set: programs that parse nothing and check nothing.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

/// Prints the port and serves until it is killed.
pub fn serve(what: &str) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    println!("{}", listener.local_addr().unwrap());
    match what {
        "relay" => relay(&listener),
        "fan-out" => fan_out(&listener, false),
        "fan-out-together" => fan_out(&listener, true),
        "mailboxes" => mailboxes(&listener),
        "steps" => steps(listener),
        "echo" => echo(&listener),
        other => panic!("no such program: {other}"),
    }
}

fn accept(listener: &TcpListener) -> TcpStream {
    let stream = listener.accept().unwrap().0;
    stream.set_nodelay(true).unwrap();
    stream
}

/// Pairs clients in the order in which they connect. A thread for each direction copies bytes.
fn relay(listener: &TcpListener) {
    loop {
        let (one, other) = (Arc::new(accept(listener)), Arc::new(accept(listener)));
        for (from, to) in [(Arc::clone(&one), Arc::clone(&other)), (other, one)] {
            thread::spawn(move || {
                let mut bytes = [0; 64 * 1024];
                while let Ok(count @ 1..) = (&*from).read(&mut bytes) {
                    if (&*to).write_all(&bytes[..count]).is_err() {
                        break;
                    }
                }
            });
        }
    }
}

/// Forwards one client's lines to all other clients: one write per line, or one write for
/// everything that was read together.
fn fan_out(listener: &TcpListener, together: bool) {
    let everyone: Arc<Mutex<Vec<Arc<TcpStream>>>> = Arc::default();
    loop {
        let stream = Arc::new(accept(listener));
        everyone.lock().unwrap().push(Arc::clone(&stream));
        let everyone = Arc::clone(&everyone);
        let builder = thread::Builder::new().stack_size(256 * 1024);
        let serving = move || {
            let mut bytes = vec![0; 64 * 1024];
            while let Ok(count @ 1..) = (&*stream).read(&mut bytes) {
                let there = everyone.lock().unwrap();
                let lines: Vec<&[u8]> = if together {
                    vec![&bytes[..count]]
                } else {
                    bytes[..count]
                        .split_inclusive(|&byte| byte == b'\n')
                        .collect()
                };
                for line in lines {
                    for other in there.iter().filter(|other| !Arc::ptr_eq(other, &stream)) {
                        let _ = (&**other).write_all(line);
                    }
                }
            }
        };
        builder.spawn(serving).unwrap();
    }
}

/// Like the fan-out, except that each line goes into a mailbox for each client, whose own thread
/// writes everything that has accumulated. The sender gets its own lines, too, as the confirmation.
fn mailboxes(listener: &TcpListener) {
    #[derive(Default)]
    struct Mailbox {
        lines: Mutex<Vec<u8>>,
        posted: Condvar,
    }
    let everyone: Arc<Mutex<Vec<Arc<Mailbox>>>> = Arc::default();
    loop {
        let (stream, mine) = (Arc::new(accept(listener)), Arc::<Mailbox>::default());
        everyone.lock().unwrap().push(Arc::clone(&mine));
        let (everyone, reading) = (Arc::clone(&everyone), Arc::clone(&stream));
        thread::spawn(move || {
            let mut bytes = [0; 64 * 1024];
            while let Ok(count @ 1..) = (&*reading).read(&mut bytes) {
                for mailbox in everyone.lock().unwrap().iter() {
                    mailbox.lines.lock().unwrap().extend(&bytes[..count]);
                    mailbox.posted.notify_one();
                }
            }
        });
        thread::spawn(move || {
            let mut out = Vec::new();
            loop {
                let lines = mine.lines.lock().unwrap();
                let mut lines = mine
                    .posted
                    .wait_while(lines, |lines| lines.is_empty())
                    .unwrap();
                std::mem::swap(&mut *lines, &mut out);
                drop(lines);
                if (&*stream).write_all(&out).is_err() {
                    break;
                }
                out.clear();
            }
        });
    }
}

/// Serves one visit at a time: echoes a line and closes the connection.
fn echo(listener: &TcpListener) {
    loop {
        let stream = accept(listener);
        let mut line = String::new();
        if BufReader::new(&stream).read_line(&mut line).is_ok() {
            let _ = (&stream).write_all(line.as_bytes());
        }
    }
}

/// The steps of a full visit without any logic: a portal that always sends the same ticket, over
/// TCP and UDP, and a worker that accepts any passcode, replies to one message and closes.
fn steps(portal: TcpListener) {
    let worker = TcpListener::bind("127.0.0.1:0").unwrap();
    let ticket = format!(
        "<SERVER type='worker'><Port>{}</Port><HandshakePasscode>{:032}</HandshakePasscode></SERVER>\n",
        worker.local_addr().unwrap().port(),
        0
    );
    let by_datagram = UdpSocket::bind(portal.local_addr().unwrap()).unwrap();
    let reply = ticket.clone();
    thread::spawn(move || {
        while let Ok((_, peer)) = by_datagram.recv_from(&mut [0; 2048]) {
            by_datagram.send_to(reply.as_bytes(), peer).unwrap();
        }
    });
    thread::spawn(move || {
        loop {
            let _ = accept(&portal).write_all(ticket.as_bytes());
        }
    });
    loop {
        let stream = accept(&worker);
        let (mut reader, mut line) = (BufReader::new(&stream), String::new());
        for reply in [
            "Connection successful",
            "<SERVER><command>NO PARTNER</command></SERVER>",
        ] {
            let _ = reader.read_line(&mut line);
            let _ = (&stream).write_all(format!("{reply}\n").as_bytes());
        }
        let _ = reader.read_line(&mut line);
    }
}
