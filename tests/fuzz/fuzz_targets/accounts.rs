//! Reading an arbitrary accounts file does not panic, and every line is an account, a comment or
//! reported as damaged.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portal_chat::fuzzing::read_accounts;

fuzz_target!(|data: &[u8]| {
    let (accounts, damaged) = read_accounts(data);
    assert!(accounts + damaged <= data.split(|&byte| byte == b'\n').count());
});
