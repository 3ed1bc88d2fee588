#![cfg(test)]

use super::*;
use crate::notify::NotifyReceiver;
use crate::transport::{Encoding, XmlLineEncoder};
use socket2::SockRef;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

/// An outbox, the receiver of its notifications, and the client's socket.
fn outbox() -> (Arc<Outbox>, NotifyReceiver, TcpStream) {
    outbox_with(Duration::from_secs(20))
}

fn outbox_with(write_timeout: Duration) -> (Arc<Outbox>, NotifyReceiver, TcpStream) {
    outbox_on(connected(), write_timeout)
}

/// The server's and the client's socket.
fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (listener.accept().unwrap().0, client)
}

fn outbox_on(
    sockets: (TcpStream, TcpStream),
    write_timeout: Duration,
) -> (Arc<Outbox>, NotifyReceiver, TcpStream) {
    outbox_of(Box::<XmlLineEncoder>::default(), sockets, write_timeout)
}

fn outbox_of(
    encoder: Box<dyn Encoder>,
    (server, client): (TcpStream, TcpStream),
    write_timeout: Duration,
) -> (Arc<Outbox>, NotifyReceiver, TcpStream) {
    client
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let stream = Stream::from(server);
    let notifications = NotifyReceiver::new();
    let outbox = Outbox::new(stream, encoder, notifications.notifier(), write_timeout);
    (Arc::new(outbox), notifications, client)
}

fn text(kilobytes: usize) -> ServerDoc<'static> {
    ServerDoc::Notice("x".repeat(kilobytes * 1024).into())
}

/// Sends until the socket is full and the outbox has spilled.
fn fill(outbox: &Outbox) -> usize {
    let mut sent = 0;
    while outbox.queue.lock().state == QueueState::Open {
        assert_eq!(outbox.send_doc(&text(32)), Queued::Yes);
        sent += 1;
        assert!(
            sent < 2000,
            "the socket is full, but the outbox has not noticed"
        );
    }
    sent
}

fn documents(mut client: TcpStream) -> Vec<String> {
    let mut all = String::new();
    client.read_to_string(&mut all).unwrap();
    assert!(all.ends_with('\n'), "the last frame is whole");
    all.lines().map(str::to_owned).collect()
}

/// The session ends while the timer thread is in a write. The timer does not write again,
/// because the seat has lost its connection. The last frames still arrive, and arrive whole.
#[test]
fn the_farewell_follows_a_write_in_progress() {
    for _ in 0..5 {
        let (outbox, _wakes, client) = outbox();
        let mut sent = 0;
        let is_under_way = || outbox.queue.lock().waiting.is_in_flight();
        // A write that finishes before the test sees it is repeated: the client does not read
        // yet.
        let writing = loop {
            // The kernel may make room again after the socket was full.
            if outbox.queue.lock().state == QueueState::Open {
                sent += fill(&outbox);
                // Send more than the timer writes at once, so that something stays queued.
                for _ in 0..8 {
                    outbox.send_doc(&text(32));
                }
                sent += 8;
            }
            let timer = Arc::clone(&outbox);
            let writing = thread::spawn(move || timer.write_out());
            while !is_under_way() && !writing.is_finished() {
                thread::yield_now();
            }
            if !writing.is_finished() {
                break writing;
            }
            writing.join().unwrap();
        };
        let worker = Arc::clone(&outbox);
        let ending = thread::spawn(move || {
            worker.send_doc(&ServerDoc::Pong);
            worker.hang_up(CloseReason::Shutdown);
        });
        let received = documents(client);
        writing.join().unwrap();
        ending.join().unwrap();
        assert_eq!(received.len(), sent + 2);
        assert!(received[received.len() - 2].contains("PONG"));
        assert!(received[received.len() - 1].contains("SHUTDOWN"));
    }
}

#[test]
fn an_open_outbox_writes_immediately_and_wakes_no_thread() {
    let (outbox, notifications, client) = outbox();
    assert_eq!(outbox.append_doc(&ServerDoc::Pong), Queued::Yes);
    assert_eq!(outbox.send_doc(&ServerDoc::NoPartner), Queued::Yes);
    assert!(outbox.end(CloseReason::IdleTimeout));
    assert!(
        !outbox.end(CloseReason::TotalTimeout),
        "the first reason counts"
    );
    assert_eq!(outbox.send_doc(&ServerDoc::Pong), Queued::Closed);
    assert_eq!(outbox.ended(), Some(CloseReason::IdleTimeout));
    assert!(notifications.try_next().is_none());
    let expected = ["PONG", "NO PARTNER", "IDLE TIMEOUT"];
    assert_eq!(
        documents(client),
        expected.map(|name| format!("<SERVER><command>{name}</command></SERVER>"))
    );
}

