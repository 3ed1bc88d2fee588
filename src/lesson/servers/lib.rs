//! Seven small servers, one for each of the first seven rungs of the ladder: `rung-1.rs` to
//! `rung-7.rs`. Each is an example in this package, which contains no other code:
//! `cargo run --example rung-7 -- 50000`, or `make rung RUNG=7`.
