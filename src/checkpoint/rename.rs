//! Tensor names of Hugging Face folders, told in GGUF's words.
//!
//! Translation is data: a family of models is a row of [`FAMILIES`], a name is a row of its table. A name that no row
//! knows is an error, never left out in silence: a model with a part missing still talks, but nonsense. No byte of
//! weights is touched; experts are stacked, and fused tensors divided, by spans.

use super::safetensors::Tensor;
use super::{Span, TensorInfo};
use crate::dtype::DType;
use crate::{Error, Result};
use indexmap::IndexMap;

/// A class of Transformers models, GGUF's name for it, and what its tensors are called in both.
pub(super) struct Family {
    pub class: &'static str,
    pub architecture: &'static str,
    /// The activations that its configuration may name.
    pub activations: &'static [&'static str],
    /// Weights of norms are what is added to 1.
    pub norms_add_one: bool,
    /// Layers with and without a window alternate as the architecture has it, where no setting lists them.
    pub alternates: bool,
    /// A null for the window says that there is none, where GGUF files without the key have the architecture's usual one.
    pub windowed: bool,
    /// The first row that fits holds.
    tensors: &'static [&'static [Rename]],
}

/// A tensor's name in Transformers and in GGUF. `{b}` is the block, `{e}` an expert (the experts of a block become one
/// stacked tensor), `{w}` is `weight` or `bias`. Several GGUF names joined by ` + ` share the rows in equal runs.
type Rename = (&'static str, &'static str);

pub(super) const FAMILIES: [Family; 15] = [
    LLAMA,
    Family { class: "MistralForCausalLM", ..LLAMA },
    Family { class: "MixtralForCausalLM", ..LLAMA },
    Family { class: "Ministral3ForCausalLM", architecture: "mistral3", ..LLAMA },
    Family { class: "SmolLM3ForCausalLM", architecture: "smollm3", ..LLAMA },
    Family { class: "GraniteForCausalLM", architecture: "granite", ..LLAMA },
    Family { class: "Qwen2ForCausalLM", architecture: "qwen2", ..LLAMA },
    Family { class: "Qwen3ForCausalLM", architecture: "qwen3", ..LLAMA },
    Family { class: "Qwen3MoeForCausalLM", architecture: "qwen3moe", ..LLAMA },
    Family { class: "Phi3ForCausalLM", architecture: "phi3", tensors: &[FUSED, DECODER], ..LLAMA },
    Family {
        class: "Starcoder2ForCausalLM",
        architecture: "starcoder2",
        windowed: true,
        activations: &["gelu_pytorch_tanh"],
        tensors: &[CLASSIC, DECODER],
        ..LLAMA
    },
    Family { class: "Olmo2ForCausalLM", architecture: "olmo2", tensors: &[NORMS_BEHIND, DECODER], ..LLAMA },
    GEMMA,
    Family { class: "Gemma3ForCausalLM", architecture: "gemma3", ..GEMMA },
    Family {
        class: "Gemma4ForCausalLM",
        architecture: "gemma4",
        norms_add_one: false,
        tensors: &[GEMMA4, NORMS_BEHIND, DECODER],
        ..GEMMA
    },
];

const LLAMA: Family = Family {
    class: "LlamaForCausalLM",
    architecture: "llama",
    activations: &["silu", "swish"],
    norms_add_one: false,
    alternates: false,
    windowed: false,
    tensors: &[DECODER],
};

const GEMMA: Family = Family {
    class: "Gemma2ForCausalLM",
    architecture: "gemma2",
    activations: &["gelu_pytorch_tanh"],
    norms_add_one: true,
    alternates: true,
    windowed: false,
    tensors: &[NORMS_BEHIND, DECODER],
};

