//! Isolated networks for tests: they do not interfere with other programs, and tests can change
//! their settings.
#![allow(
    unreachable_pub,
    clippy::disallowed_macros,
    clippy::unwrap_used,
    missing_docs
)]

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};

use socket2::{Domain, Socket, Type};

const INSIDE: &str = "PORTAL_CHAT_TEST_NETWORK";

/// Runs the test with this name again in a network that has only a loopback, after the shell
/// commands `setup`. Returns `true` inside that network; outside, waits for the inner run and
/// returns `false`.
pub fn is_inside_isolated_network(test: &str, setup: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    // Try a user namespace, which needs no privileges. Otherwise, the test must run as root.
    let kinds = [
        ["--user", "--map-root-user", "--net"].as_slice(),
        &["--net"],
    ];
    let works = |kind: &&&[&str]| {
        let tried = Command::new("unshare")
            .args(**kind)
            .args(["sh", "-c", setup])
            .stderr(Stdio::null())
            .status();
        tried.is_ok_and(|status| status.success())
    };
    let Some(kind) = kinds.iter().find(works) else {
        eprintln!(
            "no network namespace can be made here (`unshare --user --net`): {test} did not run"
        );
        return false;
    };
    let script = format!("{setup} && exec \"$0\" --exact \"$1\" --nocapture");
    let status = Command::new("unshare")
        .args(*kind)
        .args(["sh", "-c", &script])
        .arg(std::env::current_exe().unwrap())
        .arg(test)
        .env(INSIDE, "1")
        .status();
    assert!(
        status.unwrap().success(),
        "{test}, in a network after: {setup}"
    );
    false
}

/// The command that brings the loopback up.
pub const LOOPBACK: &str = "ip link set lo up";

/// Leaves `address` in TIME_WAIT, by closing an outgoing connection that used it.
pub fn leave_in_time_wait(address: SocketAddr) {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    client.bind(&address.into()).unwrap();
    client
        .connect(&server.local_addr().unwrap().into())
        .unwrap();
    let (mut accepted, _) = server.accept().unwrap();
    // The side that closes first keeps the port.
    drop(TcpStream::from(client));
    let end = std::io::Read::read(&mut accepted, &mut [0]);
    assert_eq!(end.unwrap(), 0);
}
