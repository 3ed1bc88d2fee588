//! Several servers as one chat, over a real Redis: what they share, and what clients receive when
//! something fails. Each test corresponds to a row in the list of faults.
#![cfg(feature = "cluster")]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "support/browser.rs"]
mod browser;
#[path = "support/engine.rs"]
mod engine;
mod support;

use std::time::Duration;

use browser::Browser;
use engine::{Proxy, Redis};
use portal_chat::cluster::ClusterSettings;
use portal_chat::server::{Settings, StartError, WebEntrance};
use support::running::{Running, program};
use support::sentences;
use support::terminal::Terminal;
use support::{Client, PATIENCE, TestServer, command, login};

/// Long enough for a busy machine, and short enough for a test to see it expire.
const LEASE: Duration = Duration::from_secs(5);

fn settings(url: &str, id: &str) -> Settings {
    Settings {
        single_port: Some(20),
        cluster: Some(ClusterSettings {
            lease: LEASE,
            ..ClusterSettings::new(url.parse().unwrap(), id)
        }),
        ..Settings::default()
    }
}

fn server(url: &str, id: &str) -> TestServer {
    TestServer::start(&settings(url, id))
}

/// Takes a seat and logs in as `name`.
fn log_in(server: &TestServer, name: &str) -> Client {
    let (mut client, _) = server.seat();
    client.send_line(&login(name));
    client.line_with(&format!("WELCOME</command><username>{name}<"));
    client
}

fn public(text: &str) -> String {
    command("PM", &format!("<message>{text}</message>"))
}

fn direct(to: &str, text: &str) -> String {
    command("DM", &format!("<to>{to}</to><message>{text}</message>"))
}

fn in_room(room: &str, text: &str) -> String {
    command(
        "SAY",
        &format!("<room>{room}</room><message>{text}</message>"),
    )
}

fn join(client: &mut Client, room: &str) {
    client.send_line(&command("JOIN", &format!("<room>{room}</room><here/>")));
    client.line_with("<command>JOINED</command>");
}

#[test]
fn names_messages_and_rooms_are_shared() {
    let Some(redis) = Redis::start() else {
        return;
    };
    let (one, two) = (server(&redis.url(), "one"), server(&redis.url(), "two"));
    let mut alice = log_in(&one, "alice");
    let mut bob = log_in(&two, "bob");
    alice.line_with("USER JOINED</command><username>bob<");
    let mut carol = log_in(&two, "carol");
    alice.line_with("USER JOINED</command><username>carol<");
    bob.line_with("USER JOINED</command><username>carol<");

    alice.send_line(&command("WHO", ""));
    let users = alice.line_with("WHO</command>");
    assert!(
        users.contains("<user>alice</user><user>bob</user><user>carol</user>"),
        "{users}"
    );
    // The name is in use on all servers.
    let (mut thief, _) = two.seat();
    thief.send_line(&login("ALICE"));
    thief.line_with("name-in-use");

    alice.send_line(&public("hello all"));
    alice.line_with("SENT</command><count>2<");
    for listener in [&mut bob, &mut carol] {
        let message = listener.line_with("<message>hello all<");
        assert!(message.starts_with("<CLIENT from='alice' scope='public' time='"));
    }
    alice.send_line(&direct("carol", "just you"));
    alice.line_with("SENT</command><count>1<");
    let message = carol.line_with("<message>just you<");
    assert!(message.starts_with("<CLIENT from='alice' scope='direct' time='"));
    alice.send_line(&direct("nobody", "anybody?"));
    alice.line_with("no-such-user");

    join(&mut alice, "lobby");
    alice.send_line(&in_room("lobby", "one"));
    alice.line_with("SENT</command><count>0<");
    alice.send_line(&command("TOPIC", "<room>lobby</room><topic>cats</topic>"));
    alice.line_with("TOPIC</command>");
    // A member who joins on another server receives the history.
    join(&mut bob, "LOBBY");
    bob.line_with("TOPIC</command><room>lobby</room><topic>cats</topic>");
    let old = bob.line_with("<message>one<");
    assert!(old.contains("old='yes'") || old.contains("old="), "{old}");
    alice.line_with("ROOM JOINED</command><username>bob</username><room>lobby<");
    join(&mut carol, "lobby");
    bob.line_with("ROOM JOINED</command><username>carol<");
    alice.line_with("ROOM JOINED</command><username>carol<");
    bob.send_line(&command("ROOMS", ""));
    let rooms = bob.line_with("ROOMS</command>");
    assert!(rooms.contains("lobby") && rooms.contains('3'), "{rooms}");

    // Many messages at once: alice and carol, on two servers, receive them in the same order, and
    // no sender receives its own.
    for number in 0..200 {
        bob.send_line(&in_room("lobby", &format!("b{number}")));
        alice.send_line(&in_room("lobby", &format!("a{number}")));
    }
    let received = |client: &mut Client, count: usize| -> Vec<String> {
        let mut received = Vec::new();
        while received.len() < count {
            let line = client.line();
            if line.contains("scope='room'") && !line.contains("old='") {
                received.push(line);
            }
        }
        received
    };
    let at_carol = received(&mut carol, 400);
    let at_bob = received(&mut bob, 200);
    let at_alice = received(&mut alice, 200);
    let of = |speaker: &str| -> Vec<String> {
        let from_speaker = at_carol.iter().filter(|line| line.contains(speaker));
        from_speaker.cloned().collect()
    };
    assert_eq!(at_bob, of("from='alice'"));
    assert_eq!(at_alice, of("from='bob'"));

    drop(bob);
    alice.line_with("ROOM LEFT</command><username>bob<");
    drop((alice, carol));
    for server in [&one, &two] {
        server.assert_all_rooms_end();
    }
    one.stop();
    two.stop();
    // Redis no longer contains any users or rooms, and the other keys expire.
    for key in ["names", "rooms", "servers"] {
        let reply = redis.command(&format!("HLEN portal-chat:{key}"));
        assert_eq!(reply, ":0\r\n", "{key}");
    }
    for key in ["all", "epoch", "inbox:one", "room:lobby"] {
        let reply = redis.command(&format!("TTL portal-chat:{key}"));
        assert!(!reply.starts_with(":-1"), "{key} never expires: {reply}");
    }
}

/// The reading thread blocks on the streams that it knows. If it were woken before it knew about
/// the room, it would block for up to another second, and the new member would receive nothing in
/// the meantime.
#[test]
fn reader_wakes_after_a_room_is_known() {
    let Some(redis) = Redis::start() else {
        return;
    };
    let one = server(&redis.url(), "one");
    let mut alice = log_in(&one, "alice");
    let commands = redis.monitor(|| {
        join(&mut alice, "lobby");
        // The reply to this arrives after the replies to all earlier requests.
        alice.send_line(&command("WHO", ""));
        alice.line_with("WHO</command>");
    });
    let position_of = |part: &str| {
        let position = commands.iter().position(|line| line.contains(part));
        position.unwrap_or_else(|| panic!("no {part} in {commands:#?}"))
    };
    let known = position_of("\"HGET\" \"portal-chat:rooms\" \"lobby\"");
    let woken = position_of("\"XADD\" \"portal-chat:inbox:one\"");
    // The wake-up is not in the same script, whose reply contains the position from which the room
    // is read.
    let is_later = commands[known..woken.max(known)]
        .iter()
        .any(|line| line.contains("\"evalsha\"") || line.contains("\"EVALSHA\""));
    assert!(is_later, "{commands:#?}");
}

