//! How an answer looks on a terminal: wrapped at its width, Markdown rendered, thoughts dimmed, and without the control
//! characters that a model may emit.
//!
//! `wrap` divides text into lines; `markdown` reads blocks, `inline` what is within a line, `table` tables. All of them
//! take characters one by one, so the pieces in which an answer arrives do not matter.

mod inline;
mod markdown;
mod table;
pub mod wrap;

use markdown::Markdown;
use wrap::{Style, Wrap};

/// Renders an answer.
pub struct Screen {
    wrap: Wrap,
    /// `None` shows Markdown as it is written.
    markdown: Option<Markdown>,
    thought: Thought,
}

/// Whether the text is a thought. Tags of thoughts are part of the text.
enum Thought {
    /// So far all of it could be the opening tag.
    Perhaps(String),
    /// Its last characters.
    Within(String),
    Over,
}

const OPENS: &str = "<think>";
const CLOSES: &str = "</think>";

impl Screen {
    /// `columns` is `None` for lines of any length.
    pub fn new(columns: Option<usize>, styles: bool, markdown: bool) -> Self {
        let wrap = Wrap::new(columns, styles);
        Screen { wrap, markdown: markdown.then(Markdown::new), thought: Thought::Perhaps(String::new()) }
    }

    /// The terminal has another size now.
    pub fn resize(&mut self, columns: usize) {
        if let Some(old) = &mut self.wrap.columns {
            *old = columns;
        }
    }

    /// Reads more of the answer. Returns what is to be written.
    pub fn push(&mut self, text: &str) -> String {
        for c in text.chars() {
            match c {
                // Line ends come with or without it.
                '\r' => {}
                '\n' | '\t' => self.put(c),
                c if c.is_control() => c.escape_default().for_each(|c| self.put(c)),
                c => self.put(c),
            }
        }
        self.wrap.take()
    }

    /// The rest, when the answer has ended.
    pub fn finish(&mut self) -> String {
        if let Thought::Perhaps(held) = &mut self.thought {
            let held = std::mem::take(held);
            self.thought = Thought::Over;
            held.chars().for_each(|c| self.put(c));
        }
        if let Some(markdown) = &mut self.markdown {
            markdown.finish(&mut self.wrap);
        }
        self.wrap.finish()
    }

    /// Whether the next character begins a line.
    pub fn at_line_start(&self) -> bool {
        self.wrap.at_start()
    }

    fn put(&mut self, c: char) {
        match &mut self.thought {
            Thought::Perhaps(held) => {
                held.push(c);
                let text = held.trim_start();
                if text == OPENS {
                    let held = std::mem::take(held);
                    held.chars().for_each(|c| self.wrap.put(c, Style::DIM));
                    self.thought = Thought::Within(String::new());
                } else if !OPENS.starts_with(text) {
                    let held = std::mem::take(held);
                    self.thought = Thought::Over;
                    held.chars().for_each(|c| self.put(c));
                }
            }
            Thought::Within(last) => {
                self.wrap.put(c, Style::DIM);
                last.push(c);
                if !CLOSES.starts_with(last.as_str()) {
                    *last = if c == '<' { "<".into() } else { String::new() };
                } else if last == CLOSES {
                    self.thought = Thought::Over;
                }
            }
            Thought::Over => match &mut self.markdown {
                Some(markdown) => markdown.push(c, &mut self.wrap),
                None => self.wrap.put(c, Style::PLAIN),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use unicode_width::UnicodeWidthStr;

    use super::*;

    const ANSWER: &str = "<think>\nHm, *thoughts* that are longer than one line of it.\n</think>\n\n# Heading\n\nSome **bold and \
        *both*** text with `code * x`, 2 * 3, snake_case, \u{1b}[2J and 日本語の文章です。 Then a long word: \
        https://example.org/a/very/long/path.\r\n\n1. first item that needs a second line\n2. second\n   - nested\n\n> \
        quote\n\n| a | b |\n|:-:|--:|\n| *x* | 10 |\n\n```rust\nfn main() {}\n```\n---\n**open\nend";

    fn shown(pieces: &[&str], columns: usize, markdown: bool) -> String {
        let mut screen = Screen::new(Some(columns), true, markdown);
        let text: String = pieces.iter().map(|piece| screen.push(piece)).collect();
        text + &screen.finish()
    }

    /// The characters, each with the codes of its style.
    fn cells(text: &str) -> Vec<(char, &str)> {
        let mut pieces = text.split("\x1b[");
        let first = pieces.next().unwrap_or_default().chars().map(|c| (c, "0")).collect::<Vec<_>>();
        let styled = pieces.filter_map(|piece| piece.split_once('m'));
        first.into_iter().chain(styled.flat_map(|(codes, text)| text.chars().map(move |c| (c, codes)))).collect()
    }

    fn plain(text: &str) -> String {
        cells(text).into_iter().map(|(c, _)| c).collect()
    }

    #[test]
    fn the_pieces_of_an_answer_do_not_matter() {
        for markdown in [true, false] {
            for columns in [20, 40, 80] {
                let whole = shown(&[ANSWER], columns, markdown);
                let same = |pieces: &[&str]| {
                    let divided = shown(pieces, columns, markdown);
                    assert_eq!(cells(&divided), cells(&whole), "{pieces:?}");
                };
                ANSWER.char_indices().map(|(at, _)| ANSWER.split_at(at)).for_each(|(one, two)| same(&[one, two]));
                let letters: Vec<String> = ANSWER.chars().map(String::from).collect();
                same(&letters.iter().map(String::as_str).collect::<Vec<_>>());
            }
        }
    }

    /// The program may be interrupted between any two.
    #[test]
    fn each_piece_leaves_the_terminal_plain() {
        let mut screen = Screen::new(Some(20), true, true);
        for c in ANSWER.chars() {
            let piece = screen.push(&c.to_string());
            assert!(piece.rfind("\x1b[").is_none_or(|at| piece[at..].starts_with("\x1b[0m")), "{piece:?}");
        }
    }

    #[test]
    fn lines_fit_the_terminal() {
        for markdown in [true, false] {
            let text = plain(&shown(&[ANSWER], 30, markdown));
            let long: Vec<&str> = text.lines().filter(|line| line.width() > 30).collect();
            assert!(long.iter().all(|line| line.starts_with("https://")), "{long:?}");
            assert!(text.contains("\\u{1b}[2J"), "{text}");
        }
    }

    #[test]
    fn control_characters_of_a_model_do_not_reach_the_terminal() {
        let hostile: String = (0..0xa0).filter_map(char::from_u32).chain("\u{1b}]0;title\u{7}x".chars()).collect();
        for markdown in [true, false] {
            let mut screen = Screen::new(Some(80), false, markdown);
            let text = screen.push(&hostile) + &screen.finish();
            assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
        }
    }

    #[test]
    fn thoughts_are_dim_and_not_rendered() {
        let text = shown(&["<think>\n**Hm** <b.\n</think>\n**Yes**"], 80, true);
        let dim = |text: &str| format!("\x1b[2m{text}\x1b[0m\n");
        assert_eq!(text, dim("<think>") + &dim("**Hm** <b.") + &dim("</think>") + "\x1b[1mYes\x1b[0m");
        assert_eq!(shown(&["<thin"], 80, true), "<thin");
    }
}
