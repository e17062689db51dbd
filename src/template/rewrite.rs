//! The changes made to a template's text before it is compiled, each for something minijinja has no hook for.
//!
//! * `{% generation %}` ... `{% endgeneration %}` mark what the assistant said, for training masks, and print nothing.
//!   They become `{% if true %}` and `{% endif %}`.
//! * `{{ a|safe + b }}`: in Python the result of `|safe` escapes whatever text is added to it for HTML, even without
//!   automatic escaping. `+` cannot be changed, so such sums become `a|safe|plus(b)`.
//! * `{% set x = value %}` becomes `{% set x = (value)|bounded %}`: only through variables can a template build values
//!   nested so deeply that dropping them overflows the stack. `bounded` refuses those.
//!
//! Comments and raw blocks stay as they are, and so do white-space control marks and line numbers.

use std::sync::LazyLock;

use regex::{Captures, Regex};

/// A comment, a raw block, a statement or an expression; strings inside may hold any of their marks.
static TAG: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let inner = r#"((?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|[^"'])*?)"#;
    let raw = r"\{%[-+]?\s*raw\s*[-+]?%\}.*?\{%[-+]?\s*endraw\s*[-+]?%\}";
    Regex::new(
        &[r"(?s)\{#.*?#\}|", raw, r"|\{%([-+]?)", inner, r"([-+]?)%\}|\{\{([-+]?)", inner, r"([-+]?)\}\}"].concat(),
    )
    .ok()
});

/// The template as minijinja takes it.
pub(super) fn rewrite(source: &str) -> String {
    let Some(tag) = TAG.as_ref() else { return source.to_owned() };
    let change = |found: &Captures| {
        let whole = || found[0].to_owned();
        if let (Some(open), Some(inner), Some(close)) = (found.get(1), found.get(2), found.get(3)) {
            let inner = statement(inner.as_str());
            inner.map_or_else(whole, |inner| format!("{{%{}{inner}{}%}}", open.as_str(), close.as_str()))
        } else if let (Some(open), Some(inner), Some(close)) = (found.get(4), found.get(5), found.get(6)) {
            let inner = safe_sum(inner.as_str());
            inner.map_or_else(whole, |inner| format!("{{{{{}{inner}{}}}}}", open.as_str(), close.as_str()))
        } else {
            whole()
        }
    };
    tag.replace_all(source, change).into_owned()
}

fn statement(inner: &str) -> Option<String> {
    match inner.trim() {
        "generation" => return Some(" if true ".to_owned()),
        "endgeneration" => return Some(" endif ".to_owned()),
        _ => {}
    }
    let target = inner.trim_start().strip_prefix("set")?;
    // The first `=` ends the target: targets are names. Without one, a block follows, whose value is a text.
    let at = target.starts_with(char::is_whitespace).then(|| inner.find('='))??;
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
    let (mut parts, mut start, mut depth, mut quote, mut escaped) = (Vec::new(), 0, 0i32, None, false);
    for (at, c) in expression.char_indices() {
        match (quote, c) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(open), _) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '(' | '[' | '{') => depth += 1,
            (None, ')' | ']' | '}') => depth -= 1,
            (None, '+') if depth == 0 => {
                parts.push(&expression[start..at]);
                start = at + 1;
            }
            (None, '-' | '*' | '/' | '%' | '~' | '<' | '>' | '=' | '!' | ',') if depth == 0 => return None,
            _ => {}
        }
    }
    parts.push(&expression[start..]);
    // Two words side by side are an operator (`if`, `and`, `in`, `is`).
    let words = |part: &&str| {
        let outside = part.split(['"', '\'']).step_by(2).collect::<Vec<_>>().join("_");
        outside.split_whitespace().any(|w| matches!(w, "if" | "else" | "and" | "or" | "not" | "in" | "is"))
    };
    (!parts.iter().any(words)).then_some(parts)
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
            ("{% set x %}y{% endset %}", "{% set x %}y{% endset %}"),
            ("{% raw %}{% set x = 1 %}{% endraw %}", "{% raw %}{% set x = 1 %}{% endraw %}"),
            ("{{- '+'|safe + a['b'] + c|f(1 + 2) }}", "{{- '+'|safe|plus( a['b'])|plus( c|f(1 + 2) ) }}"),
            ("{{ a + b }}{{ a|safe if b + c else d }}", "{{ a + b }}{{ a|safe if b + c else d }}"),
        ] {
            assert_eq!(rewrite(from), to);
        }
    }
}
