//! Text as other programs write it: UTF-8 or UTF-16, with or without a byte order mark; dates.

use chrono::DateTime;

use crate::{Error, Result};

/// The byte order mark. It identifies the encoding at the start of a text; elsewhere it is an ordinary character.
const MARK: char = '\u{feff}';

/// Removes a byte order mark at the start.
pub fn without_mark(text: &str) -> &str {
    text.strip_prefix(MARK).unwrap_or(text)
}

/// The last second of the year 9999; later dates have no common form.
const LAST_SECOND: u64 = 253_402_300_799;

/// `2025-01-31T12:34:56`: a number of seconds since 1970, in UTC.
pub fn date_time(seconds: u64) -> String {
    let time = DateTime::from_timestamp(seconds.min(LAST_SECOND) as i64, 0).unwrap_or_default();
    time.format("%Y-%m-%dT%H:%M:%S").to_string()
}

/// The length in bytes of the longest suffix of `text` that is a proper prefix of `mark`: it is held back while a text
/// arrives piece by piece and `mark` must be recognized.
pub fn partial_suffix(text: &str, mark: &str) -> usize {
    let lengths = mark.char_indices().map(|(at, _)| at).filter(|at| *at > 0);
    lengths.rev().find(|n| text.ends_with(&mark[..*n])).unwrap_or(0)
}

/// Reads the bytes of a text file: UTF-8, or UTF-16 that begins with a byte order mark, as PowerShell and Windows
/// editors write it. The mark is removed. `what` names the file in an error.
///
/// # Errors
/// [`Error::Format`] if the bytes are neither.
pub fn decode(bytes: Vec<u8>, what: &str) -> Result<String> {
    let wrong = |why: String| Error::format(format!("{what} is not UTF-8 text: {why}"));
    let text = match bytes.as_slice() {
        // UTF-16 would say the same of a text that begins with NUL.
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => {
            return Err(wrong("it begins with the mark of UTF-32; save it as UTF-8".into()));
        }
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes).map_err(wrong)?,
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes).map_err(wrong)?,
        _ => String::from_utf8(bytes)
            .map_err(|error| wrong(format!("byte {} cannot be read", error.utf8_error().valid_up_to())))?,
    };
    if let Some(at) = text.find('\0') {
        return Err(wrong(format!(
            "there is a NUL at byte {at}; it is binary, or UTF-16 without a byte order mark. Save text as UTF-8"
        )));
    }
    Ok(match text.strip_prefix(MARK) {
        Some(rest) => rest.to_string(),
        None => text,
    })
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, String> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    if !rest.is_empty() {
        return Err("it is UTF-16 with an odd number of bytes; it was cut short".into());
    }
    char::decode_utf16(pairs.iter().map(|pair| unit(*pair)))
        .collect::<Result<_, _>>()
        .map_err(|error| format!("it is UTF-16 with half a character ({:04x})", error.unpaired_surrogate()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_suffix_that_begins_a_mark() {
        assert_eq!(partial_suffix("abc\n", "\n\nUser:"), 1);
        assert_eq!(partial_suffix("ababa", "abac"), 3);
        assert_eq!(partial_suffix("xyz", "abc"), 0);
        assert_eq!(partial_suffix("é", "é!"), 2);
    }

    fn read(bytes: &[u8]) -> Result<String, String> {
        decode(bytes.to_vec(), "a.txt").map_err(|error| error.to_string())
    }

    #[test]
    fn marks_are_no_text_in_any_encoding() {
        let text = "Zoë 🦉\r\n";
        let units: Vec<u16> = text.encode_utf16().collect();
        let little: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
        let big: Vec<u8> = units.iter().flat_map(|unit| unit.to_be_bytes()).collect();
        assert_eq!(read(text.as_bytes()).unwrap(), text);
        assert_eq!(read(&[b"\xef\xbb\xbf", text.as_bytes()].concat()).unwrap(), text);
        assert_eq!(read(&[b"\xff\xfe", &little[..]].concat()).unwrap(), text);
        assert_eq!(read(&[b"\xfe\xff", &big[..]].concat()).unwrap(), text);
        for nothing in [&b""[..], b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff"] {
            assert_eq!(read(nothing).unwrap(), "");
        }
        // Only one, and only at the start.
        assert_eq!(read("\u{feff}a\u{feff}b".as_bytes()).unwrap(), "a\u{feff}b");
        assert_eq!(without_mark("\u{feff}\u{feff}a"), "\u{feff}a");
        assert_eq!(without_mark("a\u{feff}"), "a\u{feff}");
    }

    #[test]
    fn what_is_no_text_is_named() {
        for (bytes, words) in [
            (&b"ab\xffc"[..], "byte 2"),
            (b"\xff\xfea\0b", "odd"),
            (b"\xff\xfe\x00\xd8a\0", "half a character (d800)"),
            (b"\xff\xfe\0\0a\0\0\0", "UTF-32"),
            (b"\0\0\xfe\xff\0\0\0a", "UTF-32"),
            (b"a\0b\0", "without a byte order mark"),
            (b"\xef\xbb", "byte 0"),
        ] {
            let error = read(bytes).unwrap_err();
            assert!(error.starts_with("a.txt is not UTF-8 text: ") && error.contains(words), "{error}");
        }
    }

    #[test]
    fn dates_are_gregorian() {
        assert_eq!(date_time(0), "1970-01-01T00:00:00");
        assert_eq!(date_time(951_782_399), "2000-02-28T23:59:59");
        assert_eq!(date_time(951_782_400), "2000-02-29T00:00:00");
        assert_eq!(date_time(1_735_689_599), "2024-12-31T23:59:59");
        assert_eq!(date_time(4_107_542_400), "2100-03-01T00:00:00");
        assert_eq!(date_time(u64::MAX), "9999-12-31T23:59:59");
    }
}
