//! Synthetic models: valid files of known shapes with random weights, written at disk speed.
//!
//! Tests and benchmarks need models of every architecture, weight type and size, but no trained ones. Weights depend
//! only on the names of the shape and the tensor, so files are the same on every machine; the golden logits in
//! `tests/golden` belong to exactly these files. The spread of weights keeps next-token distributions neither flat nor
//! a single spike. Nothing is quantized here: quantized blocks are random.

mod delta_net;
mod expert_stacks;
mod hf;
mod mla;
mod random;
mod shape;
mod shapes;

pub use delta_net::DeltaNetShape;
pub use hf::write_hf;
pub use mla::MlaShape;
pub use shape::{Convs, Experts, Global, Key, Norms, QkNorm, RopeScaling, Routing, Shape};
pub use shapes::SHAPES;

use crate::checkpoint::{GgufValue, GgufWriter, Metadata, ReadFuture, Source};
use crate::dtype::DType;
use crate::quant_recipe::{ModelShape, QuantRecipe};
use crate::{Error, Result};
use random::{Stream, Values};
use std::io::Write;
use std::ops::Range;

/// Writes the GGUF file of the shape called `shape`, with weights of type `types`: a plain type such as `Q4_0` for
/// every matrix, or a recipe such as `Q4_K_M` (see [`crate::quant_recipe`]).
///
/// Norms, biases and expert routers are always F32. If rows do not divide into the type's blocks, llama.cpp's related
/// type with smaller blocks is used (Q5_0 for Q4_K, and so on), or F16.
///
/// # Errors
/// If there is no such shape or type, or `out` fails.
pub fn write(shape: &str, types: &str, out: &mut dyn Write) -> Result<()> {
    let shape = find(shape)?;
    let tensors = tensors(shape);
    let mut rest = tensors.iter();
    writer(shape, types, &tensors)?.write(out, |info, out| match rest.next() {
        Some(t) => t.stream(shape, info.dtype).write(0..info.bytes(), out),
        None => Ok(()),
    })
}

/// The file of [`write`], but every word of its weights is 1.0 in f32 (factors of rotary frequencies must be positive),
/// and they take no memory: enough to plan a model of any size.
///
/// # Errors
/// If there is no such shape or type.
pub fn without_weights(shape: &str, types: &str) -> Result<Source> {
    let found = find(shape)?;
    let (header, len) = writer(found, types, &tensors(found))?.header()?;
    let read = move |range: Range<u64>| -> ReadFuture {
        let one = 1f32.to_le_bytes();
        let byte = |at: u64| header.get(at as usize).copied().unwrap_or(one[at as usize % 4]);
        Box::pin(std::future::ready(Ok(range.map(byte).collect())))
    };
    Ok(Source::new(format!("{shape}.gguf"), len, read))
}

fn writer(shape: &Shape, types: &str, tensors: &[SynthTensor]) -> Result<GgufWriter> {
    let recipe = parse(types)?;
    let mut writer = GgufWriter::new(metadata(shape, recipe))?;
    for t in tensors {
        writer.tensor(&t.name, &t.dims, recipe.of(model_shape(shape), &t.name, &t.dims))?;
    }
    Ok(writer)
}

/// A tensor's name and dimensions.
#[cfg(test)]
pub(crate) type NamedDims = (String, Vec<u64>);

/// The keys and the tensors' names and dimensions of a shape, without weights.
#[cfg(test)]
pub(crate) fn header(shape: &str) -> Result<(Metadata, Vec<NamedDims>)> {
    let shape = find(shape)?;
    let tensors = tensors(shape).into_iter().map(|t| (t.name, t.dims)).collect();
    Ok((metadata(shape, QuantRecipe::Pure(DType::F32)), tensors))
}

/// The shape called `name`, or an error that lists them.
pub fn find(name: &str) -> Result<&'static Shape> {
    SHAPES.iter().find(|s| s.name == name).ok_or_else(|| {
        let names: Vec<_> = SHAPES.iter().map(|s| s.name).collect();
        Error::Usage(format!("no shape is called {name:?}; there are {}", names.join(", ")))
    })
}

