//! A minimal WebSocket client for tests of the browser entrance. It sends and receives whole
//! frames, and can also send arbitrary bytes.

#![allow(dead_code, unreachable_pub)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::PATIENCE;

/// A connection to the browser entrance.
pub struct WebClient {
    pub stream: TcpStream,
}

/// A frame from the server.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame {
    Text(String),
    Ping,
    Pong(Vec<u8>),
    Close(u16),
}

pub const TEXT: u8 = 0x81;

impl WebClient {
    /// Opens a WebSocket.
    pub fn connect(address: SocketAddr) -> WebClient {
        let (client, head) = WebClient::request(address, &format!("Host: {address}\r\n"));
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        client
    }

    /// Requests a WebSocket with these header fields in addition to the required ones. Returns the
    /// head of the response.
    pub fn request(address: SocketAddr, fields: &str) -> (WebClient, String) {
        WebClient::try_request(address, fields).unwrap()
    }

    pub fn try_request(address: SocketAddr, fields: &str) -> std::io::Result<(WebClient, String)> {
        let mut stream = super::tunnelled(TcpStream::connect(address)?);
        stream.set_read_timeout(Some(PATIENCE))?;
        let request = format!(
            "GET /chat HTTP/1.1\r\n{fields}Upgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        );
        stream.write_all(request.as_bytes())?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if stream.read(&mut byte)? == 0 {
                break;
            }
            head.push(byte[0]);
        }
        Ok((
            WebClient { stream },
            String::from_utf8_lossy(&head).into_owned(),
        ))
    }

    /// Sends the passcode of the ticket, and returns the seat's port.
    pub fn take_seat(&mut self) -> String {
        let ticket = self.text();
        let part = |name: &str| {
            let rest = ticket.split_once(&format!("<{name}>")).expect(&ticket).1;
            rest.split_once('<').unwrap().0.to_owned()
        };
        self.send_text(&super::handshake(&part("HandshakePasscode")));
        let welcome = self.text();
        assert!(welcome.contains("Connection successful"), "{welcome}");
        part("Port")
    }

    pub fn send_text(&mut self, document: &str) {
        self.send(TEXT, document.as_bytes());
    }

    /// Sends a frame with this first byte.
    pub fn send(&mut self, first: u8, payload: &[u8]) {
        self.try_send(first, payload).unwrap();
    }

    pub fn try_send(&mut self, first: u8, payload: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(&masked(first, payload))
    }

    /// Returns the next frame that is not a ping or a pong. It must be text.
    pub fn text(&mut self) -> String {
        loop {
            match self.frame() {
                Frame::Text(text) => return text,
                Frame::Ping | Frame::Pong(_) => {}
                Frame::Close(code) => panic!("closed with {code} instead of a text"),
            }
        }
    }

    /// Returns the next text that contains `part`.
    pub fn text_with(&mut self, part: &str) -> String {
        loop {
            let text = self.text();
            if text.contains(part) {
                return text;
            }
        }
    }

    /// Returns `true` if there is unread data.
    pub fn has_received_data(&mut self) -> bool {
        self.stream.set_nonblocking(true).unwrap();
        let result = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false).unwrap();
        result.is_ok_and(|count| count > 0)
    }

    /// Skips texts until the close frame, and returns its code.
    pub fn close_code(&mut self) -> u16 {
        loop {
            if let Frame::Close(code) = self.frame() {
                let mut rest = Vec::new();
                let _ = self.stream.read_to_end(&mut rest);
                assert!(rest.is_empty(), "data after the close frame: {rest:?}");
                return code;
            }
        }
    }

    pub fn frame(&mut self) -> Frame {
        self.try_frame().unwrap()
    }

    pub fn try_frame(&mut self) -> std::io::Result<Frame> {
        let mut head = [0; 2];
        self.stream.read_exact(&mut head)?;
        assert_eq!(head[1] & 0x80, 0, "a server's frame is not masked");
        let length = match head[1] {
            126 => u16::from_be_bytes(self.bytes()?) as usize,
            127 => u64::from_be_bytes(self.bytes()?) as usize,
            short => short.into(),
        };
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload)?;
        Ok(match head[0] {
            TEXT => Frame::Text(String::from_utf8(payload).unwrap()),
            0x89 => Frame::Ping,
            0x8a => Frame::Pong(payload),
            0x88 => Frame::Close(u16::from_be_bytes([payload[0], payload[1]])),
            other => panic!("a frame that begins with {other:x}"),
        })
    }

    fn bytes<const N: usize>(&mut self) -> std::io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

/// A client's frame, masked.
pub fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x12, 0x34, 0x56, 0x78];
    let mut frame = vec![first];
    match payload.len() {
        short @ 0..=125 => frame.push(0x80 | short as u8),
        medium @ 126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend((medium as u16).to_be_bytes());
        }
        long => {
            frame.push(0x80 | 127);
            frame.extend((long as u64).to_be_bytes());
        }
    }
    frame.extend(mask);
    frame.extend(
        payload
            .iter()
            .zip(mask.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    frame
}
