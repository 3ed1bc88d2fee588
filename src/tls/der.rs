//! A minimal DER reader, to describe unusable certificates and keys.

/// Iterates over the values at one level, each with its tag and content.
#[derive(Clone, Copy)]
pub(super) struct Values<'d>(&'d [u8]);

pub(super) const INTEGER: u8 = 0x02;
pub(super) const OBJECT: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;

impl<'d> Iterator for Values<'d> {
    type Item = Value<'d>;

    fn next(&mut self) -> Option<Value<'d>> {
        let whole = self.0;
        let (&[tag, first], rest) = whole.split_first_chunk()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            // The low bits are the number of bytes that encode the length.
            0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x0f))?;
                let length = bytes
                    .iter()
                    .fold(0, |all, &byte| all << 8 | usize::from(byte));
                (length, rest)
            }
            _ => return None,
        };
        let (content, after) = rest.split_at_checked(length)?;
        self.0 = after;
        let encoded = &whole[..whole.len() - after.len()];
        Some(Value {
            tag,
            content,
            encoded,
        })
    }
}

#[derive(Clone, Copy)]
pub(super) struct Value<'d> {
    pub(super) tag: u8,
    pub(super) content: &'d [u8],
    /// The encoded value, including its tag and length.
    pub(super) encoded: &'d [u8],
}

impl<'d> Value<'d> {
    /// Returns the values inside a constructed value.
    pub(super) fn values(self) -> Values<'d> {
        Values(self.content)
    }
}

pub(super) fn values(bytes: &[u8]) -> Values<'_> {
    Values(bytes)
}

/// Formats an object identifier in dotted form, such as `1.3.132.0.35`.
pub(super) fn dotted(object: &[u8]) -> String {
    let mut numbers: Vec<u128> = Vec::new();
    let mut number: u128 = 0;
    for byte in object {
        number = number.wrapping_shl(7) | u128::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            // The first two numbers share a byte.
            if numbers.is_empty() {
                let first = (number / 40).min(2);
                numbers.push(first);
                number -= first * 40;
            }
            numbers.push(number);
            number = 0;
        }
    }
    let numbers: Vec<String> = numbers.iter().map(u128::to_string).collect();
    numbers.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_and_truncated_ones_are_none() {
        let bytes = [
            0x30, 0x05, 0x02, 0x01, 0x07, 0x05, 0x00, 0x02, 0x81, 0x01, 0x09,
        ];
        let all: Vec<Value<'_>> = values(&bytes).collect();
        let [sequence, long] = all.as_slice() else {
            panic!("{} values", all.len())
        };
        assert_eq!((sequence.tag, sequence.encoded.len()), (SEQUENCE, 7));
        assert_eq!(
            sequence.values().map(|value| value.tag).collect::<Vec<_>>(),
            [INTEGER, 5]
        );
        assert_eq!(long.content, [9]);
        for cut in 0..bytes.len() {
            assert!(values(&bytes[..cut]).count() < 2);
        }
        for nonsense in [
            &[0x30, 0x80, 0, 0][..],
            &[0x30, 0x85, 1, 1, 1, 1, 1],
            &[0x30, 0x84, 255, 255, 255, 255],
        ] {
            assert_eq!(values(nonsense).count(), 0);
        }
    }

    #[test]
    fn object_identifiers_are_written_with_dots() {
        assert_eq!(dotted(&[0x2b, 0x81, 0x04, 0x00, 0x23]), "1.3.132.0.35");
        assert_eq!(
            dotted(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01]),
            "1.2.840.10045.2.1"
        );
        assert_eq!(dotted(&[0xff; 100]), "");
    }
}
