use firelight::{gpu::*, model::Model, session::*};
fn main() -> firelight::Result<()> {
    pollster::block_on(async {
        let gpu = Gpu::open(&GpuOptions::default()).await?;
        println!("{:?}", gpu.card());
        let t = std::time::Instant::now();
        let model = Model::open(std::path::Path::new(&std::env::args().nth(1).unwrap())).await?;
        let mut s = Session::new(&gpu, &model, &Options::default(), |_| {}).await?;
        println!("loaded {:?} {:?} {:?}", t.elapsed(), s.notices(), s.plan().listing().bytes());
        let tokens =
            model.tokenizer.encode(&std::env::args().nth(2).unwrap_or_default(), firelight::tokenizer::Special::ALL)?;
        let n = std::env::args().nth(3).and_then(|s| s.parse().ok()).unwrap_or(64);
        let mut g = s.generate(Request { tokens, max_tokens: Some(n), ..Default::default() })?;
        let mut ids = vec![];
        while let Some(e) = g.next().await? {
            match e {
                Event::Text(t) => print!("{t}"),
                Event::Token { id, .. } => ids.push(id),
                e => println!("\n{e:?}"),
            }
        }
        println!("{ids:?}");
        Ok(())
    })
}
