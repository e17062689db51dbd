//! Synthetic models: files of known shapes with random weights, as valid as published ones and as fast to write as the disk.
//!
//! Tests and benchmarks need models of every architecture, weight type and size, and none of them needs a trained one.
//! Weights depend only on the shape's and the tensor's name, so the same model comes out on every machine: the golden
//! logits checked in under `tests/golden` belong to exactly these files. Their spread is chosen so that a model's
//! next-token distribution is neither flat nor one spike. No weights are quantized here: quantized blocks are random.

mod hf;
mod random;
mod shapes;

use std::io::Write;

pub use hf::write_hf;
pub use shapes::{Experts, SHAPES, Shape, Stretch};

use crate::dtype::DType;
use crate::{Error, Result};
use random::{Stream, Values};

/// Where tensor data begins, and each tensor in it: at multiples of this many bytes.
const ALIGNMENT: u64 = 32;

/// Writes the GGUF file of the shape called `shape`, with weights of type `types`: a plain type such as `Q4_0` for
/// every matrix, or `Q4_K_M`, which mixes Q4_K and Q6_K as llama.cpp's rule for a model of this form does.
///
/// Norms, biases and expert routers are F32 in any case. Rows that cannot be cut into the type's blocks get a smaller
/// relative of it, as llama.cpp chooses (Q4_K becomes Q5_0, and so on), or F16.
pub fn write(shape: &str, types: &str, out: &mut dyn Write) -> Result<()> {
    let shape = find(shape)?;
    let types = Types::parse(types)?;
    let tensors = tensors(shape);
    let mut head = Header::default();
    metadata(&mut head, shape, types);
    let mut table = Vec::new();
    let mut offset = 0;
    for t in &tensors {
        let dtype = types.of(shape, t);
        table.string(&t.name);
        table.u32(t.dims.len() as u32);
        t.dims.iter().for_each(|&d| table.u64(d));
        table.u32(dtype.gguf_id());
        table.u64(offset);
        offset += t.stream_len(dtype).next_multiple_of(ALIGNMENT);
    }
    let mut bytes = b"GGUF".to_vec();
    bytes.u32(3);
    bytes.u64(tensors.len() as u64);
    bytes.u64(head.count);
    bytes.extend(head.bytes);
    bytes.extend(table);
    bytes.resize(bytes.len().next_multiple_of(ALIGNMENT as usize), 0);
    write_all(out, &bytes)?;
    for t in &tensors {
        let stream = t.stream(shape, types.of(shape, t));
        stream.write(0..stream.len(), out)?;
        write_all(out, &[0; ALIGNMENT as usize][..(stream.len().wrapping_neg() % ALIGNMENT) as usize])?;
    }
    Ok(())
}

/// The shape called `name`, or an error that lists them.
pub fn find(name: &str) -> Result<&'static Shape> {
    SHAPES.iter().find(|s| s.name == name).ok_or_else(|| {
        let names: Vec<_> = SHAPES.iter().map(|s| s.name).collect();
        Error::Usage(format!("no shape is called {name:?}; there are {}", names.join(", ")))
    })
}

fn write_all(out: &mut dyn Write, bytes: &[u8]) -> Result<()> {
    out.write_all(bytes).map_err(|e| Error::io("writing a synthetic model", e))
}

/// Which type each matrix gets.
#[derive(Clone, Copy, PartialEq)]
enum Types {
    Plain(DType),
    Q4KM,
}

impl Types {
    fn parse(name: &str) -> Result<Self> {
        if name == "Q4_K_M" {
            return Ok(Types::Q4KM);
        }
        DType::ALL.into_iter().find(|d| d.name() == name).map(Types::Plain).ok_or_else(|| {
            let names: Vec<_> = DType::ALL.iter().map(|d| d.name()).collect();
            Error::Usage(format!("no weight type is called {name:?}; there are {}, Q4_K_M", names.join(", ")))
        })
    }