const NORMS_BEHIND: &[Rename] = &[
    ("model.layers.{b}.post_attention_layernorm.weight", "blk.{b}.post_attention_norm.weight"),
    ("model.layers.{b}.pre_feedforward_layernorm.weight", "blk.{b}.ffn_norm.weight"),
    ("model.layers.{b}.post_feedforward_layernorm.weight", "blk.{b}.post_ffw_norm.weight"),
];

const GEMMA4: &[Rename] = &[
    ("model.embed_tokens_per_layer.weight", "per_layer_token_embd.weight"),
    ("model.per_layer_model_projection.weight", "per_layer_model_proj.weight"),
    ("model.per_layer_projection_norm.weight", "per_layer_proj_norm.weight"),
    ("model.layers.{b}.per_layer_input_gate.weight", "blk.{b}.inp_gate.weight"),
    ("model.layers.{b}.per_layer_projection.weight", "blk.{b}.proj.weight"),
    ("model.layers.{b}.post_per_layer_input_norm.weight", "blk.{b}.post_norm.weight"),
    ("model.layers.{b}.layer_scalar", "blk.{b}.layer_output_scale.weight"),
    ("model.layers.{b}.router.proj.weight", "blk.{b}.ffn_gate_inp.weight"),
    ("model.layers.{b}.router.scale", "blk.{b}.ffn_gate_inp.scale"),
    ("model.layers.{b}.router.per_expert_scale", "blk.{b}.ffn_down_exps.scale"),
    ("model.layers.{b}.experts.gate_up_proj", "blk.{b}.ffn_gate_up_exps.weight"),
    ("model.layers.{b}.experts.down_proj", "blk.{b}.ffn_down_exps.weight"),
    ("model.layers.{b}.post_feedforward_layernorm_1.weight", "blk.{b}.post_ffw_norm_1.weight"),
    ("model.layers.{b}.pre_feedforward_layernorm_2.weight", "blk.{b}.pre_ffw_norm_2.weight"),
    ("model.layers.{b}.post_feedforward_layernorm_2.weight", "blk.{b}.post_ffw_norm_2.weight"),
];

const FUSED: &[Rename] = &[
    ("model.layers.{b}.self_attn.qkv_proj.weight", "blk.{b}.attn_qkv.weight"),
    ("model.layers.{b}.mlp.gate_up_proj.weight", "blk.{b}.ffn_up.weight"),
];

const CLASSIC: &[Rename] = &[
    ("model.norm.{w}", "output_norm.{w}"),
    ("model.layers.{b}.input_layernorm.{w}", "blk.{b}.attn_norm.{w}"),
    ("model.layers.{b}.post_attention_layernorm.{w}", "blk.{b}.ffn_norm.{w}"),
    ("model.layers.{b}.mlp.c_fc.{w}", "blk.{b}.ffn_up.{w}"),
    ("model.layers.{b}.mlp.c_proj.{w}", "blk.{b}.ffn_down.{w}"),
];

