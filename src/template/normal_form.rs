//! Normal forms: rewrites of a conversation that a template refuses.
//!
//! Published templates accept one shape of conversation, and clients send others. A conversation is first rendered
//! unchanged. If the template raises an error, the [`FORMS`] are applied one after another until the conversation
//! renders without losing words (`lost_words`). Then the forms that were not needed are removed again. The caller
//! learns which ones remain.

use serde_json::{Value, json};

use super::tool_calls::{self, has_calls, text};
use super::{CLOSE_REASONING, ChatTemplate, OUT_OF_FUEL, TemplateInput, lost_words, prefilled_reasoning, tool_schemas};
use crate::{Error, Result};

/// A rendered conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rendering {
    /// The prompt.
    pub text: String,
    /// Names of the normal forms that were needed; empty if the template accepted the conversation unchanged.
    pub changes: Vec<&'static str>,
}

/// A name and a rewrite.
type NormalForm = (&'static str, fn(&mut TemplateInput));

/// The forms, in the order in which they are tried. Several of them create adjacent messages of the same role, so
/// joining those is tried again after each.
const FORMS: &[NormalForm] = &[
    ("parts-as-text", |input| input.messages.iter_mut().for_each(join_parts)),
    ("developer-as-system", |input| input.messages.iter_mut().for_each(rename_developer)),
    ("empty-keys-dropped", drop_empty_keys),
    ("arguments-as-objects", |input| tool_calls::parse_arguments(&mut input.messages)),
    ("calls-completed", |input| tool_calls::complete(&mut input.messages)),
    ("call-ids-rewritten", |input| tool_calls::rewrite_ids(&mut input.messages)),
    ("tools-completed", |input| tool_schemas::complete(input.tools.as_deref_mut().unwrap_or_default())),
    ("tool-types-simplified", |input| tool_schemas::simplify(input.tools.as_deref_mut().unwrap_or_default())),
    ("variables-given", give_variables),
    ("reasoning-in-content", join_reasoning),
    ("results-ordered", |input| tool_calls::order_results(&mut input.messages)),
    ("empty-turns-dropped", drop_empty_turns),
    ("one-call-a-turn", |input| tool_calls::split(&mut input.messages)),
    ("system-messages-joined", join_system_messages),
    ("user-turn-first", put_user_turn_first),
    JOIN,
    ("user-text-in-results", join_text_to_results),
    ("system-in-user-turn", fold_system),
    JOIN,
    ("text-before-calls", |input| tool_calls::split_text(&mut input.messages)),
];

/// Forms for conversations that the [`FORMS`] do not make render. They cost quality: a model that sees its calls as
/// text tends to write calls that way, and a template that does not expect content parts prints them as data.
const LAST_FORMS: &[NormalForm] = &[
    ("unpaired-calls-as-text", |input| tool_calls::unpaired_calls_as_text(&mut input.messages)),
    JOIN,
    ("calls-as-text", |input| tool_calls::all_calls_as_text(&mut input.messages)),
    JOIN,
    ("text-as-parts", |input| input.messages.iter_mut().for_each(text_as_parts)),
];

const JOIN: NormalForm = ("neighbours-joined", join_neighbours);
/// Most templates serialize arguments themselves, others (DeepSeek's first) expect text: both are tried with each form.
const SERIALIZED_ARGUMENTS: NormalForm =
    ("arguments-as-text", |input| tool_calls::serialize_arguments(&mut input.messages));
/// The last message is appended to the generation prompt, because the template does not render a final answer.
const APPENDED: &str = "last-message-appended";

/// Marks the end of the message to continue. It is a Unicode noncharacter, so no text contains it. The space shows
/// whether the template preserves trailing white space.
const END_MARK: &str = "\u{FDD1} ";

impl ChatTemplate {
    /// Renders the prompt, in the first normal form that the template accepts.
    ///
    /// # Errors
    /// If the template accepts none: the error of [`ChatTemplate::render`] for the unchanged conversation.
    pub fn render_normal(&self, input: &TemplateInput) -> Result<Rendering> {
        if input.continue_final_message && !input.messages.is_empty() {
            return self.render_continuation(input);
        }
        match attempt(input, &[], |input| self.render(input)) {
            Err(error) if error.to_string() != OUT_OF_FUEL => {
                Ok(search(input, |input| self.render(input)).ok_or(error)?.0)
            }
            native => native,
        }
    }

    /// Renders the prompt up to the end of the last message's text.
    fn render_continuation(&self, input: &TemplateInput) -> Result<Rendering> {
        let mut marked = TemplateInput { add_generation_prompt: false, ..input.clone() };
        let text = marked.messages.last_mut().map(mark_end).unwrap_or_default();
        let render = |input: &TemplateInput| before_end_mark(&self.render(input)?);
        let native = attempt(&marked, &[], render);
        if native.as_ref().is_err_and(|error| error.to_string() == OUT_OF_FUEL) {
            return native;
        }
        let words = lost_words::ConversationWords::of(&marked);
        let best = match &native {
            Ok(rendering) if words.lost(&rendering.text) == 0 => return native,
            _ => search(&marked, render),
        };
        let mut before = TemplateInput { add_generation_prompt: true, ..input.clone() };
        before.messages.pop();
        let appended = || {
            let mut rendering = attempt(&before, &[], |input| self.render(input)).ok();
            rendering = rendering.or_else(|| Some(search(&before, |input| self.render(input))?.0));
            let mut rendering = rendering?;
            if !prefilled_reasoning(&rendering.text).is_empty() {
                rendering.text.push_str(CLOSE_REASONING);
            }
            rendering.text.push_str(&text);
            rendering.changes.push(APPENDED);
            Some((words.lost(&rendering.text), rendering))
        };
        match best {
            Some((rendering, 0)) => Ok(rendering),
            best => {
                let found = best.map(|(rendering, lost)| (lost, rendering)).into_iter().chain(appended());
                found.min_by_key(|(lost, _)| *lost).map_or(native, |(_, rendering)| Ok(rendering))
            }
        }
    }
}

/// Finds the first forms with which `render` succeeds without losing words, or else those that lose the fewest, and
/// removes the forms that are not needed. Returns the rendering and the number of lost words.
fn search(input: &TemplateInput, render: impl Fn(&TemplateInput) -> Result<String>) -> Option<(Rendering, usize)> {
    let words = lost_words::ConversationWords::of(input);
    let measured = |forms: &[NormalForm]| {
        let rendering = attempt(input, forms, &render).ok()?;
        let lost = words.lost(&rendering.text);
        Some((rendering, lost))
    };
    let (mut changed, mut chosen) = (input.clone(), Vec::new());
    let mut best: Option<(Vec<NormalForm>, Rendering, usize)> = None;
    for forms in [FORMS, LAST_FORMS] {
        for form in forms {
            if best.as_ref().is_some_and(|(.., lost)| *lost == 0) || !apply(form, &mut changed) {
                continue;
            }
            chosen.push(*form);
            if let Some((rendering, lost)) = measured(&chosen)
                && best.as_ref().is_none_or(|(.., least)| lost < *least)
            {
                best = Some((chosen.clone(), rendering, lost));
            }
        }
        if best.is_some() {
            break;
        }
    }
    let (mut chosen, mut rendering, mut lost) = best?;
    for i in (0..chosen.len()).rev() {
        let mut fewer = chosen.clone();
        fewer.remove(i);
        if let Some((other, less)) = measured(&fewer).filter(|(_, less)| *less <= lost) {
            (chosen, rendering, lost) = (fewer, other, less);
        }
    }
    Some((rendering, lost))
}

/// Whether a form changes the conversation.
fn apply((_, form): &NormalForm, input: &mut TemplateInput) -> bool {
    let before = (input.messages.clone(), input.tools.clone(), input.extra.clone());
    form(input);
    before != (input.messages.clone(), input.tools.clone(), input.extra.clone())
}

/// Renders `input` in these forms, with arguments as objects or, if that fails, as text.
fn attempt(
    input: &TemplateInput,
    forms: &[NormalForm],
    render: impl Fn(&TemplateInput) -> Result<String>,
) -> Result<Rendering> {
    let (mut input, mut changes) = (input.clone(), Vec::new());
    let mut change = |form: &NormalForm, input: &mut TemplateInput| {
        let changed = apply(form, input);
        if changed && !changes.contains(&form.0) {
            changes.push(form.0);
        }
        changed
    };
    for form in forms {
        change(form, &mut input);
    }
    let text = render(&input).or_else(|error| match change(&SERIALIZED_ARGUMENTS, &mut input) {
        true => render(&input).map_err(|_| error),
        false => Err(error),
    })?;
    Ok(Rendering { text, changes })
}

/// Appends [`END_MARK`] to the text of a message; returns the text without it.
fn mark_end(message: &mut Value) -> String {
    let content = match &mut message["content"] {
        Value::Array(parts) => parts.iter_mut().rev().find_map(|part| part.get_mut("text")),
        content => Some(content),
    };
    let Some(content) = content else { return String::new() };
    let text = content.as_str().unwrap_or_default().to_owned();
    *content = format!("{text}{END_MARK}").into();
    text
}

/// Returns the text before the last [`END_MARK`] and removes all others.
fn before_end_mark(text: &str) -> Result<String> {
    let mark = END_MARK.trim_end();
    let at = text.rfind(mark).ok_or_else(|| Error::text("the chat template does not render the last message"))?;
    let kept = text[at..].starts_with(END_MARK);
    let before = text[..at].replace(END_MARK, "").replace(mark, "");
    Ok(if kept { before } else { before.trim_end().to_owned() })
}

fn role(message: &Value) -> &str {
    message["role"].as_str().unwrap_or_default()
}

/// Sets the variables of the date and the tools that Firefunction's template uses.
fn give_variables(input: &mut TemplateInput) {
    let date = input.date.clone().unwrap_or_default();
    input.extra.entry("datetime").or_insert(date.into());
    let tools = json!(input.tools.as_deref().unwrap_or_default());
    input.extra.entry("functions").or_insert(tools.to_string().into());
}

/// Joins content parts to one string, if all of them are text.
fn join_parts(message: &mut Value) {
    let Some(parts) = message["content"].as_array() else { return };
    let texts: Option<String> = parts.iter().map(|part| part["text"].as_str()).collect();
    if let Some(texts) = texts {
        message["content"] = texts.into();
    }
}

/// Converts a string to a content part, which templates of vision models expect.
fn text_as_parts(message: &mut Value) {
    if message["content"].is_string() {
        message["content"] = json!([{ "type": "text", "text": message["content"] }]);
    }
}

/// Renames OpenAI's newer role `developer` to `system`.
fn rename_developer(message: &mut Value) {
    if message["role"] == "developer" {
        message["role"] = "system".into();
    }
}

/// Removes empty keys of messages, except `content`.
fn drop_empty_keys(input: &mut TemplateInput) {
    let empty = |value: &Value| match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    };
    for message in input.messages.iter_mut().filter_map(Value::as_object_mut) {
        message.retain(|key, value| key == "content" || !empty(value));
    }
}

