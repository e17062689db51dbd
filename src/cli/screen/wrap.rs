//! Word wrap for text that arrives in pieces, by its width in terminal cells.
//!
//! A word is held back until it is complete. Text is read character by character, so the pieces in which it arrives do
//! not matter.

use unicode_segmentation::UnicodeSegmentation;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// How a character looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    pub bold: bool,
    pub dim: bool,
    pub italic: bool,
    pub underline: bool,
    pub struck: bool,
    pub code: bool,
}

impl Style {
    /// Without any attribute.
    pub const PLAIN: Style =
        Style { bold: false, dim: false, italic: false, underline: false, struck: false, code: false };
    pub const BOLD: Style = Style { bold: true, ..Style::PLAIN };
    pub const DIM: Style = Style { dim: true, ..Style::PLAIN };
    pub const CODE: Style = Style { code: true, ..Style::PLAIN };

    /// Both at once.
    pub fn with(self, other: Style) -> Style {
        Style {
            bold: self.bold | other.bold,
            dim: self.dim | other.dim,
            italic: self.italic | other.italic,
            underline: self.underline | other.underline,
            struck: self.struck | other.struck,
            code: self.code | other.code,
        }
    }

    /// The escape sequence that begins it. Code is cyan.
    fn escape(self) -> String {
        let on = [
            (self.bold, "1"),
            (self.dim, "2"),
            (self.italic, "3"),
            (self.underline, "4"),
            (self.struck, "9"),
            (self.code, "36"),
        ];
        let on: Vec<&str> = on.iter().filter(|(on, _)| *on).map(|(_, code)| *code).collect();
        if on.is_empty() { String::new() } else { format!("\x1b[{}m", on.join(";")) }
    }
}

/// Characters with their styles.
pub type Styled = Vec<(char, Style)>;

/// The same text in one style.
pub fn styled(text: &str, style: Style) -> Styled {
    text.chars().map(|c| (c, style)).collect()
}

/// Cells that a text takes on a terminal.
pub fn width_of(text: &[(char, Style)]) -> usize {
    text.iter().map(|(c, _)| *c).collect::<String>().width()
}

/// Divides styled text into lines.
pub struct Wrap {
    /// Cells of a line; `None` for lines of any length.
    pub columns: Option<usize>,
    /// Whether a word that is longer than a line is divided. Otherwise the terminal divides it, and copies it whole.
    pub divides_words: bool,
    /// Whether styles are written.
    pub styles: bool,
    /// What each further line of a paragraph begins with.
    hanging: Styled,
    /// Cells of the current line that are used.
    used: usize,
    /// Whether the current line has a word after what it begins with.
    has_words: bool,
    blanks: Styled,
    word: Styled,
    out: Styled,
}

impl Wrap {
    pub fn new(columns: Option<usize>, styles: bool) -> Self {
        Wrap {
            columns,
            divides_words: false,
            styles,
            hanging: Styled::new(),
            used: 0,
            has_words: false,
            blanks: Styled::new(),
            word: Styled::new(),
            out: Styled::new(),
        }
    }

    /// Begins each further line of the paragraph with this.
    pub fn hang(&mut self, prefix: Styled) {
        self.hanging = prefix;
    }

    /// Adds a character that is printable, a tab or a line's end.
    pub fn put(&mut self, c: char, style: Style) {
        match c {
            '\n' => self.end_line(),
            ' ' => {
                self.end_word();
                self.blanks.push((c, style));
            }
            '\t' => {
                self.end_word();
                let column = self.used + self.blanks.len();
                self.blanks.extend(vec![(' ', style); 4 - column % 4]);
            }
            _ => {
                if self.word.last().is_some_and(|(before, _)| may_break(*before, c)) {
                    self.end_word();
                }
                self.word.push((c, style));
            }
        }
    }

    /// Adds a text.
    pub fn put_all(&mut self, text: Styled) {
        text.into_iter().for_each(|(c, style)| self.put(c, style));
    }

    /// Adds a text that is not divided: a line of code, a row of a table.
    pub fn put_whole(&mut self, text: Styled) {
        self.end_word();
        let blanks = std::mem::take(&mut self.blanks);
        self.write(&blanks);
        self.write(&text);
    }

    /// Ends the line and the paragraph.
    pub fn end_line(&mut self) {
        self.end_word();
        self.blanks.clear();
        self.hanging.clear();
        self.break_line();
    }

    /// Whether nothing is on the line yet.
    pub fn at_start(&self) -> bool {
        self.used == 0 && self.word.is_empty() && self.blanks.is_empty()
    }

    /// Completes the last word. Returns what is to be written.
    pub fn finish(&mut self) -> String {
        self.end_word();
        let blanks = std::mem::take(&mut self.blanks);
        self.write(&blanks);
        self.take()
    }

    /// What is to be written. It ends in the plain style, because the program may be interrupted before it writes more.
    pub fn take(&mut self) -> String {
        let (mut out, mut current) = (String::new(), Style::PLAIN);
        for (c, style) in std::mem::take(&mut self.out).into_iter().chain([('\0', Style::PLAIN)]) {
            if style != current && self.styles {
                out.push_str(if current == Style::PLAIN { "" } else { "\x1b[0m" });
                out.push_str(&style.escape());
                current = style;
            }
            out.push(c);
        }
        out.pop();
        out
    }

