//! The limits of hashing passwords, with their units and reasons.

/// Passwords that are hashed at a time. Each takes 20 ms of a core and 19 MiB. Further logins wait
/// in their own threads, so that chatting does not slow down on the other cores.
pub const HASHERS: usize = 1;

/// The work of a password's hash that an accounts file may ask for, in KiB times passes: eight
/// times that of ours (19 MiB, twice). A line that asks for more, by mistake or by malice, could
/// stop every login.
pub const HASH_WORK: u64 = 8 * 2 * 19 * 1024;

/// And how many lanes, for the same reason.
pub const HASH_LANES: u32 = 4;