#[test]
fn a_spilled_outbox_keeps_the_order_and_reopens() {
    let (outbox, notifications, client) = outbox();
    let sent = fill(&outbox);
    assert!(notifications.try_next().is_some());
    assert_eq!(outbox.send_doc(&ServerDoc::Pong), Queued::Yes);
    let reader = thread::spawn(move || documents(client));
    while outbox.write_out() != Flush::Done {}
    assert!(outbox.queue.lock().state == QueueState::Open);
    outbox.end(CloseReason::Shutdown);
    let received = reader.join().unwrap();
    assert_eq!(received.len(), sent + 2);
    assert!(received[sent].contains("PONG") && received[sent + 1].contains("SHUTDOWN"));
}

#[test]
fn a_client_that_stops_reading_is_too_slow_and_gets_the_reason_if_it_resumes() {
    let (outbox, notifications, client) = outbox();
    fill(&outbox);
    assert!(notifications.try_next().is_some());
    let mut extra = 0;
    while outbox.send_doc(&text(32)) == Queued::Yes {
        extra += 1;
        // While the client does not read, the kernel may enlarge the socket's buffers.
        assert!(
            extra * 32 * 1024 <= 8 * limits::MAX_OUTBOX_BYTES,
            "the queue is bounded"
        );
    }
    assert_eq!(outbox.ended(), Some(CloseReason::TooSlow));
    assert!(notifications.try_next().is_some());
    let reader = thread::spawn(move || documents(client));
    while outbox.write_out() != Flush::Done {}
    let received = reader.join().unwrap();
    assert!(
        received.last().unwrap().contains("TOO SLOW"),
        "{:?}",
        received.last().map(|l| &l[..40])
    );
    assert!(
        received
            .iter()
            .all(|document| document.starts_with("<SERVER>") && document.ends_with("</SERVER>"))
    );
}

/// The client reads just fast enough that no single write expires. On a slow machine it reads
/// less, never more.
#[test]
fn the_last_step_takes_one_tick_however_much_is_queued() {
    let patience = Duration::from_millis(400);
    let (server, client) = connected();
    SockRef::from(&server)
        .set_send_buffer_size(32 * 1024)
        .unwrap();
    SockRef::from(&client)
        .set_recv_buffer_size(32 * 1024)
        .unwrap();
    let (outbox, _notifications, mut client) = outbox_on((server, client), patience);
    let sent = fill(&outbox) + 30;
    for _ in 0..30 {
        assert_eq!(outbox.send_doc(&text(32)), Queued::Yes);
    }
    let reader = thread::spawn(move || {
        let mut piece = vec![0; limits::FLUSH_CHUNK];
        let mut received = 0;
        while let Ok(count @ 1..) = client.read(&mut piece) {
            received += count;
            thread::sleep(patience / 8);
        }
        received
    });
    outbox.hang_up(CloseReason::Shutdown);
    assert!(reader.join().unwrap() < sent * 32 * 1024);
}

#[test]
fn an_unread_farewell_is_abandoned_after_one_flush() {
    let (outbox, notifications, _client) = outbox_with(Duration::from_millis(20));
    fill(&outbox);
    while outbox.write_out() == Flush::More {}
    outbox.end(CloseReason::IdleTimeout);
    assert!(notifications.try_next().is_some());
    assert_eq!(outbox.write_out(), Flush::Done);
    assert!(outbox.queue.lock().state == QueueState::Closed(CloseReason::IdleTimeout));
    assert_eq!(
        outbox.stream().read(&mut [0; 8]).unwrap(),
        0,
        "the reader wakes"
    );
}

#[test]
fn output_never_offered_to_the_socket_makes_no_client_too_slow() {
    let (outbox, _wakes, client) = outbox();
    let mut frames = Frames::default();
    for _ in 0..4096 {
        frames.push(|out| out.extend(b"<SERVER><notice>x</notice></SERVER>\n"));
    }
    let rounds = limits::MAX_OUTBOX_BYTES / frames.len() + 4;
    let reader = thread::spawn(move || documents(client).len());
    for _ in 0..rounds {
        // A crowd sends like this. The timer thread does not run in this loop.
        while outbox.queue.lock().is_too_long() {
            thread::yield_now();
        }
        assert_eq!(outbox.enqueue_encoded(|_| &frames), Queued::Yes);
    }
    while outbox.write_out() != Flush::Done {}
    outbox.end(CloseReason::Terminate);
    assert_eq!(reader.join().unwrap(), rounds * 4096);
}