const DECODER: &[Rename] = &[
    ("model.embed_tokens.weight", "token_embd.weight"),
    ("model.norm.weight", "output_norm.weight"),
    ("lm_head.weight", "output.weight"),
    ("model.layers.{b}.input_layernorm.weight", "blk.{b}.attn_norm.weight"),
    ("model.layers.{b}.self_attn.q_proj.{w}", "blk.{b}.attn_q.{w}"),
    ("model.layers.{b}.self_attn.k_proj.{w}", "blk.{b}.attn_k.{w}"),
    ("model.layers.{b}.self_attn.v_proj.{w}", "blk.{b}.attn_v.{w}"),
    ("model.layers.{b}.self_attn.o_proj.{w}", "blk.{b}.attn_output.{w}"),
    ("model.layers.{b}.self_attn.q_norm.weight", "blk.{b}.attn_q_norm.weight"),
    ("model.layers.{b}.self_attn.k_norm.weight", "blk.{b}.attn_k_norm.weight"),
    ("model.layers.{b}.post_attention_layernorm.weight", "blk.{b}.ffn_norm.weight"),
    ("model.layers.{b}.mlp.gate_proj.{w}", "blk.{b}.ffn_gate.{w}"),
    ("model.layers.{b}.mlp.up_proj.{w}", "blk.{b}.ffn_up.{w}"),
    ("model.layers.{b}.mlp.down_proj.{w}", "blk.{b}.ffn_down.{w}"),
    // Experts: one tensor each, or (Transformers 5) all of a block in one.
    ("model.layers.{b}.mlp.gate.weight", "blk.{b}.ffn_gate_inp.weight"),
    ("model.layers.{b}.mlp.experts.{e}.gate_proj.weight", "blk.{b}.ffn_gate_exps.weight"),
    ("model.layers.{b}.mlp.experts.{e}.up_proj.weight", "blk.{b}.ffn_up_exps.weight"),
    ("model.layers.{b}.mlp.experts.{e}.down_proj.weight", "blk.{b}.ffn_down_exps.weight"),
    ("model.layers.{b}.mlp.experts.gate_up_proj", "blk.{b}.ffn_gate_exps.weight + blk.{b}.ffn_up_exps.weight"),
    ("model.layers.{b}.mlp.experts.down_proj", "blk.{b}.ffn_down_exps.weight"),
    ("model.layers.{b}.block_sparse_moe.gate.weight", "blk.{b}.ffn_gate_inp.weight"),
    ("model.layers.{b}.block_sparse_moe.experts.{e}.w1.weight", "blk.{b}.ffn_gate_exps.weight"),
    ("model.layers.{b}.block_sparse_moe.experts.{e}.w3.weight", "blk.{b}.ffn_up_exps.weight"),
    ("model.layers.{b}.block_sparse_moe.experts.{e}.w2.weight", "blk.{b}.ffn_down_exps.weight"),
    // Tables that old versions saved and nobody reads.
    ("model.layers.{b}.self_attn.rotary_emb.inv_freq", ""),
];

/// What the translation must know of the configuration.
pub(super) struct Shape {
    pub blocks: u32,
    pub experts: u32,
    pub tied: Option<bool>,
}

/// A GGUF tensor being put together; each span with its expert's number.
struct Stack {
    dims: Vec<u64>,
    dtype: DType,
    expert: bool,
    spans: Vec<(u32, Span)>,
}

pub(super) fn translate(
    family: &Family,
    shape: &Shape,
    file: &str,
    tensors: IndexMap<String, Tensor>,
) -> Result<IndexMap<String, TensorInfo>> {
    let mut stacks: IndexMap<String, Stack> = IndexMap::new();
    for (name, tensor) in tensors {
        let bad = |why: &str| Error::Format(format!("{file}: tensor {name}: {why}"));
        let (place, targets) = find_row(family, &name).ok_or_else(|| {
            let class = family.class;
            Error::Unsupported(format!("{file}: tensor {name} is not known of {class}; take a GGUF of the model"))
        })?;
        if targets.is_empty() || (shape.tied == Some(true) && targets == "output.weight") {
            continue;
        }
        if place.block.is_some_and(|block| block >= shape.blocks) {
            return Err(bad(&format!("there should be only {} layers", shape.blocks)));
        }
        let targets: Vec<String> = targets.split(" + ").map(|target| place.fill(target)).collect();
        let shares = share_rows(&tensor, targets.len(), shape.experts).map_err(|why| bad(&why))?;
        for (target, (dims, spans)) in targets.into_iter().zip(shares) {
            let expert = place.expert;
            let spans = spans.into_iter().map(|span| (expert.unwrap_or(0), span));
            match stacks.get_mut(&target) {
                None => {
                    let stack = Stack { dims, dtype: tensor.dtype, expert: expert.is_some(), spans: spans.collect() };
                    stacks.insert(target, stack);
                }
                Some(stack) if !stack.expert || expert.is_none() => return Err(bad("it is there twice")),
                Some(stack) if stack.dims != dims || stack.dtype != tensor.dtype => {
                    return Err(bad("its shape or type is not that of the other experts"));
                }
                Some(stack) => stack.spans.extend(spans),
            }
        }
    }
    if shape.tied == Some(false) && !stacks.contains_key("output.weight") {
        return Err(Error::Format(format!("{file}: tie_word_embeddings is false, but there is no lm_head.weight")));
    }
    stacks.into_iter().map(|(name, stack)| Ok((name.clone(), stack.finish(name, shape.experts, file)?))).collect()
}

