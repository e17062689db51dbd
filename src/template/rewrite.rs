//! Rewrites a template's source before compilation, where minijinja has no hook for the difference to Jinja:
//!
//! * `{% generation %}` ... `{% endgeneration %}` mark assistant text for training and print nothing. They become
//!   `{% if true %}` and `{% endif %}`.
//! * `{{ a|safe + b }}`: in Python, the result of `|safe` HTML-escapes text that is added to it, even without automatic
//!   escaping. `+` cannot be overridden, so such sums become `a|safe|plus(b)`.
//! * `{% set x = value %}` becomes `{% set x = (value)|bounded %}`, which refuses values that are nested so deeply that
//!   dropping them would overflow the stack. A template can build such values only with variables.
//!
//! Tags with too many operators are refused, because the compiler recurses for each. Comments, raw blocks, white-space
//! control and line numbers are preserved.

use std::ops::Range;

use crate::{Error, Result};

/// Maximum operators per tag and `elif`s per template; published templates have a tenth of it.
const MAX_OPERATORS: usize = 400;

/// Rewrites a template for minijinja.
///
/// # Errors
/// [`Error::Text`] if a comment, a string or a tag has no end, or one is too complex.
pub(super) fn rewrite(source: &str) -> Result<String> {
    let mut out = String::with_capacity(source.len() + source.len() / 8);
    let (mut at, mut elifs) = (0, 0);
    while let Some(open) = find_tag(source, at) {
        out.push_str(&source[at..open]);
        let unclosed = || broken(source, open, "has no end");
        let (inner, end) = if source[open..].starts_with("{#") {
            (0..0, open + source[open..].find("#}").ok_or_else(unclosed)? + 2)
        } else if is_tag(&source[open..], "raw") {
            let close = source[open..].match_indices("{%").map(|(i, _)| open + i);
            let close = close.into_iter().find(|&i| is_tag(&source[i..], "endraw")).ok_or_else(unclosed)?;
            (0..0, close + source[close..].find("%}").ok_or_else(unclosed)? + 2)
        } else {
            tag_end(source, open).ok_or_else(unclosed)?
        };
        let (text, is_statement) = (&source[inner.clone()], source[open..].starts_with("{%"));
        elifs += usize::from(is_statement && text.trim_start().starts_with("elif"));
        if operators(text) > MAX_OPERATORS || elifs > MAX_OPERATORS {
            return Err(broken(source, open, "is too complex"));
        }
        let changed = if is_statement { statement(text) } else { safe_sum(text) };
        match changed.filter(|_| !inner.is_empty()) {
            Some(new) => {
                [&source[open..inner.start], &new, &source[inner.end..end]].iter().for_each(|s| out.push_str(s))
            }
            None => out.push_str(&source[open..end]),
        }
        at = end;
    }
    out.push_str(&source[at..]);
    Ok(out)
}

fn broken(source: &str, at: usize, what: &str) -> Error {
    let line = source[..at].lines().count().max(1);
    Error::text(format!("the chat template does not compile: the tag in line {line} {what}"))
}

/// Where the next tag or comment opens.
fn find_tag(source: &str, from: usize) -> Option<usize> {
    let bytes = source.as_bytes();
    (from..bytes.len().saturating_sub(1)).find(|&i| bytes[i] == b'{' && matches!(bytes[i + 1], b'{' | b'%' | b'#'))
}

/// Whether `text` starts with `{% word %}`.
fn is_tag(text: &str, word: &str) -> bool {
    let inside = text.strip_prefix("{%").map(|t| t.strip_prefix(['-', '+']).unwrap_or(t).trim_start());
    let rest = inside.and_then(|t| t.strip_prefix(word)).map(str::trim_start);
    rest.is_some_and(|t| t.strip_prefix(['-', '+']).unwrap_or(t).starts_with("%}"))
}

