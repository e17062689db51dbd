//! The vocabulary: token texts, types and special ids. Finds special tokens in text, and decodes a token to bytes.

use std::collections::HashMap;

use crate::{Error, Result};

/// The type of a token (`tokenizer.ggml.token_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenKind {
    Normal,
    /// Replaces bytes that the vocabulary cannot encode.
    Unknown,
    /// Controls the model; not part of the text.
    Control,
    /// Text that is always a single token.
    UserDefined,
    Unused,
    /// A single byte, `<0xNN>`.
    Byte,
}

impl TokenKind {
    /// Other values (0 is "undefined") are normal tokens.
    pub fn from_gguf(number: i32) -> Self {
        match number {
            2 => TokenKind::Unknown,
            3 => TokenKind::Control,
            4 => TokenKind::UserDefined,
            5 => TokenKind::Unused,
            6 => TokenKind::Byte,
            _ => TokenKind::Normal,
        }
    }

    fn is_control(self) -> bool {
        matches!(self, TokenKind::Unknown | TokenKind::Control)
    }
}

/// How token texts encode bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenSpelling {
    /// Each byte is a character of GPT-2's byte alphabet.
    ByteLevel,
    /// UTF-8 with U+2581 for spaces, and `<0xNN>` byte tokens.
    Spaces,
}

/// A part of an input text.
#[derive(Clone, Copy)]
pub(super) enum TextPart<'a> {
    Text(&'a str),
    Special(u32),
}

pub(super) struct Vocab {
    tokens: Vec<String>,
    kinds: Vec<TokenKind>,
    ids: HashMap<String, u32>,
    specials: Specials,
    spelling: TokenSpelling,
    /// Decoding drops a leading space, because encoding adds one.
    pub drop_space: bool,
    pub bos: Option<u32>,
    pub eos: Option<u32>,
    pub unknown: Option<u32>,
    /// Sorted.
    pub ends: Vec<u32>,
}

impl Vocab {
    /// Creates a vocabulary; `tokens` and `kinds` are indexed by id and not empty.
    pub fn new(tokens: Vec<String>, kinds: Vec<TokenKind>, spelling: TokenSpelling) -> Result<Self> {
        if tokens.is_empty() || tokens.len() >= NO_ID as usize {
            return Err(Error::format(format_args!("the tokenizer has {} tokens", tokens.len())));
        }
        if kinds.len() != tokens.len() {
            let message = format!("the tokenizer has {} tokens but {} token types", tokens.len(), kinds.len());
            return Err(Error::format(message));
        }
        let mut ids = HashMap::with_capacity(tokens.len());
        for (id, text) in tokens.iter().enumerate().filter(|(_, t)| !t.is_empty()) {
            ids.entry(text.clone()).or_insert(id as u32);
        }
        let specials = Specials::new(&tokens, &kinds);
        let (bos, eos, unknown, ends) = (None, None, None, Vec::new());
        Ok(Vocab { tokens, kinds, ids, specials, spelling, drop_space: false, bos, eos, unknown, ends })
    }

    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    pub fn id(&self, text: &str) -> Option<u32> {
        self.ids.get(text).copied()
    }

    pub fn piece(&self, id: u32) -> Option<&str> {
        self.tokens.get(id as usize).map(String::as_str)
    }

    /// The token `<0xNN>`, or else the token of just this byte, or else the unknown token.
    pub fn byte_id(&self, byte: u8) -> Result<u32> {
        let plain = || byte.is_ascii().then(|| self.id((byte as char).encode_utf8(&mut [0; 4]))).flatten();
        self.id(&format!("<0x{byte:02X}>")).or_else(plain).map_or_else(|| self.unknown_byte(byte), Ok)
    }

    /// The unknown token, if there is one.
    pub fn unknown_byte(&self, byte: u8) -> Result<u32> {
        let message = || format!("the vocabulary has no token for byte 0x{byte:02X} and no unknown token");
        self.unknown.ok_or_else(|| Error::text(message()))
    }

