//! A network of addresses in CIDR notation.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// All addresses with the same prefix: `192.0.2.0/24`, `2001:db8::/32`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

/// The text is neither an address nor ADDRESS/BITS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoNetwork;

impl Network {
    /// Returns whether `address` is in this network. `::ffff:192.0.2.1` is the same as `192.0.2.1`.
    pub fn contains(self, address: IpAddr) -> bool {
        let differing = match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                (own.to_bits() ^ other.to_bits()).leading_zeros()
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                (own.to_bits() ^ other.to_bits()).leading_zeros()
            }
            _ => return false,
        };
        differing >= self.bits.into()
    }

    /// Returns whether the network is a single address.
    pub fn is_host(self) -> bool {
        self.bits == bits_of(self.address)
    }

    /// Returns the number of addresses as text: `256`, or `2^64` if that is shorter.
    pub fn size(self) -> String {
        let free = bits_of(self.address) - self.bits;
        match free {
            0..=24 => (1_u32 << free).to_string(),
            free => format!("2^{free}"),
        }
    }
}

fn bits_of(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

impl FromStr for Network {
    type Err = NoNetwork;

    fn from_str(text: &str) -> Result<Network, NoNetwork> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let written: IpAddr = address.parse().map_err(|_| NoNetwork)?;
        let address = written.to_canonical();
        let bits = match bits {
            None => bits_of(address),
            Some(bits) => {
                let is_number =
                    !bits.is_empty() && bits.bytes().all(|digit| digit.is_ascii_digit());
                let bits: u8 = bits.parse().ok().filter(|_| is_number).ok_or(NoNetwork)?;
                // All mapped addresses begin with the same bits.
                bits.checked_sub(bits_of(written) - bits_of(address))
                    .ok_or(NoNetwork)?
            }
        };
        if bits > bits_of(address) {
            return Err(NoNetwork);
        }
        Ok(Network { address, bits })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)?;
        if self.bits < bits_of(self.address) {
            write!(f, "/{}", self.bits)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_contains_the_addresses_that_begin_with_its_bits() {
        for (network, inside, outside) in [
            ("192.0.2.7", "192.0.2.7", "192.0.2.6"),
            ("192.0.2.7", "::ffff:192.0.2.7", "::192.0.2.7"),
            ("192.0.2.0/24", "192.0.2.255", "192.0.3.0"),
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("0.0.0.0/0", "203.0.113.9", "::1"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::1"),
            ("::1", "::1", "127.0.0.1"),
            ("::ffff:10.0.0.0/104", "10.1.2.3", "11.1.2.3"),
        ] {
            let network: Network = network.parse().unwrap();
            assert!(network.contains(inside.parse().unwrap()), "{network}");
            assert!(!network.contains(outside.parse().unwrap()), "{network}");
            assert_eq!(network.to_string().parse(), Ok(network));
        }
        for text in [
            "",
            "localhost",
            "192.0.2.0/33",
            "192.0.2.0/",
            "192.0.2.0/+8",
            "192.0.2.0/-1",
            "::/129",
            "192.0.2",
            "10.0.0.0/8/8",
            "::ffff:10.0.0.0/8",
            "*",
        ] {
            assert_eq!(text.parse::<Network>(), Err(NoNetwork), "{text}");
        }
    }
}
