//! Limits for frames and documents, with their units and reasons.

/// The longest frame that a client may send, in bytes, without the line feed (`--max-message`). The
/// time to parse a crafted document grows with the square of its length: 8 KiB takes 16 ms, and 64
/// KiB would take seconds.
pub const MAX_FRAME: usize = 8 * 1024;

/// The longest frame from an original program, in bytes. Its chat is not parsed.
pub const MAX_LEGACY_FRAME: usize = 64 * 1024;

/// The maximum of `--max-message`, in bytes. A crafted document of this length takes 90 ms to
/// parse.
pub const MAX_FRAME_CEILING: usize = 16 * 1024;

/// The minimum of `--max-message`, in bytes: a handshake with room to spare.
pub const MAX_FRAME_FLOOR: usize = 256;

/// The longest frame that our client accepts from a server, in bytes. A relayed text is escaped
/// again (`'` becomes six bytes), so it may be longer than its sender's limit.
pub const MAX_SERVER_FRAME: usize = 256 * 1024;

/// The initial size of a frame reader's buffer, in bytes.
pub const READ_BUFFER: usize = 4 * 1024;
/// The size to which the buffer may grow while a lot of data arrives at once, in bytes, unless the
/// longest frame needs more.
pub const READ_BUFFER_MOST: usize = 64 * 1024;

/// The maximum number of XML nodes in a client's document. The longest one in the protocol has
/// eight.
pub const XML_NODES: u32 = 64;

/// The maximum number of XML nodes in a server's document, which may list all users who are online.
pub const XML_NODES_FROM_SERVER: u32 = 64 * 1024;

/// The maximum number of attributes in a document. The parser compares all of them with each other,
/// so the time grows with the square of their number.
pub const XML_ATTRIBUTES: usize = 64;

/// The maximum length of a name, in bytes.
pub const MAX_NAME_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    /// Changing one of these changes the protocol: see `protocol.md`.
    #[test]
    fn the_limits_are_those_of_the_protocol() {
        let frames = [
            MAX_FRAME,
            MAX_LEGACY_FRAME,
            MAX_FRAME_CEILING,
            MAX_SERVER_FRAME,
        ];
        assert_eq!(frames, [8_192, 65_536, 16_384, 262_144]);
        assert_eq!((XML_NODES, XML_NODES_FROM_SERVER), (64, 65_536));
    }
}
