//! `quantize`: writes a quantized copy of a model as a standard GGUF file.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::thread;

use firelight::checkpoint::{Checkpoint, GgufWriter, Metadata, TensorInfo};
use firelight::dtype::DType;
use firelight::graph::RopeStyle;
use firelight::model::load::Progress;
use firelight::model::spec::ModelSpec;
use firelight::quant_recipe::{ModelShape, QuantRecipe};
use firelight::tokenizer;
use firelight::{Error, Result as LibResult};

use super::Result;
use super::args::ModelArg;
use super::output::{self, Content};
use super::term::{self, Failure};

/// Bytes of the file that are read together.
const CHUNK: u64 = 32 << 20;

#[derive(clap::Args)]
#[command(after_help = "\
TYPE is a recipe of published files (Q4_K_M, Q5_K_M, Q6_K, Q8_0, Q3_K_M, Q2_K, IQ4_XS ...; a wrong name lists all) \
or, with --pure, a type for every matrix. Norms, biases and routers stay F32. OUT.gguf may not be a file of MODEL; it \
gets its name when it is complete.

Examples:
  firelight quantize llama-f16.gguf llama-q4_k_m.gguf Q4_K_M
  firelight quantize qwen3-folder/ qwen3-q8_0.gguf Q8_0")]
pub struct QuantizeArgs {
    #[command(flatten)]
    model: ModelArg,
    /// The output file
    #[arg(value_name = "OUT.gguf")]
    output: PathBuf,
    /// The weight type or recipe
    #[arg(value_name = "TYPE")]
    recipe: String,
    /// Use the same type for every matrix
    #[arg(long)]
    pure: bool,
    /// Quantize weights that are already quantized, at a loss of quality
    #[arg(long)]
    requantize: bool,
}

pub async fn run(args: QuantizeArgs) -> Result {
    let recipe = match args.pure {
        false => QuantRecipe::find(&args.recipe)?,
        true => {
            QuantRecipe::Pure(DType::from_name(&args.recipe).filter(|dtype| dtype.can_quantize()).ok_or_else(|| {
                let names: Vec<&str> =
                    DType::ALL.iter().filter(|dtype| dtype.can_quantize()).map(|dtype| dtype.name()).collect();
                Failure::usage(format!("unknown type {:?}; choose one of {}", args.recipe, names.join(", ")))
            })?)
        }
    };
    let place = args.model.place().await?;
    let checkpoint = place.open().await?;
    check(&args, &checkpoint)?;
    let spec = ModelSpec::read(&checkpoint).await?;
    let mut out = output::create(&args.output, Content::Model, Some(&place))?;
    let tally = write(&checkpoint, recipe, &spec, &mut out)?;
    out.finish()?;
    let before: u64 = checkpoint.tensors.values().map(TensorInfo::bytes).sum();
    Ok(tally.print(before)?)
}

fn check(args: &QuantizeArgs, checkpoint: &Checkpoint) -> Result {
    let rounded = |t: &&TensorInfo| !matches!(t.dtype, DType::F32 | DType::F16 | DType::BF16);
    match checkpoint.tensors.values().find(rounded) {
        Some(t) if !args.requantize => Err(Failure::usage(format!(
            "{} is already {} (tensor {}): use an F16, BF16 or F32 file, or --requantize at a loss of quality",
            args.model.name.display(),
            t.dtype,
            t.name
        ))),
        _ => Ok(()),
    }
}

fn model_shape(checkpoint: &Checkpoint, spec: &ModelSpec) -> ModelShape {
    ModelShape {
        layers: spec.layers.len() as u32,
        group: spec.attentions().map(|attention| attention.heads / attention.kv_heads).min().unwrap_or(1),
        experts: spec.moes().map(|moe| moe.router.experts).max().unwrap_or(0),
        tied: !checkpoint.tensors.contains_key("output.weight"),
    }
}

/// Totals for the weights of one type.
#[derive(Default)]
struct Tally(BTreeMap<DType, TypeTotal>);

#[derive(Clone, Copy, Default)]
struct TypeTotal {
    tensors: u64,
    bytes: u64,
    /// Sums of squared errors and of squared weights.
    wrong: f64,
    squares: f64,
}

impl Tally {
    fn print(&self, before: u64) -> io::Result<()> {
        let row = |(dtype, sum): (&DType, &TypeTotal)| {
            let error = 100.0 * (sum.wrong / sum.squares.max(f64::MIN_POSITIVE)).sqrt();
            vec![dtype.to_string(), sum.tensors.to_string(), term::bytes(sum.bytes), format!("{error:.3} %")]
        };
        let rows: Vec<_> = self.0.iter().map(row).collect();
        let after: u64 = self.0.values().map(|sum| sum.bytes).sum();
        let mut out = io::stderr();
        write!(out, "{}", term::table(&["<type", "tensors", "size", "error"], &rows))?;
        writeln!(out, "{} -> {}", term::bytes(before), term::bytes(after))
    }
}

/// The file's metadata, with a Hugging Face tokenizer converted to GGUF keys.
fn metadata(checkpoint: &Checkpoint, recipe: QuantRecipe) -> LibResult<Metadata> {
    let mut metadata = checkpoint.metadata.clone();
    metadata.insert("general.file_type", recipe.file_type());
    metadata.insert("general.quantization_version", 2u32);
    for key in ["split.no", "split.count", "split.tensors.count"] {
        metadata.remove(key);
    }
    if let Some(json) = &checkpoint.tokenizer_json {
        let rows = checkpoint.tensor("token_embd.weight")?.rows();
        for (key, value) in tokenizer::to_gguf(json, rows as usize)? {
            metadata.insert(key, value);
        }
        let arch = metadata.get_str("general.architecture")?.unwrap_or_default().to_string();
        metadata.remove(&format!("{arch}.rope.pairing"));
    }
    Ok(metadata)
}

