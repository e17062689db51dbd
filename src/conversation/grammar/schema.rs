//! Simplifies JSON schemas: only keywords that llguidance can enforce remain, and every reference names one of a flat
//! list of definitions, so that a schema can be moved into a larger one. Only positions where the standard expects a
//! schema are visited: a property called `$ref` or `not` is a property. Pure.

use std::collections::{HashMap, HashSet, VecDeque};

use serde_json::{Map, Value, json};

use super::pointer::{Places, Subschema, step};

/// A schema without the keywords that cannot be enforced.
#[derive(Clone, Debug, Default)]
pub struct PlainSchema {
    pub schema: Value,
    /// The definitions that `#/$defs/NAME` in the schema refers to.
    pub definitions: Map<String, Value>,
    /// The pointer of each definition in the original.
    pub origins: HashMap<String, String>,
    /// Pointers to keywords of the original that are not enforced.
    pub unenforced: Vec<String>,
}

impl PlainSchema {
    /// An upper bound of llguidance's recursion depth, if every definition nests within another.
    pub fn levels(&self) -> usize {
        levels(&self.schema) + self.definitions.values().map(levels).sum::<usize>()
    }

    /// The schema as a separate document.
    pub fn document(&self) -> Value {
        with_definitions(self.schema.clone(), self.definitions.clone())
    }
}

fn levels(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(levels).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(levels).max().unwrap_or(0),
        _ => 0,
    }
}

/// A schema together with definitions.
pub fn with_definitions(schema: Value, definitions: Map<String, Value>) -> Value {
    let mut document = match schema {
        Value::Bool(true) => json!({}),
        Value::Bool(false) => json!({ "anyOf": [false] }),
        other => other,
    };
    document["$defs"] = definitions.into();
    document
}

/// Keywords whose values stay as they are.
const VALUES: [&str; 17] = [
    "type",
    "const",
    "enum",
    "required",
    "minLength",
    "maxLength",
    "pattern",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "format",
];
/// The formats that can be enforced. By the standard, unknown formats have no effect.
const FORMATS: [&str; 10] =
    ["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"];
/// Keywords that the grammar cannot enforce, unless their value has no effect.
const UNENFORCED: [&str; 13] = [
    "not",
    "if",
    "contains",
    "minContains",
    "maxContains",
    "uniqueItems",
    "propertyNames",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "unevaluatedItems",
    "unevaluatedProperties",
    "contentSchema",
];
/// Keywords that apply further schemas to the same value.
const IN_PLACE: [&str; 8] =
    ["allOf", "anyOf", "oneOf", "$ref", "$dynamicRef", "$recursiveRef", "if", "dependentSchemas"];

/// Simplifies a schema. The names of its definitions begin with `prefix`.
///
/// # Errors
/// If it is not a schema; the message begins with a pointer to the error.
pub fn plain(schema: &Value, prefix: &str) -> Result<PlainSchema, String> {
    let mut writer = SchemaWriter {
        places: Places::of(schema),
        prefix,
        names: HashMap::new(),
        waiting: VecDeque::new(),
        one_of: Vec::new(),
        plain: PlainSchema::default(),
    };
    let root = Subschema { schema, base: writer.places.root.clone(), at: "#".into() };
    writer.plain.schema = writer.write(root)?;
    while let Some((name, target)) = writer.waiting.pop_front() {
        writer.plain.origins.insert(name.clone(), target.at.clone());
        let definition = writer.write(target)?;
        writer.plain.definitions.insert(name, definition);
    }
    let SchemaWriter { mut plain, one_of, .. } = writer;
    let apart = |options: &[Value]| {
        let pairs = options.iter().enumerate().flat_map(|(i, a)| options[..i].iter().map(move |b| (a, b)));
        pairs.into_iter().all(|(a, b)| plain.apart(a, b, 0))
    };
    let overlapping: Vec<String> =
        one_of.into_iter().filter(|(_, options)| !apart(options)).map(|(at, _)| at).collect();
    plain.unenforced.extend(overlapping);
    let mut seen = HashSet::new();
    plain.unenforced.retain(|at| seen.insert(at.clone()));
    Ok(plain)
}

