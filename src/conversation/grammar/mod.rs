//! Constrained decoding: schemas, regular expressions and grammars as masks over the vocabulary of the tokens that may
//! come next. llguidance computes the masks; this module adapts tokenizers to it, and it to a session's [`Constraint`].
//!
//! `rules` writes an answer's [`OutputRules`](super::OutputRules) as one grammar. Before a JSON schema becomes part of
//! it, `schema` removes annotations and the keywords that no grammar can enforce, and resolves every reference
//! (`pointer`), so that a schema can be moved; `repair` finds the place of what llguidance still refuses.

mod pointer;
mod repair;
mod rules;
mod schema;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use llguidance::api::{GrammarWithLexer, TopLevelGrammar};
use llguidance::toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};
use serde_json::{Value, json};

use crate::session::Constraint;
use crate::tokenizer::Tokenizer;
use repair::settle;
use schema::{PlainSchema, plain};

/// llguidance takes up to 12 KiB of stack for a level of a schema (in a build that is not optimized).
#[cfg(not(target_family = "wasm"))]
const STACK: usize = 256 << 20;
/// The levels that fit into the stack.
#[cfg(not(target_family = "wasm"))]
const MOST_LEVELS: usize = 10_000;
/// A browser's stack is about 1 MiB.
#[cfg(target_family = "wasm")]
const MOST_LEVELS: usize = 100;

/// Runs `work` on a thread whose stack is deep enough for every schema that [`GrammarCompiler::plain`] takes.
#[cfg(not(target_family = "wasm"))]
fn with_deep_stack<T: Send>(work: impl FnOnce() -> Result<T, String> + Send) -> Result<T, String> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("grammar".into()).stack_size(STACK).spawn_scoped(scope, work);
        let failed = |why: &dyn ToString| Err(format!("the grammar cannot be compiled: {}", why.to_string()));
        match thread {
            Ok(thread) => thread.join().unwrap_or_else(|_| failed(&"the grammar engine failed")),
            Err(error) => failed(&error),
        }
    })
}

#[cfg(target_family = "wasm")]
fn with_deep_stack<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    work()
}

/// Compiles grammars for one vocabulary.
pub struct GrammarCompiler {
    factory: ParserFactory,
    /// Ids of control tokens by their names.
    controls: HashMap<String, u32>,
}

/// Why a constraint failed in the middle of an answer, if it did.
pub type ConstraintError = Arc<OnceLock<String>>;

/// A compiled grammar; every answer gets a separate constraint.
#[non_exhaustive]
pub struct CompiledGrammar {
    matcher: Matcher,
    first: Vec<u32>,
    /// Pointers to keywords of the schemas that the grammar does not enforce.
    pub unenforced: Vec<String>,
}

impl GrammarCompiler {
    /// Reads the whole vocabulary, which takes up to a second.
    ///
    /// # Errors
    /// If llguidance refuses the vocabulary.
    pub fn new(tokenizer: &Tokenizer) -> Result<Self, String> {
        let words = (0..tokenizer.vocab_size() as u32).map(|id| word(tokenizer, id)).collect();
        Self::of(words, tokenizer.end_ids().to_vec())
    }

    /// From the bytes of a vocabulary's tokens; those of control tokens begin with a mark.
    fn of(mut words: Vec<Vec<u8>>, mut ends: Vec<u32>) -> Result<Self, String> {
        if ends.is_empty() {
            // A model without an end token: a token beyond the vocabulary, which never comes.
            ends.push(words.len() as u32);
            words.push(vec![TokTrie::SPECIAL_TOKEN_MARKER]);
        }
        let name = |word: &Vec<u8>| String::from_utf8(word.strip_prefix(&[TokTrie::SPECIAL_TOKEN_MARKER])?.into()).ok();
        let controls = words.iter().enumerate().filter_map(|(id, word)| Some((name(word)?, id as u32)));
        // The byte that marks a name is a token, too.
        let controls = controls.filter(|(name, _)| !name.is_empty()).collect();
        let trie = TokTrie::from(&TokRxInfo::new(words.len() as u32, ends[0]), &words).with_eos_tokens(&ends);
        let env: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let mut factory = ParserFactory::new_simple(&env).map_err(|e| e.to_string())?;
        factory.quiet().limits_mut().verbose_errors = false;
        Ok(GrammarCompiler { factory, controls })
    }