#[test]
fn replies_keep_the_request_order() {
    let Some(redis) = Redis::start() else {
        return;
    };
    let (one, two) = (server(&redis.url(), "one"), server(&redis.url(), "two"));
    let mut alice = log_in(&one, "alice");
    let _bob = log_in(&two, "bob");
    let _carol = log_in(&one, "carol");
    let mut lines = String::new();
    for number in 0..300 {
        lines += &match number % 4 {
            0 => public("x"),
            1 => direct("bob", "x"),
            2 => direct("carol", "x"),
            _ => direct("nobody", "x"),
        };
        lines += "\n";
        lines += &command("PING", "");
        lines += "\n";
    }
    lines += &command("TERMINATE", "");
    lines += "\n";
    alice.send(lines.as_bytes());
    let mut replies = Vec::new();
    while let Some(line) = alice.next_line() {
        let word = [
            "SENT</command><count>2",
            "SENT</command><count>1",
            "no-such-user",
            "PONG",
        ]
        .into_iter()
        .find(|word| line.contains(word));
        replies.extend(word);
    }
    let expected: Vec<&str> = (0..300)
        .flat_map(|number| {
            let reply = match number % 4 {
                0 => "SENT</command><count>2",
                1 | 2 => "SENT</command><count>1",
                _ => "no-such-user",
            };
            [reply, "PONG"]
        })
        .collect();
    assert_eq!(replies, expected);
}

#[test]
fn killed_server_is_reaped_once() {
    let Some(redis) = Redis::start() else {
        return;
    };
    let (one, two) = (server(&redis.url(), "one"), server(&redis.url(), "two"));
    let proxy = Proxy::to(&redis);
    let dead = server(&proxy.url(), "dead");
    let mut alice = log_in(&one, "alice");
    let mut bob = log_in(&two, "bob");
    let mut zoe = log_in(&dead, "zoe");
    join(&mut alice, "lobby");
    join(&mut zoe, "lobby");
    alice.line_with("ROOM JOINED</command><username>zoe<");
    // From here on, Redis receives nothing from this server.
    proxy.delay(3_600_000);
    proxy.drop_replies(true);
    alice.line_with("ROOM LEFT</command><username>zoe<");
    bob.line_with("USER LEFT</command><username>zoe<");
    let mut other = log_in(&two, "zoe");
    other.send_line(&public("I am the one"));
    // The departure is announced only once.
    let mut left = 0;
    loop {
        let line = bob.line();
        left += usize::from(line.contains("USER LEFT</command><username>zoe<"));
        if line.contains("I am the one") {
            break;
        }
    }
    assert_eq!(left, 0, "a second departure");
    std::mem::forget(dead);
}

/// A server that restarts before any other server notices its death keeps none of its former users.
#[test]
fn restarted_server_has_no_stale_users() {
    let Some(redis) = Redis::start() else {
        return;
    };
    let one = server(&redis.url(), "one");
    let mut bob = log_in(&one, "bob");
    join(&mut bob, "lobby");
    let first = Process::start(&redis.url(), "two");
    let mut zoe = first.log_in("zoe");
    join(&mut zoe, "lobby");
    bob.line_with("ROOM JOINED</command><username>zoe<");
    drop(first);
    // Its lease has expired, and `one` has not checked since then.
    redis.command("DEL portal-chat:srv:two");
    let _second = Process::start(&redis.url(), "two");
    bob.line_with("ROOM LEFT</command><username>zoe<");
    bob.send_line(&command("WHO", ""));
    let users = bob.line_with("WHO</command>");
    assert!(users.contains("<user>bob</user></SERVER>"), "{users}");
    bob.send_line(&in_room("lobby", "am I alone?"));
    bob.line_with("SENT</command><count>0<");
}

/// A chat's keys in Redis expire after the chat has ended, but not while the next chat runs.
#[test]
fn keys_expire_only_after_the_chat() {
    let Some(redis) = Redis::start() else {
        return;
    };
    let keys = ["all", "epoch", "inbox:one", "room:lobby"];
    let expires = |key: &str| {
        !redis
            .command(&format!("TTL portal-chat:{key}"))
            .starts_with(":-1")
    };
    for _ in 0..2 {
        let one = server(&redis.url(), "one");
        let mut alice = log_in(&one, "alice");
        join(&mut alice, "lobby");
        alice.send_line(&in_room("lobby", "here again"));
        alice.line_with("SENT</command><count>0<");
        for key in keys {
            assert!(!expires(key), "{key} expires while the chat is running");
        }
        drop(alice);
        one.assert_all_rooms_end();
        one.stop();
        for key in keys {
            assert!(expires(key), "{key} never expires");
        }
    }
}

#[test]
fn local_chat_continues_without_redis() {
    let Some(mut redis) = Redis::start() else {
        return;
    };
    let (one, two) = (server(&redis.url(), "one"), server(&redis.url(), "two"));
    let (mut alice, mut bob) = (log_in(&one, "alice"), log_in(&one, "bob"));
    let mut carol = log_in(&two, "carol");
    for client in [&mut alice, &mut bob, &mut carol] {
        join(client, "lobby");
    }
    redis.kill();
    for client in [&mut alice, &mut bob, &mut carol] {
        client.line_with(sentences::ARE_UNREACHABLE_UNTIL_THEY_ARE_BACK);
    }
    alice.send_line(&direct("bob", "are you here?"));
    alice.line_with("SENT</command><count>1<");
    bob.line_with("are you here?");
    alice.send_line(&in_room("lobby", "local"));
    alice.line_with("SENT</command><count>1<");
    bob.line_with("<message>local<");
    alice.send_line(&direct("carol", "and you?"));
    alice.line_with("unreachable");
    let (mut dora, _) = two.seat();
    dora.send_line(&login("dora"));
    dora.line_with("unreachable");

    redis.restart();
    for client in [&mut alice, &mut bob, &mut carol] {
        client.line_with(sentences::THE_OTHER_SERVERS_ARE_BACK);
    }
    dora.send_line(&login("dora"));
    dora.line_with("WELCOME</command><username>dora<");
    carol.send_line(&in_room("lobby", "all of you"));
    for client in [&mut alice, &mut bob] {
        client.line_with("<message>all of you<");
    }
    alice.send_line(&direct("carol", "there you are"));
    carol.line_with("there you are");
}