/// A type's name means that type for every matrix, as tests and benchmarks need it.
fn parse(types: &str) -> Result<QuantRecipe> {
    DType::from_name(types).map_or_else(|| QuantRecipe::find(types), |dtype| Ok(QuantRecipe::Pure(dtype)))
}

fn model_shape(s: &Shape) -> ModelShape {
    ModelShape {
        layers: s.layers as u32,
        group: (s.heads / s.kv_heads) as u32,
        experts: s.experts.map_or(0, |e| e.count as u32),
        tied: s.tied,
    }
}

/// One tensor to write.
struct SynthTensor {
    /// GGUF name.
    name: String,
    /// GGUF order: the row length comes first.
    dims: Vec<u64>,
    values: Values,
}

impl SynthTensor {
    fn count(&self) -> u64 {
        self.dims.iter().product()
    }

    fn stream_len(&self, dtype: DType) -> u64 {
        self.count() / dtype.block_len() as u64 * dtype.block_bytes() as u64
    }

    fn stream(&self, shape: &Shape, dtype: DType) -> Stream {
        Stream::new(random::seed(&format!("{}/{}", shape.name, self.name)), &self.values, dtype, self.count())
    }
}

/// Every tensor of a model, in file order.
fn tensors(s: &Shape) -> Vec<SynthTensor> {
    let mut list = List(Vec::new());
    // Gains, here and below: attention scores have a deviation of about 2.25, logits one of about 2.5, and a block adds
    // more to the residual stream than a tied embedding does: otherwise, each token would predict itself.
    let query = if s.qk_norm == QkNorm::No { 1.5 } else { 1.0 };
    list.matrix("token_embd".into(), s.hidden, s.vocab, if s.tied { 2.5 } else { (s.hidden as f32).sqrt() });
    let output_norm = if s.convs.is_some() { "token_embd_norm" } else { "output_norm" };
    list.weights(output_norm.into(), s.hidden, Values::Signed { std: 0.2 });
    if s.layer_norm {
        list.vector("output_norm.bias".into(), s.hidden, Values::Normal { mean: 0.0, std: 0.3 });
    }
    if !s.tied {
        list.matrix("output".into(), s.hidden, s.vocab, 2.5);
    }
    if let Some(scaling) = s.rope_scaling {
        list.weights("rope_freqs".into(), s.head_dim / 2, Values::Given(rope_factors(s, scaling)));
    }
    if s.long_factors {
        for (name, factors) in ["rope_factors_long", "rope_factors_short"].into_iter().zip(long_factors(s)) {
            list.weights(name.into(), factors.len(), Values::Given(factors));
        }
    }
    if let Some(global) = s.global {
        list.weights("rope_freqs".into(), global.head_dim / 2, Values::Given(quarter_factors(global)));
    }
    if s.per_layer_embeddings > 0 {
        let all = s.layers * s.per_layer_embeddings;
        list.matrix("per_layer_token_embd".into(), all, s.vocab, (all as f32 / s.per_layer_embeddings as f32).sqrt());
        list.matrix("per_layer_model_proj".into(), s.hidden, all, 1.0);
        list.weights("per_layer_proj_norm".into(), s.per_layer_embeddings, Values::Normal { mean: 1.0, std: 0.2 });
    }
    for layer in 0..s.layers {
        let name = |part: &str| format!("blk.{layer}.{part}");
        let (kv_heads, head_dim) = s.heads_of(layer);
        let (q, kv) = (s.heads * head_dim, kv_heads * head_dim);
        let around_1 = || Values::Normal { mean: 1.0, std: 0.2 };
        if s.norms != Norms::After {
            list.weights(name("attn_norm"), s.hidden, around_1());
        }
        if s.fused {
            list.matrix(name("attn_qkv"), s.hidden, q + 2 * kv, query);
        }
        let delta_net = s.delta_net.filter(|d| (layer + 1) % d.every != 0);
        if let Some(d) = delta_net {
            delta_net::net(&mut list, s, d, name);
        }
        let conv = s.convs.filter(|c| (layer + 1) % c.every != 0);
        if let Some(c) = conv {
            list.matrix(name("shortconv.in_proj"), s.hidden, 3 * s.hidden, 1.0);
            let conv_kernel = Values::Normal { mean: 0.0, std: 0.7 };
            list.push(name("shortconv.conv.weight"), vec![c.conv_kernel as u64, s.hidden as u64], conv_kernel);
            list.matrix(name("shortconv.out_proj"), s.hidden, s.hidden, 1.5);
        }
        if let Some(l) = s.mla {
            mla::attention(&mut list, s, l, name);
        }
        let attends = delta_net.is_none() && conv.is_none() && s.mla.is_none();
        // With gated attention, the query matrix also computes the gates.
        let q_rows = if s.delta_net.is_some() { 2 * q } else { q };
        for (part, rows, gain) in [("attn_q", q_rows, query), ("attn_k", kv, query), ("attn_v", kv, 1.0)] {
            if s.fused || !attends {
                break;
            }
            if part == "attn_v" && s.global_of(layer).is_some_and(|g| g.keys_are_values) {
                continue;
            }
            list.matrix(name(part), s.hidden, rows, gain);
            if s.qkv_bias {
                list.vector(name(part) + ".bias", rows, Values::Normal { mean: 0.0, std: 0.5 });
            }
        }
        let normed = match s.qk_norm {
            QkNorm::No => None,
            QkNorm::Heads => Some((head_dim, head_dim)),
            QkNorm::Whole => Some((q, kv)),
        };
        if let Some((q, kv)) = normed.filter(|_| attends) {
            // Gemma 4 does not scale scores: its norms do.
            let by = if s.global.is_some() { (head_dim as f32).powf(-0.25) } else { 1.0 };
            let around = || Values::Normal { mean: 1.5 * by, std: 0.3 * by };
            list.weights(name("attn_q_norm"), q, around());
            list.weights(name("attn_k_norm"), kv, around());
        }
        if s.sinks {
            list.weights(name("attn_sinks"), s.heads, Values::Normal { mean: 1.0, std: 1.0 });
        }
        if attends {
            list.matrix(name("attn_output"), q, s.hidden, 1.5);
        }
        if s.out_bias {
            list.vector(name("attn_output.bias"), s.hidden, Values::Normal { mean: 0.0, std: 0.5 });
        }
        let norms: &[&str] = match s.norms {
            Norms::Before => &["ffn_norm"],
            Norms::BeforeRenamed => &["post_attention_norm"],
            Norms::Around => &["post_attention_norm", "ffn_norm", "post_ffw_norm"],
            Norms::After => &["post_attention_norm", "post_ffw_norm"],
        };
        for norm in norms {
            list.weights(name(norm), s.hidden, around_1());
        }
        match s.experts.filter(|e| (layer + 1) % e.every == 0 && layer >= e.leading_dense) {
            None if s.fused => {
                list.matrix(name("ffn_up"), s.hidden, 2 * s.ff, 1.2);
                list.matrix(name("ffn_down"), s.ff, s.hidden, 1.5);
            }
            None => dense(&mut list, s, layer, name),
            Some(e) if e.with_dense => {
                dense(&mut list, s, layer, name);
                experts_with_dense(&mut list, s, e, name);
            }
            Some(e) => {
                list.matrix(name("ffn_gate_inp"), s.hidden, e.count, 2.5);
                list.matrix(name("ffn_gate_exps"), s.hidden, e.ff, 1.5).dims.push(e.count as u64);
                list.matrix(name("ffn_up_exps"), s.hidden, e.ff, 1.0).dims.push(e.count as u64);
                list.matrix(name("ffn_down_exps"), e.ff, s.hidden, 2.0).dims.push(e.count as u64);
                if e.bias {
                    let bias = || Values::Normal { mean: 0.0, std: 0.3 };
                    list.vector(name("ffn_gate_inp.bias"), e.count, bias());
                    for (part, rows) in [("ffn_gate_exps", e.ff), ("ffn_up_exps", e.ff), ("ffn_down_exps", s.hidden)] {
                        list.push(name(part) + ".bias", vec![rows as u64, e.count as u64], bias());
                    }
                }
                if e.routing.is_some_and(|r| r.bias) {
                    list.vector(name("exp_probs_b.bias"), e.count, Values::Normal { mean: 0.0, std: 0.15 });
                }
                if e.shared {
                    list.matrix(name("ffn_gate_shexp"), s.hidden, e.ff, 1.5);
                    list.matrix(name("ffn_up_shexp"), s.hidden, e.ff, 1.0);
                    list.matrix(name("ffn_down_shexp"), e.ff, s.hidden, 1.5);
                }
                if e.gated {
                    list.weights(name("ffn_gate_inp_shexp"), s.hidden, Values::Normal { mean: 0.0, std: 0.06 });
                }
            }
        }
        if s.per_layer_embeddings > 0 {
            list.matrix(name("inp_gate"), s.hidden, s.per_layer_embeddings, 1.0);
            list.matrix(name("proj"), s.per_layer_embeddings, s.hidden, 1.0);
            list.weights(name("post_norm"), s.hidden, around_1());
        }
        if s.global.is_some() {
            list.weights(name("layer_output_scale"), 1, Values::Given(vec![1.0 - 0.05 * layer as f32]));
        }
    }
    list.0
}

