//! Many sequences at once (continuous batching): `cargo run --example batch MODEL.gguf "One" "Two" "Three"`
//!
//! Continues each text. All sequences share every decode step, so that together they take little longer than one.

use std::collections::BTreeMap;

use firelight::tokenizer::Special;
use firelight::{Event, Gpu, GpuOptions, Model, Request, Result, Sampling, Session};

async fn batch(path: &str, texts: &[String]) -> Result<()> {
    let gpu = Gpu::open(&GpuOptions::default()).await?;
    let model = Model::open(path.as_ref()).await?;
    // Requests beyond this many sequences wait until one is free.
    let mut session = Session::builder(&gpu, &model).sequences(4).load().await?;

    let mut answers = BTreeMap::new();
    for text in texts {
        let tokens = model.tokenizer.encode(text, Special::ADD)?;
        let sampling = Sampling::greedy();
        let id = session.submit(Request::new(tokens).sampling(sampling).max_tokens(16))?;
        answers.insert(id, text.clone());
    }
    while let Some((id, event)) = session.next().await? {
        match event {
            Event::Text(text) => *answers.entry(id).or_default() += &text,
            Event::Finished { timings, .. } => println!("{} tokens: {:?}", timings.generated_tokens, answers[&id]),
            _ => {}
        }
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [path, texts @ ..] = &args[..] else { return Err("usage: batch MODEL.gguf TEXT...".into()) };
    Ok(pollster::block_on(batch(path, texts))?)
}