    /// Sets `ends` to the given ids and to the tokens that end a turn in known vocabularies. The latter become control
    /// tokens, whatever their type in the file.
    pub fn find_ends(&mut self, given: impl IntoIterator<Item = u32>) {
        let known: Vec<u32> = END_TEXTS.iter().filter_map(|text| self.id(text)).collect();
        known.iter().for_each(|id| self.kinds[*id as usize] = TokenKind::Control);
        self.specials = Specials::new(&self.tokens, &self.kinds);
        let mut ends: Vec<u32> = given.into_iter().chain(known).collect();
        // A normal token in vocabularies with HTML tags (Gemma), where it does not end a generation.
        ends.extend(self.id("</s>").filter(|&id| self.kinds[id as usize] == TokenKind::Control));
        // With separate tokens that end an answer and a tool call, `<|end|>` only ends one of several messages.
        let has = |text: &str| self.id(text).is_some();
        let calls = has("<|call|>") || has("<|calls|>");
        if calls && (has("<|return|>") || has("<|flush|>")) {
            ends.retain(|&id| self.piece(id) != Some("<|end|>"));
        }
        ends.sort_unstable();
        ends.dedup();
        self.ends = ends;
    }

    /// Drops white space after special tokens, except those in `but`.
    pub fn strip_after_specials(&mut self, but: &[&str]) {
        self.specials.strip_after =
            self.specials.ids.iter().filter(|(text, _)| !but.contains(&text.as_str())).map(|(_, &id)| id).collect();
    }

    /// Splits `text` at special tokens, left to right, longest match first. Always matches user-defined tokens, and
    /// control tokens if `parse` is true.
    pub fn split<'a>(&self, text: &'a str, parse: bool) -> Vec<TextPart<'a>> {
        let mut parts = Vec::new();
        let (mut start, mut at) = (0, 0);
        while at < text.len() {
            let wanted = |id: u32| parse || !self.kinds[id as usize].is_control();
            let Some((len, id)) = self.specials.longest_at(text, at, wanted) else {
                at += 1;
                continue;
            };
            if start < at {
                parts.push(TextPart::Text(&text[start..at]));
            }
            parts.push(TextPart::Special(id));
            at += len;
            if self.specials.strip_after.contains(&id) {
                at += text[at..].bytes().take_while(|b| b.is_ascii_whitespace() || *b == 0x0B).count();
            }
            start = at;
        }
        if start < text.len() {
            parts.push(TextPart::Text(&text[start..]));
        }
        parts
    }

    /// Inserts [`ESCAPE`] into each control token in `text`, so that [`split`](Self::split) treats it as text.
    pub fn escape_special(&self, text: &str) -> String {
        let mut escaped = String::with_capacity(text.len());
        for (at, c) in text.char_indices() {
            escaped.push(c);
            if self.specials.longest_at(text, at, |id| self.must_escape(id)).is_some() {
                escaped.push(ESCAPE);
            }
        }
        escaped
    }

    /// Whether a token controls the model. Some files declare control tokens as user-defined (DeepSeek's `<｜User｜>`),
    /// like tokens that are only text (Gemma's `<table>`); the bar distinguishes them.
    fn must_escape(&self, id: u32) -> bool {
        let barred = |text: &str| ["<|", "<｜"].iter().any(|bar| text.starts_with(bar));
        self.kinds[id as usize].is_control() || self.piece(id).is_some_and(barred)
    }

    /// Appends the bytes of a token. Control tokens have none unless `special` is true.
    pub fn spell(&self, id: u32, special: bool, out: &mut Vec<u8>) {
        let Some(text) = self.piece(id) else { return };
        let kind = self.kinds[id as usize];
        let hidden = kind.is_control() || self.ends.binary_search(&id).is_ok();
        if hidden && !special && !SHOWN_TEXTS.contains(&text) {
            return;
        }
        match self.spelling {
            _ if hidden => out.extend_from_slice(text.as_bytes()),
            TokenSpelling::ByteLevel if kind != TokenKind::UserDefined => spell_bytes(text, out),
            TokenSpelling::ByteLevel => out.extend_from_slice(text.as_bytes()),
            TokenSpelling::Spaces => match byte_token(text).filter(|_| kind == TokenKind::Byte) {
                Some(byte) => out.push(byte),
                None => out.extend_from_slice(text.replace(super::spm::SPACE, " ").as_bytes()),
            },
        }
    }
}

const NO_ID: u32 = super::merge::NONE;

