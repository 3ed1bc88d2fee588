//! Who has a port that can't be bound, as far as the system tells.

use std::fmt;
use std::net::SocketAddr;

/// Who has a port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Holder {
    /// What they have it for.
    pub what: Held,
    /// Which program it is, if it is this user's.
    pub program: Option<Program>,
}

/// What a port is in use for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Held {
    /// Somebody listens there, or waits for anybody's datagrams.
    Listener,
    /// A connection of somebody's has it: the system gives outgoing connections such ports.
    Connection,
    /// A connection that has ended; the system keeps its port for another minute (TIME_WAIT).
    EndedConnection,
}

/// A program that is running.
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

/// Which of the two kinds of ports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
}

/// A line of the kernel's table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Socket {
    what: Held,
    /// Its number, by which a process has it. Zero for one that no process has any more.
    inode: u64,
}

impl Holder {
    /// Who has that port of this machine. `None` where the system does not tell (it is Linux that does).
    pub fn of(transport: Transport, address: SocketAddr) -> Option<Holder> {
        let tables = match transport {
            Transport::Tcp => ["/proc/net/tcp", "/proc/net/tcp6"],
            Transport::Udp => ["/proc/net/udp", "/proc/net/udp6"],
        };
        let texts = tables.map(|path| std::fs::read_to_string(path).unwrap_or_default());
        let Socket { what, inode } = in_table(&texts.concat(), transport, address.port())?;
        Some(Holder {
            what,
            program: program_with(inode),
        })
    }
}

/// Who is in the way most: who listens; who is connected; who was.
///
/// The table is the kernel's: local address and port, the other side's, the state, all in hexadecimal, and further on
/// the socket's number.
fn in_table(table: &str, transport: Transport, port: u16) -> Option<Socket> {
    const LISTEN: &str = "0A";
    const TIME_WAIT: &str = "06";
    // What a socket has that is not connected, and for datagrams is open to all.
    const UNCONNECTED: &str = "07";
    let sockets = table.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (_, local) = words.get(1)?.rsplit_once(':')?;
        if u16::from_str_radix(local, 16).ok()? != port {
            return None;
        }
        let what = match (transport, *words.get(3)?) {
            (Transport::Tcp, LISTEN) | (Transport::Udp, UNCONNECTED) => Held::Listener,
            (Transport::Tcp, TIME_WAIT) => Held::EndedConnection,
            _ => Held::Connection,
        };
        let inode = words.get(9).and_then(|word| word.parse().ok());
        Some(Socket {
            what,
            inode: inode.unwrap_or(0),
        })
    });
    sockets.min_by_key(|socket| match socket.what {
        Held::Listener => 0,
        Held::Connection => 1,
        Held::EndedConnection => 2,
    })
}

/// The program that has the socket of that number open. The system shows a user only their own programs' files.
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
    fn the_kernels_table_tells_who_has_a_port() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
               0: 0100007F:C350 00000000:0000 0A 0:0 00:0 0 1000 0 1234 1\n\
               1: 0100007F:C350 0100007F:9C40 01 0:0 00:0 0 1000 0 1235 1\n\
               2: 0100007F:C351 0100007F:0050 06 0:0 00:0 0 0 0 0 1\n\
               3: 00000000000000000000000001000000:C352 00000000000000000000000001000000:0050 01 0:0 00:0 0 0 0 77 1\n\
               4: 0100007F:C352 0100007F:0050 06 0:0\n\
               5: 0100007F:C354 00000000:0000 07 0:0 00:0 0 0 0 88 1\n";
        let found = |transport, port| {
            let socket = in_table(table, transport, port);
            socket.map(|Socket { what, inode }| (what, inode))
        };
        for (port, holder) in [
            (50000, Some((Held::Listener, 1234))),
            (50001, Some((Held::EndedConnection, 0))),
            (50002, Some((Held::Connection, 77))),
            (50003, None),
        ] {
            assert_eq!(found(Transport::Tcp, port), holder, "{port}");
        }
        let waits = Some((Held::Listener, 88));
        assert_eq!(found(Transport::Udp, 50004), waits);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_program_that_has_a_port_is_named() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let holder = Holder::of(Transport::Tcp, listener.local_addr().unwrap()).unwrap();
        assert_eq!(holder.what, Held::Listener);
        let program = holder.program.unwrap();
        assert_eq!(program.process, std::process::id());
        let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let holder = Holder::of(Transport::Udp, datagrams.local_addr().unwrap());
        assert_eq!(holder.unwrap().program, Some(program));
    }
}
