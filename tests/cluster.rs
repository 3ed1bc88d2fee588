//! Several servers as one chat, behind a real Redis: what is shared, and what people are told when
//! something breaks. Each test is a row of the list of faults.
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
use support::terminal::Terminal;
use support::{Client, PATIENCE, TestServer, command, login};

/// Longer than a busy machine keeps anybody waiting, and short enough to be seen running out.
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

/// Somebody who has logged in under that name.
fn person(server: &TestServer, name: &str) -> Client {
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
fn names_messages_and_rooms_are_shared_and_everybody_hears_one_order() {
    let Some(redis) = Redis::start() else {
        return;
    };
    let (one, two) = (server(&redis.url(), "one"), server(&redis.url(), "two"));
    let mut alice = person(&one, "alice");
    let mut bob = person(&two, "bob");
    alice.line_with("USER JOINED</command><username>bob<");
    let mut carol = person(&two, "carol");
    alice.line_with("USER JOINED</command><username>carol<");
    bob.line_with("USER JOINED</command><username>carol<");

    alice.send_line(&command("WHO", ""));
    let who = alice.line_with("WHO</command>");
    assert!(
        who.contains("<user>alice</user><user>bob</user><user>carol</user>"),
        "{who}"
    );
    // The name is taken everywhere.
    let (mut thief, _) = two.seat();
    thief.send_line(&login("ALICE"));
    thief.line_with("name-in-use");

    alice.send_line(&public("hello all"));
    alice.line_with("SENT</command><count>2<");
    for listener in [&mut bob, &mut carol] {
        listener.line_with("<CLIENT from='alice' scope='public'><message>hello all<");
    }
    alice.send_line(&direct("carol", "just you"));
    alice.line_with("SENT</command><count>1<");
    carol.line_with("<CLIENT from='alice' scope='direct'><message>just you<");
    alice.send_line(&direct("nobody", "anybody?"));
    alice.line_with("no-such-user");

    join(&mut alice, "lobby");
    alice.send_line(&in_room("lobby", "one"));
    alice.line_with("SENT</command><count>0<");
    alice.send_line(&command("TOPIC", "<room>lobby</room><topic>cats</topic>"));
    alice.line_with("TOPIC</command>");
    // What was said before is seen by whoever comes in elsewhere.
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

    // Many speak at once; alice and carol, on two servers, hear the same order, and nobody hears
    // themselves.
    for number in 0..200 {
        bob.send_line(&in_room("lobby", &format!("b{number}")));
        alice.send_line(&in_room("lobby", &format!("a{number}")));
    }
    let heard = |client: &mut Client, count: usize| -> Vec<String> {
        let mut heard = Vec::new();
        while heard.len() < count {
            let line = client.line();
            if line.contains("scope='room'") && !line.contains("old='") {
                heard.push(line);
            }
        }
        heard
    };
    let at_carols = heard(&mut carol, 400);
    let at_bobs = heard(&mut bob, 200);
    let at_alices = heard(&mut alice, 200);
    let of = |speaker: &str| -> Vec<String> {
        let theirs = at_carols.iter().filter(|line| line.contains(speaker));
        theirs.cloned().collect()
    };
    assert_eq!(at_bobs, of("from='alice'"));
    assert_eq!(at_alices, of("from='bob'"));

    drop(bob);
    alice.line_with("ROOM LEFT</command><username>bob<");
    drop((alice, carol));
    for server in [&one, &two] {
        server.assert_all_rooms_end();
    }
    one.stop();
    two.stop();
    // Nothing of people and rooms is left in the engine, and the rest of the keys runs out.
    for key in ["names", "rooms", "servers"] {
        let answer = redis.command(&format!("HLEN portal-chat:{key}"));
        assert_eq!(answer, ":0\r\n", "{key}");
    }
    for key in ["all", "epoch", "inbox:one", "room:lobby"] {
        let answer = redis.command(&format!("TTL portal-chat:{key}"));
        assert!(!answer.starts_with(":-1"), "{key} stays for ever: {answer}");
    }
}

/// The thread that reads the engine waits for what comes on the streams that it knows. If it were
/// woken before it can know of the room, it would wait for up to a second more, and whoever has
/// come in would hear nothing meanwhile.
#[test]
fn the_reader_is_woken_once_it_can_know_of_a_room_that_begins_here() {
    let Some(redis) = Redis::start() else {
        return;
    };
    let one = server(&redis.url(), "one");
    let mut alice = person(&one, "alice");
    let asked = redis.monitor(|| {
        join(&mut alice, "lobby");
        // Answered after everything that was asked before.
        alice.send_line(&command("WHO", ""));
        alice.line_with("WHO</command>");
    });
    let place_of = |words: &str| {
        let place = asked.iter().position(|line| line.contains(words));
        place.unwrap_or_else(|| panic!("no {words} in {asked:#?}"))
    };
    let known = place_of("\"HGET\" \"portal-chat:rooms\" \"lobby\"");
    let woken = place_of("\"XADD\" \"portal-chat:inbox:one\"");
    // Not in the same script, because its answer says from where on the room is read.
    let is_later = asked[known..woken.max(known)]
        .iter()
        .any(|line| line.contains("\"evalsha\"") || line.contains("\"EVALSHA\""));
    assert!(is_later, "{asked:#?}");
}

#[test]
fn answers_keep_the_order_in_which_they_were_asked_for() {
    let Some(redis) = Redis::start() else {
        return;
    };
    let (one, two) = (server(&redis.url(), "one"), server(&redis.url(), "two"));
    let mut alice = person(&one, "alice");
    let _bob = person(&two, "bob");
    let _carol = person(&one, "carol");
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
    let mut answers = Vec::new();
    while let Some(line) = alice.next_line() {
        let word = [
            "SENT</command><count>2",
            "SENT</command><count>1",
            "no-such-user",
            "PONG",
        ]
        .into_iter()
        .find(|word| line.contains(word));
        answers.extend(word);
    }
    let wanted: Vec<&str> = (0..300)
        .flat_map(|number| {
            let answer = match number % 4 {
                0 => "SENT</command><count>2",
                1 | 2 => "SENT</command><count>1",
                _ => "no-such-user",
            };
            [answer, "PONG"]
        })
        .collect();
    assert_eq!(answers, wanted);
}

#[test]
fn a_server_that_was_killed_is_buried_once_and_its_names_are_free() {
    let Some(redis) = Redis::start() else {
        return;
    };
    let (one, two) = (server(&redis.url(), "one"), server(&redis.url(), "two"));
    let proxy = Proxy::to(&redis);
    let dead = server(&proxy.url(), "dead");
    let mut alice = person(&one, "alice");
    let mut bob = person(&two, "bob");
    let mut zoe = person(&dead, "zoe");
    join(&mut alice, "lobby");
    join(&mut zoe, "lobby");
    alice.line_with("ROOM JOINED</command><username>zoe<");
    // From here on the engine hears nothing of it.
    proxy.delay(3_600_000);
    proxy.drop_replies(true);
    alice.line_with("ROOM LEFT</command><username>zoe<");
    bob.line_with("USER LEFT</command><username>zoe<");
    let mut other = person(&two, "zoe");
    other.send_line(&public("I am the one"));
    // Whoever noticed, it was told once.
    let mut left = 0;
    loop {
        let line = bob.line();
        left += usize::from(line.contains("USER LEFT</command><username>zoe<"));
        if line.contains("I am the one") {
            break;
        }
    }
    assert_eq!(left, 0, "a second farewell");
    std::mem::forget(dead);
}

/// It is back before anybody has noticed that it was away, and has nobody of those who were on it.
#[test]
fn a_server_that_was_killed_and_is_back_at_once_has_left_nobody_behind() {
    let Some(redis) = Redis::start() else {
        return;
    };
    let one = server(&redis.url(), "one");
    let mut bob = person(&one, "bob");
    join(&mut bob, "lobby");
    let first = Process::start(&redis.url(), "two");
    let mut zoe = first.person("zoe");
    join(&mut zoe, "lobby");
    bob.line_with("ROOM JOINED</command><username>zoe<");
    drop(first);
    // Its lease has run out, and `one` has not looked since.
    redis.command("DEL portal-chat:srv:two");
    let _second = Process::start(&redis.url(), "two");
    bob.line_with("ROOM LEFT</command><username>zoe<");
    bob.send_line(&command("WHO", ""));
    let who = bob.line_with("WHO</command>");
    assert!(who.contains("<user>bob</user></SERVER>"), "{who}");
    bob.send_line(&in_room("lobby", "am I alone?"));
    bob.line_with("SENT</command><count>0<");
}

/// What a chat has left in the engine runs out after its end, but not under the next one.
#[test]
fn a_chat_that_begins_again_soon_is_not_forgotten_while_it_goes_on() {
    let Some(redis) = Redis::start() else {
        return;
    };
    let keys = ["all", "epoch", "inbox:one", "room:lobby"];
    let runs_out = |key: &str| {
        !redis
            .command(&format!("TTL portal-chat:{key}"))
            .starts_with(":-1")
    };
    for _ in 0..2 {
        let one = server(&redis.url(), "one");
        let mut alice = person(&one, "alice");
        join(&mut alice, "lobby");
        alice.send_line(&in_room("lobby", "here again"));
        alice.line_with("SENT</command><count>0<");
        for key in keys {
            assert!(!runs_out(key), "{key} runs out while the chat goes on");
        }
        drop(alice);
        one.assert_all_rooms_end();
        one.stop();
        for key in keys {
            assert!(runs_out(key), "{key} stays for ever");
        }
    }
}

#[test]
fn when_the_engine_is_killed_all_are_told_and_what_is_here_goes_on() {
    let Some(mut redis) = Redis::start() else {
        return;
    };
    let (one, two) = (server(&redis.url(), "one"), server(&redis.url(), "two"));
    let (mut alice, mut bob) = (person(&one, "alice"), person(&one, "bob"));
    let mut carol = person(&two, "carol");
    for client in [&mut alice, &mut bob, &mut carol] {
        join(client, "lobby");
    }
    redis.kill();
    for client in [&mut alice, &mut bob, &mut carol] {
        client.line_with("are unreachable: until they are back");
    }
    alice.send_line(&direct("bob", "are you here?"));
    alice.line_with("SENT</command><count>1<");
    bob.line_with("are you here?");
    alice.send_line(&in_room("lobby", "local"));
    alice.line_with("SENT</command><count>1<");
    bob.line_with("scope='room' room='lobby'><message>local<");
    alice.send_line(&direct("carol", "and you?"));
    alice.line_with("unreachable");
    let (mut dora, _) = two.seat();
    dora.send_line(&login("dora"));
    dora.line_with("unreachable");

    redis.restart();
    for client in [&mut alice, &mut bob, &mut carol] {
        client.line_with("the other servers are back");
    }
    dora.send_line(&login("dora"));
    dora.line_with("WELCOME</command><username>dora<");
    carol.send_line(&in_room("lobby", "all of you"));
    for client in [&mut alice, &mut bob] {
        client.line_with("scope='room' room='lobby'><message>all of you<");
    }
    alice.send_line(&direct("carol", "there you are"));
    carol.line_with("there you are");
}

#[test]
fn when_the_engine_is_stopped_it_is_noticed_and_nothing_is_done_twice() {
    let Some(redis) = Redis::start() else {
        return;
    };
    let (one, two) = (server(&redis.url(), "one"), server(&redis.url(), "two"));
    let mut alice = person(&one, "alice");
    let mut bob = person(&two, "bob");
    redis.stop();
    // Whether it was heard is not known: the engine has it, or not.
    alice.send_line(&public("perhaps"));
    let (mut is_told, mut is_unsure) = (false, false);
    while !is_told || !is_unsure {
        let line = alice.line();
        is_told |= line.contains("are unreachable: until");
        is_unsure |= line.contains("code='unsure'");
    }
    bob.line_with("are unreachable: until");
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
    assert!(times <= 1, "it was said {times} times");
}

#[test]
fn an_engine_that_has_forgotten_everything_is_told_it_again() {
    let Some(mut redis) = Redis::start() else {
        return;
    };
    let (one, two) = (server(&redis.url(), "one"), server(&redis.url(), "two"));
    let mut alice = person(&one, "alice");
    let mut bob = person(&two, "bob");
    for client in [&mut alice, &mut bob] {
        join(client, "lobby");
        client.send_line(&in_room("lobby", "before"));
    }
    redis.restart_empty();
    for client in [&mut alice, &mut bob] {
        client.line_with("Redis has lost data");
        client.line_with("are back");
    }
    alice.send_line(&in_room("lobby", "after"));
    bob.line_with("scope='room' room='lobby'><message>after<");
    bob.send_line(&direct("alice", "still you"));
    alice.line_with("still you");
    let (mut thief, _) = two.seat();
    thief.send_line(&login("alice"));
    thief.line_with("name-in-use");
}

#[test]
fn what_was_missed_in_a_short_outage_follows_in_order_and_once() {
    let Some(redis) = Redis::start() else {
        return;
    };
    let one = server(&redis.url(), "one");
    let proxy = Proxy::to(&redis);
    let two = server(&proxy.url(), "two");
    let mut alice = person(&one, "alice");
    let mut bob = person(&two, "bob");
    for client in [&mut alice, &mut bob] {
        join(client, "lobby");
    }
    // The link of one server is cut one way: what it says arrives, what it is told does not.
    proxy.drop_replies(true);
    bob.line_with("are unreachable: until");
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
fn after_a_long_outage_it_is_told_how_many_are_missing() {
    let Some(redis) = Redis::start() else {
        return;
    };
    let one = server(&redis.url(), "one");
    let proxy = Proxy::to(&redis);
    let two = server(&proxy.url(), "two");
    let mut alice = person(&one, "alice");
    let mut bob = person(&two, "bob");
    for client in [&mut alice, &mut bob] {
        join(client, "lobby");
    }
    proxy.drop_replies(true);
    bob.line_with("are unreachable: until");
    for number in 0..5 {
        alice.send_line(&in_room("lobby", &format!("number {number}.")));
        alice.line_with("SENT");
    }
    // The engine keeps the last ten thousand; here, two.
    redis.command("XTRIM portal-chat:room:lobby MAXLEN 2");
    proxy.drop_replies(false);
    let notice = bob.line_with("from other servers");
    // What was said, and who came and went, but for the two that are left.
    assert!(notice.contains("in lobby"), "{notice}");
    let count: usize = notice
        .split(|c: char| !c.is_ascii_digit())
        .find_map(|word| word.parse().ok())
        .unwrap();
    assert!((3..=5).contains(&count), "{notice}");
    bob.line_with("number 4.");
}

#[test]
fn a_name_is_taken_over_from_another_server_and_only_one_has_it() {
    let Some(redis) = Redis::start() else {
        return;
    };
    let proxy = Proxy::to(&redis);
    let one = server(&proxy.url(), "one");
    let two = server(&redis.url(), "two");
    let mut alice = person(&one, "alice");
    let mut bob = person(&two, "bob");
    bob.send_line(&direct("alice", "hello"));
    alice.line_with("hello");
    // Its server is cut off for longer than its lease: the name is anybody's.
    proxy.drop_replies(true);
    proxy.delay(3_600_000);
    bob.line_with("USER LEFT</command><username>alice<");
    let mut second = person(&two, "alice");
    proxy.delay(0);
    proxy.drop_replies(false);
    // Back, the first one hears that it is somebody else's.
    alice.line_with("TAKEN OVER");
    assert_eq!(alice.next_line(), None);
    bob.send_line(&direct("alice", "which one?"));
    second.line_with("which one?");
}

#[test]
fn two_servers_with_one_id_or_with_different_rules_are_no_chat() {
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
fn a_slow_engine_delays_and_loses_nothing() {
    let Some(redis) = Redis::start() else {
        return;
    };
    let proxy = Proxy::to(&redis);
    let one = server(&proxy.url(), "one");
    let two = server(&redis.url(), "two");
    let mut alice = person(&one, "alice");
    let mut bob = person(&two, "bob");
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

/// A server that keeps accounts, in a file of its own.
fn keeper(url: &str, id: &str) -> (TestServer, std::path::PathBuf) {
    let file = support::temporary_file(&format!("cluster-accounts-{id}"));
    let settings = Settings {
        accounts: Some(file.clone()),
        ..settings(url, id)
    };
    (TestServer::start(&settings), file)
}

/// Says who they are, and the password; returns the answer to that, and whether the account was
/// new.
fn prove(server: &TestServer, name: &str, secret: &str) -> (Client, String, bool) {
    let (mut client, _) = server.seat();
    client.send_line(&login(name));
    let asked = client.line_with("<command>PASSWORD<");
    client.send_line(&support::password(secret));
    let answer = loop {
        let line = client.line();
        if line.contains("WELCOME") || line.contains("<error") {
            break line;
        }
    };
    (client, answer, asked.contains("new"))
}

#[test]
fn an_account_is_one_on_all_servers_and_stands_in_each_ones_file() {
    let Some(mut redis) = Redis::start() else {
        return;
    };
    let (one, file_one) = keeper(&redis.url(), "one");
    let (two, file_two) = keeper(&redis.url(), "two");
    let (first, answer, is_new) = prove(&one, "alice", "the moon");
    assert!(answer.contains("WELCOME") && is_new, "{answer}");
    // On the other server it is the same account: the right password takes the name over.
    let (_, answer, is_new) = prove(&two, "Alice", "the sun");
    assert!(answer.contains("wrong-password") && !is_new, "{answer}");
    let (mut second, answer, _) = prove(&two, "ALICE", "the moon");
    assert!(answer.contains("<username>alice<"), "{answer}");
    let mut first = first;
    first.line_with("TAKEN OVER");

    second.send_line(&command(
        "PASSWD",
        "<old>the moon</old><new>the stars</new>",
    ));
    second.line_with("PASSWD</command>");
    let (_, answer, _) = prove(&one, "alice", "the moon");
    assert!(answer.contains("wrong-password"), "{answer}");
    let (_, answer, _) = prove(&one, "alice", "the stars");
    assert!(answer.contains("WELCOME"), "{answer}");
    for file in [&file_one, &file_two] {
        let text = std::fs::read_to_string(file).unwrap();
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(
            text.lines()
                .all(|line| line.starts_with("alice $argon2id$")),
            "{text}"
        );
    }

    // Of many who want a name at the same moment on both servers, one gets it.
    let let_in = std::thread::scope(|threads| {
        let tries: Vec<_> = (0..8)
            .map(|number| {
                let server = if number % 2 == 0 { &one } else { &two };
                threads.spawn(move || {
                    let (client, answer, _) = prove(server, "bob", &format!("secret {number}"));
                    answer.contains("WELCOME").then_some((number, client))
                })
            })
            .collect();
        let tries = tries.into_iter().map(|thread| thread.join().unwrap());
        tries
            .flatten()
            .map(|(number, _)| number)
            .collect::<Vec<_>>()
    });
    assert_eq!(let_in.len(), 1, "{let_in:?}");

    // An engine that has forgotten all gets it from the servers' files.
    redis.restart_empty();
    two.wait_for_event("cluster-back", None);
    let answer = redis.command("HLEN portal-chat:accounts");
    assert_eq!(answer, ":2\r\n");
    one.stop();
    two.stop();
    // A server that has another password of the same count is told of, and nobody gets in there.
    let other = redis.command("HGET portal-chat:accounts alice");
    let hash = other
        .split_whitespace()
        .find(|word| word.starts_with("$argon2id$"))
        .unwrap();
    let mut forged = hash.to_owned();
    forged.pop();
    // Of the last character, the lower two bits are none of the hash.
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
    one.wait_for("the operator is told", |event| {
        event
            .text("error")
            .is_some_and(|error| error.contains("alice"))
    });
    let (mut client, _) = one.seat();
    client.send_line(&login("alice"));
    client.line_with("two different passwords");
    drop((second, client));
    one.stop();
    for file in [file_one, file_two] {
        let _ = std::fs::remove_file(file);
    }
}

#[test]
fn a_full_server_names_one_that_has_seats_and_our_client_goes_there() {
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
    let wanted = format!(
        "<SERVER><command>FULL</command><elsewhere><address>127.0.0.1</address><Port>{}</Port></elsewhere></SERVER>\n",
        there.port()
    );
    // It is known when the lease is renewed next.
    let until = std::time::Instant::now() + PATIENCE;
    while one.request_port() != wanted {
        assert!(std::time::Instant::now() < until, "{}", one.request_port());
        std::thread::yield_now();
    }
    let client = program(env!("CARGO_BIN_EXE_chatclient"))
        .args(["127.0.0.1", &one.server.portal().port().to_string()])
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&client.stdout);
    assert!(said.contains("in seat"), "{said}");
    two.wait_for_event("seated", None);
}

#[test]
fn a_browsers_page_offers_the_page_of_a_server_that_has_seats() {
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
fn a_board_shows_the_other_servers_with_their_lag() {
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
fn the_operator_sees_the_other_servers_and_who_is_there() {
    let Some(redis) = Redis::start() else {
        return;
    };
    let one = server(&redis.url(), "one");
    let _alice = person(&one, "alice");
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
    two.wait_for_text("connects all servers of this chat; this one is two");
    two.wait_for_prompt("operator>");
    two.type_line("who");
    two.wait_for_text("on other servers: alice (one)");
    // The engine tells with the lease, every two seconds; asked without a pause, the answers would
    // be a queue.
    two.wait_for("both servers in the list", |two| {
        two.type_line("servers");
        std::thread::sleep(Duration::from_millis(200));
        let screen = two.contents();
        screen.contains("1/20") && screen.contains("(this one)")
    });
}

#[test]
fn a_password_of_the_engine_is_needed_and_comes_from_a_file() {
    let Some(redis) = Redis::start() else {
        return;
    };
    redis.command("CONFIG SET requirepass a-long-word");
    let file = std::env::temp_dir().join(format!("portal-chat-word-{}", std::process::id()));
    let checked = |options: &[&str]| {
        let output = program(env!("CARGO_BIN_EXE_chatserver"))
            .args(["0", "--single-port", "--no-passwords", "--check"])
            .args(["--cluster", &redis.url()])
            .args(options)
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    };
    let (code, said) = checked(&[]);
    assert!(
        code == Some(2) && said.contains("--cluster-secret FILE"),
        "{said}"
    );
    let secret = ["--cluster-secret", file.to_str().unwrap()];
    let (code, said) = checked(&secret);
    assert!(code == Some(2) && said.contains("can't be read"), "{said}");
    for (word, expected) in [
        ("another", Some(2)),
        ("a-long-word", Some(0)),
        ("default:a-long-word\nand a second line\n", Some(0)),
    ] {
        std::fs::write(&file, word).unwrap();
        let (code, said) = checked(&secret);
        assert_eq!(code, expected, "{said}");
        assert!(!said.contains("a-long-word"), "nobody is shown it: {said}");
        let cure = if code == Some(0) {
            "The server can start."
        } else {
            "--cluster-secret FILE"
        };
        assert!(said.contains(cure), "{said}");
    }
    // A password may have a colon.
    redis.command("AUTH a-long-word\r\nCONFIG SET requirepass a-long:word");
    std::fs::write(&file, "a-long:word").unwrap();
    let (code, said) = checked(&secret);
    assert_eq!(code, Some(0), "{said}");
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn an_engine_that_has_lost_the_scripts_gets_them_again_and_nothing_is_unsure() {
    let Some(redis) = Redis::start() else {
        return;
    };
    let (one, two) = (server(&redis.url(), "one"), server(&redis.url(), "two"));
    let mut alice = person(&one, "alice");
    let mut bob = person(&two, "bob");
    for number in 0..5 {
        redis.command("SCRIPT FLUSH");
        alice.send_line(&public(&format!("message {number}")));
        let answer = alice.line_with("command>");
        let answer = if answer.contains("USER JOINED") {
            alice.line_with("command>")
        } else {
            answer
        };
        assert!(answer.contains("SENT</command><count>1<"), "{answer}");
        bob.line_with(&format!("message {number}<"));
    }
}

#[test]
fn an_engine_that_may_drop_keys_is_refused_with_the_command_that_fixes_it() {
    let Some(redis) = Redis::start() else {
        return;
    };
    for (policy, may_ask, expected) in [
        ("allkeys-lru", true, Some(2)),
        ("allkeys-random", true, Some(2)),
        ("volatile-ttl", true, Some(0)),
        ("noeviction", true, Some(0)),
        // A user without the right to ask INFO can still use the engine.
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
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!(output.status.code(), expected, "{said}");
        let names_it = said.contains(policy) && said.contains("maxmemory-policy noeviction");
        assert_eq!(names_it, expected == Some(2), "{said}");
    }
}

#[test]
fn a_server_that_was_stopped_for_longer_than_its_lease_writes_nothing_when_it_wakes() {
    a_server_wakes_with(Some("from the grave"));
}

/// Then it is the lease that it comes with first.
#[test]
fn a_server_that_was_stopped_for_longer_than_its_lease_tells_who_has_lost_a_name() {
    a_server_wakes_with(None);
}

/// Whoever is on the server that sleeps is not told that they have left themselves, and everybody
/// else knows in the end who is in which room.
#[test]
fn a_server_that_was_stopped_for_longer_than_its_lease_tells_nobody_of_their_own_departure() {
    let Some(redis) = Redis::start() else {
        return;
    };
    let one = server(&redis.url(), "one");
    let mut bob = person(&one, "bob");
    let sleeper = Process::start(&redis.url(), "sleeper");
    let (mut alice, mut carol) = (sleeper.person("alice"), sleeper.person("carol"));
    for client in [&mut bob, &mut alice, &mut carol] {
        join(client, "lobby");
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
fn a_stream_that_was_deleted_is_read_from_its_new_beginning() {
    let Some(redis) = Redis::start() else {
        return;
    };
    let (one, two) = (server(&redis.url(), "one"), server(&redis.url(), "two"));
    let (mut alice, mut bob) = (person(&one, "alice"), person(&two, "bob"));
    for client in [&mut alice, &mut bob] {
        join(client, "lobby");
    }
    for stream in ["all", "room:lobby"] {
        let say = |text: &str| match stream {
            "all" => public(text),
            _ => in_room("lobby", text),
        };
        for number in 0..5 {
            alice.send_line(&say(&format!("{stream} before {number}.")));
        }
        bob.line_with("before 4.");
        redis.command(&format!("DEL portal-chat:{stream}"));
        for number in 0..3 {
            alice.send_line(&say(&format!("{stream} after {number}.")));
        }
        bob.line_with("Redis has lost data");
        for number in 0..3 {
            bob.line_with(&format!("{stream} after {number}."));
        }
        // By the time that it is noticed, there may be more than before.
        redis.command(&format!("DEL portal-chat:{stream}"));
        for number in 0..30 {
            alice.send_line(&say(&format!("{stream} again {number}.")));
        }
        bob.line_with("Redis has lost data");
    }
    bob.send_line(&direct("alice", "a word"));
    alice.line_with("a word");
    redis.command("DEL portal-chat:inbox:one");
    // Bob is told of each whether it has arrived; the first may be lost.
    for number in 0..9 {
        bob.send_line(&direct("alice", &format!("word {number}.")));
    }
    alice.line_with("word 8.");
}

#[test]
fn an_engine_that_comes_back_from_an_older_snapshot_loses_no_later_message() {
    let Some(mut redis) = Redis::start() else {
        return;
    };
    let (one, two) = (server(&redis.url(), "one"), server(&redis.url(), "two"));
    let (mut alice, mut bob) = (person(&one, "alice"), person(&two, "bob"));
    let older = redis.snapshot();
    for number in 0..5 {
        alice.send_line(&public(&format!("forgotten {number}.")));
    }
    bob.line_with("forgotten 4.");
    redis.restore(&older);
    for client in [&mut alice, &mut bob] {
        client.line_with("the other servers are back");
    }
    alice.send_line(&public("and now?"));
    bob.line_with("and now?");
}

#[test]
fn everything_that_is_needed_is_tried_before_the_start() {
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
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.to_lowercase().contains(command), "{said}");
    }
}

#[test]
fn while_the_engine_refuses_to_write_each_server_goes_on_alone() {
    let Some(redis) = Redis::start() else {
        return;
    };
    let (one, two) = (server(&redis.url(), "one"), server(&redis.url(), "two"));
    let (mut alice, mut bob) = (person(&one, "alice"), person(&one, "bob"));
    let mut carol = person(&two, "carol");
    redis.command("CONFIG SET maxmemory 1");
    alice.send_line(&public("is it kept?"));
    let answer = alice.line_with("<error");
    assert!(answer.contains("unreachable"), "{answer}");
    let lost = one.wait_for_event("cluster-lost", None);
    assert!(
        lost.line().contains("refuses to write: \"OOM\""),
        "{}",
        lost.line()
    );
    alice.line_with("are unreachable: until they are back");
    alice.send_line(&public("on our own"));
    alice.line_with("SENT</command><count>1<");
    bob.line_with("on our own");
    redis.command("CONFIG SET maxmemory 0");
    alice.line_with("the other servers are back");
    alice.send_line(&public("together again"));
    carol.line_with("together again");
}

#[test]
fn a_server_waits_for_an_engine_that_starts_later() {
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
    let sentence = child.first_error_with("waits for Redis");
    assert!(sentence.contains("and then starts"), "{sentence}");
    redis.restart();
    let port = child.first_port();
    let mut client = Client::connect(([127, 0, 0, 1], port).into());
    client.send_line(&login("alice"));
    client.line_with("WELCOME");
}

/// Ctrl-Z and `fg`, or a debugger: a read that waits is interrupted, and the connection is as good
/// as before.
#[test]
fn a_server_that_was_stopped_for_a_moment_goes_on_without_a_word() {
    let Some(redis) = Redis::start() else {
        return;
    };
    let sleeper = Process::start(&redis.url(), "sleeper");
    let mut alice = sleeper.person("alice");
    for _ in 0..5 {
        sleeper.child.stop();
        sleeper.child.signal("-CONT");
        alice.send_line(&public("still here"));
        alice.send_line(&command("WHO", ""));
        for word in ["SENT</command><count>0<", "<user>alice</user>"] {
            let line = alice.line();
            assert!(line.contains(word), "{line}");
        }
    }
}

/// The engine's clock may jump, and a machine may sleep without any of its programs noticing: then
/// the lease is over while its server runs on as if nothing had happened.
#[test]
fn a_lease_that_is_another_servers_is_not_renewed() {
    let Some(redis) = Redis::start() else {
        return;
    };
    let (one, two) = (server(&redis.url(), "one"), server(&redis.url(), "two"));
    let mut alice = person(&one, "alice");
    // In one step, or the server would come back in between: its lease is somebody else's, and its
    // people are buried.
    let lost =
        "redis.call('SET', KEYS[1], 'another', 'PX', 60000); redis.call('HDEL', KEYS[2], 'alice')";
    redis.command(&format!(
        "EVAL \"{lost}\" 2 portal-chat:srv:one portal-chat:names"
    ));
    let _second = person(&two, "alice");
    // It asks, sees that it has been taken for dead, and comes back as soon as the other one has
    // gone.
    one.wait_for_event("cluster-lost", None);
    redis.command("DEL portal-chat:srv:one");
    alice.line_with("TAKEN OVER");
}

/// A server that is a process of its own, so that it can be stopped and killed.
struct Process {
    child: Running,
    port: u16,
}

impl Process {
    fn start(url: &str, id: &str) -> Process {
        let mut child = Running::start(
            program(env!("CARGO_BIN_EXE_chatserver"))
                .args(["0", "--single-port", "--no-passwords", "--cluster", url])
                .args(["--cluster-id", id])
                .stdin(std::process::Stdio::null())
                .stdout(std::process::Stdio::piped())
                .stderr(std::process::Stdio::null()),
        );
        let port = child.first_port();
        Process { child, port }
    }

    fn person(&self, name: &str) -> Client {
        let mut client = Client::connect(([127, 0, 0, 1], self.port).into());
        client.send_line(&login(name));
        client.line_with("WELCOME");
        client
    }
}

/// A server is stopped for longer than its lease, alice goes to another one, and it wakes: with
/// words of hers, or none.
fn a_server_wakes_with(words: Option<&str>) {
    let Some(redis) = Redis::start() else {
        return;
    };
    let one = server(&redis.url(), "one");
    let mut bob = person(&one, "bob");
    let mut sleeper = Process::start(&redis.url(), "sleeper");
    let mut alice = sleeper.person("alice");
    sleeper.child.stop();
    // It finds them when it wakes, and would say them if nothing kept it from doing so.
    if let Some(words) = words {
        alice.send_line(&public(words));
    }
    bob.line_with("USER LEFT</command><username>alice<");
    let mut second = person(&one, "alice");
    sleeper.child.signal("-CONT");
    alice.line_with("TAKEN OVER");
    second.send_line(&public("I am alive"));
    loop {
        let line = bob.line();
        assert!(words.is_none_or(|words| !line.contains(words)), "{line}");
        if line.contains("I am alive") {
            break;
        }
    }
    sleeper.child.signal("-TERM");
    sleeper.child.wait().unwrap();
}