/// Moves reasoning to the content of messages with calls: gpt-oss's template accepts only one of the two.
fn join_reasoning(input: &mut TemplateInput) {
    for message in input.messages.iter_mut().filter(|m| has_calls(m)) {
        let Some(object) = message.as_object_mut() else { continue };
        let reasoning =
            ["thinking", "reasoning_content", "reasoning"].iter().filter_map(|key| object.remove(*key)).next();
        let reasoning = reasoning.as_ref().and_then(Value::as_str).unwrap_or_default();
        let content = joined(reasoning, object.get("content").and_then(Value::as_str).unwrap_or_default());
        object.insert("content".into(), content.into());
    }
}

/// Joins two texts with an empty line.
fn joined(first: &str, second: &str) -> String {
    let between = if first.is_empty() || second.is_empty() { "" } else { "\n\n" };
    [first, between, second].concat()
}

/// Removes empty assistant and system messages.
fn drop_empty_turns(input: &mut TemplateInput) {
    let silent = |m: &Value| ["assistant", "system"].contains(&role(m)) && text(m).trim().is_empty() && !has_calls(m);
    let says = |m: &Value| !silent(m) || m["content"].is_array();
    input.messages.retain(says);
}

/// Joins all system messages to one at the beginning.
fn join_system_messages(input: &mut TemplateInput) {
    let (system, mut rest): (Vec<Value>, Vec<Value>) =
        input.messages.drain(..).partition(|m| role(m) == "system" && m["content"].is_string());
    if let Some(mut first) = system.first().cloned() {
        let all = system.iter().fold(String::new(), |all, message| joined(&all, text(message)));
        first["content"] = all.into();
        rest.insert(0, first);
    }
    input.messages = rest;
}

