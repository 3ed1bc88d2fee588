//! Tokens that are stolen, expired, revoked, replayed or guessed.

use std::sync::atomic::{AtomicU64, Ordering};

use portal_core::clock::Clock;

use super::*;
use crate::policies::SharedPolicies;
use crate::tests::TempFile;
use crate::{Register, Registration};

const DAY: u64 = 24 * 60 * 60;

/// A server's accounts and tokens, with a clock that the test sets.
struct Server {
    tokens: SharedTokens,
    accounts: Arc<SharedAccounts>,
    time: Arc<AtomicU64>,
}

struct Files {
    accounts: TempFile,
    tokens: TempFile,
}

impl Files {
    fn new(test: &str) -> Files {
        Files {
            accounts: TempFile::new(&format!("tokens-{test}-accounts")),
            tokens: TempFile::new(&format!("tokens-{test}")),
        }
    }

    fn start(&self, time: u64) -> Server {
        let (clock, time) = (Clock::new(), Arc::new(AtomicU64::new(time)));
        let events = Events::new(clock.clone());
        let policies = SharedPolicies::open(None, Duration::from_secs(1), &clock, &events);
        let registration = Registration {
            register: Register::Open,
            min_password: 1,
        };
        let policies = Arc::new(policies.unwrap());
        let accounts =
            SharedAccounts::open(&self.accounts.0, None, registration, policies, &events);
        let accounts = Arc::new(accounts.unwrap());
        let now = Arc::clone(&time);
        let now = move || UNIX_EPOCH + Duration::from_secs(now.load(Ordering::Relaxed));
        let path = Some(&*self.tokens.0);
        let owner = Some(Arc::clone(&accounts));
        let tokens = SharedTokens::open_at(path, owner, None, &events, Box::new(now));
        Server {
            tokens: tokens.unwrap(),
            accounts,
            time,
        }
    }
}

impl Server {
    fn register(&self, who: &str) {
        let check = self.accounts.check(&name(who), "password", None, &|| false);
        check.unwrap();
    }

