//! Word order of right-to-left text. egui shapes each word correctly but always places words from left to right, so
//! this module breaks lines and reorders their words visually.
//!
//! It orders whole words, not characters: a subset of Unicode's bidirectional algorithm (UAX #9).

use std::borrow::Cow;

/// Whether a character belongs to a right-to-left script (Hebrew, Arabic, Syriac, Thaana and others).
fn is_rtl(c: char) -> bool {
    matches!(u32::from(c), 0x590..=0x8ff | 0xfb1d..=0xfdff | 0xfe70..=0xfeff | 0x10800..=0x10fff | 0x1e800..=0x1efff)
}

/// Whether a text starts from the right, as its first letter decides.
pub fn begins_right(text: &str) -> bool {
    text.chars().find_map(direction).unwrap_or(false)
}

fn direction(c: char) -> Option<bool> {
    if is_rtl(c) { Some(true) } else { c.is_alphabetic().then_some(false) }
}

/// The text in visual order: lines with right-to-left letters are broken at `width` (in `measure`'s units), joined by
/// `line_end`, and their words reordered.
pub fn visual<'a>(text: &'a str, width: f32, line_end: &str, measure: &dyn Fn(&str) -> f32) -> Cow<'a, str> {
    if !text.chars().any(is_rtl) {
        return Cow::Borrowed(text);
    }
    let (mut out, mut fenced) = (String::with_capacity(text.len()), false);
    for line in text.split_inclusive('\n') {
        fenced ^= line.trim_start().starts_with("```");
        if fenced || !line.chars().any(is_rtl) {
            out += line;
            continue;
        }
        let (words, end) = match line.strip_suffix('\n') {
            Some(words) => (words, "\n"),
            None => (line, ""),
        };
        match words.trim_start().starts_with('|') {
            true => out += &cells(words),
            false => paragraph(words, width, line_end, measure, &mut out),
        }
        out += end;
    }
    Cow::Owned(out)
}

/// A table row: each cell is reordered separately.
fn cells(row: &str) -> String {
    let cell = |cell: &str| match cell.chars().any(is_rtl) {
        true => format!(" {} ", ordered(&cell.split_whitespace().collect::<Vec<_>>(), begins_right(cell)).join(" ")),
        false => cell.to_string(),
    };
    row.split('|').map(cell).collect::<Vec<_>>().join("|")
}

fn paragraph(line: &str, width: f32, line_end: &str, measure: &dyn Fn(&str) -> f32, out: &mut String) {
    let (mark, text) = marked(line);
    // Reordering would break emphasis markers.
    let text = text.replace("**", "");
    let (right, space) = (begins_right(&text), measure(" "));
    let room = width - mark.chars().count() as f32 * 2.0 * space;
    let mut lines: Vec<Vec<&str>> = Vec::new();
    let mut used = f32::INFINITY;
    for word in text.split_whitespace() {
        let its = measure(word);
        match lines.last_mut() {
            Some(last) if used + space + its <= room => {
                last.push(word);
                used += space + its;
            }
            _ => {
                lines.push(vec![word]);
                used = its;
            }
        }
    }
    let between = format!("{line_end}{}", " ".repeat(mark.chars().count()));
    let lines: Vec<String> = lines.iter().map(|words| ordered(words, right).join(" ")).collect();
    *out += mark;
    *out += &lines.join(&between);
}

/// Splits a line into its Markdown prefix (`- `, `1. `, `## `, `> `, indentation) and the rest.
fn marked(line: &str) -> (&str, &str) {
    let text = line.trim_start();
    let length = match text.split_once(' ') {
        Some((mark, _)) if mark.chars().all(|c| c.is_ascii_digit() || "-*+#>.)".contains(c)) => mark.len() + 1,
        _ => 0,
    };
    line.split_at(line.len() - text.len() + length)
}

/// A line's words in visual order, from the left.
fn ordered<'a>(words: &[&'a str], right: bool) -> Vec<&'a str> {
    let mut runs: Vec<(bool, Vec<&str>)> = Vec::new();
    for word in words {
        // Numbers and symbols stay with the preceding word.
        let its = word.chars().find_map(direction).unwrap_or(runs.last().map_or(right, |run| run.0));
        match runs.last_mut() {
            Some((way, run)) if *way == its => run.push(word),
            _ => runs.push((its, vec![word])),
        }
    }
    runs.iter_mut().filter(|run| run.0).for_each(|run| run.1.reverse());
    if right {
        runs.reverse();
    }
    runs.into_iter().flat_map(|run| run.1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(text: &str, width: f32) -> String {
        visual(text, width, "\n", &|word| word.chars().count() as f32).into_owned()
    }

    #[test]
    fn words_stand_where_they_are_read() {
        let rows = [
            ("left to right, 1 2", "left to right, 1 2"),
            ("שלום עולם", "עולם שלום"),
            ("שלום Big World טוב", "טוב Big World שלום"),
            ("it means שלום עולם here", "it means עולם שלום here"),
            ("יש 12 ימים", "ימים 12 יש"),
            ("- שלום עולם", "- עולם שלום"),
            ("2. **שלום עולם**\nleft", "2. עולם שלום\nleft"),
            ("| a b | שלום עולם |", "| a b | עולם שלום |"),
            ("```\nשלום עולם\n```\n", "```\nשלום עולם\n```\n"),
        ];
        for (text, expected) in rows {
            assert_eq!(seen(text, 100.0), expected, "{text}");
        }
    }

    #[test]
    fn lines_are_broken_before_they_are_turned() {
        assert_eq!(seen("אחת שתים שלוש", 9.0), "שתים אחת\nשלוש");
        assert_eq!(seen("- אחת שתים שלוש", 13.0), "- שתים אחת\n  שלוש");
        assert!(matches!(visual("plain", 1.0, "\n", &|_| 1.0), Cow::Borrowed(_)));
    }
}
