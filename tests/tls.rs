//! TLS from outside: who is believed, who is not, and what a handshake costs others.
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
use portal_chat::net::{Stream, TlsServer};
use portal_chat::server::{Settings, WebEntrance};
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use support::running::{Running, program};
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
fn plain_text_to_a_tls_port_and_tls_to_a_plain_one_are_told_apart() {
    let (tls, client) = both();
    let server = TestServer::start(&settings(2, &tls));
    let mut plain = TcpStream::connect(server.server.portal()).unwrap();
    plain.write_all(b"a port, please\n").unwrap();
    let told = server.wait_for_event("tls-failed", None);
    assert!(
        told.line().contains("does not speak TLS"),
        "{}",
        told.line()
    );
    assert_eq!(
        plain.read(&mut [0]).unwrap_or(0),
        0,
        "nothing is said to it"
    );

    let server = TestServer::with_workers(2);
    let port = support::ticket(&server.request_port()).0;
    let address = SocketAddr::new(server.server.portal().ip(), port.get());
    let secured = Stream::from(TcpStream::connect(address).unwrap());
    let secured = secured.secured_as_client(&client, "localhost").unwrap();
    let error = secured.shake_hands(None).unwrap_err().to_string();
    assert!(error.contains("does not speak TLS"), "{error}");
    let told = server.wait_for_event("tls-failed", None);
    assert!(told.line().contains("without --tls"), "{}", told.line());
    server.assert_all_ports_freed();
}

/// A portal looks whether a caller has sent something already. The stop makes sure that it has.
#[test]
fn a_portal_without_tls_answers_a_client_whose_handshake_has_come_already() {
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
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("without --tls"), "{answer}");
}

#[test]
fn http_at_the_pages_tls_port_gets_an_answer_that_names_https() {
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
        let mut answer = String::new();
        plain.read_to_string(&mut answer).unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 400 ") && answer.contains(part),
            "{answer}"
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
    let mut answer = String::new();
    plain.read_to_string(&mut answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 400 ") && answer.contains("https://"),
        "{answer}"
    );
}

#[test]
fn unfinished_handshakes_cost_other_callers_nothing() {
    let (tls, client) = both();
    let server = TestServer::start(&settings(4, &tls));
    let portal = server.server.portal();
    // More callers than threads, from the address of the later clients. No port is taken for them.
    let silent: Vec<TcpStream> = (0..limits::HANDSHAKES + 20)
        .map(|_| TcpStream::connect(portal).unwrap())
        .collect();
    // More than the limit for one address.
    let half: Vec<Client> = (0..limits::HANDSHAKES_PER_ADDRESS + 20)
        .map(|_| {
            let mut client = Client::connect_from(ELSEWHERE, portal);
            // The beginning of a record that never ends.
            client.send(&[0x16, 3, 1, 2, 0, 1]);
            client
        })
        .collect();
    use_tls(Some(client));
    assert_eq!(server.server.free_ports().len(), 4);
    let (mut alice, _) = server.seat();
    let (mut bob, _) = server.seat();
    alice.send_line(&message("in secret"));
    assert!(bob.line_with("<message>").contains("in secret"));
    // At a worker's port the timekeeper ends it, and the port comes back.
    let (port, _) = support::ticket(&server.request_port());
    use_tls(None);
    let stuck = TcpStream::connect(SocketAddr::new(portal.ip(), port.get())).unwrap();
    server.wait_for_event("arrived", Some(port));
    server.tick(2);
    server.wait_for_event("seat-free", Some(port));
    drop((silent, half, stuck, alice, bob));
    server.assert_all_ports_freed();
}

