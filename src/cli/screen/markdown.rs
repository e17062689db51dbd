//! Markdown on a terminal, as it arrives: headings, lists, quotes, code blocks, rules and tables.
//!
//! The first characters of a line, which are held back until they decide, say what it is; a table is held back until it
//! is complete. Line breaks stay: models use them for poems and addresses.

use super::inline::{self, Inline};
use super::table;
use super::wrap::{Style, Styled, Wrap, styled};

/// Cells of a rule at most.
const RULE: usize = 40;

/// Renders Markdown into a [`Wrap`].
pub struct Markdown {
    line: Line,
    /// The fence that closes the current code block.
    fence: Option<String>,
    /// The rows of a table so far.
    rows: Vec<String>,
}

/// The current line.
enum Line {
    /// Its beginning, which does not decide yet what it is.
    Start(String),
    Text(Inline),
    Code,
}

/// The kind of a line of Markdown.
#[derive(Debug, PartialEq)]
enum Kind {
    Blank,
    Text,
    /// Its level; the bytes of its mark.
    Heading(usize, usize),
    /// The bytes of its mark, and what is shown instead.
    Item(usize, String),
    /// The bytes of its mark.
    Quote(usize),
    Rule,
    /// Its marks.
    Fence(String),
    Code,
    Row,
}

impl Markdown {
    pub fn new() -> Self {
        Markdown { line: Line::Start(String::new()), fence: None, rows: Vec::new() }
    }

    /// Reads a printable character, a tab or a line's end.
    pub fn push(&mut self, c: char, wrap: &mut Wrap) {
        if c == '\n' {
            return self.end_line(wrap);
        }
        match &mut self.line {
            Line::Text(inline) => wrap.put_all(inline.push(c)),
            // The terminal wraps code, and copies it whole.
            Line::Code => wrap.put_whole(vec![(c, Style::CODE)]),
            Line::Start(head) => {
                match c {
                    '\t' if self.fence.is_none() && head.trim().is_empty() => head.push_str("    "),
                    _ => head.push(c),
                }
                let head = head.clone();
                if let Some(kind) = self.kind(&head, false) {
                    self.begin(kind, &head, wrap);
                }
            }
        }
    }

    /// The text has ended.
    pub fn finish(&mut self, wrap: &mut Wrap) {
        match std::mem::replace(&mut self.line, Line::Start(String::new())) {
            Line::Text(mut inline) => wrap.put_all(inline.finish()),
            Line::Code => {}
            Line::Start(head) if head.is_empty() => self.end_table(true, wrap),
            Line::Start(head) => {
                let kind = self.kind(&head, true).unwrap_or(Kind::Text);
                self.begin(kind, &head, wrap);
                self.end_table(false, wrap);
                self.finish(wrap);
            }
        }
    }

    fn end_line(&mut self, wrap: &mut Wrap) {
        if let Line::Start(head) = &self.line {
            let head = head.clone();
            let kind = self.kind(&head, true).unwrap_or(Kind::Text);
            if kind == Kind::Row {
                self.rows.push(head);
                self.line = Line::Start(String::new());
                return;
            }
            self.begin(kind, &head, wrap);
        }
        if let Line::Text(inline) = &mut self.line {
            wrap.put_all(inline.finish());
        }
        wrap.end_line();
        self.line = Line::Start(String::new());
    }

    fn kind(&self, head: &str, complete: bool) -> Option<Kind> {
        match &self.fence {
            Some(fence) => kind_in_code(head, fence, complete),
            None => kind(head, complete),
        }
    }

    /// Writes what has been read of a line whose kind is now known.
    fn begin(&mut self, kind: Kind, head: &str, wrap: &mut Wrap) {
        if kind == Kind::Row {
            return self.rows.push(head.to_string());
        }
        self.end_table(true, wrap);
        let indent = &head[..head.len() - head.trim_start_matches(' ').len()];
        let plain = |text: &str| styled(text, Style::PLAIN);
        match kind {
            Kind::Row | Kind::Blank => {}
            Kind::Code => {
                wrap.put_whole(styled(head, Style::CODE));
                self.line = Line::Code;
            }
            Kind::Rule => wrap.put_whole(styled(&"─".repeat(wrap.columns.unwrap_or(RULE).min(RULE)), Style::DIM)),
            Kind::Fence(marks) => {
                self.fence = if self.fence.is_some() { None } else { Some(marks) };
                wrap.put_whole(styled(head, Style::DIM));
            }
            Kind::Text => self.begin_text(Styled::new(), plain(indent), Style::PLAIN, &head[indent.len()..], wrap),
            Kind::Heading(level, mark) => {
                let style = Style { underline: level == 1, ..Style::BOLD };
                self.begin_text(Styled::new(), Styled::new(), style, &head[mark..], wrap);
            }
            Kind::Item(mark, shown) => {
                let blanks = " ".repeat(indent.len() + shown.chars().count());
                self.begin_text(plain(&format!("{indent}{shown}")), plain(&blanks), Style::PLAIN, &head[mark..], wrap);
            }
            Kind::Quote(mark) => {
                let bar = styled("│ ", Style::DIM);
                self.begin_text(bar.clone(), bar, Style::PLAIN, &head[mark..], wrap);
            }
        }
    }

    /// Begins a line of text with `first`, or with `hanging` like those that follow it.
    fn begin_text(&mut self, first: Styled, hanging: Styled, style: Style, text: &str, wrap: &mut Wrap) {
        wrap.put_whole(if first.is_empty() { hanging.clone() } else { first });
        wrap.hang(hanging);
        let mut inline = Inline::new(style);
        text.chars().for_each(|c| wrap.put_all(inline.push(c)));
        self.line = Line::Text(inline);
    }