    /// A schema without the keywords that cannot be enforced; the names of its definitions begin with `prefix`.
    ///
    /// # Errors
    /// If the schema is invalid, or no JSON fits it; the message begins with a pointer to the place.
    fn plain(&self, schema: &Value, prefix: &str) -> Result<PlainSchema, String> {
        let mut plain = plain(schema, prefix)?;
        if plain.levels() > MOST_LEVELS {
            return Err(format!("#: its definitions are nested more than {MOST_LEVELS} levels deep in all"));
        }
        settle(&mut plain, &|document| self.compile(TopLevelGrammar::from_grammar(json_grammar(document))).map(drop))?;
        Ok(plain)
    }

    /// Compiles a grammar: rules in Lark, and the grammars that they name.
    ///
    /// # Errors
    /// If the rules are invalid, or no text fits them.
    fn rules(
        &self,
        rules: &str,
        parts: Vec<GrammarWithLexer>,
        unenforced: Vec<String>,
    ) -> Result<CompiledGrammar, String> {
        let grammars = [GrammarWithLexer::from_lark(rules.into())].into_iter().chain(parts).collect();
        Ok(CompiledGrammar { unenforced, ..self.compile(TopLevelGrammar { grammars, max_tokens: None })? })
    }

    fn compile(&self, grammar: TopLevelGrammar) -> Result<CompiledGrammar, String> {
        let parser = self.factory.create_parser(grammar);
        let mut matcher = Matcher::new(Ok(parser.map_err(|e| brief(&e))?));
        // Only the first mask shows whether any text fits.
        let first = matcher.compute_mask().map_err(|e| brief(&e))?.as_slice().to_vec();
        Ok(CompiledGrammar { matcher, first, unenforced: Vec::new() })
    }

    /// Whether the vocabulary has a token of this name, control or not.
    fn has(&self, name: &str) -> bool {
        self.controls.contains_key(name) || self.factory.tok_env().tok_trie().token_id(name.as_bytes()).is_some()
    }

    /// A control token in Lark's syntax, or its name as text if the vocabulary has no such token.
    fn mark(&self, name: &str) -> String {
        self.controls.get(name).map_or_else(|| literal(name), |id| format!("<[{id}]>"))
    }
}

