//! TLS from outside: trust, rejection, and the cost of a handshake for other clients.
#![cfg(feature = "tls")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_macros,
    missing_docs
)]

mod support;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;

use portal_chat::board::{Board, Redactor};
use portal_chat::clock::Clock;
use portal_chat::event::Events;
use portal_chat::limits;
use portal_chat::net::{PendingLimits, Stream, TlsServer};
use portal_chat::server::{Settings, WebEntrance};
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use support::running::{Running, program};
use support::sentences;
use support::terminal::Terminal;
use support::tls::{both, identity, use_tls};
use support::{Client, PATIENCE, TestServer, handshake, message};

const CLIENT: &str = env!("CARGO_BIN_EXE_chatclient");
const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

fn settings(workers: usize, tls: &TlsServer) -> Settings {
    Settings {
        workers,
        tls: Some(tls.clone()),
        ..Settings::default()
    }
}

fn folder(name: &str) -> String {
    let folder = std::env::temp_dir().join(format!("portal-chat-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder.to_str().unwrap().to_owned()
}

#[test]
fn tls_mismatch_is_reported() {
    let (tls, client) = both();
    let server = TestServer::start(&settings(2, &tls));
    let mut plain = TcpStream::connect(server.server.portal()).unwrap();
    plain.write_all(b"a port, please\n").unwrap();
    let event = server.wait_for_event("tls-failed", None);
    assert!(
        event.line().contains(sentences::DOES_NOT_SPEAK_TLS),
        "{}",
        event.line()
    );
    assert_eq!(plain.read(&mut [0]).unwrap_or(0), 0, "it receives nothing");

    let server = TestServer::with_workers(2);
    let port = support::ticket(&server.request_port()).0;
    let address = SocketAddr::new(server.server.portal().ip(), port.get());
    let tls_stream = Stream::from(TcpStream::connect(address).unwrap());
    let tls_stream = tls_stream.secured_as_client(&client, "localhost").unwrap();
    let error = tls_stream.shake_hands(None).unwrap_err().to_string();
    assert!(error.contains(sentences::DOES_NOT_SPEAK_TLS), "{error}");
    let event = server.wait_for_event("tls-failed", None);
    assert!(event.line().contains("without --tls"), "{}", event.line());
    server.assert_all_ports_freed();
}

/// The portal checks whether a caller has already sent data. The suspension ensures that it has.
#[test]
fn plain_portal_replies_to_a_pending_handshake() {
    let mut server = Running::start(
        program(env!("CARGO_BIN_EXE_chatserver"))
            .args(["0", "--workers", "2", "--no-passwords"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null()),
    );
    let port = server.first_port();
    server.stop();
    let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    client
        .write_all(b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03")
        .unwrap();
    server.signal("-CONT");
    let mut reply = String::new();
    client.read_to_string(&mut reply).unwrap();
    assert!(reply.contains("without --tls"), "{reply}");
}

#[test]
fn http_at_a_tls_port_gets_a_reply() {
    let (tls, _) = both();
    let server = TestServer::start(&Settings {
        web: Some(WebEntrance::at("127.0.0.1:0".parse().unwrap())),
        ..settings(2, &tls)
    });
    for (bytes, part) in [
        (
            &b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..],
            "https://",
        ),
        (b"PROXY UNKNOWN\r\n", "turn it off at the proxy"),
    ] {
        let mut plain = TcpStream::connect(server.server.web().unwrap()).unwrap();
        plain.write_all(bytes).unwrap();
        let mut reply = String::new();
        plain.read_to_string(&mut reply).unwrap();
        assert!(
            reply.starts_with("HTTP/1.1 400 ") && reply.contains(part),
            "{reply}"
        );
        server.wait_for_event("tls-failed", None);
    }
    let mut events = Events::new(Clock::new());
    let redactor = Redactor {
        texts: false,
        secrets: false,
    };
    let any = "127.0.0.1:0".parse().unwrap();
    let board = Board::live(any, &mut events, redactor, Some(&tls), &[]).unwrap();
    let mut plain = TcpStream::connect(board.address()).unwrap();
    plain
        .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    let mut reply = String::new();
    plain.read_to_string(&mut reply).unwrap();
    assert!(
        reply.starts_with("HTTP/1.1 400 ") && reply.contains("https://"),
        "{reply}"
    );
}

#[test]
fn unfinished_handshakes_delay_no_others() {
    let (tls, client) = both();
    let server = TestServer::start(&settings(4, &tls));
    let portal = server.server.portal();
    // More callers than threads, from the address of the later clients. No port is assigned to
    // them.
    let silent: Vec<TcpStream> = (0..limits::HANDSHAKES + 20)
        .map(|_| TcpStream::connect(portal).unwrap())
        .collect();
    // More than the limit for one address.
    let half_open: Vec<Client> = (0..limits::HANDSHAKES_PER_ADDRESS + 20)
        .map(|_| {
            let mut client = Client::connect_from(ELSEWHERE, portal);
            // The beginning of an endless record. The server may have dropped a late caller.
            client.try_send(&[0x16, 3, 1, 2, 0, 1]);
            client
        })
        .collect();
    use_tls(Some(client));
    assert_eq!(server.server.free_ports().len(), 4);
    let (mut alice, _) = server.seat();
    let (mut bob, _) = server.seat();
    alice.send_line(&message("in secret"));
    assert!(bob.line_with("<message>").contains("in secret"));
    // At a worker's port, the timer aborts the handshake, and the port is freed.
    let (port, _) = support::ticket(&server.request_port());
    use_tls(None);
    let stuck = TcpStream::connect(SocketAddr::new(portal.ip(), port.get())).unwrap();
    server.wait_for_event("arrived", Some(port));
    server.tick(2);
    server.wait_for_event("seat-free", Some(port));
    drop((silent, half_open, stuck, alice, bob));
    server.assert_all_ports_freed();
}

#[test]
fn class_behind_one_address_connects_at_once() {
    let (tls, client) = both();
    // No caller is dropped for being slow, because the machine may be busy.
    let pending = PendingLimits {
        next_byte: PATIENCE,
        waiting: PATIENCE,
        handshake: PATIENCE,
        ..PendingLimits::default()
    };
    let server = TestServer::start(&Settings {
        pending,
        ..settings(30, &tls)
    });
    let portal = server.server.portal();
    // All of them connect before the first one begins its handshake.
    let connected: Vec<TcpStream> = (0..30)
        .map(|_| TcpStream::connect(portal).unwrap())
        .collect();
    use_tls(Some(client));
    let mut ports: Vec<_> = connected
        .into_iter()
        .map(|stream| support::ticket(&Client::over(stream).rest()).0)
        .collect();
    use_tls(None);
    ports.sort();
    ports.dedup();
    assert_eq!(ports.len(), 30);
    server.assert_all_ports_freed();
}

/// One TLS record takes only part of the queue. The rest follows within the same tick.
#[test]
fn late_reader_gets_its_farewell_over_tls() {
    let (tls, client) = both();
    let server = TestServer::start(&Settings {
        tick: PATIENCE,
        ..settings(2, &tls)
    });
    use_tls(Some(client));
    let (mut alice, _) = server.seat();
    let (mut bob, _) = server.seat();
    use_tls(None);
    let long = message(&"x".repeat(8000));
    // More than all sockets and the queue hold.
    for _ in 0..4000 {
        alice.send_line(&long);
    }
    alice.line_with("too-slow");
    assert!(bob.rest().contains("TOO SLOW"));
    drop(alice);
    server.assert_all_ports_freed();
}

/// Resolves to a certificate with any key.
#[derive(Debug)]
struct FixedCertificate(Arc<CertifiedKey>);

impl ResolvesServerCert for FixedCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// Starts a portal that sends the certificate in `certificate` and signs with the key in `key`.
/// Returns the application data that it receives.
fn impostor_portal(
    certificate: &support::tls::Identity,
    key: &support::tls::Identity,
) -> (SocketAddr, thread::JoinHandle<Vec<u8>>) {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let signing = provider
        .key_provider
        .load_private_key(key.1.clone_key())
        .unwrap();
    let output = CertifiedKey::new(vec![certificate.0.clone()], signing);
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(FixedCertificate(Arc::new(output))));
    let tls = TlsServer::new(config);
    let listener = portal_chat::net::Listener::bind(
        "127.0.0.1:0".parse().unwrap(),
        &portal_chat::net::Tap::default(),
    );
    let listener = listener.unwrap().secured(Some(&tls));
    let address = listener.address();
    let receiver = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut received = Vec::new();
        if stream.shake_hands(None).is_ok() {
            let _ = (&stream).read_to_end(&mut received);
        }
        received
    });
    (address, receiver)
}

