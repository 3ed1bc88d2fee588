//! The options and the operator's commands for a chat that spans several servers.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use portal_backplane::{ClusterError, ClusterSettings, EngineAddress, is_cluster_id, limits};

use crate::command_line::bad_file;
use crate::interfaces::{default_route, machine_name};
use crate::net::Host;
use crate::output;
use crate::start::Server;
use crate::text_file;
use crate::wire::printable;

/// The heading of these options in the help.
const MORE: &str = "More than one server";

/// The cluster options.
#[derive(clap::Args, Debug)]
pub(super) struct ClusterArguments {
    /// Share one chat with other servers: all servers that use the same Redis 7 server share names,
    /// public and direct messages, rooms and accounts; URL is `redis://HOST:PORT/DB`, where PORT
    /// and DB are optional, or `rediss://…` for TLS
    #[arg(long, value_name = "URL", conflicts_with = "compat", help_heading = MORE)]
    cluster: Option<EngineAddress>,
    /// Name of this server in the cluster [default: the machine's name and the portal's port]
    #[arg(long, value_name = "NAME", requires = "cluster", value_parser = cluster_id, help_heading = MORE)]
    cluster_id: Option<String>,
    /// Address to which other servers that are full redirect clients [default: the address on which
    /// this server listens]
    #[arg(long, value_name = "ADDRESS", requires = "cluster", help_heading = MORE)]
    cluster_address: Option<IpAddr>,
    /// Prefix of all keys in Redis; chats with different prefixes are separate
    #[arg(long, value_name = "WORD", requires = "cluster", default_value = "portal-chat:", help_heading = MORE)]
    cluster_prefix: String,
    /// File whose first line is the Redis password, or USER:PASSWORD
    #[arg(long, value_name = "FILE", requires = "cluster", help_heading = MORE)]
    cluster_secret: Option<PathBuf>,
}

impl ClusterArguments {
    /// Returns the cluster settings of a server with the given address and portal.
    pub(super) fn settings(
        self,
        bind: &Host,
        port: u16,
    ) -> Result<Option<ClusterSettings>, clap::Error> {
        let Some(engine) = self.cluster else {
            return Ok(None);
        };
        let engine = match self.cluster_secret {
            Some(file) => engine.with_secret(&secret(&file)?),
            None => engine,
        };
        Ok(Some(ClusterSettings {
            engine,
            address: self.cluster_address.or_else(|| reachable_address(bind)),
            id: self
                .cluster_id
                .unwrap_or_else(|| default_id(machine_name(), port)),
            prefix: self.cluster_prefix,
            lease: limits::LEASE,
            wait: Some(waits),
        }))
    }
}

/// Reads the Redis password from a file, because every user of the machine can read command lines.
fn secret(file: &Path) -> Result<String, clap::Error> {
    text_file::read_secret_line(file).map_err(|error| bad_file(format!("--cluster-secret {error}")))
}

fn cluster_id(text: &str) -> Result<String, &'static str> {
    let is_fine = is_cluster_id(text);
    is_fine
        .then(|| text.to_owned())
        .ok_or("expected 1 to 64 characters: letters (a to z), digits, `_`, `.`, `:` or `-`")
}

/// Returns the machine's name and the portal's port, or the process ID if the system chooses the
/// port. Only the end of a long name is used, because an orchestrator's machine names often share a
/// prefix.
fn default_id(machine: Option<String>, port: u16) -> String {
    let machine = machine.unwrap_or_else(|| "server".to_owned());
    let number = match port {
        0 => std::process::id(),
        port => port.into(),
    };
    let allowed = |c: &char| c.is_ascii_alphanumeric() || "_.-".contains(*c);
    let machine: String = machine.chars().filter(allowed).collect();
    let end = &machine[machine.len().saturating_sub(50)..];
    format!("{end}:{number}")
}