    fn of(self, shape: &Shape, tensor: &Tensor) -> DType {
        if tensor.f32 {
            return DType::F32;
        }
        let wanted = match self {
            Types::Plain(dtype) => dtype,
            Types::Q4KM => q4_k_m(shape, tensor),
        };
        let fallback = match wanted {
            DType::Q2K | DType::Q3K | DType::IQ4XS => DType::IQ4NL,
            DType::Q4K => DType::Q5_0,
            DType::Q5K => DType::Q5_1,
            DType::Q6K => DType::Q8_0,
            other => other,
        };
        let fits = |d: &DType| tensor.dims[0].is_multiple_of(d.block_len() as u64);
        [wanted, fallback].into_iter().find(fits).unwrap_or(DType::F16)
    }

    /// `general.file_type`, llama.cpp's number for the most common type of the file.
    fn file_type(self) -> u32 {
        match self {
            Types::Q4KM => 15,
            Types::Plain(dtype) => match dtype {
                DType::F32 => 0,
                DType::F16 => 1,
                DType::Q4_0 => 2,
                DType::Q4_1 => 3,
                DType::Q8_0 => 7,
                DType::Q5_0 => 8,
                DType::Q5_1 => 9,
                DType::Q2K => 10,
                DType::Q3K => 11,
                DType::Q4K => 14,
                DType::Q5K => 16,
                DType::Q6K => 18,
                DType::IQ4NL => 25,
                DType::IQ4XS => 30,
                DType::BF16 => 32,
                DType::MXFP4 => 38,
            },
        }
    }
}

/// llama.cpp's Q4_K_M: more bits for the output head, and for the value and down projections of some layers.
fn q4_k_m(shape: &Shape, tensor: &Tensor) -> DType {
    let head = if shape.tied { "token_embd" } else { "output" };
    let (layer, part) = tensor.place();
    let layers = shape.layers;
    let more = layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2;
    let eight_experts = shape.experts.is_some_and(|e| e.count == 8);
    match part {
        "attn_k" | "attn_v" if eight_experts => DType::Q8_0,
        "attn_output" if eight_experts => DType::Q5K,
        "attn_v" | "ffn_down" | "ffn_down_exps" if more => DType::Q6K,
        part if part == head => DType::Q6K,
        _ => DType::Q4K,
    }
}

/// One tensor to write.
struct Tensor {
    /// GGUF name.
    name: String,
    /// GGUF order: the row length comes first.
    dims: Vec<u64>,
    values: Values,
    /// Whether it stays F32 whatever the file's type.
    f32: bool,
}

impl Tensor {
    fn count(&self) -> u64 {
        self.dims.iter().product()
    }

    fn stream_len(&self, dtype: DType) -> u64 {
        self.count() / dtype.block_len() as u64 * dtype.block_bytes() as u64
    }

    fn stream(&self, shape: &Shape, dtype: DType) -> Stream {
        Stream::new(random::seed(&format!("{}/{}", shape.name, self.name)), &self.values, dtype, self.count())
    }

    /// Layer (0 outside the blocks) and the name without the block's number and the kind at its end.
    fn place(&self) -> (usize, &str) {
        let name = self.name.rsplit_once('.').map_or(self.name.as_str(), |(start, _)| start);
        match name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) {
            Some((layer, part)) => (layer.parse().unwrap_or(0), part),
            None => (0, name),
        }
    }
}

