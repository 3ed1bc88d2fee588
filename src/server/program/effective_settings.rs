//! The effective settings as command-line options, as `chatserver --check` prints them.

use std::fmt::Display;
use std::path::Path;
use std::time::Duration;

use super::identity::TlsFiles;
use crate::accounts::Register;
use crate::net::Network;
use crate::output::counted;
use crate::start::{Portals, Settings, WebEntrance};
use crate::wire::printable;
#[cfg(feature = "cluster")]
use portal_backplane::ClusterSettings;
#[cfg(feature = "journal")]
use portal_journal::JournalSettings;

/// Returns one line per setting: the option and its value.
pub(super) fn in_force(settings: &Settings, tls: Option<&TlsFiles>) -> String {
    let settings = settings_in_force(settings, tls).into_iter();
    settings
        .map(|(option, value)| format!("  {option:<20} {value}\n"))
        .collect()
}

/// Returns each option with its value.
pub(super) fn settings_in_force(
    settings: &Settings,
    tls: Option<&TlsFiles>,
) -> Vec<(String, String)> {
    // List every field, so that a new setting can't be forgotten here.
    let Settings {
        port,
        bind,
        workers,
        compat,
        single_port,
        portals,
        tick,
        reserve_timeout,
        handshake_timeout,
        idle_timeout,
        total_timeout,
        // No option sets these.
        unacknowledged: _,
        pending: _,
        max_message,
        accounts,
        register,
        min_password,
        // Implied by --accounts.
        moderators: _,
        policies,
        max_per_address,
        rate,
        announce_up_to,
        rooms,
        history,
        message_of_the_day,
        quiet,
        show_messages,
        show_passcodes,
        trace,
        chop,
        board,
        web,
        // The paths of its files are shown instead.
        tls: _,
        #[cfg(feature = "cluster")]
        cluster,
        #[cfg(feature = "journal")]
        journal,
        event_file,
        event_file_most,
        metrics,
        // No option sets it.
        counters: _,
    } = settings;
    let mut lines = Lines::default();
    lines.add("PORT", port);
    lines.add("--bind", bind);
    match single_port {
        Some(clients) => {
            lines.add("--single-port", ON);
            lines.add("--max-clients", clients);
        }
        None => {
            lines.add("--workers", workers);
            lines.add("--portal", portal(*portals));
        }
    }
    lines.add("--compat", or(*compat, OFF));
    lines.add("--tls", or(tls.map(TlsFiles::shown), OFF));
    lines.add("--tick", seconds(tick));
    lines.add("--reserve-timeout", seconds(reserve_timeout));
    lines.add("--handshake-timeout", seconds(handshake_timeout));
    lines.add(
        "--idle-timeout",
        or(idle_timeout.as_ref().map(seconds), NEVER),
    );
    lines.add(
        "--total-timeout",
        or(total_timeout.as_ref().map(seconds), NEVER),
    );
    lines.add(
        "--accounts",
        or(
            accounts.as_deref().map(file),
            "none: any client may use a free name",
        ),
    );
    let register = match register {
        Register::Open => "open",
        Register::Invite => "invite",
        Register::Closed => "closed",
    };
    lines.add("--register", register);
    lines.add("--min-password", min_password);
    lines.add(
        "--policies",
        or(
            policies.as_deref().map(file),
            "none: bans are lost when the server stops",
        ),
    );
    lines.add("--max-per-ip", or(*max_per_address, "no limit"));
    lines.add("--rate", or(*rate, "no limit"));
    lines.add("--announce", announce_up_to);
    lines.add("--rooms", rooms);
    lines.add("--history", history);
    let greeting = message_of_the_day.as_ref();
    lines.add(
        "--motd",
        or(
            greeting.map(|text| counted(text.len(), "byte", "bytes")),
            OFF,
        ),
    );
    lines.add("--max-message", format!("{max_message} bytes"));
    match web {
        Some(WebEntrance {
            address,
            names,
            trusted_proxies,
            room,
        }) => {
            lines.add("--web", address);
            lines.add(
                "--web-name",
                or(
                    Some(names.join(" ")).filter(|names| !names.is_empty()),
                    NONE,
                ),
            );
            let proxies: Vec<String> = trusted_proxies.iter().map(Network::to_string).collect();
            lines.add(
                "--trusted-proxy",
                or(
                    Some(proxies.join(" ")).filter(|proxies| !proxies.is_empty()),
                    NONE,
                ),
            );
            lines.add("--web-room", room);
        }
        None => lines.add("--web", OFF),
    }
    lines.add("--board", or(*board, OFF));
    lines.add("--metrics", or(*metrics, OFF));
    #[cfg(feature = "cluster")]
    match cluster {
        Some(ClusterSettings {
            engine,
            id,
            address,
            prefix,
            lease: _,
            wait: _,
        }) => {
            lines.add("--cluster", engine);
            lines.add("--cluster-id", id);
            lines.add("--cluster-address", or(*address, NONE));
            lines.add("--cluster-prefix", prefix);
        }
        None => lines.add("--cluster", OFF),
    }
    #[cfg(not(feature = "cluster"))]
    lines.add("--cluster", OFF);
    #[cfg(feature = "journal")]
    match journal {
        Some(JournalSettings {
            file: path,
            keep,
            max_bytes,
            direct,
        }) => {
            lines.add("--journal", file(path));
            let days = keep.as_secs() / (24 * 60 * 60);
            lines.add("--journal-keep", format!("{days} days"));
            lines.add("--journal-max", format!("{max_bytes} bytes"));
            lines.add("--journal-direct", if *direct { ON } else { OFF });
        }
        None => lines.add("--journal", OFF),
    }
    #[cfg(not(feature = "journal"))]
    lines.add("--journal", OFF);
    lines.add("--events", or(event_file.as_deref().map(file), OFF));
    lines.add(
        "--events-max",
        or(event_file_most.map(|most| format!("{most} bytes")), NEVER),
    );
    for (option, is_on) in [
        ("--quiet", *quiet),
        ("--show-messages", *show_messages),
        ("--show-passcodes", *show_passcodes),
        ("--trace", *trace),
    ] {
        lines.add(option, if is_on { ON } else { OFF });
    }
    lines.add("--chop", or(*chop, OFF));
    lines.0
}

