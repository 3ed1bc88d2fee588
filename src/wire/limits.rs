//! The limits of frames and documents, with their units and reasons.

/// The longest frame that a client may send, in bytes without the line feed (`--max-message`).
/// Parsing a crafted document costs its length squared: 8 KiB cost 16 ms, 64 KiB would cost
/// seconds.
pub const MAX_FRAME: usize = 8 * 1024;

/// The longest frame from one of the original programs, in bytes: their chat is not parsed.
pub const MAX_LEGACY_FRAME: usize = 64 * 1024;

/// The most that `--max-message` may ask for, in bytes: the same 16 ms would become 90.
pub const MAX_FRAME_CEILING: usize = 16 * 1024;

/// The least that `--max-message` may ask for, in bytes: a handshake with room to spare.
pub const MAX_FRAME_FLOOR: usize = 256;

/// The longest frame that our client takes from a server, in bytes. A relayed text is escaped
/// anew (`'` becomes six bytes), so it may be longer than what its sender was allowed.
pub const MAX_SERVER_FRAME: usize = 256 * 1024;

/// What a frame reader starts with and what it may grow to while much arrives at once, in bytes.
pub const READ_BUFFER: usize = 4 * 1024;
/// See [`READ_BUFFER`].
pub const READ_BUFFER_MOST: usize = 64 * 1024;

/// XML nodes in one document of a client; the longest one of the protocol has eight.
pub const XML_NODES: u32 = 64;

/// XML nodes in one document of a server, which may list everyone who is online.
pub const XML_NODES_FROM_SERVER: u32 = 64 * 1024;

/// Attributes in one document: comparing them all with each other costs their number squared.
pub const XML_ATTRIBUTES: usize = 64;

/// The longest name, in bytes.
pub const MAX_NAME_BYTES: usize = 32;
