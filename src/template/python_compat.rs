//! Makes minijinja behave like Jinja on Python: formatting of values, tests, string methods, dates, `raise_exception`.
//!
//! Remaining differences: `'%s' % x` fails (`'%s'|format(x)` works); `~` formats lists and floats as minijinja does,
//! and allocates the result before the fuel for it is charged.

use std::fmt::Write;

use chrono::NaiveDateTime;
use chrono::format::StrftimeItems;
use minijinja::value::{Kwargs, Rest, ValueKind, from_args};
use minijinja::{Environment, Error, ErrorKind, Output, State, Value};
use minijinja_contrib::pycompat;

use super::tojson::tojson;
use crate::Result as CrateResult;

/// Maximum nesting of a value that is formatted.
pub(super) const MAX_DEPTH: usize = 100;

/// Installs the filters, functions and tests.
pub(super) fn install(env: &mut Environment<'static>) {
    env.set_unknown_method_callback(method);
    env.set_formatter(format_value);
    env.add_filter("tojson", tojson);
    env.add_filter("plus", plus);
    env.add_filter("bounded", bounded);
    env.add_filter("string", to_text);
    env.add_filter("join", join);
    env.add_function("raise_exception", raise_exception);
    // Python's abstract types: strings and mappings are sequences, `none` is not iterable, undefined is.
    env.add_test("sequence", |v: &Value| matches!(v.kind(), ValueKind::String | ValueKind::Seq | ValueKind::Map));
    env.add_test("iterable", |v: &Value| {
        use ValueKind::{Iterable, Map, Seq, String, Undefined};
        matches!(v.kind(), String | Seq | Map | Iterable | Undefined)
    });
}

/// `a + b` where one operand may be marked `|safe`: the other is HTML-escaped, as by Python's `Markup`.
fn plus(a: &Value, b: &Value) -> Result<Value, Error> {
    let (Some(left), Some(right)) = (a.as_str(), b.as_str()) else {
        return Err(invalid(format!("cannot add {} and {}", a.kind(), b.kind())));
    };
    Ok(match (a.is_safe(), b.is_safe()) {
        (false, false) => Value::from([left, right].concat()),
        (true, true) => Value::from_safe_string([left, right].concat()),
        (true, false) => Value::from_safe_string([left, &escape(right)].concat()),
        (false, true) => Value::from_safe_string([&escape(left), right].concat()),
    })
}

fn escape(text: &str) -> String {
    let and = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    and.replace('\'', "&#39;").replace('"', "&#34;")
}

/// Checks a variable's value: copies views of lists to lists, and refuses deep nesting.
fn bounded(state: &State, value: &Value) -> Result<Value, Error> {
    let plain = |v: &Value| v.downcast_object_ref::<Vec<Value>>().is_some() || v.is_tuple();
    let value = match value.kind() {
        ValueKind::Seq | ValueKind::Iterable if !plain(value) => Value::from(value.try_iter()?.collect::<Vec<_>>()),
        _ => value.clone(),
    };
    measure(state, &value, 0)?;
    Ok(value)
}

/// Charges fuel for all contents of a value, counting repeated references each time, because they are cheap to create
/// but expensive to format.
fn measure(state: &State, value: &Value, depth: usize) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Seq => {
            pay(state, depth, 0)?;
            value.try_iter()?.try_for_each(|item| measure(state, &item, depth + 1))
        }
        ValueKind::Map => {
            pay(state, depth, 0)?;
            value.try_iter()?.try_for_each(|key| measure(state, &value.get_item(&key)?, depth + 1))
        }
        // The fuel for a plain value was charged when it was created.
        _ if depth == 0 => Ok(()),
        _ => pay(state, depth, value.as_str().map_or(0, str::len)),
    }
}

/// The message of `raise_exception`, as the source of a minijinja error.
#[derive(Debug)]
struct RaisedException(String);

impl std::fmt::Display for RaisedException {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for RaisedException {}

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message.clone()).with_source(RaisedException(message)))
}

/// The message of the `raise_exception` that caused an error.
pub(super) fn raised_message(error: &Error) -> Option<String> {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(cause) = source {
        if let Some(RaisedException(message)) = cause.downcast_ref() {
            return Some(message.clone());
        }
        source = cause.source();
    }
    None
}

/// An invalid-operation error.
pub(super) fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

fn format_value(out: &mut Output, state: &mut State, value: &Value) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Seq | ValueKind::Map | ValueKind::Number => {
            out.write_str(&to_text(state, value)?).map_err(Error::from)
        }
        _ => minijinja::escape_formatter(out, state, value),
    }
}

