//! Tensor names of Hugging Face folders, told in GGUF's words.
//!
//! Translation is data: a family of models is a row of [`FAMILIES`], a name is a row of its table. A name that no row
//! knows is an error, never left out in silence: a model with a part missing still talks, but nonsense. No byte of
//! weights is touched; experts are stacked by spans, and what fused tensors hold is told by [`share`](super::share).

use super::safetensors::Tensor;
use super::share::{Form, Plan, Share};
use super::{Layout, Span, TensorInfo};
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
    /// How its weights may be quantized.
    pub quantization: Option<&'static str>,
    /// A null for the window says that there is none, where GGUF files without the key have the architecture's usual one.
    pub windowed: bool,
    /// Neighbouring values of a head rotate together, as in GGUF files.
    pub neighbours: bool,
    /// Settings that its files may leave out, as JSON.
    pub usual: &'static str,
    /// The first row that fits holds.
    tensors: &'static [&'static [Rename]],
}

/// A tensor's name in Transformers and in GGUF. `{b}` is the block, `{e}` an expert (the experts of a block become one
/// stacked tensor), `{w}` is `weight` or `bias`. Several GGUF names joined by ` + ` share the rows in equal runs, by ` / `
/// by turns. `columns of` is before the names of matrices that lie turned around, `blocks of` and `scales of` before those
/// of MXFP4 weights.
type Rename = (&'static str, &'static str);

pub(super) const FAMILIES: [Family; 24] = [
    LLAMA,
    Family {
        class: "Llama4ForCausalLM",
        architecture: "llama4",
        alternates: true,
        windowed: true,
        neighbours: true,
        tensors: &[LLAMA4, DECODER],
        ..LLAMA
    },
    Family { class: "MistralForCausalLM", ..LLAMA },
    Family { class: "MixtralForCausalLM", ..LLAMA },
    Family { class: "Ministral3ForCausalLM", architecture: "mistral3", ..LLAMA },
    Family { class: "SmolLM3ForCausalLM", architecture: "smollm3", ..LLAMA },
    Family { class: "GraniteForCausalLM", architecture: "granite", ..LLAMA },
    Family { class: "Qwen2ForCausalLM", architecture: "qwen2", ..LLAMA },
    Family { class: "Qwen3ForCausalLM", architecture: "qwen3", ..LLAMA },
    Family { class: "Qwen3MoeForCausalLM", architecture: "qwen3moe", ..LLAMA },
    DELTA_NETS,
    Family { class: "Qwen3_5MoeForCausalLM", architecture: "qwen35moe", ..DELTA_NETS },
    Family { class: "Qwen3NextForCausalLM", architecture: "qwen3next", ..DELTA_NETS },
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
    Family {
        class: "Gemma3ForCausalLM",
        architecture: "gemma3",
        usual: r#"{"vocab_size": 262208, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256,
            "max_position_embeddings": 131072, "rms_norm_eps": 1e-6, "rope_theta": 1e6, "query_pre_attn_scalar": 256}"#,
        ..GEMMA
    },
    Family {
        class: "Gemma4ForCausalLM",
        architecture: "gemma4",
        norms_add_one: false,
        tensors: &[GEMMA4, NORMS_BEHIND, DECODER],
        ..GEMMA
    },
    Family {
        class: "GptOssForCausalLM",
        architecture: "gpt-oss",
        alternates: true,
        quantization: Some("mxfp4"),
        tensors: &[GPT_OSS, DECODER],
        ..LLAMA
    },
    Family { class: "Lfm2ForCausalLM", architecture: "lfm2", tensors: &[CONVOLUTIONS, DECODER], ..LLAMA },
    DEEPSEEK,
    Family { class: "DeepseekV3ForCausalLM", ..DEEPSEEK },
    Family { class: "Glm4MoeLiteForCausalLM", ..DEEPSEEK },
];