/// Inserts an empty user message if the conversation starts with another role.
fn put_user_turn_first(input: &mut TemplateInput) {
    let at = input.messages.iter().position(|m| role(m) != "system").unwrap_or(input.messages.len());
    if !input.messages.is_empty() && input.messages.get(at).is_none_or(|m| role(m) != "user") {
        input.messages.insert(at, json!({ "role": "user", "content": "" }));
    }
}

/// Joins adjacent messages of the same role, except assistant messages after a call.
fn join_neighbours(input: &mut TemplateInput) {
    let mut messages: Vec<Value> = Vec::new();
    for message in input.messages.drain(..) {
        let one = |last: &&mut Value| {
            role(last) == role(&message)
                && ["system", "user", "assistant"].contains(&role(last))
                && !has_calls(last)
                && last["content"].is_string()
                && message["content"].is_string()
        };
        match messages.last_mut().filter(one) {
            Some(last) => join(last, message),
            None => messages.push(message),
        }
    }
    input.messages = messages;
}

/// Appends a message to another one of the same role.
fn join(first: &mut Value, second: Value) {
    let content = joined(text(first), text(&second));
    if let (Some(first), Value::Object(second)) = (first.as_object_mut(), second) {
        for (key, value) in second {
            match (first.get_mut(&key), &value) {
                (Some(Value::String(before)), Value::String(after)) if key.starts_with("reasoning") => {
                    *before = joined(before, after);
                }
                (Some(kept), _) if !kept.is_null() => {}
                _ => drop(first.insert(key, value)),
            }
        }
        first.insert("content".into(), content.into());
    }
}