/// Python's `str`.
fn to_text(state: &State, value: &Value) -> Result<String, Error> {
    match value.kind() {
        ValueKind::Seq | ValueKind::Map => {
            let mut out = String::new();
            repr(state, value, 0, &mut out)?;
            Ok(out)
        }
        ValueKind::Number if !value.is_integer() => Ok(float(value)),
        _ => Ok(value.to_string()),
    }
}

/// Python's `repr`.
fn repr(state: &State, value: &Value, depth: usize, out: &mut String) -> Result<(), Error> {
    pay(state, depth, value.as_str().map_or(8, str::len))?;
    match value.kind() {
        ValueKind::String => quote(value.as_str().unwrap_or_default(), out),
        ValueKind::Map => {
            out.push('{');
            for (i, key) in value.try_iter()?.enumerate() {
                out.push_str(if i > 0 { ", " } else { "" });
                repr(state, &key, depth + 1, out)?;
                out.push_str(": ");
                repr(state, &value.get_item(&key)?, depth + 1, out)?;
            }
            out.push('}');
        }
        ValueKind::Seq => {
            let (open, close) = if value.is_tuple() { ('(', ')') } else { ('[', ']') };
            out.push(open);
            for (i, item) in value.try_iter()?.enumerate() {
                out.push_str(if i > 0 { ", " } else { "" });
                repr(state, &item, depth + 1, out)?;
            }
            if value.is_tuple() && value.len() == Some(1) {
                out.push(',');
            }
            out.push(close);
        }
        ValueKind::Number if !value.is_integer() => out.push_str(&float(value)),
        _ => out.push_str(&value.to_string()),
    }
    Ok(())
}

/// Charges fuel for `bytes` of output at `depth` before they are created; minijinja charges afterwards, which may be
/// too late.
pub(super) fn pay(state: &State, depth: usize, bytes: usize) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(invalid("a value is nested too deeply to be written"));
    }
    // One for the value itself, so that endless lists of nothing end.
    state.consume_fuel(1 + bytes as u64 / BYTES_PER_FUEL)
}

/// The filter and the method `join`.
fn join(state: &State, items: &Value, glue: Option<&str>, options: Kwargs) -> Result<Value, Error> {
    let glue = match glue {
        Some(glue) => glue.to_owned(),
        None => options.get::<Option<String>>("d")?.unwrap_or_default(),
    };
    let attribute = options.get::<Option<String>>("attribute")?;
    options.assert_all_used()?;
    let mut out = String::new();
    for (i, item) in items.try_iter()?.enumerate() {
        let item = attribute.as_ref().map_or(Ok(item.clone()), |name| item.get_attr(name))?;
        pay(state, 0, glue.len() + item.as_str().map_or(0, str::len))?;
        out.push_str(if i > 0 { &glue } else { "" });
        match item.as_str() {
            Some(text) => out.push_str(text),
            None => out.push_str(&to_text(state, &item)?),
        }
    }
    Ok(Value::from(out))
}

/// A string literal: single quotes, unless only they would need escapes.
fn quote(text: &str, out: &mut String) {
    let mark = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(mark);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            c if c == mark => out.extend(['\\', c]),
            c if (c as u32) < 0x20 || (0x7F..0xA1).contains(&(c as u32)) || c == '\u{AD}' => {
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push(mark);
}

/// Python's shortest representation of a float: `1.0`, `1e-05`, `1e+16`.
pub(super) fn float(value: &Value) -> String {
    let Ok(number) = f64::try_from(value.clone()) else { return value.to_string() };
    if !number.is_finite() {
        return if number.is_nan() {
            "nan"
        } else if number > 0.0 {
            "inf"
        } else {
            "-inf"
        }
        .to_owned();
    }
    let science = format!("{number:e}");
    let Some((digits, exponent)) = science.split_once('e') else { return science };
    match exponent.parse::<i32>().unwrap_or_default() {
        e @ -4..=15 if e >= 0 || number != 0.0 => {
            let plain = number.to_string();
            if plain.contains('.') { plain } else { plain + ".0" }
        }
        e => format!("{digits}e{}{:02}", if e < 0 { '-' } else { '+' }, e.abs()),
    }
}

/// Methods of Python's types: those of minijinja-contrib and a few more.
fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    let Some(text) = value.as_str() else { return pycompat::unknown_method_callback(state, value, name, args) };
    match name {
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Ok(Value::from(text.strip_prefix(prefix).unwrap_or(text)))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Ok(Value::from(text.strip_suffix(suffix).unwrap_or(text)))
        }
        "partition" | "rpartition" => {
            let (mark,): (&str,) = from_args(args)?;
            let found = if name == "partition" { text.find(mark) } else { text.rfind(mark) };
            let parts = match found {
                Some(at) => [&text[..at], mark, &text[at + mark.len()..]],
                None if name == "partition" => [text, "", ""],
                None => ["", "", text],
            };
            Ok(parts.into_iter().map(Value::from).collect())
        }
        "rsplit" => {
            let (mark, most): (&str, Option<usize>) = from_args(args)?;
            let mut parts: Vec<&str> = match most {
                _ if mark.is_empty() => return Err(invalid("empty separator")),
                Some(most) => text.rsplitn(most.saturating_add(1), mark).collect(),
                None => text.rsplit(mark).collect(),
            };
            parts.reverse();
            Ok(parts.into_iter().map(Value::from).collect())
        }
        // These make more than they are given, and minijinja counts only what came out.
        "replace" => {
            let (old, new, _): (&str, &str, Option<i64>) = from_args(args)?;
            let size = text.len() as u64 + text.matches(old).count() as u64 * new.len() as u64;
            state.consume_fuel(size / BYTES_PER_FUEL)?;
            pycompat::unknown_method_callback(state, value, name, args)
        }
        "join" => {
            let (items,): (&Value,) = from_args(args)?;
            join(state, items, Some(text), Kwargs::from_iter::<[(String, Value); 0]>([]))
        }
        "format" if !is_tame(text) => Err(invalid("format: widths above 999 are not supported")),
        _ => pycompat::unknown_method_callback(state, value, name, args),
    }
}

