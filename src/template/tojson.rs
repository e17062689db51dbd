//! The `tojson` filter of `transformers`: Python's `json.dumps` with `ensure_ascii=False`, in key order, without HTML
//! escapes.

use std::fmt::Write;

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, State, Value};

use super::python_compat::{float, invalid, pay};

/// `value|tojson(indent=, ensure_ascii=, separators=, sort_keys=)`.
pub(super) fn tojson(state: &State, value: &Value, options: Kwargs) -> Result<Value, Error> {
    let indent = options.get::<Option<Value>>("indent")?.filter(|v| !v.is_none() && !v.is_undefined());
    let separators = options.get::<Option<Vec<String>>>("separators")?;
    let mut writer = JsonWriter {
        state,
        out: String::new(),
        indent: indent.map(|indent| indent_text(&indent)).transpose()?,
        item: ", ".to_owned(),
        key: ": ".to_owned(),
        ascii: options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        sort: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
    };
    options.assert_all_used()?;
    match separators.as_deref() {
        Some([item, key]) => (writer.item, writer.key) = (item.clone(), key.clone()),
        Some(_) => return Err(invalid("tojson: separators must be two strings")),
        // With an indent, Python omits the space after the comma.
        None if writer.indent.is_some() => writer.item.truncate(1),
        None => {}
    }
    writer.write(value, 0)?;
    Ok(Value::from(writer.out))
}

fn indent_text(indent: &Value) -> Result<String, Error> {
    match (indent.as_str(), indent.as_usize()) {
        (Some(text), _) => Ok(text.to_owned()),
        (_, Some(width)) if width <= 64 => Ok(" ".repeat(width)),
        _ => Err(invalid("tojson: indent must be a string or a number up to 64")),
    }
}

struct JsonWriter<'a> {
    state: &'a State<'a, 'a>,
    out: String,
    indent: Option<String>,
    item: String,
    key: String,
    ascii: bool,
    sort: bool,
}

impl JsonWriter<'_> {
    fn write(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        let indent = self.indent.as_ref().map_or(0, |indent| indent.len() * depth);
        pay(self.state, depth, indent + value.as_str().map_or(8, str::len))?;
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.out.push_str(&number(value)),
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                self.out.push('[');
                let mut empty = true;
                for item in value.try_iter()? {
                    self.begin(empty, depth + 1);
                    empty = false;
                    self.write(&item, depth + 1)?;
                }
                self.end(']', empty, depth);
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sort {
                    keys.sort();
                }
                self.out.push('{');
                for (i, key) in keys.iter().enumerate() {
                    self.begin(i == 0, depth + 1);
                    self.map_key(key)?;
                    self.out.push_str(&self.key);
                    self.write(&value.get_item(key)?, depth + 1)?;
                }
                self.end('}', keys.is_empty(), depth);
            }
            kind => return Err(invalid(format!("tojson: {kind} has no JSON form"))),
        }
        Ok(())
    }

    fn begin(&mut self, first: bool, depth: usize) {
        if !first {
            self.out.push_str(&self.item);
        }
        self.line(depth);
    }

    fn end(&mut self, close: char, empty: bool, depth: usize) {
        if !empty {
            self.line(depth);
        }
        self.out.push(close);
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = &self.indent {
            self.out.push('\n');
            (0..depth).for_each(|_| self.out.push_str(indent));
        }
    }

    fn map_key(&mut self, key: &Value) -> Result<(), Error> {
        let text = match key.kind() {
            ValueKind::String => key.to_string(),
            ValueKind::None => "null".to_owned(),
            ValueKind::Bool => if key.is_true() { "true" } else { "false" }.to_owned(),
            ValueKind::Number => number(key),
            kind => return Err(invalid(format!("tojson: {kind} cannot be a key"))),
        };
        self.string(&text);
        Ok(())
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        for c in text.chars() {
            match c {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                c if (c as u32) < 0x20 || (self.ascii && c as u32 >= 0x7F) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        let _ = write!(self.out, "\\u{unit:04x}");
                    }
                }
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }
}

fn number(value: &Value) -> String {
    if value.is_integer() {
        return value.to_string();
    }
    match float(value).as_str() {
        "nan" => "NaN".to_owned(),
        "inf" => "Infinity".to_owned(),
        "-inf" => "-Infinity".to_owned(),
        text => text.to_owned(),
    }
}