#[test]
fn suspended_redis_duplicates_nothing() {
    let Some(redis) = Redis::start() else {
        return;
    };
    let (one, two) = (server(&redis.url(), "one"), server(&redis.url(), "two"));
    let mut alice = log_in(&one, "alice");
    let mut bob = log_in(&two, "bob");
    redis.stop();
    // It is unknown whether Redis receives this message, unless the server already knows that Redis
    // does not respond.
    alice.send_line(&public("perhaps"));
    let (mut has_notice, mut is_answered) = (false, false);
    while !has_notice || !is_answered {
        let line = alice.line();
        let was_kept = line.contains("<command>SENT<");
        assert!(!was_kept || has_notice, "{line}");
        has_notice |= line.contains(sentences::ARE_UNREACHABLE_UNTIL);
        is_answered |= was_kept || line.contains("code='unsure'");
    }
    bob.line_with(sentences::ARE_UNREACHABLE_UNTIL);
    redis.resume();
    for client in [&mut alice, &mut bob] {
        client.line_with("are back");
    }
    alice.send_line(&public("certainly"));
    let mut times = 0;
    loop {
        let line = bob.line();
        times += usize::from(line.contains("<message>perhaps<"));
        if line.contains("<message>certainly<") {
            break;
        }
    }
    assert!(times <= 1, "it arrived {times} times");
}

#[test]
fn emptied_redis_is_restored() {
    let Some(mut redis) = Redis::start() else {
        return;
    };
    let (one, two) = (server(&redis.url(), "one"), server(&redis.url(), "two"));
    let mut alice = log_in(&one, "alice");
    let mut bob = log_in(&two, "bob");
    for client in [&mut alice, &mut bob] {
        join(client, "lobby");
        client.send_line(&in_room("lobby", "before"));
    }
    redis.restart_empty();
    for client in [&mut alice, &mut bob] {
        client.line_with(sentences::REDIS_HAS_LOST_DATA);
        client.line_with("are back");
    }
    alice.send_line(&in_room("lobby", "after"));
    bob.line_with("<message>after<");
    bob.send_line(&direct("alice", "still you"));
    alice.line_with("still you");
    let (mut thief, _) = two.seat();
    thief.send_line(&login("alice"));
    thief.line_with("name-in-use");
}

#[test]
fn missed_messages_follow_in_order_once() {
    let Some(redis) = Redis::start() else {
        return;
    };
    let one = server(&redis.url(), "one");
    let proxy = Proxy::to(&redis);
    let two = server(&proxy.url(), "two");
    let mut alice = log_in(&one, "alice");
    let mut bob = log_in(&two, "bob");
    for client in [&mut alice, &mut bob] {
        join(client, "lobby");
    }
    // Cut the link of one server in one direction: its requests arrive, but the replies do not.
    proxy.drop_replies(true);
    bob.line_with(sentences::ARE_UNREACHABLE_UNTIL);
    for number in 0..50 {
        alice.send_line(&in_room("lobby", &format!("number {number}.")));
    }
    for _ in 0..50 {
        alice.line_with("SENT");
    }
    proxy.drop_replies(false);
    let (mut number, mut is_back) = (0, false);
    while number < 50 || !is_back {
        let line = bob.line();
        is_back |= line.contains("are back");
        if line.contains("scope='room'") {
            assert!(line.contains(&format!("number {number}.")), "{line}");
            number += 1;
        }
    }
    bob.send_line(&in_room("lobby", "here I am"));
    alice.line_with("here I am");
}

#[test]
fn long_outage_reports_missing_messages() {
    let Some(redis) = Redis::start() else {
        return;
    };
    let one = server(&redis.url(), "one");
    let proxy = Proxy::to(&redis);
    let two = server(&proxy.url(), "two");
    let mut alice = log_in(&one, "alice");
    let mut bob = log_in(&two, "bob");
    for client in [&mut alice, &mut bob] {
        join(client, "lobby");
    }
    proxy.drop_replies(true);
    bob.line_with(sentences::ARE_UNREACHABLE_UNTIL);
    for number in 0..5 {
        alice.send_line(&in_room("lobby", &format!("number {number}.")));
        alice.line_with("SENT");
    }
    // Redis keeps the last ten thousand entries, but only two in this test.
    redis.command("XTRIM portal-chat:room:lobby MAXLEN 2");
    proxy.drop_replies(false);
    let notice = bob.line_with(sentences::FROM_OTHER_SERVERS);
    // The missing entries are messages and membership events, except the two that are left.
    assert!(notice.contains("in lobby"), "{notice}");
    let count: usize = notice
        .split(|c: char| !c.is_ascii_digit())
        .find_map(|word| word.parse().ok())
        .unwrap();
    assert!((3..=5).contains(&count), "{notice}");
    bob.line_with("number 4.");
}

/// The memory of a key, in bytes; 0 if it does not exist.
fn memory_of(redis: &Redis, key: &str) -> u64 {
    let answer = redis.command(&format!("MEMORY USAGE portal-chat:{key} SAMPLES 0"));
    answer.trim().trim_start_matches(':').parse().unwrap_or(0)
}

