//! A single port for all clients: seats without a portal, and FULL when they are taken.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::time::Duration;

use portal_chat::server::Settings;
use portal_chat::wire::CloseReason;
use support::{Client, TestServer, message};

fn single(clients: usize) -> TestServer {
    TestServer::start(&Settings {
        single_port: Some(clients),
        idle_timeout: Some(Duration::from_secs(5)),
        ..Settings::default()
    })
}

#[test]
fn neighbours_chat_and_the_next_client_gets_full() {
    let server = single(3);
    let (mut one, _) = server.seat();
    assert!(one.line().contains("NO PARTNER"));
    let (mut two, _) = server.seat();
    assert!(two.line().contains("PARTNER JOINED</command><partner>1<"));
    assert!(one.line().contains("PARTNER JOINED</command><partner>2<"));
    let (mut three, _) = server.seat();
    assert!(three.line().contains("NO PARTNER"));
    one.send_line(&message("hello"));
    assert_eq!(
        two.line(),
        "<CLIENT from='1'><message>hello</message></CLIENT>"
    );

    let mut late = Client::connect(server.server.portal());
    assert_eq!(late.rest(), "<SERVER><command>FULL</command></SERVER>\n");
    server.wait_for_event("full", None);
    drop(two);
    assert!(one.line().contains("PARTNER LEFT"));
    server.wait_for_event("seat-free", None);
    let mut again = Client::connect(server.server.portal());
    let welcome =
        "<SERVER type='single' seat='2'><message>Connection successful</message></SERVER>";
    assert_eq!(again.line(), welcome);
    server.tick(6);
    for guest in [&mut one, &mut three, &mut again] {
        assert!(
            guest
                .rest()
                .ends_with("<SERVER><command>IDLE TIMEOUT</command></SERVER>\n")
        );
    }
    server.wait_for_close(CloseReason::IdleTimeout, None);
    server.assert_all_ports_freed();
}

#[test]
fn shutdown_notifies_all_clients() {
    let server = single(8);
    let mut guests: Vec<Client> = (0..8).map(|_| server.seat().0).collect();
    server.server.stop();
    for guest in &mut guests {
        assert!(
            guest
                .rest()
                .ends_with("<SERVER><command>SHUTDOWN</command></SERVER>\n")
        );
    }
}

#[test]
fn browser_requests_are_rejected() {
    let server = TestServer::start(&Settings {
        single_port: Some(2),
        ..Settings::default()
    });
    for method in [
        "GET", "POST", "OPTIONS", "PUT", "HEAD", "DELETE", "CONNECT", "PATCH", "TRACE",
    ] {
        let mut page = Client::connect(server.server.portal());
        page.send(
            format!(
                "{method} / HTTP/1.1\r\nHost: x\r\n\r\n{}\n{}\n",
                support::login("page"),
                support::command("PM", "<message>spam</message>")
            )
            .as_bytes(),
        );
        let received = page.rest_of_bytes();
        let received = String::from_utf8(received).unwrap();
        assert!(
            !received.contains("error") && !received.contains("page"),
            "{received}"
        );
        server.wait_for_close(CloseReason::Entrance("http-request"), None);
    }
    // The same word later is a chat message.
    let mut guest = Client::connect(server.server.portal());
    guest.send_line(&support::command("PING", ""));
    guest.line_with("PONG");
    guest.send_line("GET / HTTP/1.1");
    guest.line_with("malformed");
}