    fn is_valid(&self, who: &str, token: &str) -> bool {
        self.tokens.check(&name(who), token).unwrap().is_some()
    }
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

#[test]
fn a_token_is_random_and_survives_a_restart() {
    let files = Files::new("restart");
    let server = files.start(1000);
    server.register("Alice");
    let one = server.tokens.issue(&name("alice")).unwrap();
    let two = server.tokens.issue(&name("ALICE")).unwrap();
    assert_eq!((one.len(), one == two), (2 * TOKEN_BYTES, false));
    drop(server);
    let server = files.start(1001);
    for token in [&one, &two] {
        let found = server.tokens.check(&name("aLiCe"), token).unwrap();
        assert_eq!(found.unwrap().as_str(), "Alice", "as it was registered");
    }
}

#[test]
fn a_token_expires_after_thirty_days() {
    let files = Files::new("expired");
    let server = files.start(1000);
    server.register("alice");
    let token = server.tokens.issue(&name("alice")).unwrap();
    server.time.store(1000 + 30 * DAY - 1, Ordering::Relaxed);
    assert!(server.is_valid("alice", &token));
    server.time.store(1000 + 30 * DAY, Ordering::Relaxed);
    assert!(!server.is_valid("alice", &token));
    drop(server);
    assert!(!files.start(1000 + 30 * DAY).is_valid("alice", &token));
}

#[test]
fn an_ended_token_can_not_be_replayed() {
    let files = Files::new("ended");
    let server = files.start(1000);
    server.register("alice");
    let [one, two, three] = [(); 3].map(|()| server.tokens.issue(&name("alice")).unwrap());
    server.tokens.end(&name("alice"), &one).unwrap();
    assert!(!server.is_valid("alice", &one) && server.is_valid("alice", &two));
    drop(server);
    let server = files.start(1000);
    assert!(!server.is_valid("alice", &one) && server.is_valid("alice", &two));
    assert_eq!(server.tokens.end_all(&name("alice")).unwrap(), 2);
    assert_eq!(server.tokens.end_all(&name("alice")).unwrap(), 0);
    drop(server);
    let server = files.start(1000);
    assert!(!server.is_valid("alice", &two) && !server.is_valid("alice", &three));
}

#[test]
fn a_new_password_and_a_deletion_end_every_token() {
    let files = Files::new("password");
    let server = files.start(1000);
    server.register("alice");
    let old = server.tokens.issue(&name("alice")).unwrap();
    let changed = server
        .accounts
        .change(&name("alice"), "password", "another", &|| false);
    changed.unwrap();
    assert!(!server.is_valid("alice", &old));
    let new = server.tokens.issue(&name("alice")).unwrap();
    server.accounts.reset_password(&name("alice")).unwrap();
    assert!(!server.is_valid("alice", &new));
    let last = server.tokens.issue(&name("alice")).unwrap();
    server.accounts.delete(&name("alice")).unwrap();
    assert!(!server.is_valid("alice", &last));
    // Another person registers the name, even with the same password.
    server.register("alice");
    assert!(!server.is_valid("alice", &last));
}

#[test]
fn a_token_is_valid_for_its_name_alone() {
    let files = Files::new("names");
    let server = files.start(1000);
    server.register("alice");
    server.register("bob");
    let token = server.tokens.issue(&name("alice")).unwrap();
    assert!(!server.is_valid("bob", &token) && !server.is_valid("carol", &token));
    // Revoking it as bob revokes none of alice's tokens.
    server.tokens.end(&name("bob"), &token).unwrap();
    assert!(server.is_valid("alice", &token));
}

#[test]
fn a_guess_or_the_stolen_file_is_of_no_use() {
    let files = Files::new("stolen");
    let server = files.start(1000);
    server.register("alice");
    let token = server.tokens.issue(&name("alice")).unwrap();
    let text = std::fs::read_to_string(&files.tokens.0).unwrap();
    assert!(!text.contains(&token));
    let stored = text.split(' ').nth(1).unwrap();
    for guess in ["", stored, &token[1..], &token.to_uppercase(), "alice"] {
        assert!(!server.is_valid("alice", guess), "{guess:?}");
    }
}

#[test]
fn a_name_has_ten_tokens_at_most() {
    let files = Files::new("most");
    let server = files.start(1000);
    server.register("alice");
    let tokens: Vec<String> = (0..11)
        .map(|_| server.tokens.issue(&name("alice")).unwrap())
        .collect();
    let valid: Vec<bool> = tokens
        .iter()
        .map(|token| server.is_valid("alice", token))
        .collect();
    assert_eq!(
        (valid[0], valid[1..].iter().all(|valid| *valid)),
        (false, true)
    );
}

#[cfg(unix)]
#[test]
fn the_file_is_for_its_owner_alone_and_deleting_it_ends_all_tokens() {
    use std::os::unix::fs::PermissionsExt as _;
    let files = Files::new("file");
    let server = files.start(1000);
    server.register("alice");
    let token = server.tokens.issue(&name("alice")).unwrap();
    let mode = std::fs::metadata(&files.tokens.0)
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    std::fs::remove_file(&files.tokens.0).unwrap();
    assert!(!server.is_valid("alice", &token));
    let token = server.tokens.issue(&name("alice")).unwrap();
    drop(server);
    assert!(files.start(1000).is_valid("alice", &token));
}

#[test]
fn a_file_with_many_old_lines_is_written_anew() {
    let files = Files::new("rewritten");
    let server = files.start(1000);
    server.register("alice");
    let tokens: Vec<String> = (0..30)
        .map(|_| server.tokens.issue(&name("alice")).unwrap())
        .collect();
    // The last line is torn, as after a power cut.
    let torn = std::fs::read_to_string(&files.tokens.0).unwrap() + "alice abc";
    std::fs::write(&files.tokens.0, torn).unwrap();
    drop(server);
    let server = files.start(1000);
    let text = std::fs::read_to_string(&files.tokens.0).unwrap();
    assert_eq!(text.lines().count(), limits::TOKENS_PER_NAME, "{text}");
    assert!(server.is_valid("alice", &tokens[29]) && !server.is_valid("alice", &tokens[19]));
    let token = server.tokens.issue(&name("alice")).unwrap();
    drop(server);
    assert!(files.start(1000).is_valid("alice", &token));
}

#[test]
fn names_without_passwords_are_bounded() {
    let mut tokens = Tokens::default();
    for number in 0..=limits::NAMES_WITH_TOKENS as u64 {
        let token = StoredToken {
            hash: String::new(),
            until: 1000 + number,
        };
        tokens.apply(Line::Issued(format!("n{number}"), token), 1);
    }
    assert_eq!(tokens.0.len(), limits::NAMES_WITH_TOKENS);
    assert!(!tokens.0.contains_key("n0"));
}