    /// The complete lines with their styles.
    pub fn into_lines(mut self) -> Vec<Styled> {
        self.end_word();
        self.out.split(|(c, _)| *c == '\n').map(<[_]>::to_vec).collect()
    }

    fn end_word(&mut self) {
        if self.word.is_empty() {
            return;
        }
        let (blanks, word) = (std::mem::take(&mut self.blanks), std::mem::take(&mut self.word));
        let columns = self.columns.unwrap_or(usize::MAX);
        let fits = self.used + blanks.len() + width_of(&word) <= columns;
        if fits || !self.has_words {
            self.write(&blanks);
        } else {
            self.break_line();
            let hanging = self.hanging.clone();
            self.write(&hanging);
        }
        match self.divides_words {
            true if !fits => self.divide(&word, columns),
            _ => self.write(&word),
        }
        self.has_words = true;
        if self.used > columns {
            // The terminal has begun new lines.
            self.used %= columns.max(1);
        }
    }

    fn divide(&mut self, word: &[(char, Style)], columns: usize) {
        let text: String = word.iter().map(|(c, _)| *c).collect();
        let mut rest = word;
        for grapheme in text.graphemes(true) {
            let (these, others) = rest.split_at(grapheme.chars().count());
            rest = others;
            if self.used > 0 && self.used + grapheme.width() > columns {
                self.break_line();
            }
            self.write(these);
        }
    }

    fn break_line(&mut self) {
        self.out.push(('\n', Style::PLAIN));
        (self.used, self.has_words) = (0, false);
    }

    fn write(&mut self, text: &[(char, Style)]) {
        self.out.extend_from_slice(text);
        self.used += width_of(text);
    }
}

/// A text in lines of at most this many cells.
pub fn fill(text: &str, columns: usize) -> String {
    let mut wrap = Wrap::new(Some(columns), false);
    for line in text.split_inclusive('\n') {
        let indent = line.chars().take_while(|c| *c == ' ').count();
        wrap.hang(styled(&" ".repeat(indent), Style::PLAIN));
        wrap.put_all(styled(line, Style::PLAIN));
    }
    wrap.finish()
}

/// Whether a line may end between two characters that no blank separates: beside Chinese and Japanese characters and
/// emoji, except where their punctuation clings to them. Korean is divided at blanks.
fn may_break(before: char, after: char) -> bool {
    const NOT_FIRST: &str = "、。，．・：；？！゛゜´｀ーヽヾゝゞ々〻）〕］｝〉》」』】〙〗〟’”%‰℃,.:;?!)]}ぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮヵヶ";
    const NOT_LAST: &str = "（〔［｛〈《「『【〘〖〝‘“([{$£¥";
    let ideographic = |c: char| c.width() == Some(2) && !('\u{ac00}'..='\u{d7a3}').contains(&c);
    let joined = |c: char| {
        c.width() == Some(0) || ('\u{1f3fb}'..='\u{1f3ff}').contains(&c) || ('\u{1f1e6}'..='\u{1f1ff}').contains(&c)
    };
    (ideographic(before) || ideographic(after))
        && !joined(after)
        && before != '\u{200d}'
        && !NOT_FIRST.contains(after)
        && !NOT_LAST.contains(before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_between_words() {
        assert_eq!(fill("the capital of France", 11), "the capital\nof France");
        assert_eq!(fill("the capital of France", 10), "the\ncapital of\nFrance");
        assert_eq!(fill("a  b\n  two words", 7), "a  b\n  two\n  words");
        assert_eq!(fill("one\n\ntwo \n", 80), "one\n\ntwo\n");
        assert_eq!(fill("\tx", 80), "    x");
    }

    #[test]
    fn a_word_longer_than_a_line_stays_whole_or_is_divided() {
        // The terminal has divided it: 3 cells of the last line are used.
        assert_eq!(fill("see https://example.org/a/b now then", 10), "see\nhttps://example.org/a/b now\nthen");
        let mut wrap = Wrap::new(Some(4), false);
        wrap.divides_words = true;
        wrap.put_all(styled("ab cdefghijk", Style::PLAIN));
        assert_eq!(wrap.finish(), "ab\ncdef\nghij\nk");
    }

    #[test]
    fn wide_characters_take_two_cells() {
        assert_eq!(fill("日本語の文章です", 8), "日本語の\n文章です");
        assert_eq!(fill("日本語です。はい", 10), "日本語で\nす。はい", "a full stop begins no line");
        assert_eq!(fill("「日本」「語」", 6), "「日\n本」\n「語」", "an opening bracket ends no line");
        assert_eq!(fill("한국어 문장", 8), "한국어\n문장");
        let family = "👨\u{200d}👩\u{200d}👧";
        assert_eq!(fill(&format!("{family}{family}"), 3), format!("{family}\n{family}"));
        assert_eq!(fill("👍🏽👍🏽", 3), "👍🏽\n👍🏽");
        assert_eq!(fill("e\u{301}e\u{301} e\u{301}e\u{301}", 5), "e\u{301}e\u{301} e\u{301}e\u{301}");
    }

    #[test]
    fn styles_end_with_the_line_and_begin_again() {
        let mut wrap = Wrap::new(Some(3), true);
        wrap.hang(styled("| ", Style::DIM));
        wrap.put_all(styled("ab cd", Style::BOLD));
        assert_eq!(wrap.finish(), "\x1b[1mab\x1b[0m\n\x1b[2m| \x1b[0m\x1b[1mcd\x1b[0m");
    }
}