#[test]
fn a_class_behind_one_address_gets_in_at_once() {
    let (tls, client) = both();
    let server = TestServer::start(&settings(30, &tls));
    let portal = server.server.portal();
    // All have connected before the first one begins its handshake.
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

/// A certificate, whatever key it is shown with.
#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// A portal that shows the certificate of `certificate` and proves it with the key of `key`. Counts
/// what it is told.
fn false_portal(
    certificate: &support::tls::Identity,
    key: &support::tls::Identity,
) -> (SocketAddr, thread::JoinHandle<Vec<u8>>) {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let signing = provider
        .key_provider
        .load_private_key(key.1.clone_key())
        .unwrap();
    let shown = CertifiedKey::new(vec![certificate.0.clone()], signing);
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Shown(Arc::new(shown))));
    let tls = TlsServer::new(config);
    let listener = portal_chat::net::Listener::bind(
        "127.0.0.1:0".parse().unwrap(),
        &portal_chat::net::Tap::default(),
    );
    let listener = listener.unwrap().secured(Some(&tls));
    let address = listener.address();
    let hearing = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut heard = Vec::new();
        if stream.shake_hands(None).is_ok() {
            let _ = (&stream).read_to_end(&mut heard);
        }
        heard
    });
    (address, hearing)
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

/// What the client says to `portal`, with no terminal to ask on, and its exit code.
fn client(portal: SocketAddr, home: &str, options: &[&str]) -> (String, Option<i32>) {
    let port = portal.port().to_string();
    client_with(home, &[&["127.0.0.1", &port, "alice"], options].concat())
}

/// Like [`client`], without a server on the command line.
fn client_with(home: &str, options: &[&str]) -> (String, Option<i32>) {
    // A session of its own has no terminal.
    let output = Command::new("setsid")
        .args(["-w", CLIENT])
        .args(options)
        .env("HOME", home)
        .env_remove("XDG_STATE_HOME")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (said, output.status.code())
}

#[test]
fn impostors_are_told_nothing() {
    let home = folder("impostors");
    let (ours, theirs) = (identity(), identity());
    let pin = fingerprint(&ours);
    // The right certificate, which anybody can get, without its key; and another one.
    for (certificate, key, sentence) in [
        (&ours, &theirs, "signature"),
        (
            &theirs,
            &theirs,
            "a different certificate from the one you named",
        ),
    ] {
        let (portal, heard) = false_portal(certificate, key);
        let (said, code) = client(portal, &home, &["--tls-fingerprint", &pin]);
        assert!(
            said.to_lowercase().contains(&sentence.to_lowercase()) && code == Some(1),
            "{code:?} {said}"
        );
        assert_eq!(heard.join().unwrap(), b"", "not a byte of ours");
    }
    // The message names both fingerprints, and the place of the wrong one.
    let config = format!("{home}/client.conf");
    let both = |said: &str| said.contains(&pin) && said.contains(&fingerprint(&theirs));
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
        let (portal, heard) = false_portal(&theirs, &theirs);
        let port = portal.port();
        let text = format!("server 127.0.0.1\nport {port}\ntls-fingerprint {pin}\n");
        std::fs::write(&config, text).unwrap();
        let (said, code) = if options[0] == "--config" {
            client_with(&home, &options)
        } else {
            client(portal, &home, &options)
        };
        assert!(
            both(&said) && said.contains(&place) && code == Some(1),
            "{code:?} {said}"
        );
        assert!(!said.contains("known_servers"), "{said}");
        assert_eq!(heard.join().unwrap(), b"", "not a byte of ours");
    }
    std::fs::write(&config, "tls-fingerprint AB:CD\n").unwrap();
    let (said, code) = client_with(&home, &["--config", &config]);
    let wanted = format!("{config}, line 1: AB:CD is not a SHA-256 fingerprint");
    assert!(said.contains(&wanted) && code == Some(2), "{code:?} {said}");
    // Nobody knows it, and there is nobody to ask.
    let (portal, heard) = false_portal(&theirs, &theirs);
    let (said, code) = client(portal, &home, &["--tls"]);
    assert!(
        said.contains(&fingerprint(&theirs))
            && said.contains("--tls-fingerprint")
            && code == Some(1),
        "{code:?} {said}"
    );
    assert_eq!(heard.join().unwrap(), b"");
    let (said, code) = client(portal, &home, &["--tls-fingerprint", "nonsense"]);
    assert!(
        said.contains("64 hexadecimal digits") && code == Some(2),
        "{said}"
    );
    std::fs::remove_dir_all(home).unwrap();
}

