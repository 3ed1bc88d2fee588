//! Plays every file in `tests/transcripts` against a real server, over real sockets, with ticks
//! given by hand. The files are the documentation of the rules; see `support::transcript` for
//! their language.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_macros,
    missing_docs
)]

mod support;

use std::collections::BTreeSet;

macro_rules! transcripts {
    ($($test:ident: $file:literal,)*) => {
        const PLAYED: &[&str] = &[$($file),*];
        $(
            #[test]
            fn $test() {
                let text = include_str!(concat!("transcripts/", $file, ".txt"));
                support::transcript::play($file, text);
            }
        )*
        /// The same, one byte at a time.
        mod chopped {
            use super::support;
            $(
                #[test]
                fn $test() {
                    let text = include_str!(concat!("transcripts/", $file, ".txt"));
                    support::transcript::play_chopped($file, text);
                }
            )*
        }
        /// The same, with TLS on every port.
        #[cfg(feature = "tls")]
        mod secured {
            use super::support;
            $(
                #[test]
                fn $test() {
                    let text = include_str!(concat!("transcripts/", $file, ".txt"));
                    if !support::transcript::play_secured($file, text) {
                        eprintln!("NOT PLAYED: {} is about datagrams", $file);
                    }
                }
            )*
        }
    };
}

transcripts! {
    rule_1_pairs_talk_at_the_same_time: "rule-1",
    rule_2_the_portal_hands_out_ports: "rule-2",
    rule_3_the_client_goes_to_its_worker: "rule-3",
    rule_4_a_no_show_loses_the_port: "rule-4",
    rule_5_strays_do_no_harm: "rule-5",
    rule_5a_the_passcode_comes_from_the_portal: "rule-5a",
    rule_5b_the_passcode_opens_the_connection: "rule-5b",
    rule_5c_one_chance: "rule-5c",
    rule_5d_the_passcode_changes_after_every_connection: "rule-5d",
    rule_6_idle_and_total_timeouts: "rule-6",
    rule_7_full: "rule-7",
    rule_8_the_tick: "rule-8",
    rule_9_terminate: "rule-9",
    errors_are_answered: "errors",
    the_welcome_says_the_limit: "max-message",
    names_are_registered_and_checked: "names-login",
    names_and_their_errors: "names-errors",
    names_and_public_and_direct_messages: "names-messages",
    names_are_taken_over_with_the_password: "names-takeover",
    names_without_passwords: "names-no-passwords",
    names_in_percent_signs: "names-percent",
    names_and_the_way_out_of_pm: "names-cancel",
    names_and_other_passwords: "names-passwd",
    idle_guests_are_warned: "idle-soon",
    rooms_are_joined_and_talked_in: "rooms",
    rooms_on_the_main_connection: "rooms-here",
    rooms_and_what_they_are_about: "rooms-topic",
    rooms_are_left: "rooms-leave",
    rooms_and_their_errors: "rooms-errors",
    rooms_and_their_timeouts: "rooms-timeouts",
    names_of_a_crowd_are_not_announced: "names-announce",
}

/// The transcripts that make sense on a single port: those that do not speak of the portal, of
/// passcodes or of particular ports.
macro_rules! on_a_single_port {
    ($($test:ident: $file:literal,)*) => {
        $(
            #[test]
            fn $test() {
                let text = include_str!(concat!("transcripts/", $file, ".txt"));
                support::transcript::play_on_single_port($file, text);
            }
        )*
    };
}

on_a_single_port! {
    single_port_names_are_registered_and_checked: "names-login",
    single_port_names_and_their_errors: "names-errors",
    single_port_names_and_public_and_direct_messages: "names-messages",
    single_port_names_are_taken_over: "names-takeover",
    single_port_names_without_passwords: "names-no-passwords",
    single_port_names_of_a_crowd: "names-announce",
    single_port_names_in_percent_signs: "names-percent",
    single_port_names_and_the_way_out_of_pm: "names-cancel",
    single_port_names_and_other_passwords: "names-passwd",
    single_port_idle_guests_are_warned: "idle-soon",
    single_port_rooms_are_joined_and_talked_in: "rooms",
    single_port_rooms_on_the_main_connection: "rooms-here",
    single_port_rooms_and_what_they_are_about: "rooms-topic",
    single_port_rooms_are_left: "rooms-leave",
    single_port_rooms_and_their_errors: "rooms-errors",
    single_port_rooms_and_their_timeouts: "rooms-timeouts",
}

#[test]
fn no_transcript_is_left_out() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/transcripts");
    let files: BTreeSet<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            entry
                .unwrap()
                .path()
                .file_stem()
                .unwrap()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    assert_eq!(
        files,
        PLAYED.iter().map(|name| (*name).to_owned()).collect()
    );
}
