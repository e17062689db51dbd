//! A model that is not a file: bytes in memory, behind a reader that counts the bytes it reads. An HTTP client with
//! range requests or an encrypted archive works the same way. `cargo run --example custom_source MODEL.gguf`

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use firelight::checkpoint::{ReadFuture, Source};
use firelight::tokenizer::Special;
use firelight::{Event, Gpu, GpuOptions, Model, Request, Result, Sampling, Session};

async fn run(bytes: Arc<[u8]>) -> Result<()> {
    let count = Arc::new(AtomicU64::new(0));
    let (len, counter) = (bytes.len() as u64, count.clone());
    // Firelight asks only for ranges within the length; the future resolves to exactly these bytes.
    let source = Source::new("memory/model.gguf", len, move |range: Range<u64>| -> ReadFuture {
        let (bytes, counter) = (bytes.clone(), counter.clone());
        Box::pin(async move {
            counter.fetch_add(range.end - range.start, Ordering::Relaxed);
            Ok(bytes[range.start as usize..range.end as usize].to_vec())
        })
    });

    let model = Model::from_sources(vec![source]).await?;
    println!("the header took {} bytes", count.load(Ordering::Relaxed));
    let gpu = Gpu::open(&GpuOptions::default()).await?;
    let mut session = Session::builder(&gpu, &model).load().await?;
    println!("the weights took {} of {len} bytes", count.load(Ordering::Relaxed));

    let tokens = model.tokenizer.encode("Once upon a time", Special::ADD)?;
    let sampling = Sampling::greedy();
    let mut answer = session.generate(Request::new(tokens).sampling(sampling).max_tokens(8))?;
    while let Some(event) = answer.next().await? {
        if let Event::Finished { timings, .. } = event {
            println!("generated {} tokens", timings.generated_tokens);
        }
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, path] = &args[..] else { return Err("usage: custom_source MODEL.gguf".into()) };
    Ok(pollster::block_on(run(std::fs::read(path)?.into()))?)
}