fn dense(list: &mut List, s: &Shape, layer: usize, name: impl Fn(&str) -> String) {
    // Gemma 4's KV-sharing layers have wider networks.
    let ff = if s.shares(layer) { 2 * s.ff } else { s.ff };
    if !s.layer_norm {
        list.matrix(name("ffn_gate"), s.hidden, ff, 1.5);
    }
    list.matrix(name("ffn_up"), s.hidden, ff, if s.layer_norm { 1.5 } else { 1.0 });
    list.matrix(name("ffn_down"), ff, s.hidden, 1.5);
    for (part, len) in [("attn_norm", s.hidden), ("ffn_norm", s.hidden), ("ffn_up", ff), ("ffn_down", s.hidden)] {
        if s.layer_norm {
            list.vector(name(part) + ".bias", len, Values::Normal { mean: 0.0, std: 0.3 });
        }
    }
}

/// Experts in parallel with a dense network.
fn experts_with_dense(list: &mut List, s: &Shape, e: Experts, name: impl Fn(&str) -> String) {
    for norm in ["post_ffw_norm_1", "pre_ffw_norm_2", "post_ffw_norm_2"] {
        list.weights(name(norm), s.hidden, Values::Normal { mean: 1.0, std: 0.2 });
    }
    // The router's input is divided by sqrt(hidden size).
    let root = (s.hidden as f32).sqrt();
    list.vector(name("ffn_gate_inp.scale"), s.hidden, Values::Normal { mean: root, std: 0.2 * root });
    list.vector(name("ffn_down_exps.scale"), e.count, Values::Normal { mean: 1.0, std: 0.3 });
    list.matrix(name("ffn_gate_inp"), s.hidden, e.count, 5.0);
    list.matrix(name("ffn_gate_up_exps"), s.hidden, 2 * e.ff, 1.2).dims.push(e.count as u64);
    list.matrix(name("ffn_down_exps"), e.ff, s.hidden, 2.0).dims.push(e.count as u64);
}

