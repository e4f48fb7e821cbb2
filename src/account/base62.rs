//! Numbers in base62 and checksums: the parts of the text of keys and tokens.
//!
//! The checksum is the CRC-32 of all text before it. It tells a mistyped text from an unknown one without a database
//! lookup.

use zeroize::{Zeroize, Zeroizing};

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The number of characters of a checksum.
pub(crate) const CHECKSUM_CHARS: usize = 6;

/// Appends a big-endian number in exactly `width` digits. `width` must be large enough for the number.
pub(crate) fn push(text: &mut String, number: &[u8], width: usize) {
    let mut rest = Zeroizing::new(number.to_vec());
    let mut digits = Zeroizing::new(vec![b'0'; width]);
    for digit in digits.iter_mut().rev() {
        let mut remainder = 0_u32;
        for byte in rest.iter_mut() {
            let value = remainder * 256 + u32::from(*byte);
            // `value` is less than 62 * 256, so the quotient is less than 256 and the conversion cannot fail.
            *byte = u8::try_from(value / 62).unwrap_or(u8::MAX);
            remainder = value % 62;
        }
        *digit = DIGITS[remainder as usize];
    }
    text.extend(digits.iter().map(|&digit| char::from(digit)));
    rest.zeroize();
}

/// Reads digits as a big-endian number of `N` bytes; `None` if a character is no digit, or the number is too large.
pub(crate) fn read<const N: usize>(digits: &str) -> Option<[u8; N]> {
    let mut number = [0_u8; N];
    for digit in digits.bytes() {
        let mut carry = DIGITS.iter().position(|&known| known == digit)?;
        for byte in number.iter_mut().rev() {
            let value = usize::from(*byte) * 62 + carry;
            *byte = u8::try_from(value % 256).ok()?;
            carry = value / 256;
        }
        if carry != 0 {
            return None;
        }
    }
    Some(number)
}

/// Appends the checksum of the text.
pub(crate) fn push_checksum(text: &mut String) {
    let checksum = checksum_of(text);
    push(text, &checksum, CHECKSUM_CHARS);
}

/// Returns whether the text ends with the checksum of what is before it.
pub(crate) fn has_checksum(text: &str) -> bool {
    let parts = text.len().checked_sub(CHECKSUM_CHARS).and_then(|body| text.split_at_checked(body));
    let Some((body, checksum)) = parts else {
        return false;
    };
    let mut rest = u32::from_be_bytes(checksum_of(body));
    let are_right = checksum.bytes().rev().all(|digit| {
        let expected = DIGITS[(rest % 62) as usize];
        rest /= 62;
        digit == expected
    });
    are_right && rest == 0
}

fn checksum_of(text: &str) -> [u8; 4] {
    crc32fast::hash(text.as_bytes()).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_written_number_is_read_back(number: [u8; 16]) {
            let mut text = String::new();
            push(&mut text, &number, 22);
            prop_assert_eq!(read::<16>(&text), Some(number));
        }

        #[test]
        fn a_read_number_has_one_text(digits in "[0-9A-Za-z]{22}") {
            if let Some(number) = read::<16>(&digits) {
                let mut text = String::new();
                push(&mut text, &number, 22);
                prop_assert_eq!(text, digits);
            }
        }

        #[test]
        fn only_the_written_checksum_is_right(text in "\\PC*", other in "[0-9A-Za-z]{6}") {
            let mut whole = text.clone();
            push_checksum(&mut whole);
            prop_assert!(has_checksum(&whole));
            let changed = format!("{text}{other}");
            prop_assert_eq!(has_checksum(&changed), changed == whole);
        }

        #[test]
        fn no_text_makes_the_checks_panic(text in "\\PC*") {
            prop_assert!(!has_checksum(&text) || text.len() >= CHECKSUM_CHARS);
            prop_assert!(read::<16>(&text).is_none() || text.bytes().all(|byte| DIGITS.contains(&byte)));
        }
    }

    #[test]
    fn a_number_that_is_too_large_is_not_read() {
        assert_eq!(read::<1>("047"), Some([255]));
        assert_eq!(read::<1>("048"), None);
        assert_eq!(read::<1>("0-7"), None);
    }
}