#[test]
fn long_messages_fill_no_more_of_redis_than_a_stream_may_have() {
    const MEBIBYTE: u64 = 1 << 20;
    let Some(redis) = Redis::start() else {
        return;
    };
    let (one, two) = (server(&redis.url(), "one"), server(&redis.url(), "two"));
    let mut alice = log_in(&one, "alice");
    let mut bob = log_in(&two, "bob");
    for client in [&mut alice, &mut bob] {
        join(client, "lobby");
    }
    let text = "x".repeat(8000);
    let in_lobby = |text: &str| in_room("lobby", text);
    // 16 MB each: more bytes than a stream may have, and far fewer entries than it may have.
    for message in [&in_lobby as &dyn Fn(&str) -> String, &public] {
        for number in 0..2000 {
            alice.send_line(&message(&format!("{number}.{text}")));
            alice.line_with("SENT");
            // A server that reads in time misses nothing.
            bob.line_with(&format!("<message>{number}.xxx"));
        }
    }
    for stream in ["room:lobby", "all"] {
        let memory = memory_of(&redis, stream);
        assert!(
            (3 * MEBIBYTE..10 * MEBIBYTE).contains(&memory),
            "{stream}: {memory}"
        );
    }
    // A room that has closed keeps none of it.
    for client in [&mut alice, &mut bob] {
        client.send_line(&command("LEAVE", "<room>lobby</room>"));
        client.line_with("<command>LEFT</command>");
    }
    let until = std::time::Instant::now() + PATIENCE;
    while memory_of(&redis, "room:lobby") > MEBIBYTE {
        assert!(
            std::time::Instant::now() < until,
            "its messages are still there"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(memory_of(&redis, "room:lobby:bytes"), 0);
}

#[test]
fn name_is_taken_over_from_another_server() {
    let Some(redis) = Redis::start() else {
        return;
    };
    let proxy = Proxy::to(&redis);
    let one = server(&proxy.url(), "one");
    let two = server(&redis.url(), "two");
    let mut alice = log_in(&one, "alice");
    let mut bob = log_in(&two, "bob");
    bob.send_line(&direct("alice", "hello"));
    alice.line_with("hello");
    // Alice's server is cut off for longer than its lease, so the name is free.
    proxy.drop_replies(true);
    proxy.delay(3_600_000);
    bob.line_with("USER LEFT</command><username>alice<");
    let mut second = log_in(&two, "alice");
    proxy.delay(0);
    proxy.drop_replies(false);
    // After the reconnect, the first alice is notified that the name was taken over.
    alice.line_with("TAKEN OVER");
    assert_eq!(alice.next_line(), None);
    bob.send_line(&direct("alice", "which one?"));
    second.line_with("which one?");
}

#[test]
fn duplicate_id_or_different_rules_are_refused() {
    let Some(redis) = Redis::start() else {
        return;
    };
    let _one = server(&redis.url(), "one");
    let start = |settings: &Settings| {
        let clock = portal_chat::clock::Clock::new();
        let events = portal_chat::event::Events::new(clock.clone());
        let settings = Settings {
            port: 0,
            ..settings.clone()
        };
        portal_chat::server::Server::start(&settings, clock, events)
            .err()
            .map(|error: StartError| error.to_string())
    };
    let taken = start(&settings(&redis.url(), "one")).unwrap();
    assert!(taken.contains("--cluster-id"), "{taken}");
    let accounts = support::temporary_file("cluster-rules");
    let different = Settings {
        accounts: Some(accounts.clone()),
        ..settings(&redis.url(), "two")
    };
    let differs = start(&different).unwrap();
    assert!(differs.contains("--no-passwords"), "{differs}");
    let _ = std::fs::remove_file(accounts);
    let mut nowhere = Redis::start().unwrap();
    nowhere.kill();
    let unreachable = start(&settings(&nowhere.url(), "one")).unwrap();
    assert!(unreachable.contains("redis-server"), "{unreachable}");
}

#[test]
fn slow_redis_loses_nothing() {
    let Some(redis) = Redis::start() else {
        return;
    };
    let proxy = Proxy::to(&redis);
    let one = server(&proxy.url(), "one");
    let two = server(&redis.url(), "two");
    let mut alice = log_in(&one, "alice");
    let mut bob = log_in(&two, "bob");
    proxy.delay(30);
    for number in 0..30 {
        alice.send_line(&public(&format!("number {number}.")));
    }
    for number in 0..30 {
        let line = bob.line_with("scope='public'");
        assert!(line.contains(&format!("number {number}.")), "{line}");
    }
    for _ in 0..30 {
        alice.line_with("SENT</command><count>1<");
    }
    let events = one.pending_events();
    assert!(!events.iter().any(|event| event.kind == "cluster-lost"));
}

/// Starts a server with an accounts file.
fn server_with_accounts(url: &str, id: &str) -> (TestServer, std::path::PathBuf) {
    let file = support::temporary_file(&format!("cluster-accounts-{id}"));
    let settings = Settings {
        accounts: Some(file.clone()),
        ..settings(url, id)
    };
    (TestServer::start(&settings), file)
}

/// Logs in with a password. Returns the reply, and whether the account was new.
fn log_in_with_password(server: &TestServer, name: &str, secret: &str) -> (Client, String, bool) {
    let (mut client, _) = server.seat();
    client.send_line(&login(name));
    let request = client.line_with("<command>PASSWORD<");
    client.send_line(&support::password(secret));
    let reply = loop {
        let line = client.line();
        if line.contains("WELCOME") || line.contains("<error") {
            break line;
        }
    };
    (client, reply, request.contains("new"))
}

#[test]
fn account_is_shared_and_stored_in_each_file() {
    let Some(mut redis) = Redis::start() else {
        return;
    };
    let (one, file_one) = server_with_accounts(&redis.url(), "one");
    let (two, file_two) = server_with_accounts(&redis.url(), "two");
    let (first, reply, is_new) = log_in_with_password(&one, "alice", "the moon");
    assert!(reply.contains("WELCOME") && is_new, "{reply}");
    // The other server has the same account: the right password takes the name over.
    let (_, reply, is_new) = log_in_with_password(&two, "Alice", "the sun");
    assert!(reply.contains("wrong-password") && !is_new, "{reply}");
    let (mut second, reply, _) = log_in_with_password(&two, "ALICE", "the moon");
    assert!(reply.contains("<username>alice<"), "{reply}");
    let mut first = first;
    first.line_with("TAKEN OVER");

    second.send_line(&command(
        "PASSWD",
        "<old>the moon</old><new>the stars</new>",
    ));
    second.line_with("PASSWD</command>");
    let (_, reply, _) = log_in_with_password(&one, "alice", "the moon");
    assert!(reply.contains("wrong-password"), "{reply}");
    let (_, reply, _) = log_in_with_password(&one, "alice", "the stars");
    assert!(reply.contains("WELCOME"), "{reply}");
    for file in [&file_one, &file_two] {
        let text = std::fs::read_to_string(file).unwrap();
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(
            text.lines()
                .all(|line| line.starts_with("alice $argon2id$")),
            "{text}"
        );
    }

    // If many clients register a name at the same time on both servers, one of them gets it.
    let logged_in = std::thread::scope(|threads| {
        let tries: Vec<_> = (0..8)
            .map(|number| {
                let server = if number % 2 == 0 { &one } else { &two };
                threads.spawn(move || {
                    let (client, reply, _) =
                        log_in_with_password(server, "bob", &format!("secret {number}"));
                    reply.contains("WELCOME").then_some((number, client))
                })
            })
            .collect();
        let tries = tries.into_iter().map(|thread| thread.join().unwrap());
        tries
            .flatten()
            .map(|(number, _)| number)
            .collect::<Vec<_>>()
    });
    assert_eq!(logged_in.len(), 1, "{logged_in:?}");

    // A Redis that has lost its data gets the accounts from the servers' files.
    redis.restart_empty();
    two.wait_for_event("cluster-back", None);
    let reply = redis.command("HLEN portal-chat:accounts");
    assert_eq!(reply, ":2\r\n");
    one.stop();
    two.stop();
    // A server whose file has a different password with the same count reports that, and rejects
    // all logins to the account.
    let other = redis.command("HGET portal-chat:accounts alice");
    let hash = other
        .split_whitespace()
        .find(|word| word.starts_with("$argon2id$"))
        .unwrap();
    let mut forged = hash.to_owned();
    forged.pop();
    // The lower two bits of the last character are not part of the hash.
    forged.push(if hash.ends_with('A') { 'E' } else { 'A' });
    std::fs::write(
        &file_one,
        format!("alice {forged}\nalice {forged} changed\n"),
    )
    .unwrap();
    let settings = Settings {
        accounts: Some(file_one.clone()),
        ..settings(&redis.url(), "one")
    };
    let one = TestServer::start(&settings);
    one.wait_for("the operator is notified", |event| {
        event
            .text("error")
            .is_some_and(|error| error.contains("alice"))
    });
    let (mut client, _) = one.seat();
    client.send_line(&login("alice"));
    client.line_with(sentences::TWO_DIFFERENT_PASSWORDS);
    drop((second, client));
    one.stop();
    for file in [file_one, file_two] {
        let _ = std::fs::remove_file(file);
    }
}

/// A token from one server is valid on the others, and is revoked on all of them. The lists of
/// members also cover all servers.
#[test]
fn session_tokens_and_members_are_shared() {
    let Some(redis) = Redis::start() else {
        return;
    };
    let (one, file_one) = server_with_accounts(&redis.url(), "token-one");
    let (two, file_two) = server_with_accounts(&redis.url(), "token-two");
    let token_of = |client: &mut Client| -> String {
        client.send_line(&support::command("TOKEN", ""));
        let line = client.line_with("TOKEN");
        line.split("<token>").nth(1).unwrap()[..64].to_owned()
    };
    let resume = |server: &TestServer, token: &str| -> (Client, String) {
        let (mut client, _) = server.seat();
        client.send_line(&support::command(
            "RESUME",
            &format!("<username>alice</username><token>{token}</token>"),
        ));
        let is_answer = |line: &String| line.contains("WELCOME") || line.contains("bad-token");
        let line = std::iter::from_fn(|| client.next_line()).find(is_answer);
        (client, line.unwrap())
    };
    let (mut alice, ..) = log_in_with_password(&one, "alice", "first password");
    let first = token_of(&mut alice);
    // Redis stores only the hash.
    let stored = redis.command("HGETALL portal-chat:tokens:alice");
    assert!(!stored.is_empty() && !stored.contains(&first), "{stored}");
    let (mut second, line) = resume(&two, &first);
    assert!(line.contains("WELCOME"), "{line}");
    alice.line_with("TAKEN OVER");
    // The members of a room on both servers.
    join(&mut second, "lobby");
    let (mut bob, ..) = log_in_with_password(&one, "bob", "bobs password");
    join(&mut bob, "lobby");
    bob.send_line(&support::command("MEMBERS", "<room>lobby</room>"));
    let members = bob.line_with("MEMBERS");
    assert!(
        members.contains("<user>alice</user><user>bob</user>"),
        "{members}"
    );
    // A new password revokes the token on every server.
    second.send_line(&support::command(
        "PASSWD",
        "<old>first password</old><new>second password</new>",
    ));
    second.line_with("PASSWD");
    assert!(resume(&one, &first).1.contains("bad-token"));
    let newer = token_of(&mut second);
    second.send_line(&support::command(
        "LOGOUT",
        &format!("<token>{newer}</token>"),
    ));
    second.rest();
    assert!(resume(&one, &newer).1.contains("bad-token"));
    let _ = std::fs::remove_file(file_one);
    let _ = std::fs::remove_file(file_two);
}

#[test]
fn full_server_redirects_our_client() {
    let Some(redis) = Redis::start() else {
        return;
    };
    let small = Settings {
        single_port: None,
        workers: 2,
        ..settings(&redis.url(), "small")
    };
    let cluster = small.cluster.clone().unwrap();
    let small = Settings {
        cluster: Some(ClusterSettings {
            address: Some([127, 0, 0, 1].into()),
            ..cluster
        }),
        ..small
    };
    let one = TestServer::start(&small);
    let _guests = [one.seat(), one.seat()];
    assert_eq!(
        one.request_port(),
        "<SERVER><command>FULL</command></SERVER>\n"
    );
    let other = ClusterSettings {
        address: Some([127, 0, 0, 1].into()),
        ..settings(&redis.url(), "two").cluster.unwrap()
    };
    let two = TestServer::start(&Settings {
        cluster: Some(other),
        ..settings(&redis.url(), "two")
    });
    let there = two.server.portal();
    let expected = format!(
        "<SERVER><command>FULL</command><elsewhere><address>127.0.0.1</address><Port>{}</Port></elsewhere></SERVER>\n",
        there.port()
    );
    // The other server is known after the next renewal of the lease.
    let until = std::time::Instant::now() + PATIENCE;
    while one.request_port() != expected {
        assert!(std::time::Instant::now() < until, "{}", one.request_port());
        std::thread::yield_now();
    }
    let client = program(env!("CARGO_BIN_EXE_chatclient"))
        .args(["127.0.0.1", &one.server.portal().port().to_string()])
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let output_text = String::from_utf8_lossy(&client.stdout);
    assert!(output_text.contains("in seat"), "{output_text}");
    two.wait_for_event("seated", None);
}

#[test]
fn full_page_links_to_another_server() {
    let Some(redis) = Redis::start() else {
        return;
    };
    let with_a_page = |id: &str, workers| {
        let settings = settings(&redis.url(), id);
        let cluster = ClusterSettings {
            address: Some([127, 0, 0, 1].into()),
            ..settings.cluster.clone().unwrap()
        };
        TestServer::start(&Settings {
            single_port: None,
            workers,
            cluster: Some(cluster),
            web: Some(WebEntrance::at("127.0.0.1:0".parse().unwrap())),
            ..settings
        })
    };
    let (small, large) = (with_a_page("small", 2), with_a_page("large", 4));
    let _guests = [small.seat(), small.seat()];
    let until = std::time::Instant::now() + PATIENCE;
    while !small.request_port().contains("<web>") {
        assert!(
            std::time::Instant::now() < until,
            "{}",
            small.request_port()
        );
        std::thread::yield_now();
    }
    let Some(browser) = Browser::start("elsewhere") else {
        return;
    };
    browser.open(small.server.web().unwrap());
    let there = large.server.web().unwrap();
    browser.wait_until(&format!(
        "document.querySelector('#state a') && document.querySelector('#state a').href === 'http://{there}/'"
    ));
}

#[test]
fn board_shows_other_servers_and_their_lag() {
    let Some(redis) = Redis::start() else {
        return;
    };
    let clock = portal_chat::clock::Clock::new();
    let mut events = portal_chat::event::Events::new(clock.clone());
    events.show_texts();
    let redactor = portal_chat::board::Redactor {
        texts: false,
        secrets: false,
    };
    let address = "127.0.0.1:0".parse().unwrap();
    let board = portal_chat::board::Board::live(address, &mut events, redactor, None, &[]).unwrap();
    let watched = Settings {
        port: 0,
        ..settings(&redis.url(), "one")
    };
    let one = portal_chat::server::Server::start(&watched, clock, events.clone()).unwrap();
    let Some(browser) = Browser::start("servers") else {
        return;
    };
    browser.open(board.address());
    let two = server(&redis.url(), "two");
    let _guest = two.seat();
    browser.wait_until(
        "/two1 of 20 seats taken, lag [0-9.]+ ms/.test(document.getElementById('servers').textContent)",
    );
    two.stop();
    one.stop();
    drop(events);
    board.stop();
}

#[test]
fn operator_lists_servers_and_their_users() {
    let Some(redis) = Redis::start() else {
        return;
    };
    let one = server(&redis.url(), "one");
    let _alice = log_in(&one, "alice");
    let url = redis.url();
    let options = [
        "0",
        "--single-port",
        "--no-passwords",
        "--quiet",
        "--cluster",
        &url,
    ];
    let options = [&options[..], &["--cluster-id", "two"]].concat();
    let mut two = Terminal::start(env!("CARGO_BIN_EXE_chatserver"), &options, &[]);
    two.wait_for_text(sentences::CONNECTS_ALL_SERVERS_OF_THIS_CHAT);
    two.wait_for_prompt("operator>");
    two.type_line("who");
    two.wait_for_text(sentences::ON_OTHER_SERVERS_ALICE_ONE);
    // The list is updated with the lease, every two seconds. Without a pause, the commands would
    // queue up.
    two.wait_for("both servers in the list", |two| {
        two.type_line("servers");
        std::thread::sleep(Duration::from_millis(200));
        let screen = two.contents();
        screen.contains("1/20") && screen.contains("(this one)")
    });
}

#[test]
fn redis_password_comes_from_a_file() {
    let Some(redis) = Redis::start() else {
        return;
    };
    redis.command("CONFIG SET requirepass a-long-word");
    let file = std::env::temp_dir().join(format!("portal-chat-word-{}", std::process::id()));
    let check_config = |options: &[&str]| {
        let output = program(env!("CARGO_BIN_EXE_chatserver"))
            .args(["0", "--single-port", "--no-passwords", "--check"])
            .args(["--cluster", &redis.url()])
            .args(options)
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    };
    let (code, output_text) = check_config(&[]);
    assert!(
        code == Some(2) && output_text.contains("--cluster-secret FILE"),
        "{output_text}"
    );
    let secret = ["--cluster-secret", file.to_str().unwrap()];
    let (code, output_text) = check_config(&secret);
    assert!(
        code == Some(2) && output_text.contains(sentences::CANT_BE_READ),
        "{output_text}"
    );
    for (word, expected) in [
        ("another", Some(2)),
        ("a-long-word", Some(0)),
        ("default:a-long-word\nand a second line\n", Some(0)),
    ] {
        std::fs::write(&file, word).unwrap();
        support::make_private(&file);
        let (code, output_text) = check_config(&secret);
        assert_eq!(code, expected, "{output_text}");
        assert!(
            !output_text.contains("a-long-word"),
            "the secret is printed: {output_text}"
        );
        let hint = if code == Some(0) {
            "The server can start."
        } else {
            "--cluster-secret FILE"
        };
        assert!(output_text.contains(hint), "{output_text}");
    }
    // A password may have a colon.
    redis.command("AUTH a-long-word\r\nCONFIG SET requirepass a-long:word");
    std::fs::write(&file, "a-long:word").unwrap();
    let (code, output_text) = check_config(&secret);
    assert_eq!(code, Some(0), "{output_text}");
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn lost_redis_scripts_are_loaded_again() {
    let Some(redis) = Redis::start() else {
        return;
    };
    let (one, two) = (server(&redis.url(), "one"), server(&redis.url(), "two"));
    let mut alice = log_in(&one, "alice");
    let mut bob = log_in(&two, "bob");
    for number in 0..5 {
        redis.command("SCRIPT FLUSH");
        alice.send_line(&public(&format!("message {number}")));
        let reply = alice.line_with("command>");
        let reply = if reply.contains("USER JOINED") {
            alice.line_with("command>")
        } else {
            reply
        };
        assert!(reply.contains("SENT</command><count>1<"), "{reply}");
        bob.line_with(&format!("message {number}<"));
    }
}

#[test]
fn evicting_redis_is_refused_with_the_fix() {
    let Some(redis) = Redis::start() else {
        return;
    };
    for (policy, may_ask, expected) in [
        ("allkeys-lru", true, Some(2)),
        ("allkeys-random", true, Some(2)),
        ("volatile-ttl", true, Some(0)),
        ("noeviction", true, Some(0)),
        // A user without the permission for INFO can still use Redis.
        ("allkeys-lru", false, Some(0)),
    ] {
        redis.command(&format!("CONFIG SET maxmemory-policy {policy}"));
        if !may_ask {
            redis.command("ACL SETUSER default -info");
        }
        let output = program(env!("CARGO_BIN_EXE_chatserver"))
            .args(["0", "--single-port", "--no-passwords", "--check"])
            .args(["--cluster", &redis.url()])
            .output()
            .unwrap();
        let output_text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!(output.status.code(), expected, "{output_text}");
        let names_it =
            output_text.contains(policy) && output_text.contains("maxmemory-policy noeviction");
        assert_eq!(names_it, expected == Some(2), "{output_text}");
    }
}

#[test]
fn resumed_server_does_not_publish_old_messages() {
    resume_after_lease_expired(Some("from the grave"));
}

/// Without an unsent message, the resumed server's first request is the renewal of its lease.
#[test]
fn resumed_server_notifies_clients_of_lost_names() {
    resume_after_lease_expired(None);
}

/// Clients of the suspended server do not receive their own departure, and all other clients
/// eventually learn which members are in which room.
#[test]
fn resumed_server_hides_own_departures() {
    let Some(redis) = Redis::start() else {
        return;
    };
    let one = server(&redis.url(), "one");
    let mut bob = log_in(&one, "bob");
    let sleeper = Process::start(&redis.url(), "sleeper");
    let (mut alice, mut carol) = (sleeper.log_in("alice"), sleeper.log_in("carol"));
    for client in [&mut bob, &mut alice, &mut carol] {
        join(client, "lobby");
    }
    // JOINED may arrive before Redis knows about the member.
    for name in ["alice", "carol"] {
        bob.line_with(&format!("ROOM JOINED</command><username>{name}<"));
    }
    sleeper.child.stop();
    for name in ["alice", "carol"] {
        bob.line_with(&format!("ROOM LEFT</command><username>{name}<"));
    }
    sleeper.child.signal("-CONT");
    for name in ["alice", "carol"] {
        bob.line_with(&format!("ROOM JOINED</command><username>{name}<"));
    }
    bob.send_line(&in_room("lobby", "the last word"));
    bob.line_with("SENT</command><count>2<");
    for (client, name) in [(&mut alice, "alice"), (&mut carol, "carol")] {
        loop {
            let line = client.line();
            let is_own = line.contains("LEFT") && line.contains(&format!("<username>{name}<"));
            assert!(!is_own, "{line}");
            if line.contains("the last word") {
                break;
            }
        }
    }
}

#[test]
fn deleted_stream_is_read_from_its_new_start() {
    let Some(redis) = Redis::start() else {
        return;
    };
    let (one, two) = (server(&redis.url(), "one"), server(&redis.url(), "two"));
    let (mut alice, mut bob) = (log_in(&one, "alice"), log_in(&two, "bob"));
    for client in [&mut alice, &mut bob] {
        join(client, "lobby");
    }
    for stream in ["all", "room:lobby"] {
        let to_stream = |text: &str| match stream {
            "all" => public(text),
            _ => in_room("lobby", text),
        };
        for number in 0..5 {
            alice.send_line(&to_stream(&format!("{stream} before {number}.")));
        }
        bob.line_with("before 4.");
        redis.command(&format!("DEL portal-chat:{stream}"));
        for number in 0..3 {
            alice.send_line(&to_stream(&format!("{stream} after {number}.")));
        }
        bob.line_with(sentences::REDIS_HAS_LOST_DATA);
        for number in 0..3 {
            bob.line_with(&format!("{stream} after {number}."));
        }
        // When the deletion is noticed, the stream may have more entries than before.
        redis.command(&format!("DEL portal-chat:{stream}"));
        for number in 0..30 {
            alice.send_line(&to_stream(&format!("{stream} again {number}.")));
        }
        bob.line_with(sentences::REDIS_HAS_LOST_DATA);
    }
    bob.send_line(&direct("alice", "a word"));
    alice.line_with("a word");
    redis.command("DEL portal-chat:inbox:one");
    // Bob gets a reply to each message; the first one may be lost.
    for number in 0..9 {
        bob.send_line(&direct("alice", &format!("word {number}.")));
    }
    alice.line_with("word 8.");
}

#[test]
fn redis_restored_from_snapshot_loses_no_later_message() {
    let Some(mut redis) = Redis::start() else {
        return;
    };
    let (one, two) = (server(&redis.url(), "one"), server(&redis.url(), "two"));
    let (mut alice, mut bob) = (log_in(&one, "alice"), log_in(&two, "bob"));
    let older = redis.snapshot();
    for number in 0..5 {
        alice.send_line(&public(&format!("forgotten {number}.")));
    }
    bob.line_with("forgotten 4.");
    redis.restore(&older);
    for client in [&mut alice, &mut bob] {
        client.line_with(sentences::THE_OTHER_SERVERS_ARE_BACK);
    }
    alice.send_line(&public("and now?"));
    bob.line_with("and now?");
}

#[test]
fn missing_redis_permissions_are_found_before_start() {
    let Some(redis) = Redis::start() else {
        return;
    };
    for command in ["xread", "xadd", "xinfo", "evalsha", "hgetall"] {
        redis.command("ACL SETUSER default +@all");
        redis.command(&format!("ACL SETUSER default -{command}"));
        let output = program(env!("CARGO_BIN_EXE_chatserver"))
            .args(["0", "--single-port", "--no-passwords", "--check"])
            .args(["--cluster", &redis.url()])
            .output()
            .unwrap();
        let output_text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!(output.status.code(), Some(2), "{output_text}");
        assert!(
            output_text.to_lowercase().contains(command),
            "{output_text}"
        );
    }
}

#[test]
fn servers_continue_alone_if_redis_refuses_writes() {
    let Some(redis) = Redis::start() else {
        return;
    };
    let (one, two) = (server(&redis.url(), "one"), server(&redis.url(), "two"));
    let (mut alice, mut bob) = (log_in(&one, "alice"), log_in(&one, "bob"));
    let mut carol = log_in(&two, "carol");
    redis.command("CONFIG SET maxmemory 1");
    alice.send_line(&public("is it kept?"));
    let reply = alice.line_with("<error");
    assert!(reply.contains("unreachable"), "{reply}");
    let lost = one.wait_for_event("cluster-lost", None);
    assert!(
        lost.line().contains(sentences::REFUSES_WRITES_OOM),
        "{}",
        lost.line()
    );
    alice.line_with(sentences::ARE_UNREACHABLE_UNTIL_THEY_ARE_BACK);
    alice.send_line(&public("on our own"));
    alice.line_with("SENT</command><count>1<");
    bob.line_with("on our own");
    redis.command("CONFIG SET maxmemory 0");
    alice.line_with(sentences::THE_OTHER_SERVERS_ARE_BACK);
    alice.send_line(&public("together again"));
    carol.line_with("together again");
}

#[test]
fn server_waits_for_redis_to_start() {
    let Some(mut redis) = Redis::start() else {
        return;
    };
    redis.kill();
    let arguments = [
        "0",
        "--single-port",
        "--no-passwords",
        "--cluster-id",
        "early",
    ];
    let check = program(env!("CARGO_BIN_EXE_chatserver"))
        .args(arguments)
        .args(["--cluster", &redis.url(), "--check"])
        .output()
        .unwrap();
    assert_eq!(check.status.code(), Some(2));
    let mut child = Running::start(
        program(env!("CARGO_BIN_EXE_chatserver"))
            .args(arguments)
            .args(["--cluster", &redis.url()])
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped()),
    );
    let sentence = child.first_error_with(sentences::WAITING_FOR_REDIS);
    assert!(
        sentence.contains(sentences::CTRL_C_CANCELS_STARTUP),
        "{sentence}"
    );
    redis.restart();
    let port = child.first_port();
    let mut client = Client::connect(([127, 0, 0, 1], port).into());
    client.send_line(&login("alice"));
    client.line_with("WELCOME");
}

/// Ctrl-Z and `fg`, or a debugger, interrupt a blocked read; the connection is still usable. (On a
/// busy machine, Redis may answer too late, which is another reason to lose it.)
#[test]
fn briefly_suspended_server_continues() {
    let Some(redis) = Redis::start() else {
        return;
    };
    let events = support::temporary_file("suspended-events");
    let sleeper = Process::start_with(
        &redis.url(),
        "sleeper",
        &["--events", events.to_str().unwrap()],
    );
    let mut alice = sleeper.log_in("alice");
    for _ in 0..5 {
        sleeper.child.stop();
        sleeper.child.signal("-CONT");
        alice.send_line(&public("still here"));
        alice.send_line(&command("WHO", ""));
        alice.line_with("<user>alice</user>");
    }
    drop((alice, sleeper));
    let text = std::fs::read_to_string(&events).unwrap();
    assert!(text.contains("\"logged-in\""), "{text}");
    let interrupted = text.lines().find(|line| {
        line.contains("\"cluster-lost\"") && line.to_lowercase().contains("interrupted")
    });
    assert_eq!(interrupted, None);
    let _ = std::fs::remove_file(&events);
}

/// The clock of Redis may jump, and a machine may be suspended without any of its programs
/// noticing. The lease has then expired while its server continues as if nothing had happened.
#[test]
fn lease_of_another_server_is_not_renewed() {
    let Some(redis) = Redis::start() else {
        return;
    };
    let (one, two) = (server(&redis.url(), "one"), server(&redis.url(), "two"));
    let mut alice = log_in(&one, "alice");
    // Give its lease to another server and remove its users in one step; otherwise, the server
    // would recover in between.
    let lost =
        "redis.call('SET', KEYS[1], 'another', 'PX', 60000); redis.call('HDEL', KEYS[2], 'alice')";
    redis.command(&format!(
        "EVAL \"{lost}\" 2 portal-chat:srv:one portal-chat:names"
    ));
    let _second = log_in(&two, "alice");
    // The server detects that it was declared dead, and recovers once the other server has left.
    one.wait_for_event("cluster-lost", None);
    redis.command("DEL portal-chat:srv:one");
    alice.line_with("TAKEN OVER");
}

/// A server in its own process, which a test can suspend and kill.
struct Process {
    child: Running,
    port: u16,
}

impl Process {
    fn start(url: &str, id: &str) -> Process {
        Process::start_with(url, id, &[])
    }

    fn start_with(url: &str, id: &str, options: &[&str]) -> Process {
        let mut child = Running::start(
            program(env!("CARGO_BIN_EXE_chatserver"))
                .args(["0", "--single-port", "--no-passwords", "--cluster", url])
                .args(["--cluster-id", id])
                .args(options)
                .stdin(std::process::Stdio::null())
                .stdout(std::process::Stdio::piped())
                .stderr(std::process::Stdio::null()),
        );
        let port = child.first_port();
        Process { child, port }
    }

    fn log_in(&self, name: &str) -> Client {
        let mut client = Client::connect(([127, 0, 0, 1], self.port).into());
        client.send_line(&login(name));
        client.line_with("WELCOME");
        client
    }
}

/// The id and the time of a message.
fn stamp(message: &str) -> &str {
    let begin = message.find(" time='").expect(message);
    &message[begin..message.find('>').unwrap()]
}

/// A message has the same id on every server, including the sender's, which learns the id from the
/// receipt.
#[cfg(feature = "journal")]
#[test]
fn what_a_server_missed_while_it_was_away_is_a_gap() {
    let Some(redis) = Redis::start() else {
        return;
    };
    let file = support::temporary_file("gap-journal");
    let with_journal = || {
        TestServer::start(&Settings {
            journal: Some(portal_chat::journal::JournalSettings::new(&file)),
            ..settings(&redis.url(), "keeper")
        })
    };
    let one = server(&redis.url(), "one");
    let mut alice = log_in(&one, "alice");
    let keeper = with_journal();
    let mut bob = log_in(&keeper, "bob");
    let mut say = |text: &str| {
        alice.send_line(&public(text));
        alice.line_with("<command>SENT");
    };
    say("before one");
    say("before two");
    bob.line_with("before two");
    keeper.stop();
    say("meanwhile");
    let keeper = with_journal();
    let mut bob = log_in(&keeper, "bob");
    say("after one");
    say("after two");
    bob.line_with("after two");
    bob.send_line(&command("HISTORY", ""));
    bob.line_with("<count>4</count>");
    for (text, gap) in [
        ("before one", false),
        ("before two", false),
        ("after one", true),
        ("after two", false),
    ] {
        let line = bob.line();
        assert!(line.contains(text), "{line}");
        assert_eq!(line.contains(" gap='yes'"), gap, "{line}");
    }
    for end in ["", "-wal", "-shm"] {
        let mut name = file.clone().into_os_string();
        name.push(end);
        let _ = std::fs::remove_file(name);
    }
}

#[test]
fn servers_agree_on_the_ids_of_messages() {
    let Some(redis) = Redis::start() else {
        return;
    };
    let files = ["ids-one", "ids-two"].map(support::temporary_file);
    let start = |index: usize| {
        let settings = Settings {
            accounts: Some(files[index].clone()),
            ..settings(&redis.url(), ["one", "two"][index])
        };
        TestServer::start(&settings)
    };
    let (one, two) = (start(0), start(1));
    let (mut alice, ..) = log_in_with_password(&one, "alice", "sesame");
    let (mut bob, ..) = log_in_with_password(&two, "bob", "sesame");
    join(&mut alice, "lobby");
    join(&mut bob, "lobby");
    alice.line_with("ROOM JOINED");
    let mut ids = Vec::new();
    for (send, history, other) in [
        (public("hello"), "", ""),
        (
            in_room("lobby", "hello"),
            "<room>lobby</room>",
            "<room>lobby</room>",
        ),
        (
            direct("bob", "hello"),
            "<with>bob</with>",
            "<with>alice</with>",
        ),
    ] {
        alice.send_line(&send);
        alice.line_with("<command>SENT");
        let received = bob.line_with("<message>hello<");
        for (client, of) in [(&mut alice, history), (&mut bob, other)] {
            // The sender's server keeps a message when it reads it back, perhaps after SENT.
            let is_kept = |client: &mut Client| {
                client.send_line(&command("HISTORY", of));
                let reply = client.line_with("<command>HISTORY</command>");
                !reply.contains("<count>0</count>")
            };
            while !is_kept(client) {
                std::thread::yield_now();
            }
            let kept = client.line_with("old='yes'");
            assert_eq!(stamp(&kept), stamp(&received), "{of}");
        }
        ids.push(stamp(&received).to_owned());
    }
    ids.dedup();
    assert_eq!(ids.len(), 3);
    // A member who joins on the other server gets the same ids with the old messages.
    let (mut carol, ..) = log_in_with_password(&two, "carol", "sesame");
    carol.send_line(&command("JOIN", "<room>lobby</room><here/>"));
    assert_eq!(stamp(&carol.line_with("old='yes'")), ids[1]);
    for (server, file) in [one, two].into_iter().zip(files) {
        server.stop();
        std::fs::remove_file(file).unwrap();
    }
}

/// Suspends a server for longer than its lease while alice logs in on another one, and resumes it,
/// with or without an unsent message from her.
fn resume_after_lease_expired(part: Option<&str>) {
    let Some(redis) = Redis::start() else {
        return;
    };
    let one = server(&redis.url(), "one");
    let mut bob = log_in(&one, "bob");
    let mut sleeper = Process::start(&redis.url(), "sleeper");
    let mut alice = sleeper.log_in("alice");
    sleeper.child.stop();
    // The server reads the message when it resumes, and must not publish it.
    if let Some(part) = part {
        alice.send_line(&public(part));
    }
    bob.line_with("USER LEFT</command><username>alice<");
    let mut second = log_in(&one, "alice");
    sleeper.child.signal("-CONT");
    alice.line_with("TAKEN OVER");
    second.send_line(&public("I am alive"));
    loop {
        let line = bob.line();
        assert!(part.is_none_or(|part| !line.contains(part)), "{line}");
        if line.contains("I am alive") {
            break;
        }
    }
    sleeper.child.signal("-TERM");
    sleeper.child.wait().unwrap();
}