/// Returns the address at which other machines can reach a server that listens on `bind`.
fn reachable_address(bind: &Host) -> Option<IpAddr> {
    if !bind.ip().is_unspecified() {
        return Some(bind.ip());
    }
    let ipv6 = bind.ip().is_ipv6();
    // `::` includes the IPv4 addresses.
    default_route(ipv6).or_else(|| default_route(false))
}

/// Returns a table of the cluster's servers, for the operator.
pub(super) fn servers(server: &Server) -> String {
    let Some(cluster) = server.cluster() else {
        return "  this server is not in a cluster; restart it with --cluster".to_owned();
    };
    let (own, mut servers) = (cluster.id(), cluster.servers());
    if servers.is_empty() {
        return "  no answer from Redis yet; try again in a few seconds".to_owned();
    }
    servers.sort_by(|one, other| one.id.cmp(&other.id));
    let mut table = format!(
        "  {:<24} {:>9} {:>8}  {}",
        "server", "seats", "lag", "address"
    );
    for there in servers {
        let taken = there.load.seats.saturating_sub(there.load.free);
        let address = there.address.map_or_else(String::new, |address| {
            SocketAddr::new(address, there.load.port).to_string()
        });
        let note = match (there.id == own, there.lives) {
            (true, _) => " (this one)",
            (false, true) => "",
            (false, false) => " (lease expired)",
        };
        table += &format!(
            "\n  {:<24} {:>9} {:>6.1}ms  {address}{note}",
            printable(&there.id),
            format!("{taken}/{}", there.load.seats),
            there.lag.as_secs_f64() * 1000.0
        );
    }
    table
}

/// Reports that startup is waiting for Redis.
fn waits(error: &ClusterError) {
    output::report(&format!(
        "chatserver: {error}\nWaiting for Redis; the server will start as soon as Redis is \
         available. Ctrl-C cancels startup.\n"
    ));
}

/// Returns a line with the users that are logged in on other servers, or an empty string if there
/// are none.
pub(super) fn elsewhere(server: &Server) -> String {
    let Some(cluster) = server.cluster() else {
        return String::new();
    };
    let mut users = cluster.users_and_servers().unwrap_or_default();
    users.retain(|(_, server)| server != cluster.id());
    let place =
        |(name, place): &(String, String)| format!("{} ({})", printable(name), printable(place));
    let users: Vec<String> = users.iter().map(place).collect();
    match users.is_empty() {
        true => String::new(),
        false => format!("\n  on other servers: {}", users.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn the_file_with_the_redis_password_must_be_private() {
        use std::os::unix::fs::{PermissionsExt as _, chown, lchown, symlink};
        let folder = std::env::temp_dir().join(format!("portal-chat-redis-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (file, link) = (folder.join("secret"), folder.join("link"));
        std::fs::write(&file, "open sesame\n").unwrap();
        let mode = |mode| {
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(&file, mode).unwrap();
        };
        mode(0o600);
        assert_eq!(secret(&file).unwrap(), "open sesame");
        let refused = |file: &Path| secret(file).unwrap_err().to_string();
        mode(0o640);
        let reason = refused(&file);
        assert!(
            reason.contains("--cluster-secret ") && reason.contains("`chmod go= "),
            "{reason}"
        );
        mode(0o600);
        symlink("secret", &link).unwrap();
        assert_eq!(secret(&link).unwrap(), "open sesame");
        if lchown(&link, Some(54321), None).is_ok() {
            let reason = refused(&link);
            assert!(reason.contains("`chown -h 0 "), "{reason}");
            chown(&file, Some(54321), None).unwrap();
            let reason = refused(&file);
            assert!(reason.contains("`chown 0 "), "{reason}");
        } else {
            crate::output::report(
                "NOT TESTED in part: only root can give a file to another user\n",
            );
        }
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn machine_names_that_differ_only_at_the_end_give_different_ids() {
        let id = |end: &str| default_id(Some("chat-".repeat(12) + end), 50000);
        assert_ne!(id("abcde"), id("fghij"));
        assert!(is_cluster_id(&id("abcde")));
        assert_eq!(default_id(Some("chat 1\u{e9}".to_owned()), 1), "chat1:1");
    }
}