/// Bytes of output per unit of fuel.
const BYTES_PER_FUEL: u64 = 64;

/// Whether all fields of a `str.format` string have fixed widths of at most three digits.
fn is_tame(format: &str) -> bool {
    let fields = format.replace("{{", "").replace("}}", "");
    let narrow = |spec: &str| spec.split(|c: char| !c.is_ascii_digit()).all(|digits| digits.len() <= 3);
    fields.split('{').skip(1).all(|field| {
        let spec = field.split_once('}').map(|(field, _)| field.split_once(':').map_or("", |(_, spec)| spec));
        spec.is_some_and(narrow)
    })
}

/// The function `strftime_now(format)` at a fixed time (`YYYY-MM-DD`, optionally with `THH:MM:SS`), in UTC.
pub(super) fn strftime_now(date: &str) -> CrateResult<Value> {
    let wrong = |_| crate::Error::Usage(format!("{date:?} is not a date (YYYY-MM-DD)"));
    let time = if date.contains(['T', ' ']) { date.replacen(' ', "T", 1) } else { format!("{date}T00:00:00") };
    let now = time.parse::<NaiveDateTime>().map_err(wrong)?.and_utc();
    let written = move |format: String, _: Rest<Value>, _: Kwargs| {
        let items = StrftimeItems::new(&format).parse();
        let items = items.map_err(|_| invalid(format!("strftime_now: {format:?} has an unsupported code")))?;
        Ok(now.format_with_items(items.iter()).to_string())
    };
    Ok(Value::from_function(written))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_as_c_writes_them() {
        let written = |date: &str, format: &str| {
            let mut env = Environment::new();
            env.add_global("strftime_now", strftime_now(date).map_err(|e| e.to_string())?);
            let code = format!("strftime_now({format:?})");
            let compiled = env.compile_expression(&code).map_err(|e| e.to_string())?;
            compiled.eval(()).map(|text| text.to_string()).map_err(|e| e.to_string())
        };
        let text = written("2026-11-02T15:04:05", "%A %a %d %-d %e %B %b %h %Y %y %H:%I %M %S %p %j %F %T %D %Z %z%%");
        let wanted =
            "Monday Mon 02 2  2 November Nov Nov 2026 26 15:03 04 05 PM 306 2026-11-02 15:04:05 11/02/26 UTC +0000%";
        assert_eq!(text.unwrap(), wanted);
        assert_eq!(written("2024-02-29", "%a %j %H").unwrap(), "Thu 060 00");
        assert!(written("2026-13-01", "%Y").unwrap_err().contains("is not a date"));
        assert!(written("2026-11-02", "%!").unwrap_err().contains("strftime_now"));
    }

    #[test]
    fn wide_formats_are_not_tame() {
        for (format, tame) in
            [("{} {0} {a:>8}{{ {:.2f}", true), ("{:>9999}", false), ("{:{}}", false), ("{{{:12345}}}", false)]
        {
            assert_eq!(is_tame(format), tame, "{format}");
        }
    }

    #[test]
    fn floats_are_written_as_python_writes_them() {
        for (number, text) in [
            (1.0, "1.0"),
            (0.1, "0.1"),
            (-2.5, "-2.5"),
            (0.0, "0.0"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e-5, "1.5e-05"),
            (1e-4, "0.0001"),
            (1e100, "1e+100"),
        ] {
            assert_eq!(float(&Value::from(number)), text);
        }
    }
}
