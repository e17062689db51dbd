//! What an answer is held to, as rules: a form, calls of tools in the words of the model's family, or one of both.

use llguidance::api::GrammarWithLexer;
use serde_json::{Map, Value, json};

use super::ask::{Call, Chat, Form, tool_names};
use super::format::{DEEPSEEK_BEGIN, DEEPSEEK_CALL, DEEPSEEK_END, DEEPSEEK_ENDED, DEEPSEEK_NAME, Format};
use super::grammar::{Grammars, Held, json_grammar, literal, with_deep_stack};
use super::schema::{Plain, with_definitions};

/// What an answer is held to.
#[derive(Clone, Debug)]
pub struct Hold {
    pub form: Form,
    /// Tools that may be called instead. If the format is forced, one must be, and the form means nothing.
    pub tools: Vec<Value>,
    /// How calls are written.
    pub format: Format,
    /// Whether a call's name and arguments stand by themselves, in families that have written them within JSON or a
    /// fence before.
    pub bare: bool,
    pub thought: Thought,
}

/// The thought that comes before the answer, if one was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Thought {
    #[default]
    None,
    /// The prompt has begun it.
    Begun,
    /// Within `<think>` and `</think>`.
    Whole,
    /// A message of gpt-oss's.
    Message,
}

/// A tool, its parameters made plain.
struct Tool {
    name: String,
    parameters: Plain,
}

struct Rules<'a> {
    grammars: &'a Grammars,
    /// Grammars that the rules name.
    parts: Vec<GrammarWithLexer>,
    unheld: Vec<String>,
}

impl Hold {
    /// What an answer to a chat is held to, if to anything. `known` is the family whose words the template speaks.
    pub fn to(chat: &Chat, form: &Form, known: Option<Format>, template: &str) -> Option<Self> {
        let thought = Thought::None;
        let bare = match known {
            Some(Format::Mistral) => template.contains("[ARGS]"),
            _ => !template.contains("```json"),
        };
        let named = |tool: &&Value| match &chat.call {
            Call::Named(name) => tool["function"]["name"] == name.as_str(),
            _ => true,
        };
        let tools: Vec<Value> = chat.tools.iter().filter(named).cloned().collect();
        match (&chat.call, form) {
            (Call::Free, Form::Free) => None,
            (Call::Free, form) => {
                let format = known.unwrap_or(Format::Hermes);
                Some(Hold { form: form.clone(), tools, format, bare, thought })
            }
            (Call::Any | Call::Named(_), _) => {
                Some(Hold { form: Form::Free, tools, format: Format::Forced, bare, thought })
            }
        }
    }

    /// How an answer is read: whether it may be a form, and which tools it may call.
    pub fn reading(&self) -> (bool, Vec<String>) {
        (self.format != Format::Forced, tool_names(&self.tools).into_iter().map(String::from).collect())
    }

    /// Makes the grammar.
    ///
    /// # Errors
    /// If a schema or an expression makes no sense, or nothing fits it.
    pub fn ready(&self, grammars: &Grammars) -> Result<Held, String> {
        with_deep_stack(|| self.rules(grammars))
    }

    fn rules(&self, grammars: &Grammars) -> Result<Held, String> {
        let mut rules = Rules { grammars, parts: Vec::new(), unheld: Vec::new() };
        let tools = rules.tools(&self.tools)?;
        let start = match self.format {
            _ if tools.is_empty() => rules.form(&self.form)?,
            Format::Forced => rules.json(calls(&tools, "arguments", None)),
            format => rules.either(format, self.bare, &tools, &self.form)?,
        };
        let Rules { parts, unheld, .. } = rules;
        let wrong = |e| match &self.form {
            Form::Regex(field, _) => format!("{field}: the regular expression cannot be held to: {e}"),
            Form::Lark(field, _) => format!("{field}: the grammar cannot be held to: {e}"),
            Form::Schema(field, _) => format!("{field}: the JSON schema cannot be held to: {e}"),
            _ => e,
        };
        grammars.rules(&self.thought.before(&start, grammars), parts, unheld).map_err(wrong)
    }
}

