//! Pre-tokenizers: split text into words before byte-pair merges. A table of the published regular expressions, by the
//! name in `tokenizer.ggml.pre`.
//!
//! The expressions are the published ones, except that the usual ending `\s+(?!\S)|\s+` ("white space, without its last
//! character if a word follows") is written `\s+`, and [`SplitRegex::words`] leaves out the last character. Look-ahead
//! would need a backtracking engine, which long runs of spaces can stall.

use regex::Regex;

use crate::{Error, Result};

/// One row of the table.
pub(super) struct PreTokenizerRow {
    names: &'static [&'static str],
    /// Expressions, each applied to the pieces of the previous one.
    splits: &'static [&'static str],
    /// A word that is a token is encoded as that token, regardless of merges.
    pub whole_words: bool,
    /// Whether to add BOS if the file does not say.
    pub add_bos: bool,
}

const fn row(names: &'static [&'static str], splits: &'static [&'static str]) -> PreTokenizerRow {
    PreTokenizerRow { names, splits, whole_words: false, add_bos: false }
}

/// Looks up a row by name.
pub(super) fn find(name: &str) -> Option<&'static PreTokenizerRow> {
    TABLE.iter().find(|pre| pre.names.contains(&name))
}

/// All rows with the first of their names.
#[cfg(feature = "huggingface")]
pub(super) fn names() -> impl Iterator<Item = (&'static str, &'static PreTokenizerRow)> {
    TABLE.iter().map(|pre| (pre.names[0], pre))
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
/// Letters with upper and lower case, as DeepSeek lists them.
const LATIN_GREEK_CYRILLIC: &str = r"(?x) \s? [
    A-Z a-z \x{00B5} \x{00C0}-\x{00D6} \x{00D8}-\x{00F6} \x{00F8}-\x{01BA} \x{01BC}-\x{01BF} \x{01C4}-\x{0293}
    \x{0295}-\x{02AF} \x{0370}-\x{0373} \x{0376} \x{0377} \x{037B}-\x{037D} \x{037F} \x{0386} \x{0388}-\x{038A}
    \x{038C} \x{038E}-\x{03A1} \x{03A3}-\x{03F5} \x{03F7}-\x{0481} \x{048A}-\x{052F} \x{0531}-\x{0556}
    \x{10A0}-\x{10C5} \x{13A0}-\x{13F5} \x{13F8}-\x{13FD} \x{1C90}-\x{1CBA} \x{1CBD}-\x{1CBF} \x{1D00}-\x{1D2B}
    \x{1D6B}-\x{1D77} \x{1D79}-\x{1D9A} \x{1E00}-\x{1F15} \x{1F18}-\x{1F1D} \x{1F20}-\x{1F45} \x{1F48}-\x{1F4D}
    \x{1F50}-\x{1F57} \x{1F59} \x{1F5B} \x{1F5D} \x{1F5F}-\x{1F7D} \x{1F80}-\x{1FB4} \x{1FB6}-\x{1FBC} \x{1FBE}
    \x{1FC2}-\x{1FC4} \x{1FC6}-\x{1FCC} \x{1FD0}-\x{1FD3} \x{1FD6}-\x{1FDB} \x{1FE0}-\x{1FEC} \x{1FF2}-\x{1FF4}
    \x{1FF6}-\x{1FFC} \x{2102} \x{2107} \x{210A}-\x{2113} \x{2115} \x{2119}-\x{211D} \x{2124} \x{2126} \x{2128}
    \x{212A}-\x{212D} \x{212F}-\x{2134} \x{2139} \x{213C}-\x{213F} \x{2145}-\x{2149} \x{214E} \x{2183} \x{2184}
    \x{2C00}-\x{2C7B} \x{2C7E}-\x{2CE4} \x{2CEB}-\x{2CEE} \x{2CF2} \x{2CF3} \x{A640}-\x{A66D} \x{A680}-\x{A69B}
    \x{A722}-\x{A76F} \x{A771}-\x{A787} \x{A78B}-\x{A78E} \x{AB70}-\x{ABBF} \x{FB00}-\x{FB06} \x{FB13}-\x{FB17}
    \x{FF21}-\x{FF3A} \x{FF41}-\x{FF5A} \x{10400}-\x{1044F} \x{104B0}-\x{104D3} \x{104D8}-\x{104FB}
    \x{10C80}-\x{10CB2} \x{10CC0}-\x{10CF2} \x{118A0}-\x{118DF} \x{1E900}-\x{1E943}
]+";
const POINTS: &str = r"\s?[!-/:-~\x{FF01}-\x{FF0F}\x{FF1A}-\x{FF5E}\x{2018}-\x{201F}\x{3000}-\x{3002}]+";
const NO_POINTS: &str = r" ?[^(\s|.,!?\x{2026}\x{3002}\x{FF0C}\x{3001}\x{0964}\x{06D4}\x{060C})]+";

const TABLE: &[PreTokenizerRow] = &[
    row(&["default"], &[r"[\p{P}$+<=>^~|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"]),
    PreTokenizerRow {
        whole_words: true,
        add_bos: true,
        ..row(&["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"], &[CL100K])
    },
    PreTokenizerRow { whole_words: true, add_bos: true, ..row(&["tekken"], &[TEKKEN]) },
    PreTokenizerRow { whole_words: true, ..row(&["minicpm5"], &[DIGITS3, CL100K]) },
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
pub(super) struct WordSplitter(Vec<SplitRegex>);

struct SplitRegex {
    regex: Regex,
    /// The expression ends in `|\s+` (see the module's text).
    spaces: bool,
    /// It takes white space up to the last line break as one word before that.
    breaks: bool,
}

impl WordSplitter {
    /// Compiles the row.
    pub fn new(pre: &PreTokenizerRow) -> Result<Self> {
        pre.splits.iter().map(|text| SplitRegex::new(text)).collect::<Result<_>>().map(WordSplitter)
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

impl SplitRegex {
    fn new(text: &str) -> Result<Self> {
        let regex = Regex::new(text).map_err(|e| Error::text(format!("pre-tokenizer: {e}")).caused_by(e))?;
        Ok(SplitRegex { regex, spaces: text.ends_with(r"|\s+"), breaks: text.contains(r"\s*[\r\n]") })
    }

    /// Appends the matches in `text` and the text between them.
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
            let splitter = WordSplitter::new(find(name).unwrap()).unwrap();
            assert_eq!(splitter.words(text).join("|"), words, "{name}");
        }
    }

    #[test]
    fn every_row_compiles_and_loses_nothing() {
        let text = " a\u{a0}\u{3000}b 12345 ...?!  \r\n\r\n\t x'Ll don't 你好，世界 ÀÉ\u{301} 🦙\n ";
        for pre in TABLE {
            let words = WordSplitter::new(pre).unwrap().words(text).concat();
            assert_eq!(words, text, "{:?}", pre.names);
        }
    }
}
