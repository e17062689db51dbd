//! Compiles [`OutputRules`]: a response format, tool calls in the model's own format, or one of both, as one grammar.

use llguidance::api::GrammarWithLexer;
use serde_json::{Map, Value, json};

use super::super::tool_format::{DEEPSEEK_BEGIN, DEEPSEEK_CALL, DEEPSEEK_END, DEEPSEEK_ENDED, DEEPSEEK_NAME};
use super::super::{OutputRules, ReasoningRule, ResponseFormat, ToolFormat};
use super::schema::{PlainSchema, with_definitions};
use super::{CompiledGrammar, GrammarCompiler, json_grammar, literal, with_deep_stack};

/// A tool with its parameters simplified.
struct Tool {
    name: String,
    parameters: PlainSchema,
}

struct RuleWriter<'a> {
    grammars: &'a GrammarCompiler,
    /// Grammars that the rules name.
    parts: Vec<GrammarWithLexer>,
    unenforced: Vec<String>,
}

impl OutputRules {
    /// Compiles the grammar.
    ///
    /// # Errors
    /// If a schema or an expression is invalid, or no text fits it. The message begins with the field's name.
    pub fn compile(&self, grammars: &GrammarCompiler) -> Result<CompiledGrammar, String> {
        with_deep_stack(|| self.rules(grammars))
    }

    fn rules(&self, grammars: &GrammarCompiler) -> Result<CompiledGrammar, String> {
        let mut rules = RuleWriter { grammars, parts: Vec::new(), unenforced: Vec::new() };
        let tools = rules.tools(&self.tools)?;
        let start = match self.tool_format {
            _ if tools.is_empty() => rules.format(&self.format)?,
            ToolFormat::Forced => rules.json(calls(&tools, "arguments", None)),
            format => rules.either(format, self.bare, &tools, &self.format)?,
        };
        let RuleWriter { parts, unenforced, .. } = rules;
        let wrong = |e| match &self.format {
            ResponseFormat::Regex(field, _) => format!("{field}: the regular expression cannot be enforced: {e}"),
            ResponseFormat::Lark(field, _) => format!("{field}: the grammar cannot be enforced: {e}"),
            ResponseFormat::JsonSchema(field, _) => format!("{field}: the JSON schema cannot be enforced: {e}"),
            _ => e,
        };
        grammars.rules(&self.reasoning.before(&start, grammars), parts, unenforced).map_err(wrong)
    }
}

impl ReasoningRule {
    /// The rules for reasoning, then `answer`.
    fn before(self, answer: &str, grammars: &GrammarCompiler) -> String {
        let mark = |name: &str| grammars.mark(name);
        let think = match mark("</think>") {
            text if text.starts_with('"') => "think[lazy]: /(?s:.*)<\\/think>/".to_string(),
            control => format!("think: /(?s:.*)/ {control}"),
        };
        let gap = "(\"\\n\" | \"\\n\\n\")?";
        match self {
            ReasoningRule::None => format!("start: {answer}"),
            ReasoningRule::Prefilled => format!("start: think {gap} ({answer})\n{think}"),
            ReasoningRule::Harmony if grammars.has("<|channel|>") => {
                let [channel, message, end, start] = ["<|channel|>", "<|message|>", "<|end|>", "<|start|>"].map(mark);
                format!(
                    "start: {channel} \"analysis\" {message} think {end} {start} \"assistant\" ({answer})\n\
                     think: /(?s:.*)/"
                )
            }
            ReasoningRule::Tagged | ReasoningRule::Harmony => {
                format!("start: {} think {gap} ({answer})\n{think}", mark("<think>"))
            }
        }
    }
}

