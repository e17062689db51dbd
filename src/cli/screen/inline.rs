//! Markdown within a line: emphasis and code.
//!
//! Text after an opening mark is held back until the closing mark arrives. If the line ends without it, the mark is
//! text: `2 * 3`, `*args` and `snake_case` stay as they are.

use super::wrap::{Style, Styled};

/// Characters that are held back at most: what follows an opening mark must be shown in time.
const HELD: usize = 300;

/// Reads the characters of one line.
pub struct Inline {
    /// The style of the whole line.
    base: Style,
    held: Vec<char>,
    before: char,
}

impl Inline {
    pub fn new(base: Style) -> Self {
        Inline { base, held: Vec::new(), before: ' ' }
    }

    /// Reads a character other than a line's end. Returns what is decided.
    pub fn push(&mut self, c: char) -> Styled {
        self.held.push(c);
        self.decide(false)
    }

    /// The rest, at the line's end.
    pub fn finish(&mut self) -> Styled {
        self.decide(true)
    }

    fn decide(&mut self, ended: bool) -> Styled {
        let mut out = Styled::new();
        while !self.held.is_empty() {
            let full = ended || self.held.len() > HELD;
            let Some((taken, text)) = read(&self.held, self.before, self.base, full) else { break };
            self.before = self.held[taken - 1];
            self.held.drain(..taken);
            out.extend(text);
        }
        out
    }
}

/// A whole line.
pub fn line(text: &str, base: Style) -> Styled {
    let mut inline = Inline::new(base);
    let mut out: Styled = text.chars().flat_map(|c| inline.push(c)).collect();
    out.extend(inline.finish());
    out
}

/// Reads the beginning of `text`, which is not empty; `before` is the character before it. If `ended`, no more follows.
/// Returns how much was read, and what it becomes; `None` if the next characters decide.
fn read(text: &[char], before: char, style: Style, ended: bool) -> Option<(usize, Styled)> {
    let plain = |n: usize| Some((n, text[..n].iter().map(|c| (*c, style)).collect()));
    match text[0] {
        '\\' => match text.get(1) {
            Some('*' | '_' | '`' | '~' | '#' | '|') => Some((2, vec![(text[1], style)])),
            None if !ended => None,
            _ => plain(1),
        },
        mark @ ('*' | '_' | '~' | '`') => {
            let run = text.iter().take_while(|c| **c == mark).count();
            let Some(next) = text.get(run) else { return if ended { plain(run) } else { None } };
            let opens = match mark {
                '`' => true,
                '~' => run == 2 && !next.is_whitespace(),
                _ => run <= 3 && !next.is_whitespace() && !before.is_ascii_alphanumeric() && before != mark,
            };
            if !opens {
                return plain(run);
            }
            let close = match closing(text, mark, run, ended) {
                Closing::At(at) => at,
                Closing::Later => return None,
                Closing::Nowhere => return plain(run),
            };
            let inner = &text[run..close];
            let added = emphasis(mark, run);
            let inner = match mark {
                '`' => inner.iter().map(|c| (*c, style.with(added))).collect(),
                _ => line(&inner.iter().collect::<String>(), style.with(added)),
            };
            Some((close + run, inner))
        }
        _ => plain(1),
    }
}

fn emphasis(mark: char, run: usize) -> Style {
    match (mark, run) {
        ('`', _) => Style::CODE,
        ('~', _) => Style { struck: true, ..Style::PLAIN },
        (_, 1) => Style { italic: true, ..Style::PLAIN },
        (_, 2) => Style::BOLD,
        _ => Style { bold: true, italic: true, ..Style::PLAIN },
    }
}

enum Closing {
    At(usize),
    Later,
    Nowhere,
}

/// Where the run of marks is that closes the one at the beginning.
fn closing(text: &[char], mark: char, run: usize, ended: bool) -> Closing {
    let mut at = run;
    while at < text.len() {
        // A mark within code closes nothing.
        if mark != '`' && text[at] == '`' {
            let ticks = text[at..].iter().take_while(|c| **c == '`').count();
            if at + ticks == text.len() && !ended {
                return Closing::Later;
            }
            match closing(&text[at..], '`', ticks, ended) {
                Closing::At(close) => at += close + ticks,
                Closing::Later => return Closing::Later,
                Closing::Nowhere => at += ticks,
            }
            continue;
        }
        if text[at] == '\\' && mark != '`' {
            at += 2;
            continue;
        }
        if text[at] != mark {
            at += 1;
            continue;
        }
        let found = text[at..].iter().take_while(|c| **c == mark).count();
        // Whether the run is longer, and whether a word goes on after it, is not known yet.
        let Some(next) = text.get(at + found).copied().or(ended.then_some(' ')) else { return Closing::Later };
        let fits = match mark {
            '`' => found == run,
            '_' => !next.is_alphanumeric(),
            _ => true,
        };
        if fits && found == run && (mark == '`' || !text[at - 1].is_whitespace()) {
            return Closing::At(at);
        }
        // `**bold *and italic***` closes both with one run.
        if fits && mark != '`' && found == 3 && run < 3 && !text[at - 1].is_whitespace() {
            return Closing::At(at + found - run);
        }
        at += found;
    }
    if ended { Closing::Nowhere } else { Closing::Later }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text with a letter for each style: `<b:bold>`.
    fn shown(text: &str) -> String {
        let (mut out, mut style) = (String::new(), Style::PLAIN);
        for (c, of) in line(text, Style::PLAIN).into_iter().chain([('\n', Style::PLAIN)]) {
            if of != style {
                if style != Style::PLAIN {
                    out.push('>');
                }
                let names = [(of.bold, 'b'), (of.italic, 'i'), (of.struck, 's'), (of.code, 'c')];
                if of != Style::PLAIN {
                    out.push('<');
                    out.extend(names.iter().filter(|(on, _)| *on).map(|(_, name)| *name));
                    out.push(':');
                }
                style = of;
            }
            out.push(c);
        }
        out.pop();
        out
    }

    #[test]
    fn emphasis_and_code_become_styles() {
        assert_eq!(shown("a **bold** word"), "a <b:bold> word");
        assert_eq!(shown("*one* and _two_"), "<i:one> and <i:two>");
        assert_eq!(shown("***both***, ~~gone~~"), "<bi:both>, <s:gone>");
        assert_eq!(shown("run `a * b` now"), "run <c:a * b> now");
        assert_eq!(shown("`` a`b ``"), "<c: a`b >");
        assert_eq!(shown("**bold *and italic***"), "<b:bold ><bi:and italic>");
        assert_eq!(shown("**a `**` b**"), "<b:a ><bc:**><b: b>");
        assert_eq!(shown("重点**内容**です"), "重点<b:内容>です");
    }

    #[test]
    fn marks_without_a_partner_are_text() {
        for text in [
            "2 * 3 * 4",
            "2**3 and 4**5",
            "use *args and **kwargs",
            "snake_case_name",
            "a ` tick",
            "**",
            "** not bold **",
            "~/file and ~5",
            "5 * * 6",
        ] {
            assert_eq!(shown(text), text);
        }
        assert_eq!(shown(r"\*not\* it, C:\dir"), r"*not* it, C:\dir");
    }

    #[test]
    fn an_unclosed_mark_does_not_hold_text_back_for_ever() {
        let mut inline = Inline::new(Style::PLAIN);
        let count: usize = "*a".chars().chain("b ".chars().cycle().take(1000)).map(|c| inline.push(c).len()).sum();
        assert!(count > 1000 - HELD, "{count}");
    }
}