impl Thought {
    /// The rules for a thought and then `answer`.
    fn before(self, answer: &str, grammars: &Grammars) -> String {
        let mark = |name: &str| grammars.mark(name);
        let think = match mark("</think>") {
            text if text.starts_with('"') => "think[lazy]: /(?s:.*)<\\/think>/".to_string(),
            control => format!("think: /(?s:.*)/ {control}"),
        };
        let gap = "(\"\\n\" | \"\\n\\n\")?";
        match self {
            Thought::None => format!("start: {answer}"),
            Thought::Begun => format!("start: think {gap} ({answer})\n{think}"),
            Thought::Message if grammars.has("<|channel|>") => {
                let [channel, message, end, start] = ["<|channel|>", "<|message|>", "<|end|>", "<|start|>"].map(mark);
                format!(
                    "start: {channel} \"analysis\" {message} think {end} {start} \"assistant\" ({answer})\n\
                     think: /(?s:.*)/"
                )
            }
            Thought::Whole | Thought::Message => format!("start: {} think {gap} ({answer})\n{think}", mark("<think>")),
        }
    }
}

impl Rules<'_> {
    /// Makes the tools' parameters plain. A tool whose schema makes no sense is an error where it is the only one; beside
    /// others its arguments may be any object.
    fn tools(&mut self, tools: &[Value]) -> Result<Vec<Tool>, String> {
        let mut all = Vec::new();
        for (i, tool) in tools.iter().filter_map(|tool| tool.get("function")).enumerate() {
            let name = tool["name"].as_str().unwrap_or_default();
            let given = tool.get("parameters").filter(|p| !p.is_null()).cloned().unwrap_or(json!({}));
            let parameters = match self.grammars.plain(&object(given), &format!("{i}.")) {
                Ok(plain) => plain,
                Err(why) if tools.len() == 1 => {
                    return Err(format!("the parameters of {name} cannot be held to: {why}"));
                }
                Err(_) => Plain { schema: json!({ "type": "object" }), unheld: vec!["#".into()], ..Default::default() },
            };
            self.unheld.extend(parameters.unheld.iter().map(|at| format!("{name}{at}")));
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

    fn schema(&mut self, field: &str, schema: &Value) -> Result<Plain, String> {
        let plain = self.grammars.plain(schema, "form.");
        let plain = plain.map_err(|e| format!("{field}: the JSON schema cannot be held to: {e}"))?;
        self.unheld.extend(plain.unheld.iter().cloned());
        Ok(plain)
    }

    fn form(&mut self, form: &Form) -> Result<String, String> {
        Ok(match form {
            Form::Free => "/(?s:.*)/".into(),
            Form::Schema(field, schema) => {
                let document = self.schema(field, schema)?.document();
                self.json(document)
            }
            Form::Choice(texts) => {
                let texts: Vec<String> = texts.iter().map(|text| literal(text)).collect();
                format!("({})", texts.join(" | "))
            }
            Form::Regex(_, expression) => self.part(GrammarWithLexer::from_regex(expression)),
            Form::Lark(_, grammar) => self.part(GrammarWithLexer::from_lark(grammar.clone())),
        })
    }

    /// Calls of tools as a family of models writes them, or the form.
    fn either(&mut self, format: Format, bare: bool, tools: &[Tool], form: &Form) -> Result<String, String> {
        let mark = |name: &str| self.grammars.mark(name);
        Ok(match format {
            Format::Llama3 => {
                let mark = mark("<|python_tag|>");
                let call = self.json(calls(tools, "parameters", None));
                // A call is an object here, and so may be the form: only one grammar of both can tell which it is.
                let either = match form {
                    Form::Schema(field, schema) => {
                        let plain = self.schema(field, schema)?;
                        self.json(calls(tools, "parameters", Some(plain)))
                    }
                    form => format!("{call} | {}", self.form(form)?),
                };
                format!("{mark} {call} | {either}")
            }
            Format::Mistral if bare => {
                let (begin, named) = (mark("[TOOL_CALLS]"), mark("[ARGS]"));
                let call = self.each(tools, |name| format!("{} {named}", literal(name)), "");
                format!("({begin} ({call}))+ | {}", self.form(form)?)
            }
            Format::Mistral => {
                let begin = mark("[TOOL_CALLS]");
                let mut list = calls(tools, "arguments", None);
                let definitions = list.as_object_mut().and_then(|list| list.remove("$defs")).unwrap_or_default();
                let list = json!({ "type": "array", "items": list, "minItems": 1, "$defs": definitions });
                format!("{begin} {} | {}", self.json(list), self.form(form)?)
            }
            Format::DeepSeek => {
                let [begin, call, sep, ended, end] =
                    [DEEPSEEK_BEGIN, DEEPSEEK_CALL, DEEPSEEK_NAME, DEEPSEEK_ENDED, DEEPSEEK_END].map(mark);
                let (fence, between) = if bare { ("", "") } else { ("\"\\n```\"", "\"\\n\"") };
                let head = |name: &str| match bare {
                    true => format!("{call} {} {sep}", literal(name)),
                    false => format!("{call} \"function\" {sep} {}", literal(&format!("{name}\n```json\n"))),
                };
                let one = self.each(tools, head, &format!("{fence} {ended}"));
                format!("{begin} ({one}) ({between} ({one}))* {end} | {}", self.form(form)?)
            }
            // A vocabulary without the marks cannot tell these messages in Hermes's words.
            Format::Harmony if self.grammars.has("<|channel|>") => {
                let [channel, constrain, message] = ["<|channel|>", "<|constrain|>", "<|message|>"].map(mark);
                let head = |name: &str| {
                    let to = literal(&format!("commentary to=functions.{name} "));
                    format!("{channel} {to} {constrain} \"json\" {message}")
                };
                let call = self.each(tools, head, "");
                format!("{call} | {channel} \"final\" {message} ({})", self.form(form)?)
            }
            Format::Hermes | Format::Harmony | Format::Text | Format::Chat | Format::Forced => {
                let (begin, end) = (mark("<tool_call>"), mark("</tool_call>"));
                let call = format!("{begin} \"\\n\" {} \"\\n\" {end}", self.json(calls(tools, "arguments", None)));
                format!("{call} (\"\\n\" {call})* | {}", self.form(form)?)
            }
        })
    }

    /// A call of any of the tools: what stands before its arguments, these, and what stands behind.
    fn each(&mut self, tools: &[Tool], head: impl Fn(&str) -> String, tail: &str) -> String {
        let calls: Vec<String> = tools
            .iter()
            .map(|tool| format!("{} {} {tail}", head(&tool.name), self.json(tool.parameters.document())))
            .collect();
        calls.join(" | ")
    }
}

/// Parameters are an object, said or not.
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
fn calls(tools: &[Tool], arguments: &str, form: Option<Plain>) -> Value {
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
    use super::super::grammar::tests::{bytes, fits};
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

    fn only(form: Form) -> Hold {
        Hold { form, tools: vec![], format: Format::Chat, bare: false, thought: Thought::None }
    }

    fn two() -> Vec<Value> {
        let place = json!({ "properties": { "place": { "enum": ["Rome"] } }, "required": ["place"], "additionalProperties": false });
        vec![tool("rain", place), tool("now", json!({ "type": "object", "additionalProperties": false }))]
    }

    /// Which of the texts fit.
    fn fitting<'a>(grammars: &Grammars, hold: &Hold, texts: &[&'a str]) -> Vec<&'a str> {
        let held = hold.ready(grammars).unwrap();
        texts.iter().filter(|text| fits(grammars, &held, text)).copied().collect()
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
        let rows: Vec<(Format, bool, Vec<String>)> = vec![
            (
                Format::Hermes,
                false,
                vec![
                    format!("<tool_call>\n{rain}\n</tool_call>"),
                    format!("<tool_call>\n{rain}\n</tool_call>\n<tool_call>\n{now}\n</tool_call>"),
                ],
            ),
            (Format::Llama3, false, vec![llama.clone(), format!("<|python_tag|>{llama}")]),
            (Format::Mistral, false, vec![format!("[TOOL_CALLS][{rain}]"), format!("[TOOL_CALLS][{rain},{now}]")]),
            (Format::Mistral, true, vec!["[TOOL_CALLS]now[ARGS]{}[TOOL_CALLS]rain[ARGS]{\"place\":\"Rome\"}".into()]),
            (Format::DeepSeek, false, vec![deepseek]),
            (
                Format::DeepSeek,
                true,
                vec![format!("{DEEPSEEK_BEGIN}{DEEPSEEK_CALL}now{DEEPSEEK_NAME}{{}}{DEEPSEEK_ENDED}{DEEPSEEK_END}")],
            ),
            (
                Format::Harmony,
                false,
                vec!["<|channel|>commentary to=functions.now <|constrain|>json<|message|>{}".into()],
            ),
        ];
        let forms = [
            (
                Form::Schema(
                    String::new(),
                    json!({ "properties": { "name": { "type": "string" }, "n": { "type": "integer" } },
                "required": ["name", "n"], "type": "object" }),
                ),
                r#"{"name":"rain","n":3}"#,
            ),
            (Form::Schema(String::new(), json!({ "type": "array", "items": { "type": "integer" } })), "[1,2]"),
            (Form::Choice(vec!["yes".into(), "now \\ \"or\" <never>\u{7f}".into()]), "now \\ \"or\" <never>\u{7f}"),
            (Form::Regex(String::new(), "[a-z]+/[0-9]{2}".into()), "ab/12"),
            (Form::Lark(String::new(), "start: \"(\" start \")\" | \"x\"".into()), "((x))"),
        ];
        for (format, bare, calls) in rows {
            for (form, good) in &forms {
                let good = if format == Format::Harmony {
                    format!("<|channel|>final<|message|>{good}")
                } else {
                    good.to_string()
                };
                let hold = Hold { form: form.clone(), tools: two(), format, bare, thought: Thought::None };
                let texts: Vec<&str> = calls.iter().map(String::as_str).chain([good.as_str()]).collect();
                assert_eq!(fitting(&grammars, &hold, &texts), texts, "{format:?} {bare} {form:?}");
                // Neither other tools, nor other arguments, nor half of it, nor both, nor any other text.
                let half = |text: &&'_ str| text.char_indices().rev().nth(1).map_or(0, |(at, _)| at);
                let cut: Vec<&str> = texts.iter().map(|text| &text[..half(text)]).collect();
                let cut: Vec<&str> = cut.into_iter().filter(|text| *text != "a" && *text != "ab/").collect();
                assert_eq!(fitting(&grammars, &hold, &cut), Vec::<&str>::new(), "{format:?} {bare} {form:?}");
                let other: Vec<String> =
                    calls.iter().map(|c| c.replace("rain", "snow").replace("now", "then")).collect();
                let paris: Vec<String> =
                    calls.iter().map(|c| c.replace("Rome", "Paris")).filter(|c| !calls.contains(c)).collect();
                let mut wrong: Vec<&str> = other.iter().chain(&paris).map(String::as_str).collect();
                let both = format!("{}{good}", calls[0]);
                wrong.extend(["Hello", "", both.as_str()]);
                assert_eq!(fitting(&grammars, &hold, &wrong), Vec::<&str>::new(), "{format:?} {bare} {form:?}");
            }
        }
    }

    #[test]
    fn a_thought_that_was_asked_for_comes_first() {
        let form = Form::Schema(String::new(), json!({ "type": "array", "items": { "type": "integer" } }));
        let hold = |thought, format| Hold { form: form.clone(), tools: two(), format, bare: true, thought };
        let call = "<tool_call>\n{\"name\":\"now\",\"arguments\":{}}\n</tool_call>";
        let message = "<|channel|>analysis<|message|>[1]\n{ \"<|end|><|start|>assistant";
        let rows = [
            (Thought::Begun, Format::Hermes, "[1] < hm </thin".to_string()),
            (Thought::Whole, Format::Hermes, "<think>\n[1] < hm </thin".into()),
            (Thought::Message, Format::Harmony, message.into()),
        ];
        let think = ["<think>", "</think>", "<|end|>", "<|start|>"];
        let marks = bytes(&[&MARKS[..], &think].concat());
        let texts = bytes(&[&MARKS[..], &think[2..]].concat());
        for (thought, format, begin) in rows {
            let end = if thought == Thought::Message { "" } else { "</think>\n\n" };
            let (form, call) = match format {
                Format::Harmony => (
                    "<|channel|>final<|message|>[2]",
                    "<|channel|>commentary to=functions.now <|constrain|>json<|message|>{}",
                ),
                _ => ("[2]", call),
            };
            let good = [format!("{begin}{end}{form}"), format!("{begin}{end}{call}")];
            let bad = [form.to_string(), begin.clone(), format!("{begin}{end}"), format!("{begin}{end}hm")];
            for grammars in [&marks, &texts] {
                let hold = hold(thought, format);
                let (good, bad): (Vec<&str>, Vec<&str>) =
                    (good.iter().map(String::as_str).collect(), bad.iter().map(String::as_str).collect());
                assert_eq!(fitting(grammars, &hold, &good), good, "{thought:?}");
                assert_eq!(fitting(grammars, &hold, &bad), Vec::<&str>::new(), "{thought:?}");
            }
        }
    }

    #[test]
    fn a_template_of_gpt_oss_on_another_vocabulary_speaks_as_hermes_does() {
        let grammars = bytes(&[]);
        let form = Form::Choice(vec!["yes".into()]);
        let hold = |thought| Hold { form: form.clone(), tools: two(), format: Format::Harmony, bare: false, thought };
        let call = "<tool_call>\n{\"name\":\"now\",\"arguments\":{}}\n</tool_call>";
        assert_eq!(fitting(&grammars, &hold(Thought::None), &["yes", call]), ["yes", call]);
        assert_eq!(
            fitting(&grammars, &hold(Thought::Message), &["yes", "<think>hm</think>yes"]),
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
        let hold = |tools: Vec<Value>| Hold {
            form: Form::Free,
            tools,
            format: Format::Forced,
            bare: false,
            thought: Thought::None,
        };
        let both = hold(vec![tool("f", pointed("string")), tool("g", pointed("integer"))]);
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
        // One that makes no sense is told, and anything goes there; alone it is an error that says where.
        let odd = tool("odd", json!({ "properties": { "a": { "type": "strnig" } } }));
        let held = hold(vec![two().remove(1), odd.clone()]);
        let texts = [r#"{"name":"odd","arguments":{"a":1}}"#, r#"{"name":"now","arguments":{}}"#];
        assert_eq!(fitting(&grammars, &held, &texts), texts);
        assert_eq!(held.ready(&grammars).unwrap().unheld, ["odd#"]);
        let error = hold(vec![odd]).ready(&grammars).err().unwrap();
        assert!(error.contains("odd") && error.contains("#/properties/a/type"), "{error}");
        let unique = tool("u", json!({ "properties": { "a/b": { "type": "array", "uniqueItems": true } } }));
        assert_eq!(hold(vec![unique]).ready(&grammars).unwrap().unheld, ["u#/properties/a~1b/uniqueItems"]);
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
            let form = Form::Schema("format".into(), schema);
            only(form).ready(&grammars).map(|held| held.unheld)
        };
        assert_eq!(chain(1600), Ok(vec![]));
        assert!(chain(20_000).unwrap_err().contains("levels deep"));
    }

    #[test]
    fn what_makes_no_sense_is_told_by_its_name() {
        let grammars = bytes(&[]);
        for (form, words) in [
            (Form::Regex("guided_regex".into(), "(".into()), "guided_regex: the regular expression"),
            (Form::Lark("grammar".into(), "start: nothing".into()), "grammar: the grammar"),
            (
                Form::Schema("format".into(), json!({ "properties": { "a": { "minimum": "3" } } })),
                "format: the JSON schema cannot be held to: #/properties/a",
            ),
        ] {
            let error = only(form).ready(&grammars).err().unwrap();
            assert!(error.contains(words), "{error}");
        }
    }
}