struct SchemaWriter<'a> {
    places: Places<'a>,
    prefix: &'a str,
    /// The definitions' names, by the schemas that they define.
    names: HashMap<*const Value, String>,
    /// Definitions that are named but not written yet.
    waiting: VecDeque<(String, Subschema<'a>)>,
    /// The places of `oneOf`, with their options.
    one_of: Vec<(String, Vec<Value>)>,
    plain: PlainSchema,
}

impl<'a> SchemaWriter<'a> {
    fn write(&mut self, target: Subschema<'a>) -> Result<Value, String> {
        let Subschema { schema, base, at } = target;
        let members = match schema {
            Value::Bool(_) => return Ok(schema.clone()),
            Value::Object(members) => members,
            _ => return Err(format!("{at} is neither an object nor a boolean")),
        };
        let base = self.places.base_within(members, &base);
        let has = |key: &str| members.get(key).is_some_and(|value| !value.is_null());
        // Before 2019, siblings of a reference had no effect.
        let alone = self.places.before_2019 && has("$ref");
        let mut out = Map::new();
        for (key, value) in members {
            let place = step(&at, key);
            let child = |schema| Subschema { schema, base: base.clone(), at: place.clone() };
            if value.is_null() && key != "const" || alone && key != "$ref" {
                continue;
            }
            match key.as_str() {
                "$ref" | "$dynamicRef" | "$recursiveRef" => {
                    let reference = value.as_str().ok_or_else(|| format!("{place} is not a text"))?;
                    match self.places.find(key, reference, &base) {
                        Ok(Some(target)) => self.refer(target, &mut out),
                        Ok(None) => self.plain.unenforced.push(place),
                        Err(why) => return Err(format!("{place}: {why}")),
                    }
                }
                "properties" | "patternProperties" => {
                    let named: Vec<(&String, &Value)> = match value {
                        Value::Object(named) => named.iter().collect(),
                        // PHP's form of an empty object.
                        Value::Array(list) if list.is_empty() => vec![],
                        _ => return Err(format!("{place} is not an object")),
                    };
                    let mut written = Map::new();
                    for (name, schema) in named {
                        let target = Subschema { schema, base: base.clone(), at: step(&place, name) };
                        written.insert(name.clone(), self.write(target)?);
                    }
                    out.insert(key.clone(), written.into());
                }
                "allOf" | "anyOf" | "oneOf" | "prefixItems" => {
                    let options = self.list(value, &base, &place)?;
                    if key == "oneOf" {
                        self.one_of.push((place, options.clone()));
                    }
                    add(&mut out, key, options.into());
                }
                // The form of tuples before 2020.
                "items" if value.is_array() => {
                    let options = self.list(value, &base, &place)?;
                    out.insert("prefixItems".into(), options.into());
                    if has("additionalItems") {
                        let target = Subschema { schema: &members["additionalItems"], ..child(value) };
                        let rest = self.write(target)?;
                        out.insert("items".into(), rest);
                    }
                }
                "items" | "additionalProperties" => {
                    let written = self.write(child(value))?;
                    add(&mut out, key, written);
                }
                // Without other schemas of the same value, all that no other keyword names is unevaluated.
                "unevaluatedProperties" | "unevaluatedItems" if !IN_PLACE.iter().any(|key| has(key)) => {
                    let same = if key == "unevaluatedItems" { "items" } else { "additionalProperties" };
                    if !has(same) {
                        let written = self.write(child(value))?;
                        out.insert(same.into(), written);
                    }
                }
                "not" if demands_nothing("contains", value) => return Ok(false.into()),
                "propertyNames" if !has("properties") && !has("patternProperties") => {
                    let rest = members.get("additionalProperties").unwrap_or(&Value::Bool(true));
                    let rest = Subschema { schema: rest, base: base.clone(), at: step(&at, "additionalProperties") };
                    if !self.names_of(value, rest, &mut out)? && !demands_nothing(key, value) {
                        self.plain.unenforced.push(place);
                    }
                }
                "if" if !has("then") && !has("else") => {}
                "minContains" | "maxContains" if !has("contains") => {}
                "format" if value.as_str().is_some_and(|format| !FORMATS.contains(&format)) => {}
                key if VALUES.contains(&key) => add(&mut out, key, whole_number(value)),
                key if UNENFORCED.contains(&key) && !demands_nothing(key, value) => self.plain.unenforced.push(place),
                _ => {}
            }
        }
        // The engine counts properties only where it need not choose among them.
        if !counts_properties(&out) {
            for key in ["minProperties", "maxProperties"] {
                if out.remove(key).is_some() {
                    self.plain.unenforced.push(step(&at, key));
                }
            }
        }
        check_types(&out, &at)?;
        Ok(out.into())
    }

