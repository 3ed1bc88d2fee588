//! The fingerprint of a certificate, for users to compare.

use std::fmt;
use std::str::FromStr;

use rustls::SupportedCipherSuite;
use rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;

/// The SHA-256 hash of a DER-encoded certificate.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Hashes a DER-encoded certificate.
    pub fn of(certificate: &[u8]) -> Fingerprint {
        let mut bytes = [0; 32];
        // This cipher suite's hash function is SHA-256.
        if let SupportedCipherSuite::Tls13(suite) = TLS13_AES_128_GCM_SHA256 {
            let hash = suite.common.hash_provider.hash(certificate);
            bytes.copy_from_slice(hash.as_ref());
        }
        Fingerprint(bytes)
    }
}

/// Formats as `AB:CD:…`, like `openssl x509 -fingerprint -sha256`.
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            let colon = if index == 0 { "" } else { ":" };
            write!(f, "{colon}{byte:02X}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not a fingerprint.
#[derive(Debug, PartialEq, Eq)]
pub struct NoFingerprint;

/// Parses 64 hexadecimal digits in upper or lower case, with or without colons.
impl FromStr for Fingerprint {
    type Err = NoFingerprint;

    fn from_str(text: &str) -> Result<Fingerprint, NoFingerprint> {
        let digits: Vec<u8> = text
            .trim()
            .chars()
            .filter(|&digit| digit != ':')
            .map(|digit| digit.to_digit(16).map(|value| value as u8))
            .collect::<Option<_>>()
            .ok_or(NoFingerprint)?;
        let mut bytes = [0; 32];
        if digits.len() != 2 * bytes.len() {
            return Err(NoFingerprint);
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
            *byte = pair[0] << 4 | pair[1];
        }
        Ok(Fingerprint(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_formatted_fingerprint_can_be_parsed() {
        let made = Fingerprint::of(b"abc");
        let text = made.to_string();
        assert!(text.starts_with("BA:78:16:BF:8F:01:CF:EA"), "{text}");
        assert_eq!(text.parse(), Ok(made));
        assert_eq!(text.replace(':', "").to_lowercase().parse(), Ok(made));
        for nonsense in ["", "AB:CD", "x".repeat(64).as_str(), &text[1..]] {
            assert_eq!(nonsense.parse::<Fingerprint>(), Err(NoFingerprint));
        }
    }
}
