//! The WebSocket framing with other implementations: an echo server exchanges messages with
//! Python's `websockets` and npm's `ws`, and passes Autobahn's test suite. If one of them is not
//! installed, its test reports that it did not run.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_macros,
    missing_docs
)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread;

use base64ct::{Base64, Encoding as _};
use portal_chat::wire::{FrameError, FrameReader, Framing, write_websocket_close};
use serde_json::{Value, json};
use sha1::{Digest as _, Sha1};

/// The maximum message size, for Autobahn's largest messages.
const MAX_MESSAGE_BYTES: usize = 17 * 1024 * 1024;

/// Starts a server that sends every message back, until its process exits.
fn start_echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || {
                // A client may disconnect at any time.
                let _ = echo(stream.unwrap());
            });
        }
    });
    address
}

fn echo(mut stream: TcpStream) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let key = head
        .lines()
        .find_map(|line| {
            line.split_once(": ")
                .filter(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key"))
        })
        .map(|(_, key)| key.trim())
        .unwrap();
    let mut hash = Sha1::new();
    hash.update(key);
    hash.update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    write!(
        stream,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n\r\n",
        Base64::encode_string(&hash.finalize())
    )?;
    let mut frames = FrameReader::with(Framing::WebSocket, MAX_MESSAGE_BYTES);
    loop {
        let mut out = Vec::new();
        let ended = loop {
            let message = match frames.next_frame() {
                Ok(Some(message)) => message.to_vec(),
                Ok(None) => break None,
                Err(error) => break Some(error),
            };
            if let Some(pongs) = frames.take_pongs() {
                out.extend_from_slice(pongs.bytes());
            }
            Framing::WebSocket.write(&mut out, |out| out.extend_from_slice(&message));
        };
        if let Some(pongs) = frames.take_pongs() {
            out.extend_from_slice(pongs.bytes());
        }
        if let Some(error) = &ended {
            let code = match error {
                FrameError::Closed { code } => code.unwrap_or(1000),
                FrameError::Binary => 1003,
                FrameError::NotUtf8 => 1007,
                FrameError::TooLong { .. } => 1009,
                _ => 1002,
            };
            write_websocket_close(code, &mut out);
        }
        stream.write_all(&out)?;
        if ended.is_some() {
            stream.shutdown(std::net::Shutdown::Write)?;
            return std::io::copy(&mut stream, &mut std::io::sink()).map(drop);
        }
        if frames.read_from(&mut stream)? == 0 {
            return Ok(());
        }
    }
}

/// Runs a script that prints `all received`. Prints a message if the program is not installed.
fn check_client(name: &str, program: &str, probe: &[&str], arguments: &[&str], script: &str) {
    let installed = Command::new(program).args(probe).output();
    if !installed.is_ok_and(|output| output.status.success()) {
        eprintln!("NOT TESTED: {name} is not installed");
        return;
    }
    let url = format!("ws://{}/", start_echo());
    let script = script.replace("URL", &url);
    let output = Command::new(program)
        .args(arguments)
        .arg(script)
        .output()
        .unwrap();
    let output_text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output_text.contains("all received"),
        "{output_text}{errors}"
    );
}

#[test]
fn python_websockets_can_connect() {
    let script = r#"
import asyncio, websockets
async def main():
    async with websockets.connect("URL", max_size=None) as there:
        for text in ["hello", "", "x" * 200, "y" * 70000, "grüße 👋", b"\x00\xff" * 100]:
            await there.send(text)
            assert await there.recv() == text
        await there.send(["in ", "pieces"])
        assert await there.recv() == "in pieces"
        await (await there.ping(b"are you installed?"))
    print("all received")
asyncio.run(main())
"#;
    check_client(
        "Python's websockets",
        "python3",
        &["-c", "import websockets"],
        &["-c"],
        script,
    );
}

#[test]
fn npm_ws_can_connect() {
    let script = r#"
const WebSocket = require('ws');
const there = new WebSocket('URL', { perMessageDeflate: false });
const texts = ['hello', '', 'x'.repeat(200), 'y'.repeat(70000), 'grüße 👋'];
let next = 0;
there.on('open', () => { for (const text of texts) there.send(text); there.ping('now'); });
there.on('message', (data) => {
  if (String(data) !== texts[next]) throw new Error('unexpected message');
  next += 1;
});
there.on('pong', () => there.close(1000));
there.on('close', (code) => { if (next === texts.length && code === 1000) console.log('all received'); });
"#;
    check_client(
        "npm's ws",
        "node",
        &["-e", "require('ws')"],
        &["-e"],
        script,
    );
}

/// `make websocket-suite` runs it. It takes half a minute and requires Python 2.7 with
/// `pip install autobahntestsuite==25.10.1`, whose `wstest` must be on the PATH or given in WSTEST.
#[test]
#[ignore = "it needs Python 2.7; make websocket-suite runs it"]
fn autobahn_suite_passes() {
    let program = std::env::var("WSTEST").unwrap_or_else(|_| "wstest".to_owned());
    if Command::new(&program).arg("--help").output().is_err() {
        eprintln!(
            "NOT TESTED: {program} is not installed. It needs Python 2.7: pip install virtualenv==20.15.1, then, in a \
             virtual environment, autobahntestsuite==25.10.1; WSTEST=…/bin/wstest names it"
        );
        return;
    }
    let folder = std::env::temp_dir().join(format!("portal-chat-autobahn-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let specification = json!({
        "outdir": folder.join("reports"),
        "servers": [{ "agent": "portal-chat", "url": format!("ws://{}", start_echo()) }],
        "cases": ["*"],
        // The protocol has no binary messages and no compression.
        "exclude-cases": ["1.2.*", "9.2.*", "9.4.*", "9.6.*", "9.8.*", "12.*", "13.*"],
        "exclude-agent-cases": {},
    });
    let file = folder.join("specification.json");
    std::fs::write(&file, specification.to_string()).unwrap();
    let run = Command::new(&program)
        .args(["-m", "fuzzingclient", "-s"])
        .arg(&file)
        .current_dir(&folder)
        .output()
        .unwrap();
    let report = read(&folder.join("reports/index.json")).unwrap_or_else(|| {
        panic!("no report: {}", String::from_utf8_lossy(&run.stderr));
    });
    let cases = report["portal-chat"].as_object().unwrap();
    let count = |behaviour: &str| {
        cases
            .values()
            .filter(|case| case["behavior"] == behaviour)
            .count()
    };
    let named = |behaviour: &str| -> Vec<&String> {
        let those = cases
            .iter()
            .filter(|(_, case)| case["behavior"] == behaviour);
        those.map(|(name, _)| name).collect()
    };
    println!(
        "{} cases: {} OK, {} non-strict {:?}, {} informational, {} failed {:?}",
        cases.len(),
        count("OK"),
        count("NON-STRICT"),
        named("NON-STRICT"),
        count("INFORMATIONAL"),
        count("FAILED"),
        named("FAILED"),
    );
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(cases.len() >= 260);
    assert_eq!(count("FAILED"), 0);
    assert!(count("NON-STRICT") <= 4);
    assert_eq!(
        count("OK") + count("NON-STRICT") + count("INFORMATIONAL"),
        cases.len()
    );
}

fn read(file: &Path) -> Option<Value> {
    serde_json::from_str(&std::fs::read_to_string(file).ok()?).ok()
}
