//! Benchmarks of the CPU code around the GPU's work: `cargo bench --features demo`, or with `-- tokenize` for some of
//! them. They read only files of this repository.
//!
//! Work per token must take far less time than a decode step (a millisecond on a fast GPU); work per byte of a file
//! must be faster than reading the file from disk.

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use firelight::dtype::DType;
use firelight::gpu::Caps;
use firelight::plan::DispatchList;
use firelight::shader::{ShaderLanguage, assemble};
use firelight::template::{ChatTemplate, TemplateInput};
use firelight::tokenizer::Special;
use firelight::{Model, Sampling, demo, memory_plan, sampler, synth};
use pollster::block_on;

fn main() {
    divan::main();
}

fn demo_model() -> Model {
    block_on(Model::from_sources(vec![demo::source()])).expect("the built-in model")
}

/// A text with prose, tables and code.
const TEXT: &str = include_str!("../README.md");

#[divan::bench]
fn tokenize(bencher: Bencher) {
    let tokenizer = demo_model().tokenizer;
    let bench = bencher.counter(BytesCount::of_str(TEXT));
    bench.bench_local(|| tokenizer.encode(black_box(TEXT), Special::NONE).expect("text"));
}

#[divan::bench]
fn detokenize(bencher: Bencher) {
    let tokenizer = demo_model().tokenizer;
    let ids = tokenizer.encode(TEXT, Special::NONE).expect("text");
    bencher.counter(ItemsCount::new(ids.len())).bench_local(|| {
        let mut stream = tokenizer.stream();
        for id in &ids {
            black_box(stream.push(*id));
        }
    });
}

/// A conversation of 32 messages.
#[divan::bench]
fn render_a_template(bencher: Bencher) {
    let template = ChatTemplate::builtin("chatml").expect("known");
    let role = |i: usize| if i.is_multiple_of(2) { "user" } else { "assistant" };
    let message = |i| serde_json::json!({"role": role(i), "content": &TEXT[..1000]});
    let input = TemplateInput::new((0..32).map(message).collect()).add_generation_prompt(false);
    bencher.bench_local(|| template.render(black_box(&input)).expect("it renders"));
}

/// The size of a large vocabulary.
const VOCABULARY: u32 = 151_936;

#[divan::bench(args = ["greedy", "filtered"])]
fn sample(bencher: Bencher, how: &str) {
    let logits: Vec<f32> = (0..VOCABULARY).map(|i| (i.wrapping_mul(2_654_435_761) >> 16) as f32 / 8192.0).collect();
    let sampling = if how == "greedy" { Sampling::greedy() } else { Sampling::default().top_k(40).top_p(0.9) };
    bencher.bench_local(|| sampler::sample(&sampling, black_box(&logits), &[], 7));
}

/// Rows of a matrix in a file's layout. The values of the bytes do not affect speed.
fn rows(dtype: DType) -> Vec<u8> {
    let bytes = 256 * dtype.row_bytes(COLS as u64).expect("whole blocks");
    (0..bytes as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8 & 0x3f).collect()
}

const COLS: usize = 4096;

/// The conversion of each weight from the file's layout to the GPU's.
#[divan::bench(args = DType::ALL)]
fn repack(bencher: Bencher, dtype: DType) {
    let data = rows(dtype);
    bencher.counter(BytesCount::new(data.len())).bench_local(|| {
        let mut planes = vec![Vec::new(); dtype.planes().len()];
        dtype.pack_rows(black_box(&data), COLS, &mut planes);
        planes
    });
}

#[divan::bench(args = DType::ALL)]
fn dequantize(bencher: Bencher, dtype: DType) {
    let data = rows(dtype);
    let mut out = vec![0.0; 256 * COLS];
    let bench = bencher.counter(BytesCount::new(data.len()));
    bench.bench_local(|| dtype.dequantize(black_box(&data), black_box(&mut out)));
}

/// A file with a model of 30 layers with random weights.
fn small_model() -> (tempfile::NamedTempFile, Model) {
    let mut file = tempfile::Builder::new().suffix(".gguf").tempfile().expect("a file");
    synth::write("smollm2-135m", "Q4_0", &mut file).expect("a model");
    let model = block_on(Model::open(file.path())).expect("a model");
    (file, model)
}

/// Reads the header, the vocabulary and the chat template.
#[divan::bench]
fn open_a_file(bencher: Bencher) {
    let (file, _) = small_model();
    bencher.bench_local(|| block_on(Model::open(file.path())).expect("a model"));
}

fn dispatch_list(model: &Model) -> DispatchList {
    let options = memory_plan::SessionOptions::default().memory(8 << 30);
    memory_plan::plan_memory(model, &Caps::baseline(), &options).expect("it fits").dispatch_list
}

/// Records a model's graph, fuses nodes, selects kernels and assigns activation memory.
#[divan::bench]
fn plan_a_model(bencher: Bencher) {
    let (_file, model) = small_model();
    bencher.bench_local(|| dispatch_list(black_box(&model)));
}

/// Assembles the WGSL of each of the model's kernels.
#[divan::bench]
fn assemble_shaders(bencher: Bencher) {
    let (_file, model) = small_model();
    let kernels = dispatch_list(&model).kernels;
    bencher.counter(ItemsCount::new(kernels.len())).bench_local(|| {
        for (_, kernel) in &kernels {
            black_box(assemble(&kernel.source, ShaderLanguage::Native));
        }
    });
}
