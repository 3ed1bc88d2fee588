//! No frame makes a reader panic, and a document that was read can be written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portal_chat::net::Port;
use portal_chat::wire::{Codec, FrameReader, Revision, printable};

fn codecs() -> [Codec; 4] {
    [
        Codec::xml(8192),
        Codec::legacy(Revision::V0),
        Codec::legacy(Revision::V1),
        Codec::legacy(Revision::V2),
    ]
}

/// Returns the only frame in `bytes`.
fn frame(mut reader: FrameReader, mut bytes: &[u8]) -> Option<Vec<u8>> {
    while !bytes.is_empty() {
        reader.read_from(&mut bytes).ok()?;
    }
    reader.next_frame().ok()?.map(<[u8]>::to_vec)
}

fuzz_target!(|data: &[u8]| {
    if data.len() > 8192 {
        return;
    }
    let text = String::from_utf8_lossy(data);
    assert!(!printable(&text).chars().any(|character| character.is_control()));
    for codec in codecs() {
        let _ = codec.read_handshake(data, Port::MAX);
        if let Ok(doc) = codec.read_client(data) {
            let mut again = Vec::new();
            codec.write_client(&doc, &mut again);
            // Characters that XML excludes are replaced, and `&` takes more bytes.
            if let Some(again) = frame(codec.reader_of_server(), &again) {
                assert!(codec.read_client(&again).is_ok(), "{doc:?}");
            }
        }
        if let Ok(doc) = codec.read_server(data) {
            let again = codec.server_frame(&doc);
            if let Some(again) = frame(codec.reader_of_server(), &again) {
                assert!(codec.read_server(&again).is_ok(), "{doc:?}");
            }
        }
    }
});