const LLAMA: Family = Family {
    class: "LlamaForCausalLM",
    architecture: "llama",
    activations: &["silu", "swish"],
    norms_add_one: false,
    alternates: false,
    quantization: None,
    windowed: false,
    neighbours: false,
    usual: "{}",
    tensors: &[DECODER],
};

const GEMMA: Family = Family {
    class: "Gemma2ForCausalLM",
    architecture: "gemma2",
    activations: &["gelu_pytorch_tanh"],
    norms_add_one: true,
    alternates: true,
    quantization: None,
    windowed: false,
    neighbours: false,
    usual: "{}",
    tensors: &[NORMS_BEHIND, DECODER],
};

const DELTA_NETS: Family = Family {
    class: "Qwen3_5ForCausalLM",
    architecture: "qwen35",
    norms_add_one: true,
    tensors: &[DELTA_NET, DECODER],
    ..LLAMA
};

const DEEPSEEK: Family =
    Family { class: "DeepseekV2ForCausalLM", architecture: "deepseek2", tensors: &[LATENT, DECODER], ..LLAMA };

const LLAMA4: &[Rename] = &[
    ("model.layers.{b}.feed_forward.gate_proj.weight", "blk.{b}.ffn_gate.weight"),
    ("model.layers.{b}.feed_forward.up_proj.weight", "blk.{b}.ffn_up.weight"),
    ("model.layers.{b}.feed_forward.down_proj.weight", "blk.{b}.ffn_down.weight"),
    ("model.layers.{b}.feed_forward.router.weight", "blk.{b}.ffn_gate_inp.weight"),
    (
        "model.layers.{b}.feed_forward.experts.gate_up_proj",
        "columns of blk.{b}.ffn_gate_exps.weight + blk.{b}.ffn_up_exps.weight",
    ),
    ("model.layers.{b}.feed_forward.experts.down_proj", "columns of blk.{b}.ffn_down_exps.weight"),
    ("model.layers.{b}.feed_forward.shared_expert.gate_proj.weight", "blk.{b}.ffn_gate_shexp.weight"),
    ("model.layers.{b}.feed_forward.shared_expert.up_proj.weight", "blk.{b}.ffn_up_shexp.weight"),
    ("model.layers.{b}.feed_forward.shared_expert.down_proj.weight", "blk.{b}.ffn_down_shexp.weight"),
];

const CONVOLUTIONS: &[Rename] = &[
    ("model.embedding_norm.weight", "token_embd_norm.weight"),
    ("model.layers.{b}.operator_norm.weight", "blk.{b}.attn_norm.weight"),
    ("model.layers.{b}.ffn_norm.weight", "blk.{b}.ffn_norm.weight"),
    ("model.layers.{b}.conv.in_proj.weight", "blk.{b}.shortconv.in_proj.weight"),
    ("model.layers.{b}.conv.conv.weight", "blk.{b}.shortconv.conv.weight"),
    ("model.layers.{b}.conv.out_proj.weight", "blk.{b}.shortconv.out_proj.weight"),
    ("model.layers.{b}.self_attn.q_layernorm.weight", "blk.{b}.attn_q_norm.weight"),
    ("model.layers.{b}.self_attn.k_layernorm.weight", "blk.{b}.attn_k_norm.weight"),
    ("model.layers.{b}.self_attn.out_proj.weight", "blk.{b}.attn_output.weight"),
    ("model.layers.{b}.feed_forward.w1.weight", "blk.{b}.ffn_gate.weight"),
    ("model.layers.{b}.feed_forward.w3.weight", "blk.{b}.ffn_up.weight"),
    ("model.layers.{b}.feed_forward.w2.weight", "blk.{b}.ffn_down.weight"),
];

