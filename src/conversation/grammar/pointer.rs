//! Resolves references within a JSON schema: pointers, anchors, and schemas with ids. Never fetches. Pure.

use std::collections::HashMap;

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

/// A schema within a schema.
#[derive(Clone)]
pub struct Subschema<'a> {
    pub schema: &'a Value,
    /// The URI to which names within it are relative.
    pub base: String,
    /// A pointer to it from the root.
    pub at: String,
}

/// The parts of a schema that can be referred to.
pub struct Places<'a> {
    /// The root's own URI; empty if it has none.
    pub root: String,
    /// Whether the schema is of a draft in which `$ref` stands alone.
    pub before_2019: bool,
    /// By URI, and by URI, `#` and anchor.
    named: HashMap<String, Subschema<'a>>,
}

/// A pointer to a member of what `at` points to.
pub fn step(at: &str, key: &str) -> String {
    format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"))
}

/// Keywords with one schema, with a list of schemas, and with schemas by name.
const ONE: [&str; 12] = [
    "items",
    "additionalItems",
    "additionalProperties",
    "contains",
    "propertyNames",
    "not",
    "if",
    "then",
    "else",
    "unevaluatedItems",
    "unevaluatedProperties",
    "contentSchema",
];
const LIST: [&str; 5] = ["allOf", "anyOf", "oneOf", "prefixItems", "items"];
const NAMED: [&str; 6] =
    ["properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies"];

impl<'a> Places<'a> {
    pub fn of(schema: &'a Value) -> Self {
        let draft = schema.get("$schema").and_then(Value::as_str).unwrap_or_default();
        let before_2019 = ["draft-04", "draft-06", "draft-07"].iter().any(|old| draft.contains(old));
        let mut places = Places { root: String::new(), before_2019, named: HashMap::new() };
        let root = Subschema { schema, base: String::new(), at: "#".into() };
        if let Value::Object(members) = schema {
            places.root = places.base_within(members, "");
        }
        places.named.insert(String::new(), Subschema { base: places.root.clone(), ..root.clone() });
        places.visit(root);
        places
    }

    /// The URI to which names within a schema are relative, if those around it are to `base`.
    pub fn base_within(&self, members: &Map<String, Value>, base: &str) -> String {
        let id = members.get("$id").or_else(|| members.get("id").filter(|_| self.before_2019));
        let id = id.and_then(Value::as_str).map(|id| id.split('#').next().unwrap_or_default());
        id.filter(|id| !id.is_empty()).map_or_else(|| base.to_string(), |id| resolve(base, id))
    }

    /// Records every schema that has a name.
    fn visit(&mut self, target: Subschema<'a>) {
        let Value::Object(members) = target.schema else { return };
        let base = self.base_within(members, &target.base);
        let here = Subschema { base: base.clone(), ..target.clone() };
        if base != target.base {
            self.named.entry(base.clone()).or_insert_with(|| here.clone());
        }
        let old = members.get("$id").and_then(Value::as_str).and_then(|id| id.strip_prefix('#'));
        let anchors = ["$anchor", "$dynamicAnchor"].map(|key| members.get(key).and_then(Value::as_str));
        for anchor in anchors.into_iter().chain([old]).flatten() {
            self.named.entry(format!("{base}#{anchor}")).or_insert_with(|| here.clone());
        }
        for (key, value) in members {
            let at = step(&target.at, key);
            let child = |schema, at| Subschema { schema, base: base.clone(), at };
            match value {
                Value::Object(_) if ONE.contains(&key.as_str()) => self.visit(child(value, at)),
                Value::Array(items) if LIST.contains(&key.as_str()) => {
                    items.iter().enumerate().for_each(|(i, s)| self.visit(child(s, step(&at, &format!("{i}")))));
                }
                Value::Object(named) if NAMED.contains(&key.as_str()) => {
                    named.iter().for_each(|(name, s)| self.visit(child(s, step(&at, name))));
                }
                _ => {}
            }
        }
    }

    /// The target of a reference of the kind `keyword`; `None` if it is in another document.
    ///
    /// # Errors
    /// If the target is not in this document.
    pub fn find(&self, keyword: &str, reference: &str, base: &str) -> Result<Option<Subschema<'a>>, String> {
        let (uri, fragment) = reference.split_once('#').unwrap_or((reference, ""));
        let fragment = percent_decode_str(fragment).decode_utf8_lossy();
        let uri = resolve(base, uri);
        let Some(resource) = self.named.get(&uri).or_else(|| self.named.get("").filter(|_| uri == self.root)) else {
            return Ok(None);
        };
        let missing = || format!("{reference:?} refers to nothing in the schema");
        let outermost = &self.named[""];
        if keyword == "$recursiveRef" && outermost.schema["$recursiveAnchor"] == true {
            return Ok(Some(outermost.clone()));
        }
        if fragment.is_empty() {
            return Ok(Some(resource.clone()));
        }
        if fragment.starts_with('/') {
            return self.point(resource.clone(), &fragment).map(Some).ok_or_else(missing);
        }
        // The outermost anchor of this name is meant where the reference is dynamic.
        let outer = self.named.get(&format!("{}#{fragment}", self.root));
        let outer = outer.filter(|t| keyword == "$dynamicRef" && t.schema["$dynamicAnchor"] == *fragment);
        let found = outer.or_else(|| self.named.get(&format!("{uri}#{fragment}")));
        found.cloned().map(Some).ok_or_else(missing)
    }

    fn point(&self, from: Subschema<'a>, pointer: &str) -> Option<Subschema<'a>> {
        let mut target = from;
        for part in pointer[1..].split('/') {
            let key = part.replace("~1", "/").replace("~0", "~");
            let schema = match target.schema {
                Value::Array(items) => items.get(key.parse::<usize>().ok()?)?,
                Value::Object(members) => {
                    target.base = self.base_within(members, &target.base);
                    members.get(&key)?
                }
                _ => return None,
            };
            target = Subschema { schema, at: step(&target.at, &key), ..target };
        }
        Some(target)
    }
}

/// A URI reference against a base, without dots in paths.
fn resolve(base: &str, reference: &str) -> String {
    let scheme = |uri: &str| uri.find(':').filter(|at| !uri[..*at].contains(['/', '?']));
    if reference.is_empty() {
        return base.to_string();
    }
    if scheme(reference).is_some() {
        return reference.to_string();
    }
    let authority = scheme(base).map_or(0, |at| at + 1);
    let path = match base[authority..].strip_prefix("//") {
        Some(rest) => authority + 2 + rest.find('/').unwrap_or(rest.len()),
        None => authority,
    };
    if let Some(rest) = reference.strip_prefix("//") {
        return format!("{}//{rest}", &base[..authority]);
    }
    if reference.starts_with('/') {
        return format!("{}{reference}", &base[..path]);
    }
    let folder = base[path..].rfind('/').map_or(path, |at| path + at + 1);
    format!("{}{}", &base[..folder], reference.strip_prefix("./").unwrap_or(reference))
}