    fn list(&mut self, value: &'a Value, base: &str, at: &str) -> Result<Vec<Value>, String> {
        let options = value.as_array().ok_or_else(|| format!("{at} is not a list"))?;
        let target = |(i, schema)| Subschema { schema, base: base.into(), at: step(at, &format!("{i}")) };
        options.iter().enumerate().map(|option| self.write(target(option))).collect()
    }

    /// Writes a reference.
    fn refer(&mut self, target: Subschema<'a>, out: &mut Map<String, Value>) {
        let number = self.names.len();
        let name = self.names.entry(std::ptr::from_ref(target.schema)).or_insert_with(|| {
            let name = format!("{}{number}", self.prefix);
            self.waiting.push_back((name.clone(), target));
            name
        });
        let reference = format!("#/$defs/{name}");
        match out.contains_key("$ref") {
            true => add(out, "allOf", json!([{ "$ref": reference }])),
            false => drop(out.insert("$ref".into(), reference.into())),
        }
    }

    /// Writes `propertyNames` as properties, if that can be done.
    fn names_of(&mut self, names: &Value, rest: Subschema<'a>, out: &mut Map<String, Value>) -> Result<bool, String> {
        let (key, list) = match (names.get("enum").and_then(Value::as_array), names.get("pattern")) {
            (Some(list), None) => ("properties", list.clone()),
            (None, Some(pattern))
                if names.as_object().is_some_and(|n| n.keys().all(|k| k == "type" || k == "pattern")) =>
            {
                ("patternProperties", vec![pattern.clone()])
            }
            _ => return Ok(false),
        };
        let value = self.write(rest)?;
        let named = list.iter().filter_map(|name| Some((name.as_str()?.to_string(), value.clone())));
        out.insert(key.into(), Value::Object(named.collect()));
        out.insert("additionalProperties".into(), false.into());
        Ok(true)
    }
}

/// Adds a keyword; a second list of `allOf` joins the first.
fn add(out: &mut Map<String, Value>, key: &str, value: Value) {
    match (out.get_mut(key), value) {
        (Some(Value::Array(first)), Value::Array(second)) if key == "allOf" => first.extend(second),
        // Keep the result of `propertyNames`.
        (Some(_), _) if key == "additionalProperties" => {}
        (_, value) => drop(out.insert(key.into(), value)),
    }
}

/// Writes `3.0` as `3`.
fn whole_number(value: &Value) -> Value {
    match value.as_f64() {
        Some(n) if value.is_f64() && n.fract() == 0.0 && n.abs() < 9e15 => (n as i64).into(),
        _ => value.clone(),
    }
}

/// Whether an unenforceable keyword has no effect.
fn demands_nothing(key: &str, value: &Value) -> bool {
    match value {
        Value::Bool(given) => *given != ["not", "uniqueItems"].contains(&key),
        Value::Object(schema) if key == "propertyNames" => schema.iter().all(|(k, v)| k == "type" && v == "string"),
        Value::Object(members) => members.is_empty() && key != "not",
        _ => false,
    }
}

