//! Who has a port that can't be bound, as far as the system tells.

/// What a port is in use for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Holder {
    /// Somebody listens there.
    Listener,
    /// A connection of somebody's has it: the system gives outgoing connections such ports.
    Connection,
    /// A connection that has ended; the system keeps its port for another minute (TIME_WAIT).
    EndedConnection,
}

impl Holder {
    /// Who has TCP port `port` of this machine; `None` where the system does not tell.
    pub fn of(port: u16) -> Option<Holder> {
        let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
        let texts = tables.map(|path| std::fs::read_to_string(path).unwrap_or_default());
        Holder::in_table(&texts.concat(), port)
    }

    /// The table is the kernel's: local address and port, the other side's, the state, all in hexadecimal.
    fn in_table(table: &str, port: u16) -> Option<Holder> {
        const LISTEN: &str = "0A";
        const TIME_WAIT: &str = "06";
        let states = table.lines().filter_map(|line| {
            let mut words = line.split_whitespace();
            let local = words.nth(1)?;
            let state = words.nth(1)?;
            let (_, local) = local.rsplit_once(':')?;
            (u16::from_str_radix(local, 16).ok()? == port).then_some(state)
        });
        let states: Vec<&str> = states.collect();
        if states.contains(&LISTEN) {
            Some(Holder::Listener)
        } else if states.iter().any(|state| *state != TIME_WAIT) {
            Some(Holder::Connection)
        } else {
            (!states.is_empty()).then_some(Holder::EndedConnection)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_table_tells_who_has_a_port() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue\n\
               0: 0100007F:C350 00000000:0000 0A 00000000:00000000\n\
               1: 0100007F:C350 0100007F:9C40 01 00000000:00000000\n\
               2: 0100007F:C351 0100007F:0050 06 00000000:00000000\n\
               3: 00000000000000000000000001000000:C352 00000000000000000000000001000000:0050 01 0:0\n\
               4: 0100007F:C352 0100007F:0050 06 00000000:00000000\n";
        for (port, holder) in [
            (50000, Some(Holder::Listener)),
            (50001, Some(Holder::EndedConnection)),
            (50002, Some(Holder::Connection)),
            (50003, None),
        ] {
            assert_eq!(Holder::in_table(table, port), holder, "{port}");
        }
    }
}