/// Appends a user message that follows a tool result to the result: Mistral's templates require an answer in between.
fn join_text_to_results(input: &mut TemplateInput) {
    let mut messages: Vec<Value> = Vec::new();
    for message in input.messages.drain(..) {
        let one =
            |last: &&mut Value| role(last) == "tool" && role(&message) == "user" && message["content"].is_string();
        match messages.last_mut().filter(one) {
            Some(last) => last["content"] = joined(text(last), text(&message)).into(),
            None => messages.push(message),
        }
    }
    input.messages = messages;
}

/// Prepends system messages to the next user message.
fn fold_system(input: &mut TemplateInput) {
    let mut system = String::new();
    let mut messages: Vec<Value> = Vec::new();
    for mut message in input.messages.drain(..) {
        match role(&message) {
            "system" if message["content"].is_string() => system = joined(&system, text(&message)),
            "user" if message["content"].is_string() => {
                message["content"] = joined(&std::mem::take(&mut system), text(&message)).into();
                messages.push(message);
            }
            _ => messages.push(message),
        }
    }
    if !system.is_empty() {
        messages.push(json!({ "role": "user", "content": system }));
    }
    input.messages = messages;
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRICT: &str = "{% for m in messages %}\
        {% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('turns') }}{% endif %}\
        <{{ m.role }}>{{ m.content }}</>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";

    fn input(messages: Value) -> TemplateInput {
        let messages = messages.as_array().expect("a list").clone();
        TemplateInput { messages, add_generation_prompt: true, ..Default::default() }
    }

    fn say(role: &str, content: &str) -> Value {
        json!({ "role": role, "content": content })
    }

    fn normal(source: &str, input: &TemplateInput) -> (String, Vec<&'static str>) {
        let rendering = ChatTemplate::new(source).and_then(|template| template.render_normal(input));
        rendering.map(|r| (r.text, r.changes)).unwrap_or_else(|e| panic!("{source}: {e}"))
    }

    #[test]
    fn only_what_is_needed_is_changed() {
        let rows = [
            (json!([say("user", "a")]), "<user>a</><assistant>", vec![]),
            (json!([say("user", "a"), say("user", "b")]), "<user>a\n\nb</><assistant>", vec!["neighbours-joined"]),
            (json!([say("system", "s"), say("user", "a")]), "<user>s\n\na</><assistant>", vec!["system-in-user-turn"]),
            (
                json!([say("developer", "s")]),
                "<user>s</><assistant>",
                vec!["developer-as-system", "system-in-user-turn"],
            ),
            (
                json!([say("user", "a"), { "role": "user", "content": [{ "type": "text", "text": "b" }] }]),
                "<user>a\n\nb</><assistant>",
                vec!["parts-as-text", "neighbours-joined"],
            ),
            (json!([say("system", "s")]), "<user>s</><assistant>", vec!["system-in-user-turn"]),
            (
                json!([say("assistant", "b"), say("user", "a")]),
                "<user></><assistant>b</><user>a</><assistant>",
                vec!["user-turn-first"],
            ),
        ];
        for (messages, text, changes) in rows {
            assert_eq!(normal(STRICT, &input(messages.clone())), (text.to_owned(), changes), "{messages}");
        }
    }

    #[test]
    fn the_error_is_that_of_the_unchanged_conversation() {
        let template = ChatTemplate::new("{{ raise_exception(messages|length ~ ' messages') }}").expect("a template");
        let error =
            template.render_normal(&input(json!([say("user", "a"), say("user", "b")]))).expect_err("it refuses");
        assert!(error.to_string().ends_with("2 messages"), "{error}");
        let endless = "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}";
        let error = ChatTemplate::new(endless).expect("a template").render_normal(&input(json!([say("user", "a")])));
        assert_eq!(error.expect_err("it is stopped").to_string(), OUT_OF_FUEL);
    }

    #[test]
    fn a_form_that_keeps_the_words_is_preferred() {
        // Prints a system message only if the user's message is the last, and requires ids.
        let source = "{% for m in messages %}{% if m.role == 'tool' and m.tool_call_id|length != 9 %}\
            {{ raise_exception('id') }}{% endif %}{% if m.role != 'system' or messages[-1].role == 'user' %}\
            <{{ m.role }}>{{ m.content }}{{ m.tool_calls }}</>{% endif %}{% endfor %}";
        let call = json!({ "id": "call_1", "type": "function", "function": { "name": "f", "arguments": {} } });
        let messages = json!([
            say("system", "rules"),
            say("user", "a"),
            { "role": "assistant", "content": "", "tool_calls": [call] },
            { "role": "tool", "tool_call_id": "call_1", "content": "r" },
        ]);
        let (text, changes) = normal(source, &input(messages));
        assert!(text.starts_with("<user>rules\n\na</>") && text.contains("'id': 'call00000'"), "{text}");
        assert_eq!(changes, ["call-ids-rewritten", "system-in-user-turn"]);
    }

    #[test]
    fn the_last_message_is_continued() {
        let turns = |last: &str| {
            let messages = json!([say("system", "s"), say("user", "a"), say("assistant", last)]);
            TemplateInput { continue_final_message: true, ..input(messages) }
        };
        let each =
            |content: &str| format!("{{% for m in messages %}}<{{{{ m.role }}}}>{{{{ {content} }}}}</>{{% endfor %}}");
        let prompt = "<assistant>{% if add_generation_prompt %}<think>\n{% endif %}";
        let rows = [
            // White space stays where the template keeps it, and goes where it is trimmed.
            (each("m.content"), " The sky ", "<system>s</><user>a</><assistant> The sky ", vec![]),
            (each("m.content|trim"), " The sky ", "<system>s</><user>a</><assistant>The sky", vec![]),
            (each("m.content ~ m.content"), "b", "<system>ss</><user>aa</><assistant>bb", vec![]),
            (each("m.content"), "", "<system>s</><user>a</><assistant>", vec![]),
            (STRICT.into(), "b", "<user>s\n\na</><assistant>b", vec!["system-in-user-turn"]),
            (
                each("m.content if m.role == 'user'") + prompt,
                "b",
                "<system></><user>a</><assistant><think>\n\n</think>\n\nb",
                vec![APPENDED],
            ),
        ];
        for (source, last, text, changes) in rows {
            assert_eq!(normal(&source, &turns(last)), (text.into(), changes), "{source}");
        }
    }
}
