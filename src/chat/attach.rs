//! Text files that are sent with a message: what may be attached, and how the model sees it.

use serde::{Deserialize, Serialize};

use super::store::fenced;
use crate::text::decode;

/// A file that is attached to a message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachedFile {
    /// Its name, without its folder.
    pub name: String,
    /// Its contents.
    pub text: String,
}

/// Larger files are refused unread: no context holds so much text.
pub const LARGEST: u64 = 16 << 20;

impl AttachedFile {
    /// From a file's bytes.
    ///
    /// # Errors
    /// If it is not text: a sentence that says what it is.
    pub fn read(name: &str, bytes: Vec<u8>) -> Result<Self, String> {
        if bytes.is_empty() {
            return Err(format!("{name} is empty."));
        }
        let what = kind(&bytes);
        match decode(bytes, name).ok().filter(|text| !text.contains('\0')) {
            Some(text) if what.is_none() => Ok(AttachedFile { name: name.to_string(), text }),
            _ => Err(format!("{name} is {}, not a text file.", what.unwrap_or("binary data"))),
        }
    }

    /// The refusal of a file of this many bytes.
    pub fn too_large(name: &str, bytes: u64) -> String {
        format!("{name} has {} MiB: no more than {} MiB can be attached.", bytes >> 20, LARGEST >> 20)
    }

    /// The refusal of files with this many tokens.
    pub fn beyond_context(&self, tokens: usize, context: usize) -> String {
        let name = &self.name;
        format!(
            "{name} has {tokens} tokens, the context {context}: attach less, or choose a larger context in “Device”."
        )
    }

    /// The part of a prompt.
    pub fn prompt(&self) -> String {
        let ending = self.name.rsplit_once('.').map_or("", |(_, ending)| ending);
        let language = if ending.chars().all(|c| c.is_ascii_alphanumeric()) { ending } else { "" };
        format!("{}:\n{}", self.name, fenced(language, &self.text))
    }
}

/// A message with its files: the model reads them before the question.
pub fn with_files(files: &[AttachedFile], text: &str) -> String {
    let mut out: String = files.iter().map(|file| file.prompt() + "\n").collect();
    out += text;
    out
}

/// The first bytes of common files that are not text.
const KINDS: [(&[u8], &str); 22] = [
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"BM", "a bitmap image"),
    (b"II*\0", "a TIFF image"),
    (b"MM\0*", "a TIFF image"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive (as are .docx, .xlsx and .odt)"),
    (b"\xd0\xcf\x11\xe0", "an old Office document"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ", "an xz archive"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"GGUF", "a model"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"ID3", "an MP3 recording"),
    (b"OggS", "an Ogg recording"),
    (b"fLaC", "a FLAC recording"),
    (b"\x1aE\xdf\xa3", "a Matroska or WebM video"),
];

/// The kind of a binary file by its first bytes, if they identify it.
fn kind(bytes: &[u8]) -> Option<&'static str> {
    let inner = |at: usize, mark: &[u8]| bytes.get(at..).is_some_and(|rest| rest.starts_with(mark));
    match () {
        () if inner(0, b"RIFF") && inner(8, b"WEBP") => Some("a WebP image"),
        () if inner(0, b"RIFF") && inner(8, b"WAVE") => Some("a WAV recording"),
        () if inner(4, b"ftyp") => Some("an MP4 video or a HEIC image"),
        // Two letters may begin a text.
        () => KINDS
            .iter()
            .find(|(mark, _)| inner(0, mark) && (mark.len() > 2 || bytes.contains(&0)))
            .map(|(_, what)| *what),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_text_is_attached() {
        let read = |bytes: &[u8]| AttachedFile::read("a.md", bytes.to_vec());
        assert_eq!(read("# Größe".as_bytes()).unwrap().text, "# Größe");
        assert_eq!(read(b"BMW and MZ").unwrap().text, "BMW and MZ");
        assert_eq!(read(b"\xff\xfeh\0i\0").unwrap().text, "hi");
        for (bytes, what) in [
            (&b"\x89PNG\r\n\x1a\n"[..], "a PNG image"),
            (b"%PDF-1.7", "a PDF document"),
            (b"RIFF\x10\0\0\0WEBPVP8 ", "a WebP image"),
            (b"MZ\x90\0\x03\0", "a program"),
            (b"abc\xff\xffdef", "binary data"),
            (b"a\0b", "binary data"),
        ] {
            assert_eq!(read(bytes).unwrap_err(), format!("a.md is {what}, not a text file."));
        }
        assert_eq!(read(b"").unwrap_err(), "a.md is empty.");
    }

    #[test]
    fn files_come_before_the_question() {
        let file = AttachedFile { name: "a.rs".into(), text: "let s = \"```\";\n".into() };
        assert_eq!(with_files(&[file], "Why?"), "a.rs:\n````rs\nlet s = \"```\";\n````\n\nWhy?");
        assert_eq!(with_files(&[], "Why?"), "Why?");
    }
}
