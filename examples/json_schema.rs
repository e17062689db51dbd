//! An answer that follows a JSON schema:
//! `cargo run --features grammar --example json_schema MODEL.gguf "Describe Paris."`

use std::sync::Arc;

use firelight::conversation::{AnswerEvent, Conversation, Prompt, ResponseFormat};
use firelight::engine::{AnswerJob, Engine, EngineOptions};
use firelight::{Gpu, Model, Result, Sampling};
use serde_json::{Value, json};

async fn describe(path: &str, question: &str) -> Result<Value, Box<dyn std::error::Error>> {
    let options = EngineOptions::default();
    let gpu = Gpu::open(&options.gpu).await?;
    let model = Arc::new(Model::open(path.as_ref()).await?);
    let mut engine = Engine::load(gpu, model.clone(), options, Box::new(|_| {})).await?;

    let schema = json!({
        "type": "object",
        "properties": {
            "name": { "type": "string", "maxLength": 20 },
            "country": { "enum": ["France", "Germany", "Italy"] },
            "inhabitants": { "type": "integer", "minimum": 1, "maximum": 100_000_000 },
        },
        "required": ["name", "country", "inhabitants"],
        "additionalProperties": false,
    });
    let format = ResponseFormat::JsonSchema(String::new(), schema);
    let messages = vec![json!({ "role": "user", "content": question })];
    let prompt = Prompt::Conversation(Conversation::new(messages));
    let prompt = prompt.prepare(&model, &format, |_| Ok::<_, firelight::Error>(()))?;
    // The grammar masks every token that would violate the schema.
    let grammar = prompt.rules.as_ref().map(|rules| engine.compile(rules)).transpose()?;
    let job = AnswerJob::new(prompt).sampling(Sampling::greedy()).max_tokens(300).grammar(grammar);

    let (mut answer, mut content) = (engine.answer(job)?, String::new());
    while let Some(events) = answer.next().await? {
        for event in events {
            if let AnswerEvent::Content(text) = event {
                content += &text;
            }
        }
    }
    Ok(serde_json::from_str(&content)?)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, path, question] = &args[..] else { return Err("usage: json_schema MODEL.gguf QUESTION".into()) };
    let answer = pollster::block_on(describe(path, question))?;
    println!("{answer}");
    Ok(())
}