/// Rows per head of tensors whose rows need reordering. GGUF's llama files interleave the rows of q and k that RoPE
/// pairs; Hugging Face keeps them half a head apart.
fn paired_rows(checkpoint: &Checkpoint, spec: &ModelSpec, tensor: &str) -> Option<usize> {
    let rotated = [".attn_q.", ".attn_k."].iter().any(|part| tensor.contains(part));
    let moves = checkpoint.tokenizer_json.is_some()
        && spec.ropes[0].style == RopeStyle::Neox
        && spec.arch.rope_style == RopeStyle::Interleaved;
    spec.attentions().next().filter(|_| rotated && moves).map(|attention| attention.head_dim as usize)
}

/// Interleaves rows `i` and `i + head / 2` of every head.
fn pair_rows(bytes: &[u8], row_bytes: usize, head: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    for head_rows in bytes.chunks_exact(row_bytes * head) {
        for i in 0..head {
            let from = i / 2 + i % 2 * (head / 2);
            out.extend_from_slice(&head_rows[from * row_bytes..][..row_bytes]);
        }
    }
    out
}

fn write(checkpoint: &Checkpoint, recipe: QuantRecipe, spec: &ModelSpec, out: &mut impl Write) -> LibResult<Tally> {
    let shape = model_shape(checkpoint, spec);
    let metadata = metadata(checkpoint, recipe)?;
    let mut writer = GgufWriter::new(metadata)?;
    for t in checkpoint.tensors.values() {
        writer.tensor(&t.name, &t.dims, target(recipe, shape, t))?;
    }
    let (mut tally, mut bar) = (Tally::default(), term::bytes_bar("quantizing"));
    let (mut done, total) = (0, checkpoint.tensors.values().map(TensorInfo::bytes).sum());
    writer.write(out, |to, out| {
        let from = checkpoint.tensor(&to.name).map_err(io::Error::other)?;
        let sum = tally.0.entry(to.dtype).or_default();
        (sum.tensors, sum.bytes) = (sum.tensors + 1, sum.bytes + to.bytes());
        let head = paired_rows(checkpoint, spec, &to.name);
        let rows = (CHUNK / from.row_bytes()).max(1).next_multiple_of(head.unwrap_or(1) as u64);
        for row in (0..from.rows()).step_by(rows as usize) {
            let range = row * from.row_bytes()..(row + rows).min(from.rows()) * from.row_bytes();
            let mut bytes = pollster::block_on(checkpoint.read(from, range)).map_err(io::Error::other)?;
            if let Some(head) = head {
                bytes = pair_rows(&bytes, from.row_bytes() as usize, head);
            }
            let (rounded, wrong, squares) = round(from, to.dtype, &bytes).map_err(io::Error::other)?;
            (sum.wrong, sum.squares) = (sum.wrong + wrong, sum.squares + squares);
            out.write_all(&rounded)?;
            done += bytes.len() as u64;
            bar(Progress { done, total });
        }
        Ok(())
    })?;
    Ok(tally)
}

/// Vectors are not quantized: they are small, and GGUF files keep them in F32.
fn target(recipe: QuantRecipe, shape: ModelShape, t: &TensorInfo) -> DType {
    match recipe.of(shape, &t.name, &t.dims) {
        DType::F32 => t.dtype,
        dtype => dtype,
    }
}

/// Quantizes whole rows to `dtype` on all cores. Returns the bytes and the sums of squared errors and of squared
/// weights.
fn round(from: &TensorInfo, dtype: DType, rows: &[u8]) -> LibResult<(Vec<u8>, f64, f64)> {
    if from.dtype == dtype {
        return Ok((rows.to_vec(), 0.0, 0.0));
    }
    let row_bytes = from.row_bytes() as usize;
    let cols = from.dims[0] as usize;
    let out_bytes = cols / dtype.block_len() * dtype.block_bytes();
    let count = rows.len() / row_bytes;
    let share = count.div_ceil(thread::available_parallelism().map_or(1, usize::from));
    let mut out = vec![0; count * out_bytes];
    let sums = thread::scope(|scope| {
        let parts = rows.chunks(share * row_bytes).zip(out.chunks_mut(share * out_bytes));
        let threads: Vec<_> =
            parts.map(|(rows, out)| scope.spawn(|| round_part(from.dtype, dtype, rows, out))).collect();
        threads.into_iter().map(|t| t.join().expect("rounding does not panic")).collect::<Vec<_>>()
    });
    let (wrong, squares) = sums.into_iter().fold((0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1));
    if !squares.is_finite() {
        return Err(Error::format(format!("tensor {} contains infinities or NaNs", from.name)));
    }
    Ok((out, wrong, squares))
}

fn round_part(from: DType, to: DType, bytes: &[u8], out: &mut [u8]) -> (f64, f64) {
    let mut x = vec![0.0; bytes.len() / from.block_bytes() * from.block_len()];
    from.dequantize(bytes, &mut x);
    to.quantize(&x, out);
    let mut y = vec![0.0; x.len()];
    to.dequantize(out, &mut y);
    let wrong = x.iter().zip(&y).map(|(x, y)| (f64::from(*x) - f64::from(*y)).powi(2)).sum();
    (wrong, x.iter().map(|x| f64::from(*x).powi(2)).sum())
}