const ON: &str = "on";
const OFF: &str = "off";
const NONE: &str = "none";
const NEVER: &str = "never";

#[derive(Default)]
struct Lines(Vec<(String, String)>);

impl Lines {
    fn add(&mut self, option: &str, value: impl Display) {
        self.0.push((option.to_owned(), value.to_string()));
    }
}

fn or(value: Option<impl Display>, otherwise: &str) -> String {
    value.map_or(otherwise.to_owned(), |value| value.to_string())
}

fn seconds(duration: &Duration) -> String {
    format!("{} s", duration.as_secs_f64())
}

/// Returns the absolute path, because the reader's current folder may differ.
pub(super) fn file(path: &Path) -> String {
    let whole = std::path::absolute(path);
    printable(&whole.as_deref().unwrap_or(path).to_string_lossy())
}

fn portal(portals: Portals) -> &'static str {
    match portals {
        Portals::Tcp => "tcp",
        Portals::Udp => "udp",
        Portals::Both => "both",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_setting_is_shown_as_its_option() {
        let shown = in_force(&Settings::default(), None);
        for line in [
            "PORT                 50000",
            "--idle-timeout       300 s",
            "--total-timeout      never",
            "--rate               no limit",
        ] {
            assert!(shown.contains(line), "{line} is not in\n{shown}");
        }
        let web = Settings {
            web: Some(WebEntrance::at(([127, 0, 0, 1], 80).into())),
            single_port: Some(7),
            ..Settings::default()
        };
        let shown = in_force(&web, None);
        assert!(shown.contains("--max-clients        7"));
        assert!(
            !shown.contains("--workers"),
            "a single port has none:\n{shown}"
        );
    }
}