fn fingerprint(identity: &support::tls::Identity) -> String {
    let suite = rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256.tls13();
    let digest = suite.unwrap().common.hash_provider.hash(&identity.0);
    let bytes: Vec<String> = digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect();
    bytes.join(":")
}

/// Runs the client against `portal`, without a terminal. Returns its output and its exit code.
fn client(portal: SocketAddr, home: &str, options: &[&str]) -> (String, Option<i32>) {
    let port = portal.port().to_string();
    client_with(home, &[&["127.0.0.1", &port, "alice"], options].concat())
}

/// Like [`client`], without a server on the command line.
fn client_with(home: &str, options: &[&str]) -> (String, Option<i32>) {
    // A new session has no terminal.
    let output = Command::new("setsid")
        .args(["-w", CLIENT])
        .args(options)
        .env("HOME", home)
        .env_remove("XDG_STATE_HOME")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (text, output.status.code())
}

#[test]
fn impostors_receive_nothing() {
    let home = folder("impostors");
    let (ours, theirs) = (identity(), identity());
    let pin = fingerprint(&ours);
    // The correct certificate, which is public, without its key; and another certificate.
    for (certificate, key, sentence) in [
        (&ours, &theirs, "signature"),
        (&theirs, &theirs, "did not present the expected certificate"),
    ] {
        let (portal, received) = impostor_portal(certificate, key);
        let (text, code) = client(portal, &home, &["--tls-fingerprint", &pin]);
        assert!(
            text.to_lowercase().contains(&sentence.to_lowercase()) && code == Some(1),
            "{code:?} {text}"
        );
        assert_eq!(received.join().unwrap(), b"", "not a byte of the client's");
    }
    // The message contains both fingerprints, and the place where the wrong one was set.
    let config = format!("{home}/client.conf");
    let both = |text: &str| text.contains(&pin) && text.contains(&fingerprint(&theirs));
    for (options, place) in [
        (
            ["--tls-fingerprint", &pin],
            "--tls-fingerprint on the command line".to_owned(),
        ),
        (
            ["--config", &config],
            format!("tls-fingerprint in {config}, line 3"),
        ),
    ] {
        let (portal, received) = impostor_portal(&theirs, &theirs);
        let port = portal.port();
        let text = format!("server 127.0.0.1\nport {port}\ntls-fingerprint {pin}\n");
        std::fs::write(&config, text).unwrap();
        let (text, code) = if options[0] == "--config" {
            client_with(&home, &options)
        } else {
            client(portal, &home, &options)
        };
        assert!(
            both(&text) && text.contains(&place) && code == Some(1),
            "{code:?} {text}"
        );
        assert!(!text.contains("known_servers"), "{text}");
        assert_eq!(received.join().unwrap(), b"", "not a byte of the client's");
    }
    std::fs::write(&config, "tls-fingerprint AB:CD\n").unwrap();
    let (text, code) = client_with(&home, &["--config", &config]);
    let expected = format!("{config}, line 1: AB:CD is not a SHA-256 fingerprint");
    assert!(
        text.contains(&expected) && code == Some(2),
        "{code:?} {text}"
    );
    // An unknown certificate, and no terminal to ask on.
    let (portal, received) = impostor_portal(&theirs, &theirs);
    let (text, code) = client(portal, &home, &["--tls"]);
    assert!(
        text.contains(&fingerprint(&theirs))
            && text.contains("--tls-fingerprint")
            && code == Some(1),
        "{code:?} {text}"
    );
    assert_eq!(received.join().unwrap(), b"");
    let (text, code) = client(portal, &home, &["--tls-fingerprint", "nonsense"]);
    assert!(
        text.contains(sentences::HEXADECIMAL_DIGITS) && code == Some(2),
        "{text}"
    );
    std::fs::remove_dir_all(home).unwrap();
}

