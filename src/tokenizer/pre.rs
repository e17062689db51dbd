//! Cutting text into words before byte-pair merges, by the name in `tokenizer.ggml.pre`: one table of published
//! regular expressions.
//!
//! The expressions are written as their models publish them, but for one thing: the usual ending `\s+(?!\S)|\s+`
//! ("white space, without its last character if a word follows") needs look-ahead, and with it a backtracking engine
//! that a long run of spaces can stop. Here it is written `\s+`, and [`Split::words`] leaves the last character behind.

use regex::Regex;

use crate::{Error, Result};

/// One row of the table.
pub(super) struct Pre {
    names: &'static [&'static str],
    /// Applied one after another, each to the pieces that the one before left.
    splits: &'static [&'static str],
    /// A word that is a token is that token, without looking at merges.
    pub whole_words: bool,
    /// Whether texts start with BOS where the file does not say.
    pub add_bos: bool,
}

const fn row(names: &'static [&'static str], splits: &'static [&'static str]) -> Pre {
    Pre { names, splits, whole_words: false, add_bos: false }
}

/// The row called `name`.
pub(super) fn find(name: &str) -> Option<&'static Pre> {
    TABLE.iter().find(|pre| pre.names.contains(&name))
}

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+";
const CL100K: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+";
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+";
const QWEN35: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+";
const O200K: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+";
const DEEPSEEK_V3: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+"##;
const DIGITS: &str = r"\p{N}";
const DIGITS3: &str = r"\p{N}{1,3}";
const HAN_KANA: &str = r"[\x{4E00}-\x{9FA5}\x{3040}-\x{309F}\x{30A0}-\x{30FF}]+";
const EAST_ASIA: &str = r"[\x{4E00}-\x{9FA5}\x{0800}-\x{4E00}\x{AC00}-\x{D7FF}]+";
const LATIN_GREEK_CYRILLIC: &str = "\\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+";
const POINTS: &str = "\\s?[!-/:-~！-／：-～‘-‟　-。]+";
const NO_POINTS: &str = " ?[^(\\s|.,!?…。，、।۔،)]+";

