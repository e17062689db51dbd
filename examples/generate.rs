//! One streamed answer: `cargo run --example generate MODEL.gguf "Why is the sky blue?"`

use std::io::Write;

use firelight::template::TemplateInput;
use firelight::{Event, Gpu, GpuOptions, Model, Request, Session};

async fn generate(path: &str, question: &str) -> firelight::Result<()> {
    let gpu = Gpu::open(&GpuOptions::default()).await?;
    let model = Model::open(path.as_ref()).await?;
    let mut session = Session::builder(&gpu, &model).load().await?;

    let messages = vec![serde_json::json!({ "role": "user", "content": question })];
    let tokens = model.encode_chat(TemplateInput::new(messages))?;
    let mut answer = session.generate(Request::new(tokens))?;
    while let Some(event) = answer.next().await? {
        if let Event::Text(text) = event {
            print!("{text}");
            let _ = std::io::stdout().flush();
        }
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, path, question] = &args[..] else { return Err("usage: generate MODEL.gguf QUESTION".into()) };
    Ok(pollster::block_on(generate(path, question))?)
}