/// Tensors under construction.
struct List(Vec<SynthTensor>);

impl List {
    fn push(&mut self, name: String, dims: Vec<u64>, values: Values) -> &mut SynthTensor {
        let at = self.0.len();
        self.0.push(SynthTensor { name, dims, values });
        &mut self.0[at]
    }

    fn vector(&mut self, name: String, len: usize, values: Values) {
        self.push(name, vec![len as u64], values);
    }

    fn weights(&mut self, name: String, len: usize, values: Values) {
        self.vector(name + ".weight", len, values);
    }

    /// A matrix that maps inputs with standard deviation 1 to outputs with standard deviation `gain`.
    fn matrix(&mut self, name: String, cols: usize, rows: usize, gain: f32) -> &mut SynthTensor {
        let values = Values::Normal { mean: 0.0, std: gain / (cols as f32).sqrt() };
        self.push(name + ".weight", vec![cols as u64, rows as u64], values)
    }
}

/// Llama 3's divisors of RoPE frequencies, as stored in `rope_freqs.weight`: 1 for wavelengths below a quarter of the
/// original context, `factor` for those beyond it, and a blend between them.
fn rope_factors(s: &Shape, scaling: RopeScaling) -> Vec<f32> {
    let context = scaling.original_context as f64;
    let factor = |i: usize| {
        let wavelength = std::f64::consts::TAU * f64::from(s.rope_base).powf(2.0 * i as f64 / s.head_dim as f64);
        let smooth = ((context / wavelength - 1.0) / 3.0).clamp(0.0, 1.0);
        1.0 / ((1.0 - smooth) / scaling.factor + smooth)
    };
    (0..s.head_dim / 2).map(|i| factor(i) as f32).collect()
}

