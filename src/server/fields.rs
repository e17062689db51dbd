//! The fields of a request's body. They are read one by one, so that an error names the field and what it expects;
//! fields that are never read are looked up in [`super::unsupported`].
//!
//! `null` means that a field is absent. Integers may be written as `8` or `8.0`, as other servers accept.

use axum::extract::Request;
use serde_json::{Map, Value};

use super::auth;
use super::http_error::HttpError;
use super::unsupported;

/// The fields of an object that have not been read.
pub struct Fields {
    /// The prefix of names in messages: `options.` in `options.seed`.
    prefix: &'static str,
    left: Map<String, Value>,
}

impl Fields {
    /// Reads a request's body.
    ///
    /// # Errors
    /// If it is not a JSON object.
    pub async fn of(request: Request) -> Result<Self, HttpError> {
        Self::new(auth::json(request).await?)
    }

    /// The fields of a body.
    ///
    /// # Errors
    /// If it is not an object.
    pub fn new(body: Value) -> Result<Self, HttpError> {
        match body {
            Value::Object(left) => Ok(Fields { prefix: "", left }),
            other => Err(HttpError::bad(format!("the body must be a JSON object, not {}", kind(&other)))),
        }
    }

    /// The object in a field; empty if there is none.
    pub fn inner(&mut self, name: &str, prefix: &'static str) -> Result<Self, HttpError> {
        Ok(Fields { prefix, left: self.object(name)?.unwrap_or_default() })
    }

    /// Any value.
    pub fn value(&mut self, name: &str) -> Option<Value> {
        self.left.shift_remove(name).filter(|value| !value.is_null())
    }

    /// A value, which stays unread.
    pub fn peek(&self, name: &str) -> Option<&Value> {
        self.left.get(name).filter(|value| !value.is_null())
    }

    pub fn text(&mut self, name: &str) -> Result<Option<String>, HttpError> {
        self.read(name, "a string", |value| match value {
            Value::String(text) => Ok(text),
            other => Err(other),
        })
    }

    pub fn flag(&mut self, name: &str) -> Result<Option<bool>, HttpError> {
        self.read(name, "true or false", |value| value.as_bool().ok_or(value))
    }

    pub fn number(&mut self, name: &str) -> Result<Option<f32>, HttpError> {
        self.read(name, "a number", |value| value.as_f64().map(|n| n as f32).ok_or(value))
    }

    pub fn integer(&mut self, name: &str) -> Result<Option<i128>, HttpError> {
        self.read(name, "a whole number", |value| integer(&value).ok_or(value))
    }

    /// A limit; a negative number sets none.
    pub fn limit(&mut self, name: &str) -> Result<Option<usize>, HttpError> {
        Ok(self.integer(name)?.and_then(|n| usize::try_from(n).ok()))
    }

    /// A count.
    pub fn count(&mut self, name: &str) -> Result<Option<usize>, HttpError> {
        self.read(name, "a whole number from 0 on", |value| {
            integer(&value).and_then(|n| usize::try_from(n).ok()).ok_or(value)
        })
    }

    /// Treats `false` as absent, in a field that is not a flag.
    pub fn drop_false(&mut self, name: &str) {
        if self.left.get(name) == Some(&Value::Bool(false)) {
            self.left.shift_remove(name);
        }
    }

    pub fn list(&mut self, name: &str) -> Result<Option<Vec<Value>>, HttpError> {
        self.read(name, "a list", |value| match value {
            Value::Array(list) => Ok(list),
            other => Err(other),
        })
    }

    pub fn object(&mut self, name: &str) -> Result<Option<Map<String, Value>>, HttpError> {
        self.read(name, "an object", |value| match value {
            Value::Object(object) => Ok(object),
            other => Err(other),
        })
    }

