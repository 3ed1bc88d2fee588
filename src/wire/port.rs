use std::fmt;
use std::num::NonZeroU16;

/// A port that a program can listen on: 1 to 65535, never 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Port(NonZeroU16);

impl Port {
    /// The highest port, 65535.
    pub const MAX: Port = Port(NonZeroU16::MAX);

    /// Returns the port with this number; `None` for 0, which means "any" to the system.
    pub fn new(number: u16) -> Option<Port> {
        NonZeroU16::new(number).map(Port)
    }

    /// Returns the number, 1 to 65535.
    pub fn get(self) -> u16 {
        self.0.get()
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_not_a_port() {
        assert_eq!(Port::new(0), None);
        assert_eq!(Port::new(50001).map(Port::get), Some(50001));
    }
}