#[test]
fn certificate_is_confirmed_once_and_pinned() {
    let home = folder("first-use");
    let (tls, trusting) = both();
    let server = TestServer::start(&settings(2, &tls));
    let port = server.server.portal().port().to_string();
    let arguments = ["127.0.0.1", &port, "alice", "--tls"];
    let variables = [("HOME", &*home)];
    let mut alice = Terminal::start(CLIENT, &arguments, &variables);
    alice.wait_for_text(sentences::DOES_THE_SERVERS_OWN_TERMINAL_SHOW);
    alice.type_line("no");
    assert_eq!(alice.wait_for_exit(), 1);
    let mut alice = Terminal::start(CLIENT, &arguments, &variables);
    alice.wait_for_text(sentences::DOES_THE_SERVERS_OWN_TERMINAL_SHOW);
    alice.type_line("what?");
    alice.wait_for_text("Answer yes or no");
    alice.type_line("y");
    alice.wait_for_text(sentences::YOU_ARE_LOGGED_IN_AS_ALICE);
    // The same certificate is used for its rooms.
    alice.type_line("/join lobby");
    alice.wait_for_text(sentences::YOU_JOINED_LOBBY);
    alice.type_line("/quit");
    assert_eq!(alice.wait_for_exit(), 0);
    // The server is known now, so there is no question, and never a connection without TLS.
    let mut alice = Terminal::start(CLIENT, &arguments[..3], &variables);
    alice.wait_for_text(sentences::YOU_ARE_LOGGED_IN_AS_ALICE);
    assert!(!alice.contents().contains(sentences::DOES_THE_SERVER));
    alice.type_line("/quit");
    alice.wait_for_exit();
    drop(trusting);
    // Another server on the same port, with another certificate.
    let kept = std::fs::read_to_string(format!("{home}/.local/state/portal-chat/known_servers"));
    let kept = kept.unwrap();
    assert!(kept.starts_with(&format!("127.0.0.1 {port} ")), "{kept}");
    let other = identity();
    let (portal, received) = impostor_portal(&other, &other);
    let file = format!("{home}/.local/state/portal-chat/known_servers");
    std::fs::write(&file, kept.replace(&port, &portal.port().to_string())).unwrap();
    let (text, code) = client(portal, &home, &["--callback"]);
    assert!(
        text.contains("--callback") && code == Some(2),
        "{code:?} {text}"
    );
    // It makes no difference whether --tls is given.
    let (text, code) = client(portal, &home, &[]);
    assert!(
        text.contains(sentences::CERTIFICATE_HAS_CHANGED)
            && text.contains(&fingerprint(&other))
            && text.contains("known_servers")
            && code == Some(1),
        "{code:?} {text}"
    );
    assert_eq!(received.join().unwrap(), b"", "not a byte of the client's");
    std::fs::remove_dir_all(home).unwrap();
}

