//! The one change made to a template's text before it is compiled: `{% generation %}` and `{% endgeneration %}`.
//!
//! `transformers` adds these tags to mark what the assistant said, for training masks; they print nothing. minijinja
//! takes no new tags, so they become `{% if true %}` and `{% endif %}`, which keep the white-space control marks.

use std::borrow::Cow;

use regex::{Captures, Regex};

/// The template in plain Jinja.
pub(super) fn rewrite(source: &str) -> String {
    let Ok(tags) = Regex::new(r"\{%([-+]?)\s*(end)?generation\s*([-+]?)%\}") else { return source.to_owned() };
    let plain = |tag: &Captures| {
        let word = if tag.get(2).is_some() { "endif" } else { "if true" };
        format!("{{%{} {word} {}%}}", &tag[1], &tag[3])
    };
    match tags.replace_all(source, plain) {
        Cow::Borrowed(_) => source.to_owned(),
        Cow::Owned(text) => text,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn generation_tags_become_if() {
        let text = super::rewrite("a{%- generation %}b{% endgeneration -%}c{{ generation }}");
        assert_eq!(text, "a{%- if true %}b{% endif -%}c{{ generation }}");
    }
}
