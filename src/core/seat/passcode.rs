//! The one-time passcode: proof that a client got its seat from the portal (seed 000, rule 5).

use std::fmt;

/// The secret that a client must send first on a worker's port. By default it has 128 random bits,
/// written as 32 lowercase hex digits.
///
/// Its `Debug` output hides the digits, so events and panic messages can't leak a passcode.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Passcode(Box<str>);

/// The format of passcodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PasscodeKind {
    /// 128 random bits as 32 hex digits.
    Hex,
    /// 9 decimal digits, from 100000000 to 999999999, like the original programs' (seed 000).
    NineDigits,
}

impl PasscodeKind {
    /// Creates a random passcode; see [`Passcode::random`].
    pub fn random(self) -> Passcode {
        match self {
            PasscodeKind::Hex => Passcode::random(),
            PasscodeKind::NineDigits => {
                let bits = Passcode::random();
                let digits = u64::from_str_radix(&bits.0[..16], 16).unwrap_or(0) % 900_000_000;
                Passcode((digits + 100_000_000).to_string().into_boxed_str())
            }
        }
    }
}

impl Passcode {
    /// Creates a passcode from the operating system's random source.
    ///
    /// # Errors
    /// The system has no random source. The server checks this once before it starts.
    pub fn try_random() -> Result<Passcode, getrandom::Error> {
        let mut bits = [0; 16];
        getrandom::fill(&mut bits)?;
        Ok(Passcode::from_bits(u128::from_be_bytes(bits)))
    }

    /// Like [`Passcode::try_random`], for a server that has started.
    ///
    /// # Panics
    /// Panics if the random source has stopped working since startup. No system is known to do
    /// that, and a guessable passcode would be worse than a lost session.
    pub fn random() -> Passcode {
        match Passcode::try_random() {
            Ok(passcode) => passcode,
            Err(error) => {
                panic!("the system's random source worked at startup but is failing now: {error}")
            }
        }
    }

    /// Creates the passcode with these bits. Tests use it for known passcodes.
    pub fn from_bits(bits: u128) -> Passcode {
        Passcode(format!("{bits:032x}").into_boxed_str())
    }

    /// Returns whether `passcode` is this one. The comparison takes the same time no matter how
    /// many digits are right, so a passcode can't be guessed digit by digit.
    pub fn matches(&self, passcode: &str) -> bool {
        let (mine, passcode) = (self.0.as_bytes(), passcode.as_bytes());
        mine.len() == passcode.len()
            && mine
                .iter()
                .zip(passcode)
                .fold(0, |unequal, (a, b)| unequal | (a ^ b))
                == 0
    }

    /// The digits, for the document that carries them to the client.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Passcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passcode(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passcodes_are_32_lowercase_hex_digits_and_differ() {
        let (one, other) = (Passcode::random(), Passcode::random());
        assert_eq!(one.reveal().len(), 32);
        assert!(
            one.reveal()
                .bytes()
                .all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
        );
        assert_ne!(one, other);
    }

    #[test]
    fn original_passcodes_have_nine_digits() {
        for _ in 0..100 {
            let number: u64 = PasscodeKind::NineDigits.random().reveal().parse().unwrap();
            assert!((100_000_000..=999_999_999).contains(&number));
        }
    }

    #[test]
    fn a_passcode_matches_only_itself() {
        let passcode = Passcode::from_bits(0xabc);
        assert!(passcode.matches(&format!("{:0>32}", "abc")));
        for wrong in [
            "",
            "abc",
            "00000000000000000000000000000abd",
            "00000000000000000000000000000ABC",
            "00000000000000000000000000000abc0",
            // Two digits are wrong in the same way.
            "11000000000000000000000000000abc",
        ] {
            assert!(!passcode.matches(wrong), "{wrong}");
        }
    }

    #[test]
    fn debug_output_hides_the_passcode() {
        assert_eq!(format!("{:?}", Passcode::from_bits(7)), "Passcode(…)");
    }
}
