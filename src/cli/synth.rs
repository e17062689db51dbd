//! `synth`: writes valid models of known shapes with random weights.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, is_separator};

use firelight::dtype::DType;
use firelight::quant_recipe::QuantRecipe;
use firelight::synth::{self, SHAPES};
use firelight::{Error, synth::Shape};

use super::output::{self, Content};
use super::term::{self, Failure};
use super::{Result, wrong_call};

#[derive(clap::Args)]
#[command(after_help = "\
The same shape and type give the same file on every machine. An OUT that ends in a slash becomes a Hugging Face folder \
(types F32, F16 and BF16).

Example:
  firelight synth smollm2-135m Q4_K_M smollm2.gguf")]
pub struct SynthArgs {
    /// List the shapes and types
    #[arg(long)]
    list: bool,
    /// The model shape; --list prints all
    #[arg(required_unless_present = "list")]
    shape: Option<String>,
    /// The weight type, e.g. Q8_0, or a recipe, e.g. Q4_K_M
    #[arg(value_name = "TYPE", required_unless_present = "list")]
    types: Option<String>,
    /// The output file or folder
    #[arg(value_name = "OUT.gguf", required_unless_present = "list")]
    out: Option<String>,
}

pub fn run(args: SynthArgs) -> Result {
    if args.list {
        return list();
    }
    let (Some(shape), Some(types), Some(out)) = (&args.shape, &args.types, &args.out) else {
        wrong_call("synth", "SHAPE, TYPE and OUT are required");
    };
    if out.ends_with(is_separator) {
        return folder(shape, types, Path::new(out));
    }
    synth::find(shape)?;
    let mut writer = output::create(Path::new(out), Content::Model, None)?;
    synth::write(shape, types, &mut writer)?;
    Ok(writer.finish()?)
}

/// Writes a folder next to its destination and moves it there when it is complete.
fn folder(shape: &str, types: &str, path: &Path) -> Result {
    if fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some()) {
        let shown = path.display();
        return Err(Failure::usage(format!("{shown} is not empty: name a new folder, or empty it")));
    }
    let beside = path.with_added_extension("partial");
    let failed = |path: &Path, error| Error::io(format!("cannot write {}", path.display()), error);
    let parent = path.parent().map_or(Ok(()), fs::create_dir_all);
    parent.and_then(|()| fs::create_dir(&beside)).map_err(|e| failed(&beside, e))?;
    let moved = || {
        // An existing destination is empty.
        let _ = fs::remove_dir(path);
        fs::rename(&beside, path).map_err(|e| failed(path, e))
    };
    let written = synth::write_hf(shape, types, &beside).and_then(|()| moved());
    if written.is_err() {
        // Report the first error, not a failure to clean up.
        let _ = fs::remove_dir_all(&beside);
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
    let recipes: Vec<&str> = QuantRecipe::names().filter(|name| !types.contains(name)).collect();
    let (types, recipes) = (types.join(", "), recipes.join(", "));
    Ok(write!(io::stdout(), "{}\ntypes: {types}\nrecipes: {recipes}\n", term::table(&header, &rows))?)
}