/// Rows of gate and up alternate. Published files have blocks and scales, those made from them may have columns.
const GPT_OSS: &[Rename] = &[
    ("model.layers.{b}.self_attn.sinks", "blk.{b}.attn_sinks.weight"),
    ("model.layers.{b}.post_attention_layernorm.weight", "blk.{b}.post_attention_norm.weight"),
    ("model.layers.{b}.mlp.router.{w}", "blk.{b}.ffn_gate_inp.{w}"),
    (
        "model.layers.{b}.mlp.experts.gate_up_proj",
        "columns of blk.{b}.ffn_gate_exps.weight / blk.{b}.ffn_up_exps.weight",
    ),
    (
        "model.layers.{b}.mlp.experts.gate_up_proj_blocks",
        "blocks of blk.{b}.ffn_gate_exps.weight / blk.{b}.ffn_up_exps.weight",
    ),
    (
        "model.layers.{b}.mlp.experts.gate_up_proj_scales",
        "scales of blk.{b}.ffn_gate_exps.weight / blk.{b}.ffn_up_exps.weight",
    ),
    ("model.layers.{b}.mlp.experts.gate_up_proj_bias", "blk.{b}.ffn_gate_exps.bias / blk.{b}.ffn_up_exps.bias"),
    ("model.layers.{b}.mlp.experts.down_proj", "columns of blk.{b}.ffn_down_exps.weight"),
    ("model.layers.{b}.mlp.experts.down_proj_blocks", "blocks of blk.{b}.ffn_down_exps.weight"),
    ("model.layers.{b}.mlp.experts.down_proj_scales", "scales of blk.{b}.ffn_down_exps.weight"),
    ("model.layers.{b}.mlp.experts.down_proj_bias", "blk.{b}.ffn_down_exps.bias"),
];

const LATENT: &[Rename] = &[
    ("model.layers.{b}.self_attn.q_a_proj.{w}", "blk.{b}.attn_q_a.{w}"),
    ("model.layers.{b}.self_attn.q_a_layernorm.weight", "blk.{b}.attn_q_a_norm.weight"),
    ("model.layers.{b}.self_attn.q_b_proj.weight", "blk.{b}.attn_q_b.weight"),
    ("model.layers.{b}.self_attn.kv_a_proj_with_mqa.{w}", "blk.{b}.attn_kv_a_mqa.{w}"),
    ("model.layers.{b}.self_attn.kv_a_layernorm.weight", "blk.{b}.attn_kv_a_norm.weight"),
    ("model.layers.{b}.self_attn.kv_b_proj.weight", "blk.{b}.attn_kv_b.weight"),
    ("model.layers.{b}.mlp.gate.e_score_correction_bias", "blk.{b}.exp_probs_b.bias"),
    ("model.layers.{b}.mlp.shared_experts.gate_proj.weight", "blk.{b}.ffn_gate_shexp.weight"),
    ("model.layers.{b}.mlp.shared_experts.up_proj.weight", "blk.{b}.ffn_up_shexp.weight"),
    ("model.layers.{b}.mlp.shared_experts.down_proj.weight", "blk.{b}.ffn_down_shexp.weight"),
];

const DELTA_NET: &[Rename] = &[
    ("model.layers.{b}.linear_attn.in_proj_qkvz.weight", "blk.{b}.ssm_in.weight"),
    ("model.layers.{b}.linear_attn.in_proj_qkv.weight", "blk.{b}.attn_qkv.weight"),
    ("model.layers.{b}.linear_attn.in_proj_z.weight", "blk.{b}.attn_gate.weight"),
    ("model.layers.{b}.linear_attn.in_proj_ba.weight", "blk.{b}.ssm_ba.weight"),
    ("model.layers.{b}.linear_attn.in_proj_a.weight", "blk.{b}.ssm_alpha.weight"),
    ("model.layers.{b}.linear_attn.in_proj_b.weight", "blk.{b}.ssm_beta.weight"),
    ("model.layers.{b}.linear_attn.conv1d.weight", "blk.{b}.ssm_conv1d.weight"),
    ("model.layers.{b}.linear_attn.dt_bias", "blk.{b}.ssm_dt.bias"),
    ("model.layers.{b}.linear_attn.A_log", "blk.{b}.ssm_a_log"),
    ("model.layers.{b}.linear_attn.norm.weight", "blk.{b}.ssm_norm.weight"),
    ("model.layers.{b}.linear_attn.out_proj.weight", "blk.{b}.ssm_out.weight"),
    ("model.layers.{b}.mlp.shared_expert_gate.weight", "blk.{b}.ffn_gate_inp_shexp.weight"),
    ("model.layers.{b}.mlp.shared_expert.gate_proj.weight", "blk.{b}.ffn_gate_shexp.weight"),
    ("model.layers.{b}.mlp.shared_expert.up_proj.weight", "blk.{b}.ffn_up_shexp.weight"),
    ("model.layers.{b}.mlp.shared_expert.down_proj.weight", "blk.{b}.ffn_down_shexp.weight"),
];

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
    /// Blocks behind those, which predict several tokens at once and are not run.
    pub ahead: u32,
    pub experts: u32,
    pub tied: Option<bool>,
}