#[test]
fn plain_client_and_tls_server_report_the_mismatch() {
    let home = folder("one-side");
    let (tls, _) = both();
    let server = TestServer::start(&settings(2, &tls));
    let (text, code) = client(server.server.portal(), &home, &[]);
    assert!(text.contains("--tls") && code == Some(1), "{text}");
    let server = TestServer::with_workers(2);
    let (text, code) = client(server.server.portal(), &home, &["--tls"]);
    assert!(
        text.contains(sentences::DOES_NOT_SPEAK_TLS) && code == Some(1),
        "{text}"
    );
    std::fs::remove_dir_all(home).unwrap();
}

#[test]
fn openssl_and_python_can_connect() {
    let (tls, _) = both();
    let server = TestServer::start(&Settings {
        web: Some(WebEntrance::at("127.0.0.1:0".parse().unwrap())),
        ..settings(8, &tls)
    });
    let portal = server.server.portal().to_string();
    for version in ["-tls1_2", "-tls1_3"] {
        let openssl = Command::new("openssl")
            .args(["s_client", "-connect", &portal, version, "-quiet"])
            .stdin(Stdio::null())
            .output();
        match openssl {
            Ok(output) => {
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                assert!(text.contains("<HandshakePasscode>"), "{version}: {text}");
            }
            Err(_) => eprintln!("NOT TESTED: there is no openssl here"),
        }
    }
    let script = r#"
import socket, ssl, sys
context = ssl._create_unverified_context()
with context.wrap_socket(socket.create_connection(("127.0.0.1", int(sys.argv[1])))) as portal:
    answer = b""
    while True:
        part = portal.recv(4096)
        if not part: break
        answer += part
print(answer.decode())
"#;
    let python = Command::new("python3")
        .args(["-c", script, &server.server.portal().port().to_string()])
        .output();
    match python {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let errors = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(text.contains("<HandshakePasscode>"), "{text}{errors}");
        }
        Err(_) => eprintln!("NOT TESTED: there is no python3 here"),
    }
}