/// Divisors that stop the rotation beyond the first quarter of a head.
fn quarter_factors(global: Global) -> Vec<f32> {
    (0..global.head_dim / 2).map(|pair| if pair < global.head_dim / 8 { 1.0 } else { 1e30 }).collect()
}

fn metadata(s: &Shape, recipe: QuantRecipe) -> Metadata {
    let mut m = Metadata::new();
    m.insert("general.architecture", s.arch);
    m.insert("general.name", s.name);
    m.insert("general.file_type", recipe.file_type());
    m.insert("general.quantization_version", 2u32);
    let mut count = |key: &str, n: usize| m.insert(format!("{}.{key}", s.arch), n as u32);
    count("block_count", s.layers);
    count("context_length", s.context);
    count("embedding_length", s.hidden);
    count("feed_forward_length", s.ff);
    count("attention.head_count", s.heads);
    count("attention.head_count_kv", s.kv_heads);
    if let Some(l) = s.mla {
        mla::keys(l).into_iter().for_each(|(key, n)| drop(count(key, n)));
    } else if s.qk_norm == QkNorm::Heads || s.head_dim * s.heads != s.hidden {
        count("attention.key_length", s.head_dim);
        count("attention.value_length", s.head_dim);
    }
    if let Some(global) = s.global {
        for part in ["key", "value"] {
            count(&format!("attention.{part}_length"), global.head_dim);
            count(&format!("attention.{part}_length_swa"), s.head_dim);
        }
        count("rope.dimension_count", global.head_dim);
        count("rope.dimension_count_swa", s.head_dim);
        count("attention.shared_kv_layers", s.kv_shared_layers);
        count("embedding_length_per_layer_input", s.per_layer_embeddings);
    }
    if s.arch == "llama" {
        count("rope.dimension_count", s.head_dim);
        count("vocab_size", s.vocab);
    }
    if let Some(e) = s.experts {
        count("expert_count", e.count);
        count("expert_used_count", e.used);
        if s.arch != "llama" {
            count("expert_feed_forward_length", e.ff);
        }
    }
    if let Some(r) = s.experts.and_then(|e| e.routing) {
        count("expert_shared_count", 1);
        count("expert_group_count", r.groups.0 as usize);
        count("expert_group_used_count", r.groups.1 as usize);
        if let Some(scoring) = r.scoring {
            count("expert_gating_func", scoring as usize);
        }
        // The converter leaves it out where it is false.
        if r.norm {
            m.insert(format!("{}.expert_weights_norm", s.arch), true);
        }
    }
    let mut count = |key: &str, n: usize| m.insert(format!("{}.{key}", s.arch), n as u32);
    for (key, n) in s.delta_net.map(delta_net::keys).into_iter().flatten() {
        count(key, n);
    }
    if let Some(c) = s.convs {
        let heads = (1..=s.layers).map(|n| if n % c.every == 0 { s.kv_heads as i32 } else { 0 });
        m.insert(format!("{}.attention.head_count_kv", s.arch), heads.collect::<Vec<i32>>());
    }
    if s.global.is_some() {
        let heads = (0..s.layers).map(|n| s.heads_of(n).0 as i32);
        if heads.clone().any(|n| n != s.kv_heads as i32) {
            m.insert(format!("{}.attention.head_count_kv", s.arch), heads.collect::<Vec<i32>>());
        }
        if s.kv_shared_layers > 0 {
            let wide = (0..s.layers).map(|n| if s.shares(n) { 2 * s.ff as i32 } else { s.ff as i32 });
            m.insert(format!("{}.feed_forward_length", s.arch), wide.collect::<Vec<i32>>());
        }
        let local: Vec<bool> = (0..s.layers).map(|n| s.global_of(n).is_none()).collect();
        m.insert(format!("{}.attention.sliding_window_pattern", s.arch), local);
        m.insert(format!("{}.rope.freq_base_swa", s.arch), 10000.0f32);
    }
    let eps = if s.layer_norm { "layer_norm_epsilon" } else { "layer_norm_rms_epsilon" };
    m.insert(format!("{}.attention.{eps}", s.arch), s.eps);
    m.insert(format!("{}.rope.freq_base", s.arch), s.rope_base);
    for (key, value) in s.keys {
        let value = match *value {
            Key::U32(n) => GgufValue::U32(n),
            Key::F32(x) => GgufValue::F32(x),
            Key::Str(word) => GgufValue::String(word.into()),
        };
        m.insert(format!("{}.{key}", s.arch), value);
    }
    tokenizer(&mut m, s);
    m
}