/// Escapes a special token in text. It is a Unicode noncharacter, reserved for internal use, so no text contains it.
pub(super) const ESCAPE: char = '\u{FDD0}';

/// Tokens that end a generation in any vocabulary, whatever their type (some files have the wrong one).
const END_TEXTS: &[&str] = &[
    "<|eot_id|>",
    "<|eom_id|>",
    "<|eot|>",
    "<|eom|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|calls|>",
    "<|flush|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<end_of_turn>",
    "<end_of_utterance>",
    "<turn|>",
    "<|tool_response>",
    "<eos>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "[e~[",
    "<｜end▁of▁sentence｜>",
    "<|fim_pad|>",
    "<fim-pad>",
    "<fim_pad>",
    "<PAD>",
    "[PAD]",
    "<|fim_repo|>",
    "<|repo_name|>",
    "<fim-repo>",
    "<REPO>",
    "<reponame>",
    "<|file_sep|>",
];

/// Control tokens that decoding keeps because they separate the parts of an answer: channels (gpt-oss) and reasoning.
const SHOWN_TEXTS: &[&str] = &["<|channel|>", "<|message|>", "<|start|>", "<|constrain|>", "<think>", "</think>"];

/// Special tokens by text, indexed for a fast search at every position.
struct Specials {
    ids: HashMap<String, u32>,
    /// Lengths of the tokens that start with a byte, longest first.
    lengths: Vec<Vec<usize>>,
    strip_after: Vec<u32>,
}

impl Specials {
    fn new(tokens: &[String], kinds: &[TokenKind]) -> Self {
        let mut ids = HashMap::new();
        let mut lengths = vec![Vec::new(); 256];
        for (id, (text, kind)) in tokens.iter().zip(kinds).enumerate() {
            if let (Some(&first), true) =
                (text.as_bytes().first(), kind.is_control() || *kind == TokenKind::UserDefined)
            {
                ids.entry(text.clone()).or_insert(id as u32);
                lengths[first as usize].push(text.len());
            }
        }
        for list in &mut lengths {
            list.sort_unstable_by(|a, b| b.cmp(a));
            list.dedup();
        }
        Specials { ids, lengths, strip_after: Vec::new() }
    }

    fn longest_at(&self, text: &str, at: usize, wanted: impl Fn(u32) -> bool) -> Option<(usize, u32)> {
        let lengths = &self.lengths[text.as_bytes()[at] as usize];
        lengths.iter().find_map(|&len| {
            let id = *self.ids.get(text.get(at..at.checked_add(len)?)?)?;
            wanted(id).then_some((len, id))
        })
    }
}

/// The character of a byte in byte-level vocabularies: itself if it is printable, otherwise U+0100 and up.
pub(super) fn byte_char(byte: u8) -> char {
    match byte {
        b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF => byte as char,
        0..=0x20 => char::from_u32(0x100 + byte as u32).unwrap_or_default(),
        0x7F..=0xA0 => char::from_u32(0x100 + 0x21 + (byte as u32 - 0x7F)).unwrap_or_default(),
        0xAD => '\u{143}',
    }
}

/// The inverse of [`byte_char`].
fn char_byte(c: char) -> Option<u8> {
    match c as u32 {
        n @ (0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF) => Some(n as u8),
        n @ 0x100..=0x120 => Some((n - 0x100) as u8),
        n @ 0x121..=0x142 => Some((n - 0x121 + 0x7F) as u8),
        0x143 => Some(0xAD),
        _ => None,
    }
}

/// Appends the bytes of a byte-level token; a character outside the alphabet is kept.
fn spell_bytes(text: &str, out: &mut Vec<u8>) {
    for c in text.chars() {
        match char_byte(c) {
            Some(byte) => out.push(byte),
            None => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// Parses `<0xNN>`.
pub(super) fn byte_token(text: &str) -> Option<u8> {
    let hex = text.strip_prefix("<0x")?.strip_suffix('>')?;
    (hex.len() == 2).then(|| u8::from_str_radix(hex, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_byte_alphabet_is_a_bijection() {
        for byte in 0..=255 {
            assert_eq!(super::char_byte(super::byte_char(byte)), Some(byte));
        }
        assert_eq!(super::byte_char(b' '), 'Ġ');
        assert_eq!(super::byte_char(b'\n'), 'Ċ');
    }
}
