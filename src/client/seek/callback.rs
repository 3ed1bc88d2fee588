//! The reverse connection (`--callback`): the client listens, and the worker connects to it.
//!
//! Any program can connect to a listening port. The worker proves itself with the passcode, which
//! only the portal and the client know. The client rejects any other caller, and keeps listening.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{ClientSeat, PATIENCE, SeekError, connect, first_frame, is_timeout, shake_hands};
use portal_core::clock::slowed;
use portal_net::{Connector, Listener, Stream};
use portal_wire::{CallbackRequest, Codec, Handshake, ServerDoc};

/// Timeout for a caller's proof. The worker sends its proof immediately, and one or two silent
/// callers must not use up the time for which the worker waits.
const CALLER_PATIENCE: Duration = Duration::from_secs(1);

/// Asks the worker for a callback on `port` (0: the system chooses), and waits for it.
///
/// # Errors
///
/// [`SeekError`]; after `TurnedAway`, the caller should ask for another passcode.
pub(super) fn take_seat(
    worker: SocketAddr,
    passcode: &str,
    port: u16,
    codec: Codec,
    dial: &Connector,
) -> Result<ClientSeat, SeekError> {
    let unreachable = |error| SeekError::Unreachable {
        address: worker,
        whom: "worker",
        error,
    };
    let asking = connect(worker, dial).map_err(unreachable)?;
    // Listen on the address that the client's request comes from, because the worker connects to no
    // other address.
    let mut here = asking.local_addr().map_err(unreachable)?;
    here.set_port(port);
    let listener = Listener::bind(here, &dial.tap).map_err(|error| SeekError::CantListen {
        address: here,
        error,
    })?;
    let handshake = Handshake {
        passcode: passcode.to_owned(),
        callback: Some(CallbackRequest {
            port: listener.port().to_string(),
            address: None,
        }),
    };
    let (answer, frames) = shake_hands(&asking, worker, &handshake, codec)?;
    match codec.read_server(&answer) {
        Ok(ServerDoc::CallingBack { .. }) => {}
        // A server without callbacks has ignored the request, and admitted this client.
        Ok(ServerDoc::Welcome { port, max, .. }) => {
            asking.set_read_timeout(None).map_err(unreachable)?;
            return Ok(ClientSeat {
                stream: asking,
                frames,
                codec: codec.taking(max),
                dial: dial.clone(),
                place: format!("on port {port} (this server does not support callbacks)"),
            });
        }
        Ok(ServerDoc::Error { sentence, .. }) => {
            return Err(SeekError::Refused {
                sentence: sentence.into_owned(),
            });
        }
        Ok(_) => return Err(SeekError::TurnedAway),
        Err(error) => {
            return Err(SeekError::Strange {
                address: worker,
                error,
            });
        }
    }
    drop(asking);
    await_call(&listener, passcode, codec, dial)
}

/// Accepts callers until one knows the passcode.
fn await_call(
    listener: &Listener,
    passcode: &str,
    codec: Codec,
    dial: &Connector,
) -> Result<ClientSeat, SeekError> {
    let address = listener.address();
    let deadline = Instant::now() + slowed(PATIENCE);
    let mut strangers = 0;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(SeekError::NoCall { address, strangers });
        }
        let accepted = listener
            .set_accept_timeout(left)
            .and_then(|()| listener.accept());
        match accepted {
            Ok((stream, _)) => match believe(stream, passcode, codec, dial) {
                Some(seat) => return Ok(seat),
                None => strangers += 1,
            },
            Err(error) if is_timeout(&error) => {}
            Err(error) => return Err(SeekError::CantListen { address, error }),
        }
    }
}

/// Returns the seat if the caller proves that it is the worker. Sends nothing to other callers.
fn believe(stream: Stream, passcode: &str, codec: Codec, dial: &Connector) -> Option<ClientSeat> {
    let mut frames = codec.reader_of_server();
    stream.set_nodelay(true).ok()?;
    stream.set_write_timeout(Some(slowed(PATIENCE))).ok()?;
    let frame = first_frame(&stream, &mut frames, slowed(CALLER_PATIENCE)).ok()?;
    let Ok(ServerDoc::CalledBack {
        port,
        passcode: received,
        max,
    }) = codec.read_server(&frame)
    else {
        return None;
    };
    if received != passcode {
        return None;
    }
    stream.set_read_timeout(None).ok()?;
    let here = stream.local_addr().ok()?;
    Some(ClientSeat {
        stream,
        frames,
        codec: codec.taking(max),
        dial: dial.clone(),
        place: format!("on port {port} (the worker called back on {here})"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpStream;

    #[test]
    fn only_the_caller_that_knows_the_passcode_is_believed() {
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = Listener::bind(anywhere, &Connector::default().tap).unwrap();
        let call = |words: &str| {
            let mut stream = TcpStream::connect(listener.address()).unwrap();
            stream.write_all(words.as_bytes()).unwrap();
            stream
        };
        let proof = |passcode: &str| {
            format!(
                "<SERVER type='worker' port='50001'><HandshakePasscode>{passcode}\
                 </HandshakePasscode><message>Connection successful</message></SERVER>\n"
            )
        };
        // All of these callers wait in the backlog, and are read in this order.
        let strangers = [
            call("GET / HTTP/1.1\r\n\r\n"),
            call(&proof("fff")),
            call(
                "<SERVER type='worker' port='50001'><message>Connection successful</message></SERVER>\n",
            ),
        ];
        let mut worker = call(&(proof("abc") + "<SERVER><command>NO PARTNER</command></SERVER>\n"));
        let Ok(seat) = await_call(&listener, "abc", Codec::default(), &Connector::default()) else {
            panic!("the worker was not accepted");
        };
        assert_eq!(seat.stream.peer(), worker.local_addr().unwrap());
        (&seat.stream).write_all(b"hello").unwrap();
        drop(seat);
        let mut received = String::new();
        worker.read_to_string(&mut received).unwrap();
        assert_eq!(received, "hello");
        for mut stranger in strangers {
            let mut nothing = Vec::new();
            // A reset is fine, too.
            let _ = stranger.read_to_end(&mut nothing);
            assert_eq!(nothing, b"", "nothing is sent to strangers");
        }
    }
}