impl RuleWriter<'_> {
    /// Simplifies the tools' parameters. An invalid schema is an error if it is that of the only tool; among others,
    /// the arguments may be any object.
    fn tools(&mut self, tools: &[Value]) -> Result<Vec<Tool>, String> {
        let mut all = Vec::new();
        for (i, tool) in tools.iter().filter_map(|tool| tool.get("function")).enumerate() {
            let name = tool["name"].as_str().unwrap_or_default();
            let given = tool.get("parameters").filter(|p| !p.is_null()).cloned().unwrap_or(json!({}));
            let parameters = match self.grammars.plain(&object(given), &format!("{i}.")) {
                Ok(plain) => plain,
                Err(why) if tools.len() == 1 => {
                    return Err(format!("the parameters of {name} cannot be enforced: {why}"));
                }
                Err(_) => PlainSchema {
                    schema: json!({ "type": "object" }),
                    unenforced: vec!["#".into()],
                    ..Default::default()
                },
            };
            self.unenforced.extend(parameters.unenforced.iter().map(|at| format!("{name}{at}")));
            all.push(Tool { name: name.into(), parameters });
        }
        Ok(all)
    }

    fn part(&mut self, grammar: GrammarWithLexer) -> String {
        let name = format!("part{}", self.parts.len());
        self.parts.push(GrammarWithLexer { name: Some(name.clone()), ..grammar });
        format!("@{name}")
    }

    fn json(&mut self, document: Value) -> String {
        self.part(json_grammar(document))
    }

    fn schema(&mut self, field: &str, schema: &Value) -> Result<PlainSchema, String> {
        let plain = self.grammars.plain(schema, "form.");
        let plain = plain.map_err(|e| format!("{field}: the JSON schema cannot be enforced: {e}"))?;
        self.unenforced.extend(plain.unenforced.iter().cloned());
        Ok(plain)
    }

    fn format(&mut self, form: &ResponseFormat) -> Result<String, String> {
        Ok(match form {
            ResponseFormat::Text => "/(?s:.*)/".into(),
            ResponseFormat::JsonSchema(field, schema) => {
                let document = self.schema(field, schema)?.document();
                self.json(document)
            }
            ResponseFormat::Choice(texts) => {
                let texts: Vec<String> = texts.iter().map(|text| literal(text)).collect();
                format!("({})", texts.join(" | "))
            }
            ResponseFormat::Regex(_, expression) => self.part(GrammarWithLexer::from_regex(expression)),
            ResponseFormat::Lark(_, grammar) => self.part(GrammarWithLexer::from_lark(grammar.clone())),
        })
    }

    /// Tool calls as a family of models writes them, or the response format.
    fn either(
        &mut self,
        format: ToolFormat,
        bare: bool,
        tools: &[Tool],
        form: &ResponseFormat,
    ) -> Result<String, String> {
        let mark = |name: &str| self.grammars.mark(name);
        Ok(match format {
            ToolFormat::Llama3 => {
                let mark = mark("<|python_tag|>");
                let call = self.json(calls(tools, "parameters", None));
                // Calls are JSON objects, and the answer may be one, too: only a common grammar can distinguish them.
                let either = match form {
                    ResponseFormat::JsonSchema(field, schema) => {
                        let plain = self.schema(field, schema)?;
                        self.json(calls(tools, "parameters", Some(plain)))
                    }
                    form => format!("{call} | {}", self.format(form)?),
                };
                format!("{mark} {call} | {either}")
            }
            ToolFormat::Mistral if bare => {
                let (begin, named) = (mark("[TOOL_CALLS]"), mark("[ARGS]"));
                let call = self.each(tools, |name| format!("{} {named}", literal(name)), "");
                format!("({begin} ({call}))+ | {}", self.format(form)?)
            }
            ToolFormat::Mistral => {
                let begin = mark("[TOOL_CALLS]");
                let mut list = calls(tools, "arguments", None);
                let definitions = list.as_object_mut().and_then(|list| list.remove("$defs")).unwrap_or_default();
                let list = json!({ "type": "array", "items": list, "minItems": 1, "$defs": definitions });
                format!("{begin} {} | {}", self.json(list), self.format(form)?)
            }
            ToolFormat::DeepSeek => {
                let [begin, call, sep, ended, end] =
                    [DEEPSEEK_BEGIN, DEEPSEEK_CALL, DEEPSEEK_NAME, DEEPSEEK_ENDED, DEEPSEEK_END].map(mark);
                let (fence, between) = if bare { ("", "") } else { ("\"\\n```\"", "\"\\n\"") };
                let head = |name: &str| match bare {
                    true => format!("{call} {} {sep}", literal(name)),
                    false => format!("{call} \"function\" {sep} {}", literal(&format!("{name}\n```json\n"))),
                };
                let one = self.each(tools, head, &format!("{fence} {ended}"));
                format!("{begin} ({one}) ({between} ({one}))* {end} | {}", self.format(form)?)
            }
            // A model without these markers in its vocabulary writes calls in Hermes's format.
            ToolFormat::Harmony if self.grammars.has("<|channel|>") => {
                let [channel, constrain, message] = ["<|channel|>", "<|constrain|>", "<|message|>"].map(mark);
                let head = |name: &str| {
                    let to = literal(&format!("commentary to=functions.{name} "));
                    format!("{channel} {to} {constrain} \"json\" {message}")
                };
                let call = self.each(tools, head, "");
                format!("{call} | {channel} \"final\" {message} ({})", self.format(form)?)
            }
            ToolFormat::Hermes | ToolFormat::Harmony | ToolFormat::Text | ToolFormat::Chat | ToolFormat::Forced => {
                let (begin, end) = (mark("<tool_call>"), mark("</tool_call>"));
                let call = format!("{begin} \"\\n\" {} \"\\n\" {end}", self.json(calls(tools, "arguments", None)));
                format!("{call} (\"\\n\" {call})* | {}", self.format(form)?)
            }
        })
    }

    /// A call of any of the tools: the text before its arguments, the arguments, and the text after them.
    fn each(&mut self, tools: &[Tool], head: impl Fn(&str) -> String, tail: &str) -> String {
        let calls: Vec<String> = tools
            .iter()
            .map(|tool| format!("{} {} {tail}", head(&tool.name), self.json(tool.parameters.document())))
            .collect();
        calls.join(" | ")
    }
}