/// A text in Lark's syntax.
fn literal(text: &str) -> String {
    Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

/// The grammar of compact JSON: endless white space would fit a schema, too.
fn json_grammar(mut document: Value) -> GrammarWithLexer {
    document["x-guidance"] = json!({ "whitespace_flexible": false, "coerce_one_of": true });
    GrammarWithLexer::from_json_schema(document)
}

impl CompiledGrammar {
    /// A constraint for one answer, and a cell that receives its error.
    pub fn constraint(&self) -> (Constraint, ConstraintError) {
        let mut matcher = self.matcher.deep_clone();
        let mut first = Some(self.first.clone());
        let broken = ConstraintError::default();
        let (note, mut seen) = (broken.clone(), 0);
        let constraint = move |answer: &[u32]| {
            if let Some(first) = first.take().filter(|_| answer.is_empty()) {
                return first;
            }
            let step = matcher.consume_tokens(&answer[seen..]).and_then(|()| {
                seen = answer.len();
                if matcher.is_stopped() { Ok(Vec::new()) } else { Ok(matcher.compute_mask()?.as_slice().to_vec()) }
            });
            step.unwrap_or_else(|error| {
                let _ = note.set(brief(&error));
                Vec::new()
            })
        };
        (Box::new(constraint), broken)
    }
}

/// An error without the traces that follow it.
fn brief(error: &impl ToString) -> String {
    error.to_string().lines().next().unwrap_or_default().to_string()
}

/// A token's bytes; those of a control token are marked, so that no text is mistaken for it.
fn word(tokenizer: &Tokenizer, id: u32) -> Vec<u8> {
    let bytes = tokenizer.bytes(id, false);
    if !bytes.is_empty() {
        return bytes;
    }
    let name = tokenizer.bytes(id, true);
    if name.is_empty() { name } else { [&[TokTrie::SPECIAL_TOKEN_MARKER], name.as_slice()].concat() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A vocabulary of all bytes, these control tokens, and an end.
    pub(super) fn bytes(controls: &[&str]) -> GrammarCompiler {
        let marked = |name: &&str| [&[TokTrie::SPECIAL_TOKEN_MARKER], name.as_bytes()].concat();
        let mut words: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
        words.extend(controls.iter().map(marked));
        words.push(marked(&"<end>"));
        let end = words.len() as u32 - 1;
        GrammarCompiler::of(words, vec![end]).unwrap()
    }

    /// Whether a text, in which `marks` are control tokens, fits a grammar from its beginning to its end.
    pub(super) fn fits(grammars: &GrammarCompiler, held: &CompiledGrammar, text: &str) -> bool {
        let mut matcher = held.matcher.deep_clone();
        let mut rest = text;
        while !rest.is_empty() {
            let mark = grammars.controls.iter().find(|(name, _)| rest.starts_with(name.as_str()));
            let (id, len) = mark.map_or((u32::from(rest.as_bytes()[0]), 1), |(name, id)| (*id, name.len()));
            // All bytes of a character are validated together.
            let len = if mark.is_none() { rest.chars().next().map_or(1, char::len_utf8) } else { len };
            let ids: Vec<u32> = if mark.is_none() { rest[..len].bytes().map(u32::from).collect() } else { vec![id] };
            if matcher.validate_tokens(&ids).unwrap() < ids.len() || matcher.consume_tokens(&ids).is_err() {
                return false;
            }
            rest = &rest[len..];
        }
        matcher.is_accepting().unwrap()
    }

    /// A schema, texts that fit it, texts that do not, and the keywords that are not enforced.
    type Row = (Value, &'static [&'static str], &'static [&'static str], &'static [&'static str]);

    fn check(rows: Vec<Row>) {
        let grammars = bytes(&[]);
        for (schema, good, bad, unenforced) in rows {
            let plain = grammars.plain(&schema, "").unwrap_or_else(|e| panic!("{schema}: {e}"));
            assert_eq!(plain.unenforced, unenforced, "{schema}");
            let held = grammars.compile(TopLevelGrammar::from_grammar(json_grammar(plain.document()))).unwrap();
            good.iter().for_each(|text| assert!(fits(&grammars, &held, text), "{schema}: {text} does not fit"));
            bad.iter().for_each(|text| assert!(!fits(&grammars, &held, text), "{schema}: {text} fits"));
        }
    }

    #[test]
    fn annotations_and_unknown_formats_demand_nothing() {
        check(vec![
            (
                json!({ "type": "object", "title": "T", "deprecated": true, "x-order": 1, "nullable": true, "properties": {
                    "p": { "type": "string", "format": "binary", "contentEncoding": "base64", "writeOnly": true },
                    "q": { "type": "string", "format": "password", "examples": [{ "not": 1 }], "default": { "$ref": "#/x" } },
                    "n": { "type": "integer", "format": "int64" } }, "required": null }),
                &[r#"{"p":"x","q":"y","n":1}"#, "{}"],
                &[r#"{"p":1}"#, "[]"],
                &[],
            ),
            // Properties and values with the names of keywords.
            (
                json!({ "type": "object", "properties": { "not": { "const": { "not": {}, "$ref": "#/nowhere" } },
                    "$ref": { "type": "integer" }, "uniqueItems": { "enum": [true] }, "if": true }, "additionalProperties": false }),
                &[r##"{"not":{"not":{},"$ref":"#/nowhere"},"$ref":1,"uniqueItems":true,"if":[]}"##],
                &[r#"{"$ref":"x"}"#, r#"{"not":1}"#],
                &[],
            ),
            // An empty object as PHP writes it.
            (
                json!({ "type": "object", "properties": [], "additionalProperties": false }),
                &["{}"],
                &[r#"{"a":1}"#],
                &[],
            ),
            (json!({ "type": "null", "if": { "required": ["a"] }, "minContains": 3 }), &["null"], &["1"], &[]),
            // Keywords without effect, and keywords that another keyword can express.
            (
                json!({ "type": "object", "properties": { "a": { "type": "array", "uniqueItems": false, "contains": {} }, "never": { "not": {} } },
                    "propertyNames": { "type": "string" }, "dependentRequired": {}, "unevaluatedProperties": false }),
                &[r#"{"a":[1]}"#, "{}"],
                &[r#"{"never":1}"#, r#"{"b":1}"#],
                &[],
            ),
            (
                json!({ "type": "object", "propertyNames": { "enum": ["a", "b"] }, "additionalProperties": { "type": "integer" } }),
                &[r#"{"a":1,"b":2}"#, "{}"],
                &[r#"{"c":1}"#, r#"{"a":"x"}"#],
                &[],
            ),
            (
                json!({ "type": "object", "propertyNames": { "pattern": "^[a-c]$" }, "additionalProperties": { "type": "integer" } }),
                &[r#"{"a":1,"b":2}"#],
                &[r#"{"d":1}"#],
                &[],
            ),
            (
                json!({ "type": "array", "items": [{ "type": "integer" }], "additionalItems": { "type": "null" }, "minItems": 1.0 }),
                &["[1,null]", "[1]"],
                &["[]", "[1,1]", "[null]"],
                &[],
            ),
        ]);
    }

    #[test]
    fn what_cannot_be_enforced_is_reported_and_the_rest_is_enforced() {
        let a = |schema: Value| json!({ "type": "object", "properties": { "a": schema }, "required": ["a"] });
        let email = "^(?!\\.)(?!.*\\.\\.)([a-z'+\\-\\.]*)[a-z0-9_+-]@([a-z0-9][a-z\\-]*\\.)+[a-z]{2,}$";
        check(vec![
            (
                a(json!({ "type": "array", "items": { "type": "integer" }, "uniqueItems": true })),
                &[r#"{"a":[1,1]}"#],
                &[r#"{"a":["x"]}"#],
                &["#/properties/a/uniqueItems"],
            ),
            (
                a(json!({ "type": "integer", "not": { "const": 3 } })),
                &[r#"{"a":3}"#],
                &[r#"{"a":"x"}"#],
                &["#/properties/a/not"],
            ),
            (
                a(json!({ "type": "array", "contains": { "const": 1 }, "minContains": 2 })),
                &[r#"{"a":[]}"#],
                &[r#"{"a":1}"#],
                &["#/properties/a/contains", "#/properties/a/minContains"],
            ),
            (
                json!({ "type": "object", "if": { "required": ["a"] }, "then": { "required": ["b"] }, "dependentRequired": { "a": ["b"] },
                    "dependentSchemas": { "a": {"required": ["b"]} }, "propertyNames": { "maxLength": 3 },
                    "allOf": [{ "properties": { "c": { "type": "null" } } }], "unevaluatedProperties": false }),
                &[r#"{"c":null,"long":1}"#],
                &[r#"{"c":1}"#],
                &["#/if", "#/dependentRequired", "#/dependentSchemas", "#/propertyNames", "#/unevaluatedProperties"],
            ),
            (
                a(json!({ "oneOf": [{ "type": "number" }, { "type": "integer" }, { "type": "null" }] })),
                &[r#"{"a":1}"#, r#"{"a":null}"#],
                &[r#"{"a":"x"}"#],
                &["#/properties/a/oneOf"],
            ),
            (
                json!({ "oneOf": [{ "$ref": "#/$defs/cat" }, { "$ref": "#/$defs/dog" }], "$defs": {
                    "cat": { "type": "object", "properties": { "kind": { "const": "cat" } }, "required": ["kind"], "additionalProperties": false },
                    "dog": { "type": "object", "properties": { "kind": { "enum": ["dog", "wolf"] } }, "required": ["kind"], "additionalProperties": false } } }),
                &[r#"{"kind":"cat"}"#, r#"{"kind":"wolf"}"#],
                &[r#"{"kind":"cow"}"#],
                &[],
            ),
            (
                a(json!({ "type": "string", "format": "email", "pattern": email })),
                &[r#"{"a":"x@y.zz"}"#],
                &[r#"{"a":"x"}"#],
                &["#/properties/a/pattern"],
            ),
            (
                a(json!({ "type": "string", "pattern": "^\\p{RGI_Emoji}+\\h$" })),
                &[r#"{"a":"x"}"#],
                &[r#"{"a":1}"#],
                &["#/properties/a/pattern"],
            ),
            (
                a(json!({ "type": "string", "pattern": "\\bx\\b" })),
                &[r#"{"a":"x"}"#],
                &[r#"{"a":1}"#],
                &["#/properties/a/pattern"],
            ),
            (
                json!({ "type": "object", "patternProperties": { "^a": { "type": "string" }, "b$": { "type": "null" } } }),
                &[r#"{"ab":1}"#],
                &["1"],
                &["#/patternProperties"],
            ),
            (
                json!({ "type": "object", "properties": { "a": {}, "b": {} }, "minProperties": 1 }),
                &["{}"],
                &["1"],
                &["#/minProperties"],
            ),
            (
                a(json!({ "type": "number", "multipleOf": 1e-13 })),
                &[r#"{"a":1}"#],
                &[r#"{"a":"x"}"#],
                &["#/properties/a/multipleOf"],
            ),
            (
                a(json!({ "type": "integer", "minimum": -1e308, "maximum": 1e308 })),
                &[r#"{"a":1}"#],
                &[r#"{"a":"x"}"#],
                &["#/properties/a/minimum", "#/properties/a/maximum"],
            ),
            (
                a(json!({ "type": "integer", "minimum": -9007199254740991i64, "maximum": 9007199254740991i64 })),
                &[r#"{"a":-1}"#],
                &[r#"{"a":90071992547409910}"#],
                &[],
            ),
            (
                a(json!({ "$ref": "https://example.com/schema.json" })),
                &[r#"{"a":1}"#],
                &["{}"],
                &["#/properties/a/$ref"],
            ),
            // A schema that refers to itself and adds keywords.
            (
                json!({ "allOf": [{ "$ref": "#/$defs/node" }], "$defs": { "node": { "type": "object", "properties": {
                    "next": { "allOf": [{ "$ref": "#/$defs/node" }], "required": ["next"] } }, "additionalProperties": false } } }),
                &[r#"{"next":{"next":{}}}"#],
                &[r#"{"next":1}"#],
                &["#/$defs/node/properties/next/required"],
            ),
        ]);
    }

    #[test]
    fn references_of_every_kind_are_followed() {
        let tree = &[r#"{"v":1,"next":{"v":2,"next":{}}}"#, "{}"];
        let wrong = &[r#"{"v":1,"next":{"v":"x"}}"#, r#"{"next":1}"#];
        let node = |next: Value| json!({ "type": "object", "properties": { "v": { "type": "integer" }, "next": next }, "additionalProperties": false });
        let with = |mut schema: Value, key: &str, value: Value| {
            schema[key] = value;
            schema
        };
        let beside = |next: Value, key: &str, value: Value| with(node(next), key, value);
        let mut rows: Vec<Row> = [
            node(json!({ "$ref": "#" })),
            node(json!({ "$ref": "#", "description": "the next", "deprecated": true, "title": null })),
            beside(json!({ "$ref": "#me" }), "$anchor", "me".into()),
            beside(json!({ "$ref": "#me" }), "$id", "#me".into()),
            beside(json!({ "$dynamicRef": "#me" }), "$dynamicAnchor", "me".into()),
            beside(json!({ "$recursiveRef": "#" }), "$recursiveAnchor", true.into()),
            beside(json!({ "$ref": "tree.json" }), "$id", "https://example.com/a/tree.json".into()),
            beside(json!({ "$ref": "/a/tree.json#" }), "$id", "https://example.com/a/tree.json".into()),
            beside(json!({ "$ref": "https://example.com/a/tree.json" }), "$id", "https://example.com/a/tree.json#".into()),
            json!({ "$ref": "#/$defs/a", "$defs": { "a": { "$ref": "#/$defs/b" }, "b": node(json!({ "$ref": "#/$defs/a" })) } }),
            json!({ "$ref": "#/definitions/a~1b~0c%25%20d", "definitions": { "a/b~c% d": node(json!({ "$ref": "#/definitions/a~1b~0c%25%20d" })) } }),
            json!({ "$ref": "#/components/schemas/N", "components": { "schemas": { "N": node(json!({ "$ref": "#/components/schemas/N" })) } } }),
            json!({ "anyOf": [node(json!({ "$ref": "#/anyOf/0" }))] }),
            // A schema with an id: pointers within it are relative to it.
            json!({ "$ref": "item", "$defs": { "x": with(beside(json!({ "$ref": "#" }), "$id", "item".into()), "$defs", json!({})) } }),
        ]
        .into_iter()
        .map(|schema| (schema, &tree[..], &wrong[..], &[][..]))
        .collect();
        rows.push((
            json!({ "type": "object", "properties": { "a": { "enum": ["q"] }, "b": { "$ref": "#/properties/a" } }, "required": ["b"] }),
            &[r#"{"b":"q"}"#],
            &[r#"{"b":"r"}"#],
            &[],
        ));
        // Before 2019, siblings of a reference had no effect.
        rows.push((
            json!({ "$schema": "http://json-schema.org/draft-07/schema#", "definitions": { "i": { "type": "integer" } },
                "type": "object", "properties": { "a": { "$ref": "#/definitions/i", "type": "string" } }, "required": ["a"] }),
            &[r#"{"a":1}"#],
            &[r#"{"a":"x"}"#],
            &[],
        ));
        check(rows);
    }

    #[test]
    fn invalid_schemas_are_refused_with_their_place() {
        let grammars = bytes(&[]);
        let a = |schema: Value| json!({ "type": "object", "properties": { "x/y": schema }, "required": ["x/y"] });
        for (schema, place) in [
            (a(json!({ "type": "strnig" })), "#/properties/x~1y/type: "),
            (a(json!({ "type": "number", "minimum": 3, "maximum": 2 })), "#/properties/x~1y: "),
            (a(json!({ "minLength": -1 })), "#/properties/x~1y: "),
            (a(json!({ "minimum": "3" })), "#/properties/x~1y: "),
            (a(json!({ "pattern": "(" })), "#/properties/x~1y: a pattern is not a regular expression"),
            (a(json!({ "anyOf": {} })), "#/properties/x~1y/anyOf is not a list"),
            (a(json!({ "properties": [1] })), "#/properties/x~1y/properties is not an object"),
            (a(json!({ "items": 7 })), "#/properties/x~1y/items is neither"),
            (a(json!({ "$ref": "#/$defs/none" })), "#/properties/x~1y/$ref: "),
            (a(json!({ "$ref": "#none" })), "#/properties/x~1y/$ref: "),
            (json!({ "$ref": "#" }), "#: "),
            (json!({ "$ref": "#/$defs/a", "$defs": { "a": { "items": { "required": "a" } } } }), "#/$defs/a/items: "),
            (json!({ "enum": [] }), "#: "),
            (json!(false), "#: "),
            (json!([]), "#"),
        ] {
            let error = grammars.plain(&schema, "").err().unwrap_or_else(|| panic!("{schema}"));
            assert!(error.starts_with(place), "{schema}: {error}");
        }
    }
}