    /// A string or a list of strings.
    pub fn texts(&mut self, name: &str) -> Result<Option<Vec<String>>, HttpError> {
        self.read(name, "a string or a list of strings", |value| match &value {
            Value::String(text) => Ok(vec![text.clone()]),
            Value::Array(list) => {
                let texts: Option<Vec<String>> = list.iter().map(|v| v.as_str().map(str::to_string)).collect();
                texts.ok_or(value)
            }
            _ => Err(value),
        })
    }

    /// Refuses the fields that have not been read, if they ask for something unsupported.
    pub fn done(self) -> Result<(), HttpError> {
        self.left.iter().try_for_each(|(name, value)| unsupported::check(self.prefix, name, value))
    }

    /// An error that names the field.
    pub fn wrong(&self, name: &str, what: impl std::fmt::Display) -> HttpError {
        HttpError::field(format!("{}{name}", self.prefix), what)
    }

    fn read<T>(
        &mut self,
        name: &str,
        wanted: &str,
        read: impl FnOnce(Value) -> Result<T, Value>,
    ) -> Result<Option<T>, HttpError> {
        let Some(value) = self.value(name) else { return Ok(None) };
        let given = |value: &Value| match value {
            Value::Array(_) | Value::Object(_) => kind(value).to_string(),
            Value::String(text) if text.len() > 40 => "this string".to_string(),
            scalar => scalar.to_string(),
        };
        read(value).map(Some).map_err(|value| self.wrong(name, format!("{wanted} is expected, not {}", given(&value))))
    }
}

/// An integer, written as `8` or `8.0`.
pub fn integer(value: &Value) -> Option<i128> {
    let whole = |n: f64| (n.fract() == 0.0).then_some(n as i128);
    let exact = value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from));
    exact.or_else(|| value.as_f64().and_then(whole))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(value: Value) -> Fields {
        Fields::new(value).unwrap()
    }

    #[test]
    fn numbers_are_read_as_other_servers_read_them() {
        let mut f = fields(json!({ "a": 8, "b": 8.0, "c": -1, "d": null, "e": 1e3, "f": u64::MAX, "g": -1.0 }));
        let got = ["a", "b", "c", "d", "e", "none", "g"].map(|name| f.limit(name).unwrap());
        assert_eq!(got, [Some(8), Some(8), None, None, Some(1000), None, None]);
        assert_eq!(f.integer("f").unwrap(), Some(i128::from(u64::MAX)));
        let mut f = fields(json!({ "a": 8.5, "b": "8", "c": true, "d": [1], "e": {}, "f": -1 }));
        for name in ["a", "b", "c", "d", "e"] {
            let failure = f.limit(name).unwrap_err();
            assert!(failure.message.starts_with(&format!("{name}: a whole number")), "{}", failure.message);
            assert_eq!(failure.param.as_deref(), Some(name));
        }
        assert!(f.count("f").unwrap_err().message.contains("f: a whole number from 0 on is expected, not -1"));
    }

    #[test]
    fn errors_name_the_field_and_what_it_takes() {
        let wrong = json!({ "text": 1, "flag": 1, "number": "0.5", "list": {}, "object": [], "texts": ["a", 1] });
        let mut f = fields(wrong);
        f.prefix = "options.";
        let messages = [
            f.text("text").unwrap_err(),
            f.flag("flag").unwrap_err(),
            f.number("number").unwrap_err(),
            f.list("list").unwrap_err(),
            f.object("object").unwrap_err(),
            f.texts("texts").unwrap_err(),
        ]
        .map(|failure| failure.message);
        assert_eq!(
            messages,
            [
                "options.text: a string is expected, not 1",
                "options.flag: true or false is expected, not 1",
                "options.number: a number is expected, not \"0.5\"",
                "options.list: a list is expected, not an object",
                "options.object: an object is expected, not a list",
                "options.texts: a string or a list of strings is expected, not a list",
            ]
        );
    }

    #[test]
    fn null_is_no_value() {
        let mut f = fields(json!({ "a": null }));
        assert!(
            f.value("a").is_none() && f.text("a").unwrap().is_none() && f.inner("a", "a.").unwrap().left.is_empty()
        );
    }
}