/// A client that requests long replies repeatedly gets no more space in the queue.
#[test]
fn exempt_replies_raise_the_limit_by_a_fixed_amount() {
    let (outbox, _wakes, _client) = outbox();
    fill(&outbox);
    let reply = text(limits::MAX_EXEMPT_BYTES / 8 / 1024);
    let mut replies = 0;
    while outbox.append_exempt_reply(&reply) > 0 {
        replies += 1;
        outbox.flush();
        let bound = limits::MAX_OUTBOX_BYTES + limits::MAX_EXEMPT_BYTES;
        assert!(outbox.has_ended() || outbox.pending() <= bound);
        // While the client does not read, the kernel may enlarge the socket's buffers.
        assert!(replies < 100, "the queue is bounded");
    }
    assert_eq!(outbox.ended(), Some(CloseReason::TooSlow));
    assert!(replies >= 8, "{replies}");
}

#[test]
fn a_broken_socket_is_detected_and_wakes_the_reader() {
    let (outbox, _wakes, client) = outbox();
    socket2::SockRef::from(&client)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(client);
    while outbox.send_doc(&ServerDoc::Pong) == Queued::Yes {}
    assert_eq!(outbox.ended(), Some(CloseReason::ConnectionReset));
}

#[test]
fn a_frame_that_the_socket_takes_whole_leaves_the_outbox_open() {
    let (outbox, notifications, client) = outbox();
    let mut frames = Frames::default();
    outbox.encode(&ServerDoc::Pong, RequestId::default(), &mut frames);
    assert_eq!(outbox.send(&frames), Queued::Yes);
    assert!(outbox.queue.lock().state == QueueState::Open);
    assert!(notifications.try_next().is_none());
    assert!(!outbox.has_ended());
    outbox.hang_up(CloseReason::Shutdown);
    assert!(outbox.has_ended());
    let received = documents(client);
    assert_eq!(received.len(), 2);
    assert!(received[0].contains("PONG") && received[1].contains("SHUTDOWN"));
}

#[test]
fn appended_replies_are_counted_and_wait_for_a_flush() {
    let (outbox, _notifications, client) = outbox();
    let one = "<SERVER><command>PONG</command></SERVER>\n".len();
    assert_eq!(outbox.append_reply(&ServerDoc::Pong), one);
    assert_eq!(outbox.append_reply(&ServerDoc::Pong), one);
    assert_eq!(outbox.pending(), 2 * one);
    assert_eq!(outbox.flush(), Queued::Yes);
    assert_eq!(outbox.pending(), 0);
    outbox.end(CloseReason::Shutdown);
    assert_eq!(outbox.append_reply(&ServerDoc::Pong), 0);
    assert_eq!(documents(client).len(), 3);
}

#[test]
fn a_flush_that_fills_the_socket_leaves_the_rest_to_the_timer_thread() {
    let (outbox, notifications, client) = outbox();
    let mut sent = 0;
    while outbox.queue.lock().state == QueueState::Open {
        outbox.append_doc(&text(32));
        assert_eq!(outbox.flush(), Queued::Yes);
        sent += 1;
        assert!(sent < 2000, "the rest is queued, but the outbox is open");
    }
    assert!(notifications.try_next().is_some());
    let reader = thread::spawn(move || documents(client));
    while outbox.write_out() != Flush::Done {}
    outbox.end(CloseReason::Shutdown);
    assert_eq!(reader.join().unwrap().len(), sent + 1);
}

