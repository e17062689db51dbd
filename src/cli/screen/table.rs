//! Markdown tables as aligned columns. A table that is wider than the terminal has its widest columns wrapped.

use super::inline;
use super::wrap::{Style, Styled, Wrap, styled, width_of};

/// Cells between columns.
const GAP: usize = 2;
/// Columns are not made narrower than this.
const NARROWEST: usize = 6;

#[derive(Clone, Copy, PartialEq)]
enum Align {
    Left,
    Centre,
    Right,
}

/// The lines of a table, of which `rows` are the lines of Markdown. `None` if they are no table.
pub fn lines(rows: &[String], columns: Option<usize>) -> Option<Vec<Styled>> {
    let aligns: Vec<Align> = cells(rows.get(1)?).iter().map(|cell| align(cell)).collect::<Option<_>>()?;
    let cell = |text: &String, style| inline::line(text, style);
    let row = |(i, row): (usize, &String)| {
        let style = if i == 0 { Style::BOLD } else { Style::PLAIN };
        let mut cells: Vec<Styled> = cells(row).iter().map(|text| cell(text, style)).collect();
        cells.resize(aligns.len(), Styled::new());
        cells
    };
    let body = rows.iter().enumerate().filter(|(i, _)| *i != 1);
    let table: Vec<Vec<Styled>> = body.map(row).collect();
    let widths = widths(&table, columns);
    let mut out = Vec::new();
    for (i, row) in table.iter().enumerate() {
        out.extend(row_lines(row, &widths, &aligns));
        if i == 0 {
            let rules: Vec<String> = widths.iter().map(|width| "─".repeat(*width)).collect();
            out.push(styled(&rules.join(&" ".repeat(GAP)), Style::DIM));
        }
    }
    Some(out)
}

/// The cells of a row. A `|` within code or after a backslash is text.
fn cells(row: &str) -> Vec<String> {
    let row = row.trim();
    let row = row.strip_prefix('|').unwrap_or(row);
    let (mut cells, mut code, mut escaped) = (vec![String::new()], false, false);
    for c in row.chars() {
        match c {
            '|' if !code && !escaped => cells.push(String::new()),
            _ => {
                code ^= c == '`' && !escaped;
                cells.last_mut().expect("one").push(c);
            }
        }
        escaped = c == '\\' && !escaped;
    }
    if cells.len() > 1 && cells.last().is_some_and(|cell| cell.trim().is_empty()) {
        cells.pop();
    }
    cells.iter().map(|cell| cell.trim().to_string()).collect()
}

/// The alignment that a cell of the second row states: `---`, `:--`, `:-:`, `--:`.
fn align(cell: &str) -> Option<Align> {
    let dashes = cell.strip_prefix(':').unwrap_or(cell);
    let dashes = dashes.strip_suffix(':').unwrap_or(dashes);
    if dashes.is_empty() || dashes.chars().any(|c| c != '-') {
        return None;
    }
    Some(match (cell.starts_with(':'), cell.ends_with(':')) {
        (true, true) => Align::Centre,
        (false, true) => Align::Right,
        _ => Align::Left,
    })
}

/// The widths of the columns: as their widest cells, unless the terminal is narrower.
fn widths(table: &[Vec<Styled>], columns: Option<usize>) -> Vec<usize> {
    let count = table[0].len();
    let widest = |i: usize| table.iter().map(|row| width_of(&row[i])).max().unwrap_or(0);
    let mut widths: Vec<usize> = (0..count).map(widest).collect();
    let Some(columns) = columns else { return widths };
    let gaps = GAP * count.saturating_sub(1);
    while widths.iter().sum::<usize>() + gaps > columns {
        match widths.iter_mut().max().filter(|width| **width > NARROWEST) {
            Some(width) => *width -= 1,
            None => break,
        }
    }
    widths
}

fn row_lines(row: &[Styled], widths: &[usize], aligns: &[Align]) -> Vec<Styled> {
    let wrapped = |(cell, width): (&Styled, &usize)| {
        let mut wrap = Wrap::new(Some(*width), true);
        wrap.divides_words = true;
        wrap.put_all(cell.clone());
        wrap.into_lines()
    };
    let cells: Vec<Vec<Styled>> = row.iter().zip(widths).map(wrapped).collect();
    let height = cells.iter().map(Vec::len).max().unwrap_or(0);
    let line = |i: usize| {
        let mut line = Styled::new();
        // Blanks are written only before text: a line has none at its end.
        let mut blanks = 0;
        for ((cell, width), align) in cells.iter().zip(widths).zip(aligns) {
            let text = cell.get(i).cloned().unwrap_or_default();
            let free = width.saturating_sub(width_of(&text));
            let before = match align {
                Align::Left => 0,
                Align::Centre => free / 2,
                Align::Right => free,
            };
            if text.is_empty() {
                blanks += width + GAP;
                continue;
            }
            line.extend(styled(&" ".repeat(blanks + before), Style::PLAIN));
            line.extend(text);
            blanks = free - before + GAP;
        }
        line
    };
    (0..height).map(line).collect()
}

#[cfg(test)]
mod tests {
    use unicode_width::UnicodeWidthStr;

    use super::*;

    fn shown(text: &str, columns: usize) -> Option<String> {
        let rows: Vec<String> = text.lines().map(str::to_string).collect();
        let lines = lines(&rows, Some(columns))?;
        Some(lines.iter().map(|line| line.iter().map(|(c, _)| *c).collect::<String>() + "\n").collect())
    }

    #[test]
    fn columns_are_aligned() {
        let table = "| Name | n |\n|:--|--:|\n| **one** | 1 |\n| 日本 | 100 |\n| a\\|b `c|d` |";
        let want = "Name       n\n───────  ───\none        1\n日本     100\na|b c|d\n";
        assert_eq!(shown(table, 80).unwrap(), want);
        assert_eq!(shown("| not | a |\n| table | at |", 80), None);
        assert_eq!(shown("| alone |", 80), None);
    }

    #[test]
    fn a_wide_table_is_wrapped_within_its_columns() {
        let table = "|a|b|\n|-|-|\n|short|some words that are longer than the terminal|";
        let shown = shown(table, 30).unwrap();
        assert!(shown.lines().all(|line| line.width() <= 30), "{shown}");
        let rule = "─".repeat(23);
        let rows = "short  some words that are\n       longer than the\n       terminal\n";
        assert_eq!(shown, format!("a      b\n─────  {rule}\n{rows}"));
    }
}
