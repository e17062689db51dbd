//! Threads that share one engine, whose answers run in the same steps:
//! `cargo run --example threads MODEL.gguf "What is Firelight?" "Which files does it read?"`

use std::sync::Arc;

use firelight::conversation::{AnswerEvent, Conversation, Prompt, ResponseFormat};
use firelight::engine::{AnswerJob, Engine, EngineHandle, EngineOptions};
use firelight::{Gpu, Model, Result, Sampling, SessionOptions};
use pollster::block_on;
use serde_json::json;

async fn load(path: &str, sequences: u32) -> Result<Engine> {
    let options = EngineOptions::default().session(SessionOptions::default().sequences(sequences));
    let gpu = Gpu::open(&options.gpu).await?;
    let model = Arc::new(Model::open(path.as_ref()).await?);
    Engine::load(gpu, model, options, Box::new(|_| {})).await
}

async fn answer(engine: &EngineHandle, question: &str) -> Result<String> {
    let messages = vec![json!({ "role": "user", "content": question })];
    let prompt = Prompt::Conversation(Conversation::new(messages));
    let prompt = prompt.prepare(engine.model(), &ResponseFormat::Text, |_| Ok::<_, firelight::Error>(()))?;
    let job = AnswerJob::new(prompt).sampling(Sampling::greedy()).max_tokens(60);

    let (mut events, mut content) = (engine.answer(job), String::new());
    while let Some(event) = events.next().await {
        if let AnswerEvent::Content(text) = event? {
            content += &text;
        }
    }
    Ok(content)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [path, questions @ ..] = &args[..] else { return Err("usage: threads MODEL.gguf QUESTION...".into()) };

    let (handle, engine_loop) = block_on(load(path, questions.len() as u32))?.into_loop()?;
    let engine = std::thread::spawn(move || block_on(engine_loop.run()));
    std::thread::scope(|scope| {
        for question in questions {
            let handle = handle.clone();
            scope.spawn(move || match block_on(answer(&handle, question)) {
                Ok(answer) => println!("{question:?}: {answer:?}"),
                Err(error) => eprintln!("{question:?}: {error}"),
            });
        }
    });
    // The loop ends with its last handle.
    drop(handle);
    Ok(engine.join().map_err(|_| "the engine's thread panicked")??)
}