/// Every tensor of a model, in file order.
fn tensors(s: &Shape) -> Vec<Tensor> {
    let mut list = List(Vec::new());
    let (q, kv) = (s.heads * s.head_dim, s.kv_heads * s.head_dim);
    // Gains, here and below: queries against keys vary by about 2.25, logits by about 2.5, and a block adds more to
    // the residual than a tied embedding brings, which would otherwise predict its own token.
    let query = if s.qk_norm { 1.0 } else { 1.5 };
    list.matrix("token_embd".into(), s.hidden, s.vocab, if s.tied { 2.5 } else { (s.hidden as f32).sqrt() });
    list.norm("output_norm".into(), s.hidden, Values::Signed { std: 0.2 });
    if !s.tied {
        list.matrix("output".into(), s.hidden, s.vocab, 2.5);
    }
    if let Some(stretch) = s.rope_stretch {
        list.norm("rope_freqs".into(), s.head_dim / 2, Values::Given(rope_factors(s, stretch)));
    }
    for layer in 0..s.layers {
        let name = |part: &str| format!("blk.{layer}.{part}");
        let around_1 = || Values::Normal { mean: 1.0, std: 0.2 };
        list.norm(name("attn_norm"), s.hidden, around_1());
        for (part, rows, gain) in [("attn_q", q, query), ("attn_k", kv, query), ("attn_v", kv, 1.0)] {
            list.matrix(name(part), s.hidden, rows, gain);
            if s.qkv_bias {
                list.vector(name(part) + ".bias", rows, Values::Normal { mean: 0.0, std: 0.5 });
            }
        }
        if s.qk_norm {
            list.norm(name("attn_q_norm"), s.head_dim, Values::Normal { mean: 1.5, std: 0.3 });
            list.norm(name("attn_k_norm"), s.head_dim, Values::Normal { mean: 1.5, std: 0.3 });
        }
        list.matrix(name("attn_output"), q, s.hidden, 1.5);
        list.norm(name("ffn_norm"), s.hidden, around_1());
        match s.experts {
            None => {
                list.matrix(name("ffn_gate"), s.hidden, s.ff, 1.5);
                list.matrix(name("ffn_up"), s.hidden, s.ff, 1.0);
                list.matrix(name("ffn_down"), s.ff, s.hidden, 1.5);
            }
            Some(e) => {
                list.matrix(name("ffn_gate_inp"), s.hidden, e.count, 1.5).f32 = true;
                list.matrix(name("ffn_gate_exps"), s.hidden, e.ff, 1.5).dims.push(e.count as u64);
                list.matrix(name("ffn_up_exps"), s.hidden, e.ff, 1.0).dims.push(e.count as u64);
                list.matrix(name("ffn_down_exps"), e.ff, s.hidden, 2.0).dims.push(e.count as u64);
            }
        }
    }
    list.0
}

/// Tensors under construction.
struct List(Vec<Tensor>);

impl List {
    fn push(&mut self, name: String, dims: Vec<u64>, values: Values) -> &mut Tensor {
        let f32 = dims.len() == 1;
        let at = self.0.len();
        self.0.push(Tensor { name, dims, values, f32 });
        &mut self.0[at]
    }

    fn vector(&mut self, name: String, len: usize, values: Values) {
        self.push(name, vec![len as u64], values);
    }

    fn norm(&mut self, name: String, len: usize, values: Values) {
        self.vector(name + ".weight", len, values);
    }

    /// A matrix that turns inputs of deviation 1 into outputs of deviation `gain`.
    fn matrix(&mut self, name: String, cols: usize, rows: usize, gain: f32) -> &mut Tensor {
        let values = Values::Normal { mean: 0.0, std: gain / (cols as f32).sqrt() };
        self.push(name + ".weight", vec![cols as u64, rows as u64], values)
    }
}

/// What Llama 3 divides each RoPE frequency by, as its `rope_freqs.weight` holds it: 1 for wavelengths under a quarter of
/// the original context, `factor` above all of it, and between them a blend of the two frequencies.
fn rope_factors(s: &Shape, stretch: Stretch) -> Vec<f32> {
    let context = stretch.original_context as f64;
    let factor = |i: usize| {
        let wavelength = std::f64::consts::TAU * f64::from(s.rope_base).powf(2.0 * i as f64 / s.head_dim as f64);
        let smooth = ((context / wavelength - 1.0) / 3.0).clamp(0.0, 1.0);
        1.0 / ((1.0 - smooth) / stretch.factor + smooth)
    };
    (0..s.head_dim / 2).map(|i| factor(i) as f32).collect()
}

