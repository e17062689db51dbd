//! Repairs a schema that llguidance refuses: finds the place by trying ever smaller parts of it. A keyword at fault
//! that is valid but cannot be enforced, such as a pattern with a lookahead, is left out. Pure.

use std::cell::Cell;
use std::collections::HashSet;

use serde_json::Value;

use super::pointer::step;
use super::schema::{PlainSchema, with_definitions};

/// Compiles a document, or says why it cannot.
type Try<'a> = &'a dyn Fn(Value) -> Result<(), String>;

/// The most keywords to leave out of one schema.
const MOST_REPAIRS: usize = 32;
/// The most parts of a schema to try: each takes time in which no other request is answered.
const MOST_TRIES: usize = 400;
/// Parts of error messages of the crate `regex` about what only other engines support.
const BEYOND: [&str; 5] =
    ["look-around", "backreferences", "size limit", "Unicode property not found", "unrecognized escape sequence"];
/// llguidance's message for a schema that nothing fits.
const EMPTY: &str = "nsatisfiable";

/// The place at which a schema is refused.
#[derive(Clone)]
struct Fault {
    /// The definition that it is in, if it is in one.
    definition: Option<String>,
    /// Pointers to it within that definition or the schema, and within the original.
    pointer: String,
    at: String,
    why: String,
}

/// Leaves out the keywords of a schema that cannot be enforced.
///
/// # Errors
/// If the schema is invalid, or no JSON fits it; the message begins with a pointer to the place.
pub fn settle(plain: &mut PlainSchema, compiles: Try) -> Result<(), String> {
    let tries = Cell::new(MOST_TRIES);
    let compiles = |document: Value| {
        let left = tries.get();
        tries.set(left.saturating_sub(1));
        compiles(document)
    };
    for _ in 0..MOST_REPAIRS {
        let Err(why) = compiles(plain.document()) else { return Ok(()) };
        let root = Fault { definition: None, pointer: String::new(), at: "#".into(), why };
        let trail = trail(plain, root, &mut HashSet::new(), &tries, &compiles);
        if !trail.iter().rev().any(|fault| leave_out(plain, fault, &compiles)) {
            return Err(trail.last().map(Fault::message).unwrap_or_default());
        }
    }
    compiles(plain.document())
}

impl Fault {
    fn node<'a>(&self, plain: &'a PlainSchema) -> &'a Value {
        let home = self.definition.as_ref().map_or(&plain.schema, |name| &plain.definitions[name]);
        home.pointer(&self.pointer).unwrap_or(&Value::Null)
    }

    fn message(&self) -> String {
        let why = match self.why.as_str() {
            why if why.starts_with("regex parse error") => "a pattern is not a regular expression",
            why if why.starts_with("NoExtension") => "nothing fits it",
            why => why,
        };
        format!("{}: {why}", self.at)
    }
}

/// Descends from a schema that is refused to the innermost one.
fn trail(
    plain: &PlainSchema,
    fault: Fault,
    seen: &mut HashSet<String>,
    tries: &Cell<usize>,
    compiles: Try,
) -> Vec<Fault> {
    let refused = |part: &Value| {
        let left = tries.get() > 0;
        left.then(|| compiles(with_definitions(part.clone(), plain.definitions.clone())).err()).flatten()
    };
    let node = fault.node(plain);
    let reference = node.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix("#/$defs/"));
    let mut faults = Vec::new();
    if let Some(name) = reference.filter(|name| plain.definitions.contains_key(*name) && seen.insert(name.to_string()))
    {
        let (definition, at) = (Some(name.to_string()), plain.origins.get(name).cloned().unwrap_or_default());
        let inner = Fault { definition, pointer: String::new(), at, why: String::new() };
        faults.extend(refused(inner.node(plain)).map(|why| (false, Fault { why, ..inner })));
    }
    for (path, may_be_empty) in children(node) {
        let join = |to: &str| path.iter().fold(to.to_string(), |to, key| step(&to, key));
        let child = Fault { pointer: join(&fault.pointer), at: join(&fault.at), ..fault.clone() };
        let part = child.node(plain);
        if part.is_boolean() {
            continue;
        }
        let Some(why) = refused(part) else { continue };
        let empty = why.contains(EMPTY);
        if !(empty && may_be_empty) {
            faults.push((empty, Fault { why, ..child }));
        }
    }
    // A syntax error takes precedence over an unsatisfiable schema.
    faults.sort_by_key(|(empty, _)| *empty);
    let inner = faults.into_iter().next().map(|(_, fault)| self::trail(plain, fault, seen, tries, compiles));
    [vec![fault], inner.unwrap_or_default()].concat()
}

