//! `POST /v1/completions`

use std::collections::BTreeMap;

use axum::extract::{Request, State};
use axum::response::Response;
use firelight::conversation::{AnswerEvent, AnswerToken, Prompt, ResponseFormat};
use serde_json::{Map, Value, json};

use super::common::{CommonParams, CompletionHead, DONE, MISSING, event, finish_reason, likeliest, usage};
use crate::server::Server;
use crate::server::answers::{Answers, COMMENT, CollectedAnswer, EVENTS, Logprobs, StreamWriter, Usage, stream};
use crate::server::fields::{Fields, integer};
use crate::server::http_error::{Dialect, HttpError};
use crate::server::response_format::response_format;

struct TextRequest {
    prompts: Vec<Prompt>,
    common: CommonParams,
    format: ResponseFormat,
    logprobs: Option<u32>,
}

impl TextRequest {
    fn read(mut fields: Fields) -> Result<Self, HttpError> {
        let prompt = fields.value("prompt").ok_or_else(|| fields.wrong("prompt", MISSING))?;
        let prompts = prompts(&prompt).map_err(|e| fields.wrong("prompt", e))?;
        let common = CommonParams::read(&mut fields)?;
        if fields.count("best_of")?.is_some_and(|best| best != common.n) {
            return Err(fields.wrong("best_of", "it is not supported; send n"));
        }
        // Some clients write `false` for "none".
        fields.drop_false("logprobs");
        let logprobs = fields.count("logprobs")?.map(|n| likeliest("logprobs", n)).transpose()?;
        let format = response_format(&mut fields)?;
        fields.done()?;
        Ok(TextRequest { prompts, common, format, logprobs })
    }
}

/// `POST /v1/completions`
pub async fn completions(State(server): State<Server>, request: Request) -> Result<Response, HttpError> {
    let asked = TextRequest::read(Fields::of(request).await?)?;
    let (wants_stream, usage_too) = (asked.common.stream, asked.common.usage_too);
    let mut ask = asked.common.ask(asked.prompts, asked.logprobs);
    // OpenAI's own default, which clients rely on to get a short answer.
    ask.max_tokens = ask.max_tokens.or(Some(16));
    ask.format = asked.format;
    let head = CompletionHead::new(&server, &ask, "cmpl-")?;
    let choices = ask.choices;
    let answer = Answers::begin(server.engine.answer(ask)?, choices);
    if wants_stream {
        return stream(answer, TextWriter { head, usage_too, logprobs: Default::default() }).await;
    }
    let mut answer = answer.await?;
    let choices = answer.whole().await?;
    let choices: Vec<Value> = choices.into_iter().enumerate().map(text_choice).collect();
    Ok(answer.json(&head.message("text_completion", choices, Some(usage(answer.usage)))))
}

/// A text, token ids, or a list of either.
pub fn prompts(value: &Value) -> Result<Vec<Prompt>, &'static str> {
    let wrong = || "a string, a list of token ids, or a list of these is expected";
    let ids = |list: &Vec<Value>| -> Option<Vec<u32>> { list.iter().map(|v| integer(v)?.try_into().ok()).collect() };
    let one = |value: &Value| match value {
        Value::String(text) => Ok(Prompt::Text(text.clone())),
        Value::Array(list) => ids(list).map(Prompt::Tokens).ok_or_else(wrong),
        _ => Err(wrong()),
    };
    match value {
        Value::Array(list) if list.first().is_some_and(|first| !first.is_number()) => list.iter().map(one).collect(),
        value => Ok(vec![one(value)?]),
    }
}

fn text_choice((index, choice): (usize, CollectedAnswer)) -> Value {
    let logprobs = match choice.logprobs.is_empty() {
        true => Value::Null,
        false => text_logprobs(&choice.logprobs, &mut 0),
    };
    json!({
        "index": index,
        "text": choice.content,
        "logprobs": logprobs,
        "finish_reason": choice.end.as_ref().map(finish_reason),
    })
}

/// The older shape: lists side by side. `offset` is where the first token's text begins.
fn text_logprobs(tokens: &[Logprobs], offset: &mut usize) -> Value {
    let text = |t: &AnswerToken| String::from_utf8_lossy(&t.bytes).into_owned();
    let mut offsets = Vec::new();
    for (token, _) in tokens {
        offsets.push(*offset);
        *offset += text(token).chars().count();
    }
    let top = |(_, top): &Logprobs| top.iter().map(|t| (text(t), t.logprob.into())).collect::<Map<_, Value>>();
    json!({
        "tokens": tokens.iter().map(|(t, _)| text(t)).collect::<Vec<_>>(),
        "token_logprobs": tokens.iter().map(|(t, _)| t.logprob).collect::<Vec<_>>(),
        "top_logprobs": tokens.iter().map(top).collect::<Vec<_>>(),
        "text_offset": offsets,
    })
}

struct TextWriter {
    head: CompletionHead,
    usage_too: bool,
    /// By answer: where the next token's text begins, and the tokens that wait for text.
    logprobs: BTreeMap<usize, (usize, Vec<Logprobs>)>,
}

impl TextWriter {
    fn chunk(&mut self, index: usize, text: &str, finish: Option<&str>) -> String {
        let (offset, waiting) = self.logprobs.entry(index).or_default();
        let waiting = std::mem::take(waiting);
        let logprobs = if waiting.is_empty() { Value::Null } else { text_logprobs(&waiting, offset) };
        let choice = json!({ "index": index, "text": text, "logprobs": logprobs, "finish_reason": finish });
        event(&self.head.message("text_completion", vec![choice], None))
    }
}

impl StreamWriter for TextWriter {
    const TYPE: &'static str = EVENTS;

    fn waiting(&self) -> String {
        COMMENT.into()
    }

    fn begin(&mut self, _: &Answers) -> String {
        String::new()
    }

    fn part(&mut self, _: Usage, choice: usize, part: AnswerEvent) -> String {
        match part {
            AnswerEvent::Content(text) | AnswerEvent::Reasoning(text) => self.chunk(choice, &text, None),
            AnswerEvent::Token { token, top } => {
                self.logprobs.entry(choice).or_default().1.push((token, top.unwrap_or_default()));
                String::new()
            }
            AnswerEvent::Finished(end) => self.chunk(choice, "", Some(finish_reason(&end))),
            _ => String::new(),
        }
    }

    fn end(&mut self, answer: &Answers) -> String {
        let usage = self.usage_too.then(|| self.head.message("text_completion", vec![], Some(usage(answer.usage))));
        usage.map(|usage| event(&usage)).unwrap_or_default() + DONE
    }

    fn fail(&mut self, failure: &HttpError) -> String {
        event(&failure.body(Dialect::OpenAi))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_are_texts_or_ids_or_lists() {
        let read = |value| prompts(&value).map(|p| p.len());
        assert_eq!(read(json!("a")).unwrap(), 1);
        assert_eq!(read(json!([1, 2])).unwrap(), 1);
        assert_eq!(read(json!(["a", [1, 2]])).unwrap(), 2);
        for bad in [json!(1), json!([1, "a"]), json!([-1]), json!([[1.5]]), json!(null)] {
            assert!(read(bad.clone()).is_err(), "{bad}");
        }
    }
}
