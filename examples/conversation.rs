//! A chat with history, on the engine that all front ends use:
//! `cargo run --example conversation MODEL.gguf "What is Firelight?" "Which files does it read?"`

use std::io::Write;
use std::sync::Arc;

use firelight::conversation::{AnswerEvent, Conversation, Prompt, ResponseFormat};
use firelight::engine::{AnswerJob, Engine, EngineOptions};
use firelight::{Gpu, Model, Result, Sampling};
use serde_json::json;

async fn chat(path: &str, questions: &[String]) -> Result<()> {
    let options = EngineOptions::default();
    let gpu = Gpu::open(&options.gpu).await?;
    let model = Arc::new(Model::open(path.as_ref()).await?);
    let mut engine = Engine::load(gpu, model.clone(), options, Box::new(|_| {})).await?;

    let mut conversation = Conversation::default();
    for question in questions {
        println!("> {question}");
        conversation.messages.push(json!({ "role": "user", "content": question }));
        let prompt = Prompt::Conversation(conversation.clone());
        let prompt = prompt.prepare(&model, &ResponseFormat::Text, |_| Ok::<_, firelight::Error>(()))?;
        let job = AnswerJob::new(prompt).sampling(Sampling::greedy()).max_tokens(200);
        let (mut answer, mut content) = (engine.answer(job)?, String::new());
        while let Some(events) = answer.next().await? {
            for event in events {
                if let AnswerEvent::Content(text) = event {
                    print!("{text}");
                    let _ = std::io::stdout().flush();
                    content += &text;
                }
            }
        }
        println!();
        // The next prompt begins with the same tokens, which are still in the KV cache.
        conversation.messages.push(json!({ "role": "assistant", "content": content }));
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [path, questions @ ..] = &args[..] else { return Err("usage: conversation MODEL.gguf QUESTION...".into()) };
    Ok(pollster::block_on(chat(path, questions))?)
}