/// Parameters are an object, whether the schema says so or not.
fn object(mut parameters: Value) -> Value {
    match &mut parameters {
        Value::Array(list) if list.is_empty() => json!({ "type": "object" }),
        Value::Bool(true) => json!({ "type": "object" }),
        Value::Object(members) => {
            if !["type", "$ref", "allOf", "anyOf", "oneOf"].iter().any(|key| members.contains_key(*key)) {
                members.insert("type".into(), "object".into());
            }
            parameters
        }
        _ => parameters,
    }
}

/// The schema of a call of one of these tools, or of `form`.
fn calls(tools: &[Tool], arguments: &str, form: Option<PlainSchema>) -> Value {
    let call = |tool: &Tool| {
        json!({
            "type": "object",
            "properties": { "name": { "const": tool.name }, arguments: tool.parameters.schema },
            "required": ["name", arguments],
            "additionalProperties": false,
        })
    };
    let mut options: Vec<Value> = tools.iter().map(call).collect();
    let mut definitions: Map<String, Value> =
        tools.iter().flat_map(|tool| tool.parameters.definitions.clone()).collect();
    if let Some(form) = form {
        options.push(form.schema);
        definitions.extend(form.definitions);
    }
    with_definitions(json!({ "anyOf": options }), definitions)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{bytes, fits};
    use super::*;

    const MARKS: [&str; 12] = [
        "<|python_tag|>",
        "[TOOL_CALLS]",
        "[ARGS]",
        DEEPSEEK_BEGIN,
        DEEPSEEK_CALL,
        DEEPSEEK_NAME,
        DEEPSEEK_ENDED,
        DEEPSEEK_END,
        "<|channel|>",
        "<|constrain|>",
        "<|message|>",
        "<tool_call>",
    ];

    fn tool(name: &str, parameters: Value) -> Value {
        json!({ "type": "function", "function": { "name": name, "parameters": parameters } })
    }

    fn only(form: ResponseFormat) -> OutputRules {
        OutputRules {
            format: form,
            tools: vec![],
            tool_format: ToolFormat::Chat,
            bare: false,
            reasoning: ReasoningRule::None,
        }
    }

    fn two() -> Vec<Value> {
        let place = json!({ "properties": { "place": { "enum": ["Rome"] } }, "required": ["place"], "additionalProperties": false });
        vec![tool("rain", place), tool("now", json!({ "type": "object", "additionalProperties": false }))]
    }

    /// Whether each text fits.
    fn fitting<'a>(grammars: &GrammarCompiler, rules: &OutputRules, texts: &[&'a str]) -> Vec<&'a str> {
        let grammar = rules.compile(grammars).unwrap();
        texts.iter().filter(|text| fits(grammars, &grammar, text)).copied().collect()
    }

    #[test]
    fn an_answer_is_a_call_in_the_familys_words_or_the_form() {
        let grammars = bytes(&MARKS);
        let rain = r#"{"name":"rain","arguments":{"place":"Rome"}}"#;
        let now = r#"{"name":"now","arguments":{}}"#;
        let llama = rain.replace("arguments", "parameters");
        let deepseek = format!(
            "{DEEPSEEK_BEGIN}{DEEPSEEK_CALL}function{DEEPSEEK_NAME}rain\n```json\n{{\"place\":\"Rome\"}}\n```{DEEPSEEK_ENDED}\n\
             {DEEPSEEK_CALL}function{DEEPSEEK_NAME}now\n```json\n{{}}\n```{DEEPSEEK_ENDED}{DEEPSEEK_END}"
        );
        let rows: Vec<(ToolFormat, bool, Vec<String>)> = vec![
            (
                ToolFormat::Hermes,
                false,
                vec![
                    format!("<tool_call>\n{rain}\n</tool_call>"),
                    format!("<tool_call>\n{rain}\n</tool_call>\n<tool_call>\n{now}\n</tool_call>"),
                ],
            ),
            (ToolFormat::Llama3, false, vec![llama.clone(), format!("<|python_tag|>{llama}")]),
            (ToolFormat::Mistral, false, vec![format!("[TOOL_CALLS][{rain}]"), format!("[TOOL_CALLS][{rain},{now}]")]),
            (
                ToolFormat::Mistral,
                true,
                vec!["[TOOL_CALLS]now[ARGS]{}[TOOL_CALLS]rain[ARGS]{\"place\":\"Rome\"}".into()],
            ),
            (ToolFormat::DeepSeek, false, vec![deepseek]),
            (
                ToolFormat::DeepSeek,
                true,
                vec![format!("{DEEPSEEK_BEGIN}{DEEPSEEK_CALL}now{DEEPSEEK_NAME}{{}}{DEEPSEEK_ENDED}{DEEPSEEK_END}")],
            ),
            (
                ToolFormat::Harmony,
                false,
                vec!["<|channel|>commentary to=functions.now <|constrain|>json<|message|>{}".into()],
            ),
        ];
        let forms = [
            (
                ResponseFormat::JsonSchema(
                    String::new(),
                    json!({ "properties": { "name": { "type": "string" }, "n": { "type": "integer" } },
                "required": ["name", "n"], "type": "object" }),
                ),
                r#"{"name":"rain","n":3}"#,
            ),
            (
                ResponseFormat::JsonSchema(String::new(), json!({ "type": "array", "items": { "type": "integer" } })),
                "[1,2]",
            ),
            (
                ResponseFormat::Choice(vec!["yes".into(), "now \\ \"or\" <never>\u{7f}".into()]),
                "now \\ \"or\" <never>\u{7f}",
            ),
            (ResponseFormat::Regex(String::new(), "[a-z]+/[0-9]{2}".into()), "ab/12"),
            (ResponseFormat::Lark(String::new(), "start: \"(\" start \")\" | \"x\"".into()), "((x))"),
        ];
        for (format, bare, calls) in rows {
            for (form, good) in &forms {
                let good = if format == ToolFormat::Harmony {
                    format!("<|channel|>final<|message|>{good}")
                } else {
                    good.to_string()
                };
                let rules = OutputRules {
                    format: form.clone(),
                    tools: two(),
                    tool_format: format,
                    bare,
                    reasoning: ReasoningRule::None,
                };
                let texts: Vec<&str> = calls.iter().map(String::as_str).chain([good.as_str()]).collect();
                assert_eq!(fitting(&grammars, &rules, &texts), texts, "{format:?} {bare} {form:?}");
                // Not other tools or arguments, truncated calls, both, or any other text.
                let half = |text: &&'_ str| text.char_indices().rev().nth(1).map_or(0, |(at, _)| at);
                let cut: Vec<&str> = texts.iter().map(|text| &text[..half(text)]).collect();
                let cut: Vec<&str> = cut.into_iter().filter(|text| *text != "a" && *text != "ab/").collect();
                assert_eq!(fitting(&grammars, &rules, &cut), Vec::<&str>::new(), "{format:?} {bare} {form:?}");
                let other: Vec<String> =
                    calls.iter().map(|c| c.replace("rain", "snow").replace("now", "then")).collect();
                let paris: Vec<String> =
                    calls.iter().map(|c| c.replace("Rome", "Paris")).filter(|c| !calls.contains(c)).collect();
                let mut wrong: Vec<&str> = other.iter().chain(&paris).map(String::as_str).collect();
                let both = format!("{}{good}", calls[0]);
                wrong.extend(["Hello", "", both.as_str()]);
                assert_eq!(fitting(&grammars, &rules, &wrong), Vec::<&str>::new(), "{format:?} {bare} {form:?}");
            }
        }
    }

    #[test]
    fn a_thought_that_was_asked_for_comes_first() {
        let form =
            ResponseFormat::JsonSchema(String::new(), json!({ "type": "array", "items": { "type": "integer" } }));
        let rules = |reasoning, tool_format| OutputRules {
            format: form.clone(),
            tools: two(),
            tool_format,
            bare: true,
            reasoning,
        };
        let call = "<tool_call>\n{\"name\":\"now\",\"arguments\":{}}\n</tool_call>";
        let message = "<|channel|>analysis<|message|>[1]\n{ \"<|end|><|start|>assistant";
        let rows = [
            (ReasoningRule::Prefilled, ToolFormat::Hermes, "[1] < hm </thin".to_string()),
            (ReasoningRule::Tagged, ToolFormat::Hermes, "<think>\n[1] < hm </thin".into()),
            (ReasoningRule::Harmony, ToolFormat::Harmony, message.into()),
        ];
        let think = ["<think>", "</think>", "<|end|>", "<|start|>"];
        let marks = bytes(&[&MARKS[..], &think].concat());
        let texts = bytes(&[&MARKS[..], &think[2..]].concat());
        for (thought, format, begin) in rows {
            let end = if thought == ReasoningRule::Harmony { "" } else { "</think>\n\n" };
            let (form, call) = match format {
                ToolFormat::Harmony => (
                    "<|channel|>final<|message|>[2]",
                    "<|channel|>commentary to=functions.now <|constrain|>json<|message|>{}",
                ),
                _ => ("[2]", call),
            };
            let good = [format!("{begin}{end}{form}"), format!("{begin}{end}{call}")];
            let bad = [form.to_string(), begin.clone(), format!("{begin}{end}"), format!("{begin}{end}hm")];
            for grammars in [&marks, &texts] {
                let rules = rules(thought, format);
                let (good, bad): (Vec<&str>, Vec<&str>) =
                    (good.iter().map(String::as_str).collect(), bad.iter().map(String::as_str).collect());
                assert_eq!(fitting(grammars, &rules, &good), good, "{thought:?}");
                assert_eq!(fitting(grammars, &rules, &bad), Vec::<&str>::new(), "{thought:?}");
            }
        }
    }

    #[test]
    fn a_template_of_gpt_oss_on_another_vocabulary_speaks_as_hermes_does() {
        let grammars = bytes(&[]);
        let form = ResponseFormat::Choice(vec!["yes".into()]);
        let rules = |reasoning| OutputRules {
            format: form.clone(),
            tools: two(),
            tool_format: ToolFormat::Harmony,
            bare: false,
            reasoning,
        };
        let call = "<tool_call>\n{\"name\":\"now\",\"arguments\":{}}\n</tool_call>";
        assert_eq!(fitting(&grammars, &rules(ReasoningRule::None), &["yes", call]), ["yes", call]);
        assert_eq!(
            fitting(&grammars, &rules(ReasoningRule::Harmony), &["yes", "<think>hm</think>yes"]),
            ["<think>hm</think>yes"]
        );
    }

    #[test]
    fn tools_keep_their_references_and_do_not_harm_each_other() {
        let grammars = bytes(&[]);
        let pointed = |kind: &str| {
            json!({ "properties": { "x": { "$ref": "#/$defs/X" }, "next": { "$ref": "#" }, "$ref": { "const": "#/$defs/X" } },
                "additionalProperties": false, "$defs": { "X": { "type": kind } } })
        };
        let rules = |tools: Vec<Value>| OutputRules {
            format: ResponseFormat::Text,
            tools,
            tool_format: ToolFormat::Forced,
            bare: false,
            reasoning: ReasoningRule::None,
        };
        let both = rules(vec![tool("f", pointed("string")), tool("g", pointed("integer"))]);
        let texts = [
            r#"{"name":"f","arguments":{"x":"a","next":{"x":"b"}}}"#,
            r##"{"name":"g","arguments":{"x":1,"next":{"next":{"x":2}},"$ref":"#/$defs/X"}}"##,
        ];
        assert_eq!(fitting(&grammars, &both, &texts), texts);
        let wrong = [
            r#"{"name":"f","arguments":{"x":1}}"#,
            r#"{"name":"g","arguments":{"x":1,"next":{"name":"f","arguments":{}}}}"#,
            r#"{"name":"h","arguments":{}}"#,
        ];
        assert_eq!(fitting(&grammars, &both, &wrong), Vec::<&str>::new());
        // An invalid schema is reported and allows any object; as the only tool's it is an error with a pointer.
        let odd = tool("odd", json!({ "properties": { "a": { "type": "strnig" } } }));
        let held = rules(vec![two().remove(1), odd.clone()]);
        let texts = [r#"{"name":"odd","arguments":{"a":1}}"#, r#"{"name":"now","arguments":{}}"#];
        assert_eq!(fitting(&grammars, &held, &texts), texts);
        assert_eq!(held.compile(&grammars).unwrap().unenforced, ["odd#"]);
        let error = rules(vec![odd]).compile(&grammars).err().unwrap();
        assert!(error.contains("odd") && error.contains("#/properties/a/type"), "{error}");
        let unique = tool("u", json!({ "properties": { "a/b": { "type": "array", "uniqueItems": true } } }));
        assert_eq!(rules(vec![unique]).compile(&grammars).unwrap().unenforced, ["u#/properties/a~1b/uniqueItems"]);
    }

    #[test]
    fn definitions_within_definitions_do_not_exhaust_the_stack() {
        let grammars = bytes(&[]);
        let chain = |n: usize| {
            let link = |i: usize| {
                let next = json!({ "$ref": format!("#/$defs/{}", i + 1) });
                (format!("{i}"), json!({ "allOf": [{ "anyOf": [{ "items": next }, { "type": "null" }] }] }))
            };
            let mut definitions: Map<String, Value> = (0..n).map(link).collect();
            definitions.insert(format!("{n}"), json!({ "type": "integer" }));
            let schema = json!({ "$ref": "#/$defs/0", "$defs": definitions });
            let form = ResponseFormat::JsonSchema("format".into(), schema);
            only(form).compile(&grammars).map(|held| held.unenforced)
        };
        assert_eq!(chain(1600), Ok(vec![]));
        assert!(chain(20_000).unwrap_err().contains("levels deep"));
    }

    #[test]
    fn what_makes_no_sense_is_told_by_its_name() {
        let grammars = bytes(&[]);
        for (form, words) in [
            (ResponseFormat::Regex("guided_regex".into(), "(".into()), "guided_regex: the regular expression"),
            (ResponseFormat::Lark("grammar".into(), "start: nothing".into()), "grammar: the grammar"),
            (
                ResponseFormat::JsonSchema("format".into(), json!({ "properties": { "a": { "minimum": "3" } } })),
                "format: the JSON schema cannot be enforced: #/properties/a",
            ),
        ] {
            let error = only(form).compile(&grammars).err().unwrap();
            assert!(error.contains(words), "{error}");
        }
    }
}
