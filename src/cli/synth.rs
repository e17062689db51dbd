//! `synth`: random but valid models of known shapes.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use firelight::dtype::DType;
use firelight::mix::Mix;
use firelight::synth::{self, SHAPES};
use firelight::{Error, synth::Shape};

use super::{Result, term, wrong_call};

#[derive(clap::Args)]
#[command(after_help = "\
The same shape and type give the same file on every machine. An OUT that ends in a slash becomes a Hugging Face folder \
(types F32, F16 and BF16).

Example:
  firelight synth smollm2-135m Q4_K_M smollm2.gguf")]
pub struct Args {
    /// List the shapes and types
    #[arg(long)]
    list: bool,
    /// Name of a shape
    #[arg(required_unless_present = "list")]
    shape: Option<String>,
    /// Type of the weights, such as Q8_0, or the mix Q4_K_M
    #[arg(value_name = "TYPE", required_unless_present = "list")]
    types: Option<String>,
    /// The file to write
    #[arg(value_name = "OUT.gguf", required_unless_present = "list")]
    out: Option<String>,
}

pub fn run(args: Args) -> Result {
    if args.list {
        return list();
    }
    let (Some(shape), Some(types), Some(out)) = (&args.shape, &args.types, &args.out) else {
        wrong_call("synth", "a SHAPE, a TYPE and an OUT are wanted");
    };
    if out.ends_with('/') {
        return Ok(synth::write_hf(shape, types, Path::new(out))?);
    }
    synth::find(shape)?;
    let file = File::create(out).map_err(|e| Error::io(format!("cannot write {out}"), e))?;
    let mut writer = BufWriter::with_capacity(1 << 20, file);
    let written = synth::write(shape, types, &mut writer)
        .and_then(|()| writer.flush().map_err(|e| Error::io(format!("cannot write {out}"), e)));
    if written.is_err() {
        // Half a model is of no use; that it cannot be removed is not the error to tell.
        let _ = fs::remove_file(out);
    }
    Ok(written?)
}

fn list() -> Result {
    let row = |s: &Shape| {
        let experts = s.experts.map_or("-".to_string(), |e| format!("{} of {}", e.used, e.count));
        vec![
            s.name.to_string(),
            s.arch.to_string(),
            s.layers.to_string(),
            s.hidden.to_string(),
            format!("{} / {}", s.heads, s.kv_heads),
            experts,
            s.vocab.to_string(),
        ]
    };
    let rows: Vec<_> = SHAPES.iter().map(row).collect();
    let header = ["<shape", "<architecture", "layers", "width", "heads / kv", "experts", "vocabulary"];
    let types: Vec<&str> = DType::ALL.iter().map(|d| d.name()).collect();
    let mixes: Vec<&str> = Mix::names().filter(|name| !types.contains(name)).collect();
    let (types, mixes) = (types.join(", "), mixes.join(", "));
    Ok(write!(io::stdout(), "{}\ntypes: {types}\nmixes: {mixes}\n", term::table(&header, &rows))?)
}
