//! Plays every file in `tests/transcripts` against a real server, over real sockets, with ticks on
//! demand. The files document the rules; `support::transcript` describes their format.
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
        /// All transcripts, one byte at a time.
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
        /// All transcripts, with TLS on every port.
        #[cfg(feature = "tls")]
        mod over_tls {
            use super::support;
            $(
                #[test]
                fn $test() {
                    let text = include_str!(concat!("transcripts/", $file, ".txt"));
                    if !support::transcript::play_over_tls($file, text) {
                        eprintln!("NOT PLAYED: {} needs datagrams", $file);
                    }
                }
            )*
        }
    };
}

transcripts! {
    rule_1_pairs_talk_at_the_same_time: "rule-1",
    rule_2_portal_assigns_ports: "rule-2",
    rule_3_client_connects_to_its_worker: "rule-3",
    rule_4_no_show_loses_the_port: "rule-4",
    rule_5_strays_are_rejected: "rule-5",
    rule_5a_portal_sends_the_passcode: "rule-5a",
    rule_5b_passcode_opens_the_connection: "rule-5b",
    rule_5c_one_attempt: "rule-5c",
    rule_5d_passcode_changes_after_every_connection: "rule-5d",
    rule_6_idle_and_total_timeouts: "rule-6",
    rule_7_full: "rule-7",
    rule_8_the_tick: "rule-8",
    rule_9_terminate: "rule-9",
    errors_get_a_reply: "errors",
    welcome_contains_the_limit: "max-message",
    names_are_registered_and_checked: "names-login",
    names_and_their_errors: "names-errors",
    names_and_public_and_direct_messages: "names-messages",
    names_are_taken_over_with_the_password: "names-takeover",
    names_without_passwords: "names-no-passwords",
    names_direct_messages_with_percent: "names-percent",
    names_cancel_pm: "names-cancel",
    names_change_password: "names-passwd",
    names_are_resumed_with_tokens: "names-tokens",
    names_without_passwords_are_resumed_with_tokens: "names-tokens-alone",
    idle_guests_are_warned: "idle-soon",
    rooms_join_and_send: "rooms",
    rooms_on_the_main_connection: "rooms-here",
    rooms_access: "rooms-access",
    rooms_guesses_delay_their_user: "rooms-guesses",
    rooms_list_their_members: "rooms-members",
    rooms_topic: "rooms-topic",
    rooms_are_left: "rooms-leave",
    rooms_and_their_errors: "rooms-errors",
    rooms_and_their_timeouts: "rooms-timeouts",
    names_announce_limit: "names-announce",
    names_are_not_registered: "names-closed",
    names_are_registered_by_invitation: "names-invitation",
    names_have_passwords_of_a_least_length: "names-min-password",
    order_bans: "order-bans",
    order_bans_of_addresses: "order-addresses",
    order_bans_of_datagrams: "order-datagrams",
    order_kicks: "order-kicks",
    order_mutes: "order-mutes",
    order_moderators: "order-moderators",
    history_of_rooms_and_public_messages: "history",
    history_of_direct_messages: "history-direct",
}

/// The transcripts that work on a single port: those that do not contain the portal, passcodes or
/// particular ports.
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
    single_port_names_announce_limit: "names-announce",
    single_port_names_direct_messages_with_percent: "names-percent",
    single_port_names_cancel_pm: "names-cancel",
    single_port_names_change_password: "names-passwd",
    single_port_names_are_resumed_with_tokens: "names-tokens",
    single_port_names_without_passwords_are_resumed: "names-tokens-alone",
    single_port_idle_guests_are_warned: "idle-soon",
    single_port_rooms_join_and_send: "rooms",
    single_port_rooms_on_the_main_connection: "rooms-here",
    single_port_rooms_access: "rooms-access",
    single_port_rooms_list_their_members: "rooms-members",
    single_port_rooms_topic: "rooms-topic",
    single_port_rooms_are_left: "rooms-leave",
    single_port_rooms_and_their_errors: "rooms-errors",
    single_port_rooms_and_their_timeouts: "rooms-timeouts",
    single_port_names_are_not_registered: "names-closed",
    single_port_names_are_registered_by_invitation: "names-invitation",
    single_port_names_have_passwords_of_a_least_length: "names-min-password",
    single_port_order_bans: "order-bans",
    single_port_order_kicks: "order-kicks",
    single_port_order_mutes: "order-mutes",
    single_port_order_moderators: "order-moderators",
    single_port_history: "history",
    single_port_history_of_direct_messages: "history-direct",
}

#[test]
fn every_transcript_is_played() {
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