/// The timer thread has taken everything out of the queue, and the socket has room again.
#[test]
fn nothing_overtakes_a_write_in_progress() {
    let (outbox, _notifications, client) = outbox();
    let mut first = Frames::default();
    outbox.encode(&ServerDoc::NoPartner, RequestId::default(), &mut first);
    outbox.enqueue_encoded(|_| &first);
    let in_flight = outbox.queue.lock().waiting.take();
    assert_eq!(outbox.send_doc(&ServerDoc::Pong), Queued::Yes);
    // The queue gets too long, and can't be offered to the socket first.
    while outbox.pending() <= limits::MAX_OUTBOX_BYTES {
        outbox.append_doc(&text(32));
    }
    assert_eq!(outbox.flush(), Queued::Closed);
    assert_eq!(outbox.ended(), Some(CloseReason::TooSlow));
    outbox.stream.send_now(&in_flight).unwrap();
    let mut queue = outbox.queue.lock();
    queue.waiting.wrote(in_flight.len(), vec![in_flight]);
    drop(queue);
    outbox.hang_up(CloseReason::TooSlow);
    let received = documents(client);
    assert_eq!(received.len(), 2);
    assert!(received[0].contains("NO PARTNER") && received[1].contains("TOO SLOW"));
}

#[test]
fn a_cut_drops_the_queue_and_keeps_the_first_reason() {
    let (outbox, _notifications, client) = outbox();
    outbox.append_doc(&ServerDoc::Pong);
    outbox.cut(CloseReason::Terminate);
    outbox.cut(CloseReason::ConnectionReset);
    assert_eq!(outbox.ended(), Some(CloseReason::Terminate));
    assert_eq!((outbox.pending(), outbox.has_ended()), (0, true));
    assert!(
        outbox
            .stream()
            .read(&mut [0; 8])
            .is_ok_and(|count| count == 0)
    );
    drop(outbox);
    let mut nothing = String::new();
    { client }.read_to_string(&mut nothing).unwrap();
    assert_eq!(nothing, "");
}

/// A reset drops what is still on its way to the client.
#[test]
fn only_a_client_that_has_sent_much_too_much_is_reset() {
    for (unread, is_reset) in [
        (0, false),
        (1000, false),
        (portal_net::limits::RESET_FROM, true),
    ] {
        let (outbox, _notifications, mut client) = outbox_with(Duration::from_millis(20));
        fill(&outbox);
        client.write_all(&vec![b'x'; unread]).unwrap();
        let mut there = vec![0; unread];
        while outbox.stream().peek_now(&mut there).unwrap_or(0) < unread {}
        outbox.hang_up(CloseReason::Terminate);
        drop(outbox);
        let mut received = Vec::new();
        let end = client.read_to_end(&mut received);
        assert_eq!(end.is_err(), is_reset, "{unread}: {end:?}");
    }
}

#[test]
fn a_socket_that_breaks_while_output_waits_is_noticed_by_the_next_write() {
    for ends in [false, true] {
        // If it were not noticed, the last step would take so long.
        let (outbox, _notifications, client) = outbox_with(Duration::from_secs(3600));
        fill(&outbox);
        if ends {
            outbox.end(CloseReason::Terminate);
        }
        SockRef::from(&client)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        drop(client);
        while outbox.write_out() != Flush::Done {}
        let reason = if ends {
            CloseReason::Terminate
        } else {
            CloseReason::ConnectionReset
        };
        assert_eq!(outbox.ended(), Some(reason));
        assert_eq!(outbox.pending(), 0);
    }
}

#[test]
fn the_close_frame_follows_the_farewell() {
    struct WithCloseFrame(XmlLineEncoder);
    impl Encoder for WithCloseFrame {
        fn encoding(&self) -> Encoding {
            Encoding::of::<WithCloseFrame>(0)
        }
        fn encode(&mut self, doc: &ServerDoc<'_>, request: RequestId, out: &mut Vec<u8>) {
            self.0.encode(doc, request, out);
        }
        fn encode_close(&mut self, reason: CloseReason, out: &mut Vec<u8>) {
            out.extend(format!("closed: {reason:?}\n").bytes());
        }
    }
    let encoder = Box::new(WithCloseFrame(XmlLineEncoder::default()));
    let (outbox, _notifications, client) = outbox_of(encoder, connected(), Duration::from_secs(20));
    outbox.hang_up(CloseReason::Shutdown);
    let received = documents(client);
    assert_eq!(received.len(), 2);
    assert!(received[0].contains("SHUTDOWN") && received[1] == "closed: Shutdown");
}

#[test]
fn a_queue_of_the_maximum_length_is_not_too_long() {
    let (outbox, _notifications, _client) = outbox();
    let mut frames = Frames::default();
    frames.push(|out| out.resize(limits::MAX_OUTBOX_BYTES, b'x'));
    outbox.append(&frames);
    assert!(!outbox.queue.lock().is_too_long());
    outbox.append_doc(&ServerDoc::Pong);
    assert!(outbox.queue.lock().is_too_long());
}
