//! Decodes the bytes of an import file to text. An encoding that is not certain is refused: a wrong guess would change
//! names and keys.

use zeroize::Zeroizing;

/// The advice for saving a file with Excel so that it can be read.
const SAVE: &str = "save it as `CSV UTF-8 (Comma delimited)`, as Excel calls it";

/// Returns the text of a file in UTF-8 or UTF-16, without its byte order mark.
///
/// # Errors
/// The file has another format; the message names it and says how to save the file.
pub fn decode(bytes: &[u8]) -> Result<Zeroizing<String>, String> {
    let text = match bytes {
        [b'P', b'K', 3, 4, ..] | [0xd0, 0xcf, 0x11, 0xe0, ..] => {
            return Err(format!("it is a workbook, not a text file; {SAVE}"));
        }
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => return Err(format!("it is in UTF-32; {SAVE}")),
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes)?,
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes)?,
        [0xef, 0xbb, 0xbf, rest @ ..] | rest => utf8(rest)?,
    };
    if text.contains('\0') {
        return Err(format!("it has zero bytes, as UTF-16 without a byte order mark has; {SAVE}"));
    }
    Ok(text)
}

fn utf8(bytes: &[u8]) -> Result<Zeroizing<String>, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let line = bytes[..error.valid_up_to()].split(|&byte| byte == b'\n').count();
        // The file does not say which 8-bit encoding it has.
        format!(
            "line {line} has characters that are not in UTF-8, but perhaps in Windows-1252, which Excel calls \
             `CSV (Comma delimited)`; {SAVE}"
        )
    })?;
    Ok(Zeroizing::new(text.to_owned()))
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<Zeroizing<String>, String> {
    let damaged = || format!("it is in UTF-16, and damaged; {SAVE}");
    let (pairs, []) = bytes.as_chunks::<2>() else { return Err(damaged()) };
    let units = Zeroizing::new(pairs.iter().map(|pair| unit(*pair)).collect::<Vec<u16>>());
    String::from_utf16(&units).map(Zeroizing::new).map_err(|_| damaged())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "name;apiKey\r\nB\u{fc}cher \u{1f600};x\r\n";

    fn utf16_of(text: &str, unit: fn(u16) -> [u8; 2]) -> Vec<u8> {
        ['\u{feff}']
            .into_iter()
            .chain(text.chars())
            .flat_map(|c| c.encode_utf16(&mut [0; 2]).to_vec())
            .flat_map(unit)
            .collect()
    }

    #[test]
    fn utf8_and_marked_utf16_are_read() {
        let marked = ["\u{feff}", TEXT].concat();
        for bytes in [
            TEXT.as_bytes().to_vec(),
            marked.into_bytes(),
            utf16_of(TEXT, u16::to_le_bytes),
            utf16_of(TEXT, u16::to_be_bytes),
        ] {
            assert_eq!(decode(&bytes).as_deref().map(String::as_str), Ok(TEXT), "{bytes:?}");
        }
        assert_eq!(decode(b"").as_deref().map(String::as_str), Ok(""));
    }

    #[test]
    fn another_encoding_is_refused_with_advice() {
        let mut cut = utf16_of(TEXT, u16::to_le_bytes);
        cut.pop();
        let unmarked = utf16_of("name\r\n", u16::to_le_bytes)[2..].to_vec();
        let lone = [0xff, 0xfe, 0x3d, 0xd8, 0x61, 0];
        for (bytes, said) in [
            (
                &b"name;apiKey\r\nB\xfccher;x\r\n"[..],
                "line 2 has characters that are not in UTF-8, but perhaps in Windows-1252",
            ),
            (b"PK\x03\x04...", "it is a workbook"),
            (b"\xd0\xcf\x11\xe0...", "it is a workbook"),
            (b"\xff\xfe\x00\x00a\x00\x00\x00", "it is in UTF-32"),
            (&unmarked, "UTF-16 without a byte order mark"),
            (&cut, "it is in UTF-16, and damaged"),
            (&lone, "it is in UTF-16, and damaged"),
        ] {
            let wrong = decode(bytes).unwrap_err();
            assert!(
                wrong.contains(said) && wrong.ends_with("save it as `CSV UTF-8 (Comma delimited)`, as Excel calls it"),
                "{wrong}"
            );
        }
    }
}
