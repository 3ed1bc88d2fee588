//! The operator's commands, as clients see them.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use portal_chat::wire::CloseReason;
use support::sentences;
use support::terminal::Terminal;
use support::web::WebClient;
use support::{TestServer, login};

#[test]
fn operator_message_reaches_all_clients() {
    let server = TestServer::with_workers(4);
    let (mut alice, _) = server.seat();
    let (mut bob, _) = server.seat();
    assert_eq!(server.server.broadcast("five minutes <left>"), 2);
    for guest in [&mut alice, &mut bob] {
        let notice = guest.line_with("notice");
        assert_eq!(
            notice,
            "<SERVER><notice>five minutes &lt;left&gt;</notice></SERVER>"
        );
    }
}

#[test]
fn kicked_client_receives_the_reason() {
    let server = TestServer::with_workers(4);
    let (mut alice, _) = server.seat();
    let (mut bob, bob_port) = server.seat();
    alice.send_line(&login("alice"));
    alice.line_with("WELCOME");
    assert!(!server.server.kick("carol", ""));
    assert!(server.server.kick("ALICE", "too loud"), "by name");
    let rest = alice.rest();
    assert!(
        rest.ends_with("<SERVER><command>KICKED</command><reason>too loud</reason></SERVER>\n"),
        "{rest}"
    );
    server.wait_for_close(CloseReason::Kicked, None);
    assert!(server.server.kick(&bob_port.to_string(), ""), "by port");
    assert!(
        bob.rest()
            .ends_with("<SERVER><command>KICKED</command><reason></reason></SERVER>\n")
    );
    server.assert_all_ports_freed();
}

#[test]
fn who_lists_the_thread_of_a_browser() {
    let options = ["0", "--no-passwords", "--web", "127.0.0.1:0", "--quiet"];
    let mut server = Terminal::start(env!("CARGO_BIN_EXE_chatserver"), &options, &[]);
    server.wait_for_text("http://");
    server.wait_for_prompt("operator>");
    let screen = server.contents();
    let page = screen.split("http://").nth(1).expect("the page's address");
    let mut browser = WebClient::connect(page.split('/').next().unwrap().parse().unwrap());
    let port = browser.take_seat();
    // After the welcome, the browser is in the list.
    browser.text_with("NO PARTNER");
    server.type_line("who");
    server.wait_for_text("browser-1");
    server.wait_for_text(&format!("timer-{port}"));
}

#[test]
fn console_works_with_a_thousand_workers() {
    // 1024 is the default soft limit of most systems; a program must raise it itself.
    let script = "ulimit -S -n 1024 && exec \"$0\" \"$@\"";
    let program = env!("CARGO_BIN_EXE_chatserver");
    let options = ["--workers", "1000", "--no-passwords", "--quiet"];
    let arguments = [&["-c", script, program, "0"], options.as_slice()].concat();
    let mut server = Terminal::start("sh", &arguments, &[]);
    server.wait_for_prompt("operator>");
    server.type_line("who");
    server.wait_for_text(sentences::NO_CLIENTS_ARE_CONNECTED);
    server.wait_for_prompt("operator>");
    server.type_line("stop");
    assert_eq!(server.wait_for_exit(), 0);
}