const TABLE: &[Pre] = &[
    row(&["default"], &[r"[\p{P}$+<=>^~|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"]),
    Pre {
        whole_words: true,
        add_bos: true,
        ..row(&["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"], &[CL100K])
    },
    Pre { whole_words: true, add_bos: true, ..row(&["tekken"], &[TEKKEN]) },
    Pre { whole_words: true, ..row(&["minicpm5"], &[DIGITS3, CL100K]) },
    row(&["dbrx", "smaug-bpe", "glm4", "chatglm-bpe"], &[CL100K]),
    row(&["qwen2", "deepseek-r1-qwen", "kormo", "megrez", "stablelm2", "hunyuan", "solar-open", "grok-2"], &[QWEN2]),
    row(&["qwen35"], &[QWEN35]),
    row(&["gpt-4o", "llama4", "kanana2", "minimax-m2"], &[O200K]),
    row(
        &[
            "gpt-2",
            "phi-2",
            "mpt",
            "olmo",
            "jais",
            "trillion",
            "exaone4",
            "gigachat",
            "a.x-4.0",
            "mellum",
            "modern-bert",
            "granite-docling",
            "roberta-bpe",
            "jina-es",
            "jina-de",
            "jina-v2-es",
            "jina-v2-de",
            "jina-v1-en",
            "jina-v2-code",
        ],
        &[GPT2],
    ),
    row(
        &["starcoder", "refact", "command-r", "smollm", "codeshell", "exaone", "minerva-7b", "mellum2"],
        &[DIGITS, GPT2],
    ),
    row(&["falcon"], &[r"[\p{P}$+<=>^~|`]+", GPT2, "[0-9][0-9][0-9]"]),
    row(&["deepseek-llm"], &[r"[\r\n]", LATIN_GREEK_CYRILLIC, POINTS, r"\s+$", EAST_ASIA, r"\p{N}+"]),
    row(&["deepseek-coder"], &[r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", EAST_ASIA, DIGITS]),
    row(&["deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"], &[DIGITS3, HAN_KANA, DEEPSEEK_V3]),
    row(
        &["seed-coder"],
        &[r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+"],
    ),
    row(
        &["bailingmoe", "bailingmoe2", "llada-moe"],
        &[r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+"],
    ),
    row(&["poro-chat", "bloom", "gpt3-finnish"], &[NO_POINTS]),
    row(&["viking"], &[NO_POINTS, DIGITS]),
    row(&["gemma4"], &[r"[^\n]+|\n+"]),
];

/// The compiled splits of a row.
pub(super) struct Splitter(Vec<Split>);

struct Split {
    regex: Regex,
    /// The expression ends in `|\s+` (see the module's text).
    spaces: bool,
    /// It takes white space up to the last line break as one word before that.
    breaks: bool,
}

impl Splitter {
    /// Compiles the row.
    pub fn new(pre: &Pre) -> Result<Self> {
        pre.splits.iter().map(|text| Split::new(text)).collect::<Result<_>>().map(Splitter)
    }

    /// The words of `text`; nothing is lost between them.
    pub fn words<'a>(&self, text: &'a str) -> Vec<&'a str> {
        let mut words = vec![text];
        for split in &self.0 {
            let mut finer = Vec::with_capacity(words.len() * 2);
            words.into_iter().for_each(|word| split.words(word, &mut finer));
            words = finer;
        }
        words.retain(|word| !word.is_empty());
        words
    }
}

impl Split {
    fn new(text: &str) -> Result<Self> {
        let regex = Regex::new(text).map_err(|e| Error::Text(format!("pre-tokenizer: {e}")))?;
        Ok(Split { regex, spaces: text.ends_with(r"|\s+"), breaks: text.contains(r"\s*[\r\n]") })
    }

    /// Appends the matches in `text` and what lies between them.
    fn words<'a>(&self, text: &'a str, out: &mut Vec<&'a str>) {
        let mut at = 0;
        while let Some(found) = self.regex.find_at(text, at) {
            if found.is_empty() {
                break;
            }
            out.push(&text[at..found.start()]);
            let end = found.end() - self.left_behind(found.as_str(), found.end() == text.len());
            out.push(&text[found.start()..end]);
            at = end;
        }
        out.push(&text[at..]);
    }

    /// How many bytes at the end of this match belong to the next word.
    fn left_behind(&self, word: &str, last: bool) -> usize {
        let Some(end) = word.chars().next_back().filter(|c| self.spaces && !last && c.is_whitespace()) else {
            return 0;
        };
        let kept = self.breaks && matches!(end, '\r' | '\n');
        let rest = &word[..word.len() - end.len_utf8()];
        if kept || rest.is_empty() || !rest.chars().all(char::is_whitespace) { 0 } else { end.len_utf8() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows the vocabulary files do not cover: what each cuts this text into.
    #[test]
    fn rows_cut_as_published() {
        let text = "I'M 1234  days\n\n  of Héllo-World";
        for (name, words) in [
            ("llama-bpe", "I|'M| |123|4| | days|\n\n| | of| Héllo|-World"),
            ("qwen2", "I|'M| |1|2|3|4| | days|\n\n| | of| Héllo|-World"),
            ("gpt-4o", "I'M| |123|4| | days|\n\n| | of| Héllo|-World"),
            ("tekken", "I|'M| |1|2|3|4| | days|\n\n| | of| Héllo|-World"),
            ("gpt-2", "I|'|M| 1234| | days|\n\n | of| Héllo|-|World"),
            ("smollm", "I|'|M| |1|2|3|4| | days|\n\n | of| Héllo|-|World"),
            ("deepseek-v3", "I|'M| |123|4| | days|\n\n| | of| Héllo|-World"),
            ("gemma4", "I'M 1234  days|\n\n|  of Héllo-World"),
        ] {
            let splitter = Splitter::new(find(name).unwrap()).unwrap();
            assert_eq!(splitter.words(text).join("|"), words, "{name}");
        }
    }

    #[test]
    fn every_row_compiles_and_loses_nothing() {
        let text = " a\u{a0}\u{3000}b 12345 ...?!  \r\n\r\n\t x'Ll don't 你好，世界 ÀÉ\u{301} 🦙\n ";
        for pre in TABLE {
            let words = Splitter::new(pre).unwrap().words(text).concat();
            assert_eq!(words, text, "{:?}", pre.names);
        }
    }
}
