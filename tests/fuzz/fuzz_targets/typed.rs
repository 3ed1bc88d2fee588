//! No input line or command line makes the client panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portal_chat::fuzzing::{read_arguments, read_typed};

fuzz_target!(|text: &str| {
    read_typed(text);
    read_arguments(text);
});
