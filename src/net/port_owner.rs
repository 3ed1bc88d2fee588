//! Finds the program that occupies a port, if the system reports it.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The socket that occupies a port, and the program that owns it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortOwner {
    pub what: PortUse,
    /// The program, if it belongs to this user.
    pub program: Option<Program>,
}

/// The use of a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PortUse {
    /// A listener, or a UDP socket that accepts datagrams from every sender.
    Listener,
    /// A connection. The system assigns such ports to outgoing connections.
    Connection,
    /// A closed connection that belongs to no program; the system keeps its port for another minute
    /// (TIME_WAIT and the states before it).
    EndedConnection,
}

/// A running program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Program {
    name: String,
    process: u32,
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {})", self.name, self.process)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PortProtocol {
    Tcp,
    Udp,
}

/// A line in the kernel's socket table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Socket {
    what: PortUse,
    local: SocketAddr,
    /// The socket's inode; 0 if no process has the socket open any longer.
    inode: u64,
}

impl PortOwner {
    /// Returns the owner of this local port; `None` if the port is free or the system does not
    /// report it (only Linux does).
    pub fn of(transport: PortProtocol, address: SocketAddr) -> Option<PortOwner> {
        let table = SocketTable::read(transport);
        let Socket { what, inode, .. } = table.in_the_way_of(address)?;
        Some(PortOwner {
            what,
            program: program_with(inode),
        })
    }
}

impl PortUse {
    /// Looks up the use of each of these ports, with a single query for all of them.
    pub fn each(transport: PortProtocol, addresses: &[SocketAddr]) -> Vec<Option<PortUse>> {
        let table = SocketTable::read(transport);
        let held = |address: &SocketAddr| table.in_the_way_of(*address).map(|there| there.what);
        addresses.iter().map(held).collect()
    }
}

/// Returns whether listeners at these two addresses can't share a port. `0.0.0.0` includes every
/// IPv4 address, and `::` every address.
pub fn overlap(one: IpAddr, other: IpAddr) -> bool {
    let covers =
        |one: IpAddr, other: IpAddr| one.is_unspecified() && (one.is_ipv6() || other.is_ipv4());
    let (one, other) = (one.to_canonical(), other.to_canonical());
    one == other || covers(one, other) || covers(other, one)
}

/// The kernel's table of sockets, by port.
struct SocketTable {
    sockets: HashMap<u16, Vec<Socket>>,
}

impl SocketTable {
    fn read(transport: PortProtocol) -> SocketTable {
        let files = match transport {
            PortProtocol::Tcp => ["/proc/net/tcp", "/proc/net/tcp6"],
            PortProtocol::Udp => ["/proc/net/udp", "/proc/net/udp6"],
        };
        let texts = files.map(|path| std::fs::read_to_string(path).unwrap_or_default());
        SocketTable::parse(&texts.concat(), transport)
    }

    /// Parses the kernel's table. Each line contains the local address and port, the peer's address
    /// and port, and the state, all in hexadecimal, followed later by the socket's inode.
    fn parse(text: &str, transport: PortProtocol) -> SocketTable {
        const LISTEN: &str = "0A";
        // FIN_WAIT1, FIN_WAIT2, TIME_WAIT, LAST_ACK, CLOSING; inode 0 means that no program has the
        // socket open.
        const ENDING: [&str; 5] = ["04", "05", "06", "09", "0B"];
        // The state of an unconnected socket; a UDP socket in this state accepts every sender.
        const UNCONNECTED: &str = "07";
        let mut sockets: HashMap<u16, Vec<Socket>> = HashMap::new();
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let (Some(local), Some(state)) = (words.get(1), words.get(3)) else {
                continue;
            };
            let Some(local) = read_address(local) else {
                continue;
            };
            let inode = words.get(9).and_then(|word| word.parse().ok()).unwrap_or(0);
            let what = match (transport, *state) {
                (PortProtocol::Tcp, LISTEN) | (PortProtocol::Udp, UNCONNECTED) => PortUse::Listener,
                (PortProtocol::Tcp, state) if inode == 0 && ENDING.contains(&state) => {
                    PortUse::EndedConnection
                }
                _ => PortUse::Connection,
            };
            sockets
                .entry(local.port())
                .or_default()
                .push(Socket { what, local, inode });
        }
        SocketTable { sockets }
    }

    /// Finds the socket that blocks `address`: preferably a listener, then a connection, then a
    /// closed connection. A socket bound to another address of this machine does not block it.
    fn in_the_way_of(&self, address: SocketAddr) -> Option<Socket> {
        let sockets = self.sockets.get(&address.port())?.iter();
        let in_the_way = sockets.filter(|socket| overlap(socket.local.ip(), address.ip()));
        let first = in_the_way.min_by_key(|socket| match socket.what {
            PortUse::Listener => 0,
            PortUse::Connection => 1,
            PortUse::EndedConnection => 2,
        });
        first.copied()
    }
}