/// Whether all properties that a count concerns are required, or exactly one of those that are named is asked for.
fn counts_properties(schema: &Map<String, Value>) -> bool {
    let required: Vec<&Value> = schema.get("required").and_then(Value::as_array).into_iter().flatten().collect();
    let names = schema.get("properties").and_then(Value::as_object).into_iter().flat_map(|p| p.keys());
    let count = |key| schema.get(key).and_then(Value::as_u64);
    let closed = schema.get("additionalProperties") == Some(&Value::Bool(false));
    names.into_iter().all(|name| required.iter().any(|r| *r == name))
        || (closed
            && !schema.contains_key("patternProperties")
            && count("minProperties").unwrap_or(0) <= 1
            && count("maxProperties").unwrap_or(1) == 1)
}

fn check_types(schema: &Map<String, Value>, at: &str) -> Result<(), String> {
    const TYPES: [&str; 7] = ["null", "boolean", "number", "integer", "string", "array", "object"];
    let types = match schema.get("type") {
        None => return Ok(()),
        Some(Value::Array(types)) => types.as_slice(),
        Some(one) => std::slice::from_ref(one),
    };
    match types.iter().find(|t| !t.as_str().is_some_and(|t| TYPES.contains(&t))) {
        Some(wrong) => Err(format!("{at}/type: {wrong} is not a type")),
        None => Ok(()),
    }
}

impl PlainSchema {
    fn follow<'a>(&'a self, mut schema: &'a Value) -> &'a Value {
        for _ in 0..8 {
            let name = schema.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix("#/$defs/"));
            match name.and_then(|name| self.definitions.get(name)) {
                Some(definition) => schema = definition,
                None => break,
            }
        }
        schema
    }

    /// Whether no value fits both schemas, as far as that is easy to see.
    fn apart(&self, a: &Value, b: &Value, depth: usize) -> bool {
        let (a, b) = (self.follow(a), self.follow(b));
        if depth > 4 {
            return false;
        }
        for (options, other) in [(a, b), (b, a)] {
            for key in ["anyOf", "oneOf"] {
                if let Some(options) = options.get(key).and_then(Value::as_array)
                    && options.iter().all(|option| self.apart(option, other, depth + 1))
                {
                    return true;
                }
            }
        }
        if let (Some(a), Some(b)) = (values(a), values(b)) {
            return a.iter().all(|value| !b.contains(value));
        }
        if let (Some(a), Some(b)) = (types(a), types(b))
            && a.iter().all(|t| !b.contains(t))
        {
            return true;
        }
        let property = |schema: &Value, name: &Value| {
            let required = schema.get("required").and_then(Value::as_array).is_some_and(|list| list.contains(name));
            schema.get("properties").and_then(|p| p.get(name.as_str()?)).filter(|_| required).cloned()
        };
        let names = a.get("required").and_then(Value::as_array).into_iter().flatten();
        let mut both = names.filter_map(|name| Some((property(a, name)?, property(b, name)?)));
        both.any(|(a, b)| self.apart(&a, &b, depth + 1))
    }
}

/// The only values that fit.
fn values(schema: &Value) -> Option<Vec<&Value>> {
    match (schema.get("const"), schema.get("enum")) {
        (Some(value), _) => Some(vec![value]),
        (None, Some(Value::Array(values))) => Some(values.iter().collect()),
        _ => None,
    }
}

/// The only types that fit.
fn types(schema: &Value) -> Option<Vec<&str>> {
    let name = |value: &Value| match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let named = |t: &'_ str| match t {
        "null" => "null",
        "boolean" => "boolean",
        "string" => "string",
        "array" => "array",
        "object" => "object",
        _ => "number",
    };
    match (values(schema), schema.get("type")) {
        (Some(values), _) => Some(values.into_iter().map(name).collect()),
        (None, Some(Value::Array(types))) => Some(types.iter().filter_map(Value::as_str).map(named).collect()),
        (None, Some(Value::String(one))) => Some(vec![named(one)]),
        _ => None,
    }
}