/// LongRoPE's divisors for long and for short contexts.
fn long_factors(s: &Shape) -> [Vec<f32>; 2] {
    [0.7, 0.05].map(|by| (0..rotated(s) / 2).map(|i| 1.0 + by * i as f32).collect())
}

/// Rotated values of a head.
fn rotated(s: &Shape) -> usize {
    let of = |(key, value): &(&str, Key)| match value {
        Key::U32(n) if *key == "rope.dimension_count" => Some(*n as usize),
        _ => None,
    };
    s.keys.iter().find_map(of).unwrap_or(s.head_dim)
}

fn tokenizer(m: &mut Metadata, s: &Shape) {
    let words = vocabulary(s.vocab);
    // 1: ordinary, 3: control.
    let kinds: Vec<i32> = words.iter().map(|w| if SPECIALS.contains(&w.as_str()) { 3 } else { 1 }).collect();
    let first_special = (s.vocab - SPECIALS.len()) as u32;
    m.insert("tokenizer.ggml.model", "gpt2");
    m.insert("tokenizer.ggml.pre", "gpt-2");
    m.insert("tokenizer.ggml.tokens", words);
    m.insert("tokenizer.ggml.token_type", kinds);
    m.insert("tokenizer.ggml.merges", MERGES.map(String::from).to_vec());
    m.insert("tokenizer.ggml.bos_token_id", first_special);
    m.insert("tokenizer.ggml.eos_token_id", s.vocab as u32 - 1);
    m.insert("tokenizer.ggml.padding_token_id", first_special);
    m.insert("tokenizer.ggml.add_bos_token", false);
    m.insert("tokenizer.chat_template", CHAT_TEMPLATE);
}

const SPECIALS: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
const MERGES: [&str; 4] = ["Ġ t", "h e", "Ġt he", "i n"];
const CHAT_TEMPLATE: &str = "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n\
    {% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// A byte-level BPE vocabulary of `size` tokens: the 256 bytes, the products of `MERGES`, words that no merge reaches,
/// and `SPECIALS` at the end.
fn vocabulary(size: usize) -> Vec<String> {
    let merged = MERGES.iter().map(|m| m.replace(' ', ""));
    let mut words: Vec<String> = byte_letters().into_iter().map(String::from).chain(merged).collect();
    words.extend((words.len()..size.saturating_sub(SPECIALS.len())).map(|i| format!("Ġw{i}")));
    words.extend(SPECIALS.map(String::from));
    words
}

/// GPT-2's letter for each byte, in byte order: printable Latin-1 maps to itself, the rest to U+0100 and up.
fn byte_letters() -> [char; 256] {
    let mut next = 0x100u32;
    std::array::from_fn(|b| match b as u32 {
        b @ (0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff) => char::from(b as u8),
        _ => {
            next += 1;
            char::from_u32(next - 1).unwrap_or_default()
        }
    })
}