fn metadata(head: &mut Header, s: &Shape, types: Types) {
    head.string("general.architecture", s.arch);
    head.string("general.name", s.name);
    head.u32("general.file_type", types.file_type());
    head.u32("general.quantization_version", 2);
    head.u32("general.alignment", ALIGNMENT as u32);
    let mut arch_u32 = |key: &str, v: usize| head.u32(&format!("{}.{key}", s.arch), v as u32);
    arch_u32("block_count", s.layers);
    arch_u32("context_length", s.context);
    arch_u32("embedding_length", s.hidden);
    arch_u32("feed_forward_length", s.ff);
    arch_u32("attention.head_count", s.heads);
    arch_u32("attention.head_count_kv", s.kv_heads);
    if s.qk_norm || s.head_dim * s.heads != s.hidden {
        arch_u32("attention.key_length", s.head_dim);
        arch_u32("attention.value_length", s.head_dim);
    }
    if s.arch == "llama" {
        arch_u32("rope.dimension_count", s.head_dim);
        arch_u32("vocab_size", s.vocab);
    }
    if let Some(e) = s.experts {
        arch_u32("expert_count", e.count);
        arch_u32("expert_used_count", e.used);
        if s.arch != "llama" {
            arch_u32("expert_feed_forward_length", e.ff);
        }
    }
    head.f32(&format!("{}.attention.layer_norm_rms_epsilon", s.arch), s.eps);
    head.f32(&format!("{}.rope.freq_base", s.arch), s.rope_base);
    let words = vocabulary(s.vocab);
    head.string("tokenizer.ggml.model", "gpt2");
    head.string("tokenizer.ggml.pre", "gpt-2");
    head.strings("tokenizer.ggml.tokens", &words);
    // 1: ordinary, 3: control.
    let kinds: Vec<i32> = words.iter().map(|w| if SPECIALS.contains(&w.as_str()) { 3 } else { 1 }).collect();
    head.i32s("tokenizer.ggml.token_type", &kinds);
    head.strings("tokenizer.ggml.merges", &MERGES.map(String::from));
    head.u32("tokenizer.ggml.bos_token_id", (s.vocab - SPECIALS.len()) as u32);
    head.u32("tokenizer.ggml.eos_token_id", (s.vocab - 1) as u32);
    head.u32("tokenizer.ggml.padding_token_id", (s.vocab - SPECIALS.len()) as u32);
    head.bool("tokenizer.ggml.add_bos_token", false);
    head.string("tokenizer.chat_template", CHAT_TEMPLATE);
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

/// GPT-2's letter for each byte, in byte order: printable Latin-1 stands for itself, the rest follows from U+0100 on.
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

/// Metadata entries as GGUF bytes.
#[derive(Default)]
struct Header {
    bytes: Vec<u8>,
    count: u64,
}

impl Header {
    fn key(&mut self, key: &str, kind: u32) -> &mut Vec<u8> {
        self.count += 1;
        self.bytes.string(key);
        self.bytes.u32(kind);
        &mut self.bytes
    }

    fn u32(&mut self, key: &str, v: u32) {
        self.key(key, 4).u32(v);
    }

    fn f32(&mut self, key: &str, v: f32) {
        self.key(key, 6).u32(v.to_bits());
    }

    fn bool(&mut self, key: &str, v: bool) {
        self.key(key, 7).push(v.into());
    }

    fn string(&mut self, key: &str, v: &str) {
        self.key(key, 8).string(v);
    }

    fn strings(&mut self, key: &str, v: &[String]) {
        let bytes = self.key(key, 9);
        bytes.u32(8);
        bytes.u64(v.len() as u64);
        v.iter().for_each(|s| bytes.string(s));
    }

    fn i32s(&mut self, key: &str, v: &[i32]) {
        let bytes = self.key(key, 9);
        bytes.u32(5);
        bytes.u64(v.len() as u64);
        v.iter().for_each(|x| bytes.extend(x.to_le_bytes()));
    }
}

/// GGUF's primitive encodings.
trait Put {
    fn u32(&mut self, v: u32);
    fn u64(&mut self, v: u64);
    fn string(&mut self, v: &str);
}

impl Put for Vec<u8> {
    fn u32(&mut self, v: u32) {
        self.extend(v.to_le_bytes());
    }

    fn u64(&mut self, v: u64) {
        self.extend(v.to_le_bytes());
    }

    fn string(&mut self, v: &str) {
        self.u64(v.len() as u64);
        self.extend(v.as_bytes());
    }
}