/// A GGUF tensor being put together.
struct Stack {
    dims: Vec<u64>,
    dtype: DType,
    layout: Layout,
    /// How many pieces there should be, if it is not one: experts, or weights and scales.
    pieces: Option<u32>,
    /// Each with its piece's number.
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
        // What predicts several tokens at once stands behind the blocks, or has a name of its own (Qwen 3.5).
        if name.starts_with("mtp.")
            || block_of(&name).is_some_and(|b| (shape.blocks..shape.blocks.saturating_add(shape.ahead)).contains(&b))
        {
            continue;
        }
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
        let plan = Plan::parse(targets);
        let shares = plan.shares(&tensor, shape.experts).map_err(|why| bad(&why))?;
        let pieces = match plan.form {
            Form::Blocks | Form::Scales => 2,
            _ => shape.experts,
        };
        let number = match plan.form {
            Form::Blocks => Some(0),
            Form::Scales => Some(1),
            _ => place.expert,
        };
        for (target, share) in plan.names.iter().map(|target| place.fill(target)).zip(shares) {
            let Share { dims, dtype, layout, spans } = share;
            let spans = spans.into_iter().map(|span| (number.unwrap_or(0), span));
            match stacks.get_mut(&target) {
                None => {
                    let pieces = number.map(|_| pieces);
                    stacks.insert(target, Stack { dims, dtype, layout, pieces, spans: spans.collect() });
                }
                Some(stack) if stack.pieces.is_none() || number.is_none() => return Err(bad("it is there twice")),
                Some(stack) if stack.dims != dims || stack.dtype != dtype => {
                    return Err(bad("its shape or type is not that of the other experts"));
                }
                Some(stack) => stack.spans.extend(spans),
            }
        }
    }
    if shape.tied == Some(false) && !stacks.contains_key("output.weight") {
        return Err(Error::Format(format!("{file}: tie_word_embeddings is false, but there is no lm_head.weight")));
    }
    stacks.into_iter().map(|(name, stack)| Ok((name.clone(), stack.finish(name, file)?))).collect()
}

impl Stack {
    fn finish(mut self, name: String, file: &str) -> Result<TensorInfo> {
        if let Some(pieces) = self.pieces {
            self.spans.sort_unstable_by_key(|(piece, _)| *piece);
            let complete = self.spans.iter().map(|(piece, _)| *piece).eq(0..pieces);
            if !complete {
                let got = self.spans.len();
                let what = if self.layout == Layout::Rows { "experts" } else { "parts, blocks and scales" };
                return Err(Error::Format(format!("{file}: {name} should have {pieces} {what}, {got} were found")));
            }
            if self.layout == Layout::Rows {
                self.dims.push(pieces.into());
            }
        }
        let parts = self.spans.into_iter().map(|(_, span)| span).collect();
        Ok(TensorInfo { name, dims: self.dims, dtype: self.dtype, parts, layout: self.layout })
    }
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

/// `model.layers.3.mlp.gate.weight` -> 3.
fn block_of(name: &str) -> Option<u32> {
    number(name.strip_prefix("model.layers.")?.split('.').next()?)
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
