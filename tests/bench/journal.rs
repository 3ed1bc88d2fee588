//! The cost of the journal: chat with and without `--journal`, and reading a file of a gigabyte.

use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use portal_chat::core::clock::Clock;
use portal_chat::core::event::Events;
use portal_chat::journal::{FileJournal, JournalSettings};
use portal_chat::sessions::journal::{Conversation, Journal as _, Range};
use portal_chat::wire::time;

use super::load::{Program, crowd, pair, quantile};
use super::scenarios::{Size, all_send, ping_pong, spread_out};
use super::table::Row;

/// A database that is deleted on drop.
struct File(PathBuf);

impl File {
    fn new(name: &str) -> File {
        let name = format!("portal-bench-{name}-{}.db", std::process::id());
        let file = File(std::env::temp_dir().join(name));
        file.delete();
        file
    }

    fn delete(&self) {
        for end in ["", "-wal", "-shm"] {
            let mut name = self.0.clone().into_os_string();
            name.push(end);
            let _ = std::fs::remove_file(name);
        }
    }
}

impl Drop for File {
    fn drop(&mut self) {
        self.delete();
    }
}

/// Alternates its measurements between a server that keeps its messages and one that does not.
fn with_and_without(
    size: Size,
    seats: usize,
    measure: impl Fn(&Program) -> f64,
) -> (Vec<f64>, Vec<f64>) {
    let (mut with, mut without) = (vec![], vec![]);
    let seats = seats.to_string();
    for _ in 0..size.rounds() {
        without.push(measure(&Program::server(&["--workers", &seats])));
        let file = File::new("chat");
        let path = file.0.to_str().unwrap();
        let options = ["--workers", &seats, "--journal", path];
        with.push(measure(&Program::server(&options)));
    }
    (with, without)
}

pub(super) fn chat(size: Size) -> Vec<Row> {
    let count = size.of(200, 5_000, 20_000);
    let (with, without) = with_and_without(size, 2, |server| {
        quantile(&mut ping_pong(&mut pair(server), count, false), 0.5)
    });
    let mut rows = vec![Row::new(
        "pair with a journal p50, µs",
        with,
        without,
        "<= 1.05",
    )];
    let members = size.of(10, 500, 500);
    let windows = size.of(3, 100, 300);
    let (with, without) = with_and_without(size, members, |server| {
        spread_out(&mut crowd(server, members), 1, windows, false)
    });
    let name = format!("{members} members with a journal, deliveries/s");
    rows.push(Row::new(&name, with, without, ">= 0.95"));
    let members = size.of(6, 50, 50);
    let each = size.of(20, 300, 1_000);
    let (with, without) = with_and_without(size, members, |server| {
        all_send(crowd(server, members), each, false).0
    });
    let name = format!("{members} all sending with a journal, deliveries/s");
    rows.push(Row::new(&name, with, without, ">= 0.90"));
    rows
}

/// Reads pages before arbitrary ids in a conversation, and opens the file as a server does at
/// startup.
pub(super) fn old_messages(size: Size) -> Vec<Row> {
    let messages = size.of(1_000, 100_000, 1_000_000);
    let file = File::new("old");
    let settings = JournalSettings::new(&file.0);
    let open = || FileJournal::open(&settings, &Events::new(Clock::new()));
    drop(open());
    let database = rusqlite::Connection::open(&file.0).unwrap();
    let first = time::microseconds(SystemTime::now()) - 10_000 * messages as u64;
    database
        .execute("INSERT INTO conversations VALUES (1, 'public')", [])
        .unwrap();
    // A thousand bytes each, so that a million of them are a gigabyte.
    let insert = "
        WITH RECURSIVE numbers (number) AS
            (SELECT 1 UNION ALL SELECT number + 1 FROM numbers WHERE number < ?1)
        INSERT INTO messages SELECT number, 1, ?2 + 10000 * number, (?2 + 10000 * number) / 1000,
            'alice', NULL, 0, printf('%.*c', 950, 'x') FROM numbers";
    database
        .execute(insert, rusqlite::params![messages as i64, first as i64])
        .unwrap();
    drop(database);
    let mut starts = Vec::new();
    let mut pages = Vec::new();
    let mut seed = 7_u64;
    for _ in 0..size.rounds() {
        let begun = Instant::now();
        let journal = open();
        starts.push(begun.elapsed().as_secs_f64() * 1e3);
        let mut times: Vec<Duration> = (0..size.of(10, 300, 1_000))
            .map(|_| {
                // The constants of Knuth's MMIX generator.
                seed = seed.wrapping_mul(6_364_136_223_846_793_005);
                seed = seed.wrapping_add(1_442_695_040_888_963_407);
                let range = Range {
                    before: Some(first + 10_000 * (100 + (seed >> 33) % (messages as u64 - 100))),
                    ..Range::last(100)
                };
                let begun = Instant::now();
                let page = journal.page(&Conversation::Public, range).unwrap();
                assert!(page.entries.len() >= 99, "{}", page.entries.len());
                begun.elapsed()
            })
            .collect();
        pages.push(quantile(&mut times, 0.99) / 1e3);
    }
    let bytes = std::fs::metadata(&file.0).unwrap().len() >> 20;
    vec![
        Row::new(
            &format!("a page of {messages} messages p99, ms"),
            pages,
            vec![],
            "<= 5 ms",
        ),
        Row::new(
            &format!("start with a journal of {bytes} MiB, ms"),
            starts,
            vec![],
            "<= 1000 ms",
        ),
    ]
}