/// The schemas within a schema, and whether an unsatisfiable one is harmless.
fn children(node: &Value) -> Vec<(Vec<String>, bool)> {
    let mut all = Vec::new();
    let required = node.get("required").and_then(Value::as_array);
    let is_required = |name: &str| required.is_some_and(|list| list.iter().any(|r| r == name));
    for (key, value) in node.as_object().into_iter().flatten() {
        match (key.as_str(), value) {
            ("properties" | "patternProperties", Value::Object(named)) => {
                all.extend(named.keys().map(|name| (vec![key.clone(), name.clone()], !is_required(name))));
            }
            ("allOf" | "anyOf" | "oneOf" | "prefixItems", Value::Array(options)) => {
                all.extend((0..options.len()).map(|i| (vec![key.clone(), format!("{i}")], false)));
            }
            ("items", _) => all.push((vec![key.clone()], false)),
            ("additionalProperties", _) => all.push((vec![key.clone()], true)),
            _ => {}
        }
    }
    all
}

/// Leaves a keyword out of the schema that is at fault. Returns whether that helped.
fn leave_out(plain: &mut PlainSchema, fault: &Fault, compiles: Try) -> bool {
    let node = fault.node(plain).clone();
    let Value::Object(members) = &node else { return false };
    let patterns: Vec<&str> = match (members.get("pattern"), members.get("patternProperties")) {
        (_, Some(Value::Object(named))) => named.keys().map(String::as_str).collect(),
        (Some(Value::String(pattern)), _) => vec![pattern],
        _ => Vec::new(),
    };
    let beside = members.keys().map(String::as_str).filter(|key| !["$ref", "allOf", "anyOf", "oneOf"].contains(key));
    let tries: Vec<Vec<&str>> = match fault.why.as_str() {
        // A schema that refers to itself and adds keywords.
        why if why.contains("circular") => vec![beside.collect()],
        // A value of the wrong type, or an empty range: omitting a bound would hide the error.
        why if why.starts_with("Expected") || why.contains(EMPTY) => vec![],
        _ if patterns.iter().any(|pattern| !makes_sense(pattern)) => vec![],
        _ => vec![
            vec!["pattern"],
            vec!["patternProperties", "additionalProperties"],
            vec!["multipleOf"],
            vec!["maxLength"],
            vec!["minLength", "maxLength"],
            vec!["maxItems"],
            vec!["minItems", "maxItems"],
            vec!["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"],
        ],
    };
    for keys in tries {
        let mut rest = members.clone();
        let gone: Vec<&str> = keys.into_iter().filter(|key| rest.shift_remove(*key).is_some()).collect();
        let (rest, mut without) = (Value::Object(rest), plain.clone());
        let home = match &fault.definition {
            Some(name) => without.definitions.get_mut(name),
            None => Some(&mut without.schema),
        };
        home.and_then(|home| home.pointer_mut(&fault.pointer)).into_iter().for_each(|node| *node = rest.clone());
        if !gone.is_empty() && compiles(with_definitions(rest, without.definitions.clone())).is_ok() {
            without.unenforced.extend(gone.into_iter().map(|key| step(&fault.at, key)));
            *plain = without;
            return true;
        }
    }
    false
}

/// Whether a pattern is valid for some engine: `regex` lacks lookaround and backreferences.
fn makes_sense(pattern: &str) -> bool {
    match regex::Regex::new(pattern) {
        Ok(_) => true,
        Err(error) => {
            let error = error.to_string();
            BEYOND.iter().any(|beyond| error.contains(beyond))
        }
    }
}
