//! `synth SHAPE TYPES FILE`: writes a synthetic model, as a GGUF file or, when FILE ends in a slash, a Hugging Face folder.

use std::fs::File;
use std::io::{BufWriter, Write};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [shape, types, file] = &args[..] else { return Err("usage: synth SHAPE TYPES FILE".into()) };
    if file.ends_with('/') {
        return Ok(firelight::synth::write_hf(shape, types, file.as_ref())?);
    }
    let mut out = BufWriter::with_capacity(1 << 20, File::create(file)?);
    firelight::synth::write(shape, types, &mut out)?;
    Ok(out.flush()?)
}
