//! Bans, kicks and moderators, as the clients at each entrance see them.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::num::NonZeroU32;

use portal_chat::accounts::policies::read_subject;
use portal_chat::core::service::Refusal;
use portal_chat::server::{Rate, Settings, WebEntrance};
use portal_chat::sessions::policies::{Banned, RoomRule, Rule};
use portal_chat::wire::{ErrorCode, Name};
use support::terminal::Terminal;
use support::web::WebClient;
use support::{
    Client, TestServer, command, handshake, login, message, temporary_file, ticket,
    without_timeouts,
};

const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const BANNED: &str = "<SERVER><error code='banned'>you are banned: spam</error></SERVER>";

fn ban(server: &TestServer, whom: &str) -> Vec<String> {
    let rule = Rule::Ban(read_subject(whom).unwrap(), None, "spam".to_owned());
    server.server.chat().change_rule(None, rule).unwrap()
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn settings(workers: usize) -> Settings {
    Settings {
        workers,
        web: Some(WebEntrance::at("127.0.0.1:0".parse().unwrap())),
        ..without_timeouts()
    }
}

/// A client that has logged in, on a server where names need no password.
fn user(server: &TestServer, name: &str) -> Client {
    let (mut client, _) = server.seat();
    client.send_line(&login(name));
    client.line_with(">WELCOME<");
    // The login is complete when the next request is answered.
    client.send_line(&command("PING", ""));
    client.line_with("PONG");
    client
}

#[test]
fn a_banned_address_is_told_at_a_single_port_and_takes_no_seat() {
    let server = TestServer::start(&Settings {
        single_port: Some(2),
        ..without_timeouts()
    });
    assert!(ban(&server, "127.0.0.2").is_empty());
    for _ in 0..3 {
        let mut banned = Client::connect_from(ELSEWHERE, server.server.portal());
        assert_eq!(banned.line(), BANNED);
        banned.assert_closed();
    }
    assert_eq!(server.server.free_ports().len(), 2);
    let mut other = Client::connect(server.server.portal());
    other.line_with("Connection successful");
}

#[test]
fn a_banned_browser_is_told_before_it_has_a_seat() {
    let server = TestServer::start(&settings(2));
    ban(&server, "127.0.0.1");
    let mut browser = WebClient::connect(server.server.web().unwrap());
    assert_eq!(browser.text(), BANNED);
    browser.close_code();
    assert_eq!(server.server.free_ports().len(), 2);
}

#[test]
fn behind_a_trusted_proxy_a_ban_covers_the_client_and_not_the_proxy() {
    let mut settings = settings(4);
    let web = settings.web.as_mut().unwrap();
    web.trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
    let server = TestServer::start(&settings);
    ban(&server, "203.0.113.0/24");
    let from = |address: &str| {
        let fields = format!("Host: localhost\r\nX-Forwarded-For: {address}\r\n");
        WebClient::request(server.server.web().unwrap(), &fields).0
    };
    assert_eq!(from("203.0.113.9").text(), BANNED);
    from("198.51.100.9").take_seat();
}

#[test]
fn a_kicked_browser_can_not_return_with_one_click() {
    let server = TestServer::start(&settings(2));
    let door = server.server.web().unwrap();
    let mut browser = WebClient::connect(door);
    let port = browser.take_seat();
    assert!(server.server.kick(&port, "calm down"));
    browser.text_with(">KICKED<");
    server.wait_for_event("seat-free", None);
    let mut again = WebClient::connect(door);
    assert_eq!(
        again.text(),
        "<SERVER><error code='banned'>you were removed; you can reconnect in 60 seconds</error></SERVER>"
    );
    server.tick(60);
    WebClient::connect(door).take_seat();
}

#[test]
fn a_class_behind_one_address_does_not_lose_its_seats_to_one_kicked_client() {
    let server = TestServer::start(&settings(4));
    let (_alice, _) = server.seat();
    let (mut bob, port) = server.seat();
    assert!(server.server.kick(&port.to_string(), ""));
    bob.line_with(">KICKED<");
    server.seat();
}

#[test]
fn a_ban_ends_the_rooms_of_its_client_too() {
    let server = TestServer::start(&settings(4));
    let mut alice = user(&server, "alice");
    alice.send_line(&command("JOIN", "<room>lobby</room>"));
    let (port, passcode) = ticket(&alice.line_with(">JOINED<"));
    let mut member = server.connect(port);
    member.send_line(&handshake(&passcode));
    member.line_with("Connection successful");
    assert_eq!(ban(&server, "ALICE"), ["alice"]);
    alice.line_with(">KICKED<");
    alice.assert_closed();
    member.rest();
    server.assert_all_rooms_end();
}

#[test]
fn a_room_rejects_a_banned_address_even_with_the_right_passcode() {
    let server = TestServer::start(&settings(4));
    let mut alice = user(&server, "alice");
    alice.send_line(&command("JOIN", "<room>lobby</room>"));
    let (port, passcode) = ticket(&alice.line_with(">JOINED<"));
    ban(&server, "127.0.0.2");
    let address = SocketAddr::new(server.server.portal().ip(), port.get());
    let mut member = Client::connect_from(ELSEWHERE, address);
    member.send_line(&handshake(&passcode));
    assert_eq!(member.line(), BANNED);
    member.assert_closed();
}

#[test]
fn a_callback_does_not_get_around_a_ban() {
    let server = TestServer::start(&settings(2));
    let (port, passcode) = ticket(&server.request_port());
    ban(&server, "127.0.0.1");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = listener.local_addr().unwrap().port();
    let mut client = server.connect(port);
    client.send_line(&format!(
        "<CLIENT><HandshakePasscode>{passcode}</HandshakePasscode><callback><Port>{own}</Port></callback></CLIENT>"
    ));
    client.line_with("Calling back");
    let mut called = Client::over(listener.accept().unwrap().0);
    assert_eq!(called.line(), BANNED);
    called.assert_closed();
}

/// Every action by every kind of client on every kind of user, with the answer to it.
#[test]
fn only_moderators_act_on_users_and_only_the_operator_acts_on_moderators() {
    let server = TestServer::start(&settings(2));
    let state = server.server.chat();
    let policies = server.server.policies();
    for moderator in ["mia", "max"] {
        policies.set_moderator(&name(moderator), true).unwrap();
    }
    let actors = [None, Some(name("user")), Some(name("MIA"))];
    for actor in &actors {
        for whom in ["user", "other", "mia", "Max"] {
            let who = name(whom);
            let rules = [
                Rule::Ban(Banned::Name(who.clone()), None, String::new()),
                Rule::Unban(Banned::Name(who.clone())),
                Rule::Mute(who.clone(), None),
                Rule::Unmute(who.clone()),
            ];
            for rule in rules {
                let is_moderator = whom == "mia" || whom == "Max";
                let begins = matches!(rule, Rule::Ban(..) | Rule::Mute(..));
                let allowed = match actor {
                    None => true,
                    Some(actor) if actor.as_str() == "user" => false,
                    Some(_) => !(begins && is_moderator),
                };
                // A rule must exist before it can be lifted, so the operator creates each of them
                // first.
                match &rule {
                    Rule::Unban(whom) => {
                        let begin = Rule::Ban(whom.clone(), None, String::new());
                        state.change_rule(None, begin).unwrap();
                    }
                    Rule::Unmute(name) => {
                        state
                            .change_rule(None, Rule::Mute(name.clone(), None))
                            .unwrap();
                    }
                    _ => {}
                }
                let done = state.change_rule(actor.as_ref(), rule.clone());
                let code = done.as_ref().err().map(|Refusal { code, .. }| *code);
                let expected = (!allowed).then_some(ErrorCode::NotAllowed);
                assert_eq!(code, expected, "{actor:?}: {rule:?}");
            }
        }
    }
    policies.set_moderator(&name("mia"), false).unwrap();
    let rule = Rule::Mute(name("other"), None);
    assert!(state.change_rule(Some(&name("mia")), rule).is_err());
}

#[test]
fn what_a_moderator_types_reaches_nobody_with_control_characters() {
    let server = TestServer::start(&settings(4));
    server
        .server
        .policies()
        .set_moderator(&name("mia"), true)
        .unwrap();
    let mut mia = user(&server, "mia");
    let mut bob = user(&server, "bob");
    mia.send_line(&command(
        "KICK",
        "<username>bob</username><reason>a&#10;b\u{202e}c&#9;d</reason>",
    ));
    let kicked = bob.line_with(">KICKED<");
    assert!(
        !kicked.contains('\u{202e}') && !kicked.contains("&#10;"),
        "{kicked}"
    );
    let event = server.wait_for_event("kicked", None);
    assert_eq!(event.text("by"), Some("mia"));
    mia.line_with("bob was disconnected");
}

#[test]
fn forty_clients_behind_one_address_reach_no_limit_of_a_network() {
    // The defaults of `--bind 0.0.0.0`.
    let server = TestServer::start(&Settings {
        max_per_address: Some(100),
        rate: Some(Rate {
            burst: NonZeroU32::new(50).unwrap(),
            per_second: NonZeroU32::new(20).unwrap(),
        }),
        ..Settings {
            workers: 80,
            ..without_timeouts()
        }
    });
    let mut class: Vec<Client> = (0..80).map(|_| server.seat().0).collect();
    // Each pastes a program of 50 lines; no tick passes, so nothing is delayed.
    let lines: String = (0..50).map(|_| message("a line") + "\n").collect();
    for client in &mut class {
        client.send(lines.as_bytes());
    }
    for client in &mut class {
        for _ in 0..50 {
            client.line_with("a line");
        }
    }
}

#[test]
fn the_console_asks_before_it_bans_an_address_with_clients() {
    let file = temporary_file("order-console");
    let file = file.to_str().unwrap();
    let options = ["0", "--no-passwords", "--policies", file, "--quiet"];
    let mut server = Terminal::start(env!("CARGO_BIN_EXE_chatserver"), &options, &[]);
    server.wait_for_prompt("operator>");
    server.type_line("ban 192.0.2.7 10m spam");
    server.wait_for_text("192.0.2.7 is banned for 10 minutes");
    server.type_line("ban 198.51.100.0/24");
    server.wait_for_text("198.51.100.0/24 contains 256 addresses and no connected client");
    server.type_line("no");
    server.wait_for_text("nothing was banned");
    server.type_line("ban 198.51.100.0/24 1h");
    server.wait_for_text("type `yes`");
    server.type_line("yes");
    server.wait_for_text("198.51.100.0/24 is banned for 60 minutes");
    server.type_line("mute bob");
    server.wait_for_text("bob is muted");
    server.type_line("bans");
    server.wait_for_text("192.0.2.7            10 minutes   operator     spam");
    server.type_line("unban 192.0.2.7");
    server.wait_for_text("192.0.2.7 is no longer banned");
    server.type_line("moderator alice");
    server.wait_for_text("does not use passwords");
    server.type_line("stop");
    assert_eq!(server.wait_for_exit(), 0);
    let mut again = Terminal::start(env!("CARGO_BIN_EXE_chatserver"), &options, &[]);
    again.wait_for_prompt("operator>");
    again.type_line("bans");
    again.wait_for_text("198.51.100.0/24");
    again.type_line("stop");
    assert_eq!(again.wait_for_exit(), 0);
}

#[test]
fn the_console_manages_accounts() {
    let file = temporary_file("order-accounts");
    let file = file.to_str().unwrap();
    let options = ["0", "--accounts", file, "--register", "invite", "--quiet"];
    let policies = format!("{file}.policies");
    let options = [&options[..], &["--policies", &policies]].concat();
    std::fs::write(file, "").unwrap();
    {
        let accounts = portal_chat::accounts::Accounts::open(file.as_ref()).unwrap();
        let accounts = accounts.accounts;
        accounts.check(&name("alice"), "secret", || false).unwrap();
        accounts.check(&name("bob"), "secret", || false).unwrap();
    }
    let mut server = Terminal::start(env!("CARGO_BIN_EXE_chatserver"), &options, &[]);
    server.wait_for_prompt("operator>");
    server.type_line("accounts");
    server.wait_for_text("2 accounts: alice, bob");
    server.type_line("invite");
    server.wait_for_text("is valid for one registration");
    server.type_line("moderator alice");
    server.wait_for_text("alice is a moderator");
    server.type_line("passwd ALICE");
    server.wait_for_text("the new password for alice is ");
    let screen = server.contents();
    let password = screen
        .split("the new password for alice is ")
        .nth(1)
        .unwrap();
    let password = password.split(';').next().unwrap().to_owned();
    server.type_line("passwd carol");
    server.wait_for_text("carol has no account");
    // A refused command changes nothing.
    server.type_line("room vip moderated");
    server.type_line("room vip moderator carol");
    server.wait_for_text("carol is a moderator of vip");
    server.type_line("delete carol");
    server.type_line("rooms");
    server.wait_for("the moderator", |server| {
        let screen = server.contents();
        let row = screen.lines().find(|line| line.starts_with("  vip "));
        row.is_some_and(|row| row.trim_end().ends_with("carol"))
    });
    server.type_line("delete bob");
    server.wait_for_text("deleted bob's account");
    server.type_line("moderators");
    server.wait_for_text("  alice");
    server.type_line("stop");
    assert_eq!(server.wait_for_exit(), 0);
    let accounts = portal_chat::accounts::Accounts::open(file.as_ref()).unwrap();
    assert!(accounts.damage.is_empty());
    let accounts = accounts.accounts;
    assert!(accounts.knows(&name("alice")) && !accounts.knows(&name("bob")));
    let checked = accounts.check(&name("alice"), &password, || false).unwrap();
    assert_eq!(
        checked,
        portal_chat::accounts::PasswordCheck::Right(name("alice"))
    );
}

#[cfg(feature = "journal")]
#[test]
fn the_next_owner_of_a_deleted_account_gets_none_of_its_direct_messages() {
    use portal_chat::core::clock::Clock;
    use portal_chat::core::event::Events;
    use portal_chat::journal::{FileJournal, JournalSettings};
    use portal_chat::sessions::journal::{Conversation, HistoryEntry, Journal as _, Range, Stamp};

    let folder = temporary_file("order-deleted");
    std::fs::create_dir_all(&folder).unwrap();
    let path = |name| folder.join(name).to_str().unwrap().to_owned();
    let (accounts, journal) = (path("accounts"), path("journal.db"));
    std::fs::write(&accounts, "").unwrap();
    let known = portal_chat::accounts::Accounts::open(accounts.as_ref()).unwrap();
    known
        .accounts
        .check(&name("bob"), "secret", || false)
        .unwrap();
    drop(known);
    let direct = Conversation::direct(&name("alice"), &name("bob"));
    let settings = JournalSettings::new(&journal);
    let open = || FileJournal::open(&settings, &Events::new(Clock::new()));
    let messages = |journal: &FileJournal| journal.page(&direct, Range::last(9)).unwrap().entries;
    {
        let journal = open();
        let stamp = Stamp::of(portal_chat::wire::time::microseconds(
            std::time::SystemTime::now(),
        ));
        let (from, to) = ("alice".into(), Some("bob".into()));
        let entry = HistoryEntry {
            stamp,
            from,
            to,
            text: "secret".into(),
            me: false,
        };
        journal.append(&direct, vec![entry]);
        let thread = journal.start().unwrap().unwrap();
        journal.stop();
        thread.join().unwrap();
    }
    assert_eq!(messages(&open()).len(), 1);
    let options = [
        "0",
        "--accounts",
        &accounts,
        "--journal",
        &journal,
        "--quiet",
    ];
    let mut server = Terminal::start(env!("CARGO_BIN_EXE_chatserver"), &options, &[]);
    server.wait_for_prompt("operator>");
    server.type_line("delete BOB");
    server.wait_for_text("deleted bob's account");
    server.type_line("stop");
    assert_eq!(server.wait_for_exit(), 0);
    assert!(messages(&open()).is_empty());
    std::fs::remove_dir_all(&folder).unwrap();
}

/// A user joins at the moment at which a moderator removes the user from the room: whichever
/// happens first, the user is not a member afterwards.
#[test]
fn a_user_who_joins_while_being_removed_does_not_stay() {
    let server = TestServer::start(&settings(2));
    let mut alice = user(&server, "alice");
    let mut bob = user(&server, "bob");
    for round in 0..300 {
        let room = format!("<room>r{round}</room>");
        alice.send_line(&command("JOIN", &format!("{room}<here/>")));
        alice.line_with(">JOINED<");
        bob.send_line(&command("JOIN", &format!("{room}<here/>")));
        alice.send_line(&command("KICK", &format!("{room}<username>bob</username>")));
        // He was removed, or he is not there yet and can't come any more.
        alice.line_with("<notice>bob ");
        bob.send_line(&command("PING", ""));
        bob.line_with("PONG");
        alice.send_line(&command("MEMBERS", &room));
        let members = alice.line_with(">MEMBERS<");
        assert!(!members.contains("bob"), "{members}");
        alice.send_line(&command("LEAVE", &room));
        alice.line_with(">LEFT<");
        // The room's port becomes free again. The tick is needed because one client's changes are
        // limited.
        server.wait_for_event("room-ended", None);
        server.tick(1);
    }
}

#[test]
fn the_operators_removal_from_a_room_tells_its_reason() {
    let server = TestServer::start(&settings(2));
    let (mut alice, _) = server.seat();
    alice.send_line(&login("alice"));
    alice.line_with("WELCOME");
    alice.send_line(&command("JOIN", "<room>lobby</room><here/>"));
    alice.line_with("JOINED");
    let rule = RoomRule::Remove(name("alice"));
    let chat = server.server.chat();
    chat.change_room(None, &name("lobby"), &rule, "off-topic")
        .unwrap();
    let left = alice.line_with("<command>LEFT<");
    assert!(
        left.contains("<by>(operator)</by>") && left.contains("<reason>off-topic</reason>"),
        "{left}"
    );
}