    /// Writes the table that was held back; `ends_line` if more follows.
    fn end_table(&mut self, ends_line: bool, wrap: &mut Wrap) {
        let rows = std::mem::take(&mut self.rows);
        let lines = table::lines(&rows, wrap.columns);
        let lines = lines.unwrap_or_else(|| rows.iter().map(|row| inline::line(row, Style::PLAIN)).collect());
        let last = lines.len();
        for (number, line) in (1..).zip(lines) {
            wrap.put_whole(line);
            if number < last || ends_line {
                wrap.end_line();
            }
        }
    }
}

/// The kind of the line after a fence, if its beginning `head` decides it. `complete` if that is the whole line.
fn kind_in_code(head: &str, fence: &str, complete: bool) -> Option<Kind> {
    let marks = head.trim();
    match fence.chars().next().is_some_and(|mark| marks.chars().all(|c| c == mark)) {
        true if !complete => None,
        true if marks.len() >= fence.len() => Some(Kind::Fence(String::new())),
        _ => Some(Kind::Code),
    }
}

/// The same for other lines.
fn kind(head: &str, complete: bool) -> Option<Kind> {
    let rest = head.trim_start_matches(' ');
    let indent = head.len() - rest.len();
    let Some(first) = rest.chars().next() else { return complete.then_some(Kind::Blank) };
    let run = rest.chars().take_while(|c| *c == first).count();
    let after = rest.chars().nth(run);
    let undecided = |whole: Kind| complete.then_some(whole);
    match first {
        '#' => match after {
            None => undecided(Kind::Text),
            Some(' ') if run <= 6 => Some(Kind::Heading(run, indent + run + 1)),
            Some(_) => Some(Kind::Text),
        },
        '`' | '~' if run >= 3 || after.is_none() => {
            let is_fence = run >= 3 && !(first == '`' && rest[run..].contains('`'));
            undecided(if is_fence { Kind::Fence(rest[..run].to_string()) } else { Kind::Text })
        }
        '-' | '*' | '+' | '_' => {
            let text = rest.trim_start_matches([first, ' ']);
            let marks = rest.matches(first).count();
            match (text.is_empty(), rest.strip_prefix(first)) {
                (true, _) => undecided(if marks >= 3 && first != '+' { Kind::Rule } else { Kind::Text }),
                (false, Some(item)) if item.starts_with(' ') && first != '_' => {
                    let blanks = item.len() - item.trim_start_matches(' ').len();
                    Some(Kind::Item(indent + 1 + blanks, "• ".into()))
                }
                _ => Some(Kind::Text),
            }
        }
        '0'..='9' => {
            let number = rest.chars().take_while(char::is_ascii_digit).count();
            let mut after = rest[number..].chars();
            match (after.next(), after.next()) {
                _ if number > 9 => Some(Kind::Text),
                (None, _) | (Some('.' | ')'), None) => undecided(Kind::Text),
                (Some('.' | ')'), Some(' ')) => Some(Kind::Item(indent + number + 2, rest[..number + 2].to_string())),
                _ => Some(Kind::Text),
            }
        }
        '>' => match rest[1..].chars().next() {
            None => undecided(Kind::Quote(indent + 1)),
            Some(' ') => Some(Kind::Quote(indent + 2)),
            Some(_) => Some(Kind::Quote(indent + 1)),
        },
        '|' => undecided(Kind::Row),
        _ => Some(Kind::Text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let (mut markdown, mut wrap) = (Markdown::new(), Wrap::new(Some(24), false));
        text.chars().for_each(|c| markdown.push(c, &mut wrap));
        markdown.finish(&mut wrap);
        wrap.finish()
    }

    #[test]
    fn blocks_are_shown_without_their_marks() {
        assert_eq!(shown("# Title\n\ntext"), "Title\n\ntext");
        assert_eq!(shown("- one\n* two\n  + three"), "• one\n• two\n  • three");
        assert_eq!(shown("- an item that is longer than a line"), "• an item that is longer\n  than a line");
        assert_eq!(shown("10. an item that is longer than a line"), "10. an item that is\n    longer than a line");
        assert_eq!(shown("> a quote that is longer than a line\nend"), "│ a quote that is longer\n│ than a line\nend");
        assert_eq!(shown("a\n---\nb"), format!("a\n{}\nb", "─".repeat(24)));
        assert_eq!(shown("| a | b |\n|---|---|\n| 1 | 2 |\nend"), "a  b\n─  ─\n1  2\nend");
        assert_eq!(shown("|a|b|\n|-|-|\n|1|2|"), "a  b\n─  ─\n1  2");
        assert_eq!(shown("|a|b|\n|-|-|\n|1|2|\n"), "a  b\n─  ─\n1  2\n");
    }

    #[test]
    fn code_is_neither_read_nor_wrapped() {
        let code = "```py\nprint(*args)  # a comment longer than a line\n\n    ``\n```\n**end**";
        assert_eq!(shown(code), code.replace("**", ""));
        assert_eq!(shown("~~~\n```\n~~~\n*a*"), "~~~\n```\n~~~\na");
        assert_eq!(shown("```not a fence``` here"), "not a fence here");
        assert_eq!(shown("```\nopen"), "```\nopen");
    }

    #[test]
    fn text_that_resembles_a_mark_stays() {
        for text in
            ["#hash", "-5 degrees", "3.14 is pi", "2024", "1.", "-", "**", "| alone |", "a | b", "``", "+", "1)x"]
        {
            assert_eq!(shown(text), text);
            assert_eq!(shown(&format!("{text}\nend")), format!("{text}\nend"));
        }
        assert_eq!(shown("**bold** at the start"), "bold at the start");
        assert_eq!(shown("  two\n    four"), "  two\n    four");
    }
}