impl Stack {
    fn finish(mut self, name: String, experts: u32, file: &str) -> Result<TensorInfo> {
        if self.expert {
            self.spans.sort_unstable_by_key(|(expert, _)| *expert);
            let complete = self.spans.iter().map(|(expert, _)| *expert).eq(0..experts);
            if !complete {
                let got = self.spans.len();
                return Err(Error::Format(format!("{file}: {name} should have {experts} experts, {got} were found")));
            }
            self.dims.push(experts.into());
        }
        let parts = self.spans.into_iter().map(|(_, span)| span).collect();
        Ok(TensorInfo { name, dims: self.dims, dtype: self.dtype, parts })
    }
}

/// A tensor's sizes, and its data.
type Share = (Vec<u64>, Vec<Span>);

/// Divides the rows of a tensor (of each expert in a stacked one) among `count` tensors of GGUF's shape.
fn share_rows(tensor: &Tensor, count: usize, experts: u32) -> Result<Vec<Share>, String> {
    let mut dims: Vec<u64> = tensor.shape.iter().rev().copied().collect();
    if dims.len() > 2 && dims[2..] != [u64::from(experts)] {
        return Err(format!("its shape {:?} does not begin with the {experts} experts", tensor.shape));
    }
    if count == 1 {
        return Ok(vec![(dims, vec![tensor.span.clone()])]);
    }
    let parts = count as u64;
    if dims.len() < 2 || !dims[1].is_multiple_of(parts) {
        return Err(format!("its shape {:?} cannot be divided into {count}", tensor.shape));
    }
    dims[1] /= parts;
    let matrices = dims.get(2).copied().unwrap_or(1);
    let bytes = tensor.span.bytes / (matrices * parts);
    let share = |part: u64| {
        let at = move |matrix: u64| tensor.span.offset + (matrix * parts + part) * bytes;
        (0..matrices).map(|matrix| Span { source: tensor.span.source, offset: at(matrix), bytes }).collect()
    };
    Ok((0..parts).map(|part| (dims.clone(), share(part))).collect())
}

/// What the holes of a row's pattern stand for in a name.
#[derive(Default)]
struct Place<'a> {
    block: Option<u32>,
    expert: Option<u32>,
    leaf: &'a str,
}

impl Place<'_> {
    fn fill(&self, target: &str) -> String {
        let block = self.block.map(|block| block.to_string()).unwrap_or_default();
        target.replace("{b}", &block).replace("{w}", self.leaf)
    }
}

fn find_row<'a>(family: &Family, name: &'a str) -> Option<(Place<'a>, &'static str)> {
    family.tensors.iter().copied().flatten().find_map(|(pattern, target)| Some((match_name(pattern, name)?, *target)))
}

fn match_name<'a>(pattern: &str, name: &'a str) -> Option<Place<'a>> {
    let mut place = Place::default();
    let mut words = name.split('.');
    for hole in pattern.split('.') {
        let word = words.next()?;
        match hole {
            "{b}" => place.block = Some(number(word)?),
            "{e}" => place.expert = Some(number(word)?),
            "{w}" if word == "weight" || word == "bias" => place.leaf = word,
            same if same == word => {}
            _ => return None,
        }
    }
    words.next().is_none().then_some(place)
}

/// A number as it is usually written, so that no two names mean the same.
fn number(word: &str) -> Option<u32> {
    word.parse().ok().filter(|number: &u32| number.to_string() == word)
}
