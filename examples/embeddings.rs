//! Compares texts by their embeddings: `cargo run --example embeddings MODEL.gguf "a cat" "a kitten" "a steam engine"`

use firelight::tokenizer::Special;
use firelight::{Gpu, GpuOptions, Model, Result, Session};

async fn compare(path: &str, texts: &[String]) -> Result<()> {
    let gpu = Gpu::open(&GpuOptions::default()).await?;
    let model = Model::open(path.as_ref()).await?;
    let mut session = Session::builder(&gpu, &model).load().await?;

    let mut vectors = Vec::new();
    for text in texts {
        vectors.push(session.embed(&model.tokenizer.encode(text, Special::ADD)?).await?);
    }
    for (text, vector) in texts.iter().zip(&vectors) {
        println!("{:.3}  {text}", cosine(&vectors[0], vector));
    }
    Ok(())
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [path, texts @ ..] = &args[..] else { return Err("usage: embeddings MODEL.gguf TEXT...".into()) };
    Ok(pollster::block_on(compare(path, texts))?)
}