#[test]
fn openssl_updates_keys_during_a_visit() {
    let (tls, client) = both();
    let server = TestServer::start(&settings(2, &tls));
    use_tls(Some(client));
    let (port, passcode) = support::ticket(&server.request_port());
    let worker = SocketAddr::new(server.server.portal().ip(), port.get()).to_string();
    let openssl = Command::new("openssl")
        .args(["s_client", "-connect", &worker, "-tls1_3"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut openssl) = openssl else {
        eprintln!("NOT TESTED: there is no openssl here");
        return;
    };
    let mut typed = openssl.stdin.take().unwrap();
    let mut output = openssl.stdout.take().unwrap();
    let mut event = openssl.stderr.take().unwrap();
    // Each line must be read separately: openssl treats a letter at the beginning of a read as a
    // command.
    let mut type_line = |line: &str| typed.write_all(line.as_bytes()).unwrap();
    type_line(&format!("{}\n", handshake(&passcode)));
    wait_for_output(&mut output, "Connection successful");
    for _ in 0..3 {
        // Updates the keys, and requests a key update from the peer.
        type_line("K\n");
        wait_for_output(&mut event, "KEYUPDATE");
        type_line(&format!("{}\n", support::command("PING", "")));
        wait_for_output(&mut output, "PONG");
    }
    drop(typed);
    openssl.wait().unwrap();
    server.assert_all_ports_freed();
}

/// Reads a program's output until it contains `expected`.
fn wait_for_output(output: &mut impl Read, expected: &str) {
    let mut text = String::new();
    let mut bytes = [0; 1024];
    while !text.contains(expected) {
        let count = output.read(&mut bytes).unwrap();
        assert!(count > 0, "the output ended without {expected:?}: {text}");
        text.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
}

/// Starts a proxy that forwards bytes between a client and `far`, and records them.
fn recording_proxy(far: SocketAddr) -> (SocketAddr, std::sync::mpsc::Receiver<Vec<u8>>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let here = listener.local_addr().unwrap();
    let (recorded, recordings) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let (near, _) = listener.accept().unwrap();
        let far = TcpStream::connect(far).unwrap();
        thread::scope(|threads| {
            for (mut from, mut to) in [(&near, &far), (&far, &near)] {
                let recorded = recorded.clone();
                threads.spawn(move || {
                    let mut bytes = [0; 4096];
                    while let Ok(count @ 1..) = from.read(&mut bytes) {
                        let _ = recorded.send(bytes[..count].to_vec());
                        let _ = to.write_all(&bytes[..count]);
                    }
                    let _ = to.shutdown(std::net::Shutdown::Write);
                });
            }
        });
    });
    (here, recordings)
}

#[test]
fn eavesdropper_reads_the_passcode_only_without_tls() {
    let is_passcode_visible = |server: &TestServer| {
        let (here, recorded) = recording_proxy(server.server.portal());
        // The client itself receives the passcode in both cases.
        let reply = support::Client::connect(here).rest();
        assert!(reply.contains("<HandshakePasscode>"), "{reply}");
        let passcode = support::ticket(&reply).1;
        let recorded: Vec<u8> = recorded.iter().flatten().collect();
        memchr::memmem::find(&recorded, passcode.as_bytes()).is_some()
    };
    let plain = TestServer::with_workers(2);
    assert!(is_passcode_visible(&plain));
    let (tls, client) = both();
    let tls_server = TestServer::start(&settings(2, &tls));
    use_tls(Some(client));
    assert!(!is_passcode_visible(&tls_server));
    use_tls(None);
}

#[test]
fn unusable_tls_files_are_reported() {
    // In a checkout, all users may read these keys.
    let folder = support::temporary_file("unusable");
    std::fs::create_dir_all(&folder).unwrap();
    let certificates = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/certificates");
    for file in std::fs::read_dir(certificates).unwrap() {
        let file = file.unwrap().path();
        let copy = folder.join(file.file_name().unwrap());
        std::fs::copy(&file, &copy).unwrap();
        support::make_private(&copy);
    }
    for (certificate, key, reason) in [
        ("good-key.pem", "good-cert.pem", "swapped"),
        ("good-cert.pem", "encrypted-key.pem", "is encrypted"),
        ("p521-cert.pem", "p521-key.pem", "P-521"),
        ("rsa1024-cert.pem", "rsa1024-key.pem", "1024 bits"),
        ("v1-cert.pem", "good-key.pem", "version 1"),
        ("good-cert.pem", "other-key.pem", "does not belong"),
        ("expired-cert.pem", "good-key.pem", "expired on"),
    ] {
        let files = [certificate, key].map(|name| folder.join(name));
        for check in [&[][..], &["--check"]] {
            let started = std::process::Command::new(env!("CARGO_BIN_EXE_chatserver"))
                .args(["0", "--no-passwords"])
                .args(check)
                .arg("--tls")
                .args(&files)
                .output()
                .unwrap();
            let text = String::from_utf8(started.stderr).unwrap();
            assert_eq!(started.status.code(), Some(2), "{text}");
            assert!(text.contains(reason) && text.lines().count() == 1, "{text}");
        }
    }
    std::fs::remove_dir_all(folder).unwrap();
}