#[test]
fn a_server_is_asked_about_once_and_a_changed_one_is_refused() {
    let home = folder("first-use");
    let (tls, trusting) = both();
    let server = TestServer::start(&settings(2, &tls));
    let port = server.server.portal().port().to_string();
    let arguments = ["127.0.0.1", &port, "alice", "--tls"];
    let variables = [("HOME", &*home)];
    let mut alice = Terminal::start(CLIENT, &arguments, &variables);
    alice.wait_for_text("Does the server's own terminal show the same one?");
    alice.type_line("no");
    assert_eq!(alice.wait_for_exit(), 1);
    let mut alice = Terminal::start(CLIENT, &arguments, &variables);
    alice.wait_for_text("Does the server's own terminal show the same one?");
    alice.type_line("yes");
    alice.wait_for_text("you are logged in as alice");
    // Its rooms are the same server's.
    alice.type_line("/join lobby");
    alice.wait_for_text("you joined lobby");
    alice.type_line("/quit");
    assert_eq!(alice.wait_for_exit(), 0);
    // Known now: no question.
    let mut alice = Terminal::start(CLIENT, &arguments, &variables);
    alice.wait_for_text("you are logged in as alice");
    assert!(!alice.contents().contains("Does the server"));
    alice.type_line("/quit");
    alice.wait_for_exit();
    drop(trusting);
    // Another server on the same port, with another certificate.
    let kept = std::fs::read_to_string(format!("{home}/.local/state/portal-chat/known_servers"));
    let kept = kept.unwrap();
    assert!(kept.starts_with(&format!("127.0.0.1 {port} ")), "{kept}");
    let other = identity();
    let (portal, heard) = false_portal(&other, &other);
    let file = format!("{home}/.local/state/portal-chat/known_servers");
    std::fs::write(&file, kept.replace(&port, &portal.port().to_string())).unwrap();
    let (said, code) = client(portal, &home, &["--tls"]);
    assert!(
        said.contains("CERTIFICATE HAS CHANGED")
            && said.contains(&fingerprint(&other))
            && said.contains("known_servers")
            && code == Some(1),
        "{code:?} {said}"
    );
    assert_eq!(heard.join().unwrap(), b"", "not a byte of ours");
    std::fs::remove_dir_all(home).unwrap();
}

#[test]
fn a_plain_client_and_a_tls_server_come_to_a_sentence() {
    let home = folder("one-side");
    let (tls, _) = both();
    let server = TestServer::start(&settings(2, &tls));
    let (said, code) = client(server.server.portal(), &home, &[]);
    assert!(said.contains("--tls") && code == Some(1), "{said}");
    let server = TestServer::with_workers(2);
    let (said, code) = client(server.server.portal(), &home, &["--tls"]);
    assert!(
        said.contains("does not speak TLS") && code == Some(1),
        "{said}"
    );
    std::fs::remove_dir_all(home).unwrap();
}

#[test]
fn openssl_and_pythons_ssl_talk_with_it() {
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
                let said = String::from_utf8_lossy(&output.stdout).into_owned();
                assert!(said.contains("<HandshakePasscode>"), "{version}: {said}");
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
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            let complained = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(said.contains("<HandshakePasscode>"), "{said}{complained}");
        }
        Err(_) => eprintln!("NOT TESTED: there is no python3 here"),
    }
}