/// Parses a local address in the kernel's format: 32-bit words in the machine's byte order, and the
/// port, all in hexadecimal.
fn read_address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.rsplit_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |index: usize| {
        let digits = address.get(index * 8..index * 8 + 8)?;
        let word = u32::from_str_radix(digits, 16).ok()?;
        Some(u32::from_be_bytes(word.to_ne_bytes()))
    };
    let ip = match address.len() {
        8 => IpAddr::from(Ipv4Addr::from_bits(word(0)?)),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            let bits = words
                .iter()
                .fold(0, |bits, word| bits << 32 | u128::from(*word));
            IpAddr::from(Ipv6Addr::from_bits(bits)).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// Returns the program that has the socket with this inode open. The system lets a user see only
/// the open files of that user's own programs.
fn program_with(inode: u64) -> Option<Program> {
    if inode == 0 {
        return None;
    }
    let wanted = format!("socket:[{inode}]");
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    let mut numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let process: u32 = numbers.find(|process: &u32| {
        let files = std::fs::read_dir(format!("/proc/{process}/fd"));
        let mut files = files.into_iter().flatten().flatten();
        files.any(|file| {
            let there = std::fs::read_link(file.path());
            there.is_ok_and(|there| there.as_os_str() == wanted.as_str())
        })
    })?;
    let name = std::fs::read_to_string(format!("/proc/{process}/comm")).ok()?;
    Some(Program {
        name: name.trim_end().to_owned(),
        process,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_table_shows_the_socket_on_a_port() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
               0: 0100007F:C350 00000000:0000 0A 0:0 00:0 0 1000 0 1234 1\n\
               1: 0100007F:C350 0100007F:9C40 01 0:0 00:0 0 1000 0 1235 1\n\
               2: 0100007F:C351 0100007F:0050 06 0:0 00:0 0 0 0 0 1\n\
               3: 00000000000000000000000001000000:C352 00000000000000000000000001000000:0050 01 0:0 00:0 0 0 0 77 1\n\
               4: 0100007F:C352 0100007F:0050 06 0:0\n\
               5: 0100007F:C354 00000000:0000 07 0:0 00:0 0 0 0 88 1\n\
               6: 010200C0:C355 00000000:0000 0A 0:0 00:0 0 1000 0 90 1\n\
               7: 0100007F:C355 0100007F:0050 06 0:0 00:0 0 0 0 0 1\n\
               9: 0100007F:C357 0100007F:0050 05 0:0 00:0 0 0 0 0 1\n\
               10: 0100007F:C358 0100007F:0050 05 0:0 00:0 0 1000 0 92 1\n\
               8: 00000000000000000000000000000000:C356 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 91 1\n";
        let found = |transport, address: &str| {
            let table = SocketTable::parse(table, transport);
            let socket = table.in_the_way_of(address.parse().unwrap());
            socket.map(|Socket { what, inode, .. }| (what, inode))
        };
        for (address, holder) in [
            ("127.0.0.1:50000", Some((PortUse::Listener, 1234))),
            ("0.0.0.0:50000", Some((PortUse::Listener, 1234))),
            ("[::]:50000", Some((PortUse::Listener, 1234))),
            ("192.0.2.1:50000", None),
            ("127.0.0.1:50001", Some((PortUse::EndedConnection, 0))),
            ("127.0.0.1:50002", Some((PortUse::EndedConnection, 0))),
            ("0.0.0.0:50002", Some((PortUse::EndedConnection, 0))),
            ("[::]:50002", Some((PortUse::Connection, 77))),
            ("[::1]:50002", Some((PortUse::Connection, 77))),
            ("127.0.0.1:50003", None),
            // The first was closed by its program. The second is half-closed, and its program still
            // has it open.
            ("127.0.0.1:50007", Some((PortUse::EndedConnection, 0))),
            ("127.0.0.1:50008", Some((PortUse::Connection, 92))),
            // Another program's listener at another address does not block this one.
            ("127.0.0.1:50005", Some((PortUse::EndedConnection, 0))),
            ("127.0.0.1:50006", Some((PortUse::Listener, 91))),
        ] {
            assert_eq!(found(PortProtocol::Tcp, address), holder, "{address}");
        }
        let waits = Some((PortUse::Listener, 88));
        assert_eq!(found(PortProtocol::Udp, "127.0.0.1:50004"), waits);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_program_that_has_a_port_is_named() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let holder = PortOwner::of(PortProtocol::Tcp, listener.local_addr().unwrap()).unwrap();
        assert_eq!(holder.what, PortUse::Listener);
        let program = holder.program.unwrap();
        assert_eq!(program.process, std::process::id());
        let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let holder = PortOwner::of(PortProtocol::Udp, datagrams.local_addr().unwrap());
        assert_eq!(holder.unwrap().program, Some(program));
    }
}
