//! The limits of accounts, policies and session tokens, with their units and reasons.

/// Number of passwords hashed at the same time. Each takes 20 ms of CPU time and 19 MiB of memory.
/// Other logins wait in their own threads, so hashing occupies only one core and does not slow down
/// chatting on the others.
pub const HASHERS: usize = 1;

/// Maximum cost of a hash in an accounts file, in KiB times passes: eight times that of our own
/// hashes (19 MiB, two passes). A more expensive hash, by mistake or by malice, could block every
/// login.
pub const HASH_WORK: u64 = 8 * 2 * 19 * 1024;

/// Maximum number of lanes in a hash, for the same reason.
pub const HASH_LANES: u32 = 4;

/// Maximum number of bans, mutes and open invitations together. Each new connection is compared
/// with every banned network, which takes a few nanoseconds each.
pub const RULES: usize = 10_000;

/// Maximum number of moderators and invited users of one room, and of mutes in it.
pub const RULES_OF_A_ROOM: usize = 500;

/// Maximum number of rooms with rules that have the same first moderator. Otherwise one user could
/// reserve every good name.
pub const ROOMS_WITH_RULES: usize = 10;

/// Time for which a removed client may not return: long enough to calm down, and too short to be
/// worth listing.
pub const REMOVED_FOR: std::time::Duration = std::time::Duration::from_secs(60);

/// Maximum number of removed clients that are remembered. Beyond this, the oldest may return early.
pub const REMOVED: usize = 1000;

/// Time for which a session token is valid: a browser that is opened once a month stays signed in.
pub const TOKEN_VALID: std::time::Duration = std::time::Duration::from_secs(30 * 24 * 60 * 60);

/// Maximum number of session tokens for one name: a few devices with a few browsers each.
pub const TOKENS_PER_NAME: usize = 10;

/// Maximum number of names with session tokens. Without passwords, a client could log in with one
/// name after another; each costs about 2 KiB of memory.
pub const NAMES_WITH_TOKENS: usize = 10_000;