#[test]
fn openssl_changes_the_keys_in_the_middle_of_a_visit() {
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
    let mut shown = openssl.stdout.take().unwrap();
    let mut told = openssl.stderr.take().unwrap();
    // Each line has to be a read of its own: openssl takes a letter for a command at the beginning
    // of one.
    let mut say = |line: &str| typed.write_all(line.as_bytes()).unwrap();
    say(&format!("{}\n", handshake(&passcode)));
    wait_until_it_says(&mut shown, "Connection successful");
    for _ in 0..3 {
        // New keys, and the other side is asked to change its own.
        say("K\n");
        wait_until_it_says(&mut told, "KEYUPDATE");
        say(&format!("{}\n", support::command("PING", "")));
        wait_until_it_says(&mut shown, "PONG");
    }
    drop(typed);
    openssl.wait().unwrap();
    server.assert_all_ports_freed();
}

/// Reads from a program's output until `wanted` has come.
fn wait_until_it_says(output: &mut impl Read, wanted: &str) {
    let mut said = String::new();
    let mut bytes = [0; 1024];
    while !said.contains(wanted) {
        let count = output.read(&mut bytes).unwrap();
        assert!(count > 0, "it ended without {wanted:?}: {said}");
        said.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
}

/// Passes bytes on between whoever comes and `far`, and keeps them.
fn on_the_way(far: SocketAddr) -> (SocketAddr, std::sync::mpsc::Receiver<Vec<u8>>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let here = listener.local_addr().unwrap();
    let (seen, is_seen) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let (near, _) = listener.accept().unwrap();
        let far = TcpStream::connect(far).unwrap();
        thread::scope(|threads| {
            for (mut from, mut to) in [(&near, &far), (&far, &near)] {
                let seen = seen.clone();
                threads.spawn(move || {
                    let mut bytes = [0; 4096];
                    while let Ok(count @ 1..) = from.read(&mut bytes) {
                        let _ = seen.send(bytes[..count].to_vec());
                        let _ = to.write_all(&bytes[..count]);
                    }
                    let _ = to.shutdown(std::net::Shutdown::Write);
                });
            }
        });
    });
    (here, is_seen)
}

#[test]
fn somebody_on_the_way_reads_everything_without_tls_and_nothing_with_it() {
    let what_is_seen = |server: &TestServer| {
        let (here, seen) = on_the_way(server.server.portal());
        // The client itself reads the passcode, in both cases.
        let answer = support::Client::connect(here).rest();
        assert!(answer.contains("<HandshakePasscode>"), "{answer}");
        let passcode = support::ticket(&answer).1;
        let seen: Vec<u8> = seen.iter().flatten().collect();
        memchr::memmem::find(&seen, passcode.as_bytes()).is_some()
    };
    let plain = TestServer::with_workers(2);
    assert!(what_is_seen(&plain));
    let (tls, client) = both();
    let secured = TestServer::start(&settings(2, &tls));
    use_tls(Some(client));
    assert!(!what_is_seen(&secured));
    use_tls(None);
}

#[test]
fn files_that_are_of_no_use_end_the_start_with_a_sentence() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/certificates");
    for (certificate, key, reason) in [
        ("good-key.pem", "good-cert.pem", "swapped"),
        ("good-cert.pem", "encrypted-key.pem", "is encrypted"),
        ("p521-cert.pem", "p521-key.pem", "P-521"),
        ("rsa1024-cert.pem", "rsa1024-key.pem", "1024 bits"),
        ("v1-cert.pem", "good-key.pem", "version 1"),
        ("good-cert.pem", "other-key.pem", "does not belong"),
        ("expired-cert.pem", "good-key.pem", "expired on"),
    ] {
        let files = [certificate, key].map(|name| format!("{folder}/{name}"));
        for check in [&[][..], &["--check"]] {
            let started = std::process::Command::new(env!("CARGO_BIN_EXE_chatserver"))
                .args(["0", "--no-passwords"])
                .args(check)
                .arg("--tls")
                .args(&files)
                .output()
                .unwrap();
            let said = String::from_utf8(started.stderr).unwrap();
            assert_eq!(started.status.code(), Some(2), "{said}");
            assert!(said.contains(reason) && said.lines().count() == 1, "{said}");
        }
    }
}
