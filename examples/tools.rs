//! A tool call, and the answer with its result:
//! `cargo run --features grammar --example tools MODEL.gguf "What is the weather in Rome?"`

use std::sync::Arc;

use firelight::conversation::{AnswerEvent, Conversation, Prompt, ResponseFormat, ToolChoice};
use firelight::engine::{AnswerJob, Engine, EngineOptions};
use firelight::{Gpu, Model, Sampling};
use serde_json::{Value, json};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// An answer: text, or a tool call (its id, name, and arguments).
#[derive(Default)]
struct Answer {
    content: String,
    call: Option<(String, String, String)>,
}

async fn answer(engine: &mut Engine, conversation: &Conversation) -> Result<Answer> {
    let prompt = Prompt::Conversation(conversation.clone());
    let prompt = prompt.prepare(&engine.model().clone(), &ResponseFormat::Text, |_| Ok::<_, firelight::Error>(()))?;
    let grammar = prompt.rules.as_ref().map(|rules| engine.compile(rules)).transpose()?;
    let job = AnswerJob::new(prompt).sampling(Sampling::greedy()).max_tokens(200).grammar(grammar);

    let (mut steps, mut answer) = (engine.answer(job)?, Answer::default());
    while let Some(events) = steps.next().await? {
        for event in events {
            match event {
                AnswerEvent::Content(text) => answer.content += &text,
                AnswerEvent::ToolCall { id, name } => answer.call = Some((id, name, String::new())),
                AnswerEvent::Arguments(text) => {
                    if let Some((.., arguments)) = &mut answer.call {
                        *arguments += &text;
                    }
                }
                _ => {}
            }
        }
    }
    Ok(answer)
}

async fn run(path: &str, question: &str) -> Result<()> {
    let options = EngineOptions::default();
    let gpu = Gpu::open(&options.gpu).await?;
    let model = Arc::new(Model::open(path.as_ref()).await?);
    let mut engine = Engine::load(gpu, model, options, Box::new(|_| {})).await?;

    let weather = json!({ "type": "function", "function": {
        "name": "get_weather",
        "description": "The current weather in a city.",
        "parameters": {
            "type": "object",
            "properties": { "city": { "type": "string", "maxLength": 20 } },
            "required": ["city"],
            "additionalProperties": false,
        },
    }});
    let mut conversation = Conversation::new(vec![json!({ "role": "user", "content": question })])
        .tools(vec![weather])
        // `ToolChoice::Auto` lets the model decide.
        .tool_choice(ToolChoice::Required);
    let Some((id, name, arguments)) = answer(&mut engine, &conversation).await?.call else {
        return Err("the model called no tool".into());
    };
    println!("{name}({arguments})");

    let arguments: Value = serde_json::from_str(&arguments)?;
    let result = format!("{}: 24 degrees, sunny", arguments["city"].as_str().unwrap_or_default());
    let function = json!({ "name": name, "arguments": arguments });
    conversation.messages.extend([
        json!({ "role": "assistant", "content": "", "tool_calls": [{ "id": id, "type": "function", "function": function }] }),
        json!({ "role": "tool", "tool_call_id": id, "content": result }),
    ]);
    conversation.tool_choice = ToolChoice::Auto;
    println!("{}", answer(&mut engine, &conversation).await?.content);
    Ok(())
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let [_, path, question] = &args[..] else { return Err("usage: tools MODEL.gguf QUESTION".into()) };
    pollster::block_on(run(path, question))
}