/// The text between the marks of the tag at `open` (without white-space control), and where the tag ends. Marks inside
/// strings and brackets do not count.
fn tag_end(source: &str, open: usize) -> Option<(Range<usize>, usize)> {
    let bytes = source.as_bytes();
    let close = if bytes[open + 1] == b'%' { b"%}" } else { b"}}" };
    let start = open + 2 + usize::from(matches!(bytes.get(open + 2), Some(b'-' | b'+')));
    let (mut at, mut depth, mut quote) = (start, 0i32, None);
    while at < bytes.len() {
        match (quote, bytes[at]) {
            (Some(_), b'\\') => at += 1,
            (Some(mark), c) if c == mark => quote = None,
            (Some(_), _) => {}
            (None, _) if depth == 0 && bytes[at..].starts_with(close) => {
                let control = at > start && matches!(bytes[at - 1], b'-' | b'+');
                return Some((start..at - usize::from(control), at + 2));
            }
            (None, c @ (b'"' | b'\'')) => quote = Some(c),
            (None, b'(' | b'[' | b'{') => depth += 1,
            (None, b')' | b']' | b'}') => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    None
}

/// `text` with its strings replaced by dots of the same length, so that what is left is code.
fn code(text: &str) -> String {
    let (mut quote, mut escaped) = (None, false);
    let blank = |c: char| {
        let inside = quote.is_some();
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if c == '\\' => escaped = true,
            Some(mark) if c == mark => quote = None,
            None if matches!(c, '"' | '\'') => quote = Some(c),
            _ => {}
        }
        if inside || quote.is_some() { "_".repeat(c.len_utf8()) } else { c.to_string() }
    };
    text.chars().map(blank).collect()
}

const OPERATOR_WORDS: [&str; 7] = ["if", "else", "and", "or", "not", "in", "is"];

fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !c.is_alphanumeric() && c != '_')
}

fn operators(text: &str) -> usize {
    let code = code(text);
    let signs = code.bytes().filter(|b| b"+-*/%~|.<>=!([{".contains(b)).count();
    signs + words(&code).filter(|w| OPERATOR_WORDS.contains(w)).count()
}

fn statement(inner: &str) -> Option<String> {
    match inner.trim() {
        "generation" => return Some(" if true ".to_owned()),
        "endgeneration" => return Some(" endif ".to_owned()),
        _ => {}
    }
    let target = inner.trim_start().strip_prefix("set")?;
    // The first `=` ends the target: targets are names. Without one a block follows, whose value is a text.
    let at = if target.starts_with(char::is_whitespace) { inner.find('=')? } else { return None };
    let (target, value) = (&inner[..at], &inner[at + 1..]);
    Some(format!("{target}= ({})|bounded ", safe_sum(value).as_deref().unwrap_or(value)))
}

/// `a + b + c` as `a|plus(b)|plus(c)`, if one of them is marked `|safe` and nothing but `+` joins them.
fn safe_sum(expression: &str) -> Option<String> {
    let parts = summands(expression)?;
    let marked = |part: &&str| part.rsplit('|').next().is_some_and(|filter| filter.trim() == "safe");
    if parts.len() < 2 || !parts.iter().any(marked) {
        return None;
    }
    let (first, rest) = parts.split_first()?;
    Some(rest.iter().fold((*first).to_owned(), |sum, part| format!("{}|plus({part})", sum.trim_end())) + " ")
}

/// The operands of a sum; `None` if there are other operators at its level.
fn summands(expression: &str) -> Option<Vec<&str>> {
    let code = code(expression);
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0i32);
    for (at, c) in code.char_indices() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            '+' if depth == 0 => {
                parts.push(&expression[start..at]);
                start = at + 1;
            }
            '-' | '*' | '/' | '%' | '~' | '<' | '>' | '=' | '!' | ',' if depth == 0 => return None,
            _ => {}
        }
    }
    parts.push(&expression[start..]);
    (!words(&code).any(|w| OPERATOR_WORDS.contains(&w))).then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::rewrite;

    #[test]
    fn what_is_rewritten() {
        for (from, to) in [
            ("a{%- generation %}b{% endgeneration -%}c", "a{%- if true %}b{% endif -%}c"),
            ("{{ generation }}{% if a %}{# {% set x = 1 %} #}", "{{ generation }}{% if a %}{# {% set x = 1 %} #}"),
            ("{%- set a.b = '%}' + c -%}", "{%- set a.b = ( '%}' + c )|bounded -%}"),
            ("{% set x = {'a': {'%}': 1}}%}y", "{% set x = ( {'a': {'%}': 1}})|bounded %}y"),
            ("{% set x %}y{% endset %}{% settle = 1 %}", "{% set x %}y{% endset %}{% settle = 1 %}"),
            ("{% raw %}{% set x = 1 %}{%- endraw %}é", "{% raw %}{% set x = 1 %}{%- endraw %}é"),
            ("{{- '+'|safe + a['b'] + c|f(1 + 2) }}", "{{- '+'|safe|plus( a['b'] )|plus( c|f(1 + 2) ) }}"),
            ("{{ a + b }}{{ a|safe if b + c else d }}", "{{ a + b }}{{ a|safe if b + c else d }}"),
            ("it's {{ \"é\\\"}}\" }} { {", "it's {{ \"é\\\"}}\" }} { {"),
        ] {
            assert_eq!(rewrite(from).unwrap(), to);
        }
        for broken in ["{{ '}}", "{% if (a %}", "{# }}", "{% raw %}", "{{", "{{ a \\"] {
            assert!(rewrite(broken).is_err(), "{broken}");
        }
    }
}
