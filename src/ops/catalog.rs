//! Every kernel variant that the ops choose for typical shapes, all weight types, all KV types, and adapters of each
//! kind, by name: `firelight shaders` writes them out, and the shader tests check them against WebGPU's limits.
//!
//! A list made from plain data: graphs and [`Caps`] go in, [`ShaderSource`]s come out; no GPU. A kernel whose node does
//! not occur in `graphs` is not tested, so a new op or activation is added there.

use std::collections::{BTreeMap, HashSet};

use super::{Capacity, KernelContext, KvType};
use crate::caps::{Caps, Tier, TuneConfig};
use crate::dtype::DType;
use crate::graph::{
    Activation, Attention, AttentionTemperature, DeltaNet, ExpertWeights, FusedNorm, Graph, HeadConcat, HeadNorm,
    HeadSlice, KvWrite, LinearGlu, LinearGluOperands, LogitScale, MaskKind, NextFusedNorm, NextNorm, NormAdd,
    NormAddOperands, Op, Qkv, QkvOperands, Rope, RopeKv, RopeKvOperands, RopeStyle, Router, RouterGroups,
    RoutingWeights, Rows, Scoring, ShortConv, StepInput, TensorId, TensorKind,
};
use crate::shader::ShaderSource;

/// All variants: a name such as `baseline/matvec.reduce.q4_k.dense.none.2`, and how the text is made. Names begin with
/// the lowest tier that uses the variant, and are unique; so are the variants.
pub fn catalog() -> Vec<(String, ShaderSource)> {
    let graphs = graphs();
    let (mut seen, mut count, mut out) = (HashSet::new(), BTreeMap::new(), Vec::new());
    for (caps, every_type) in adapters() {
        for kv in KvType::ALL {
            let (pages, pages_per_sequence, near) = (256, 128, None);
            let capacity = Capacity {
                rows: 512,
                logits: 64,
                sequences: 4,
                outputs: 4,
                embeddings: 0,
                pages,
                pages_per_sequence,
                sliding: near,
                kv,
            };
            let wanted = |(dtype, _): &&(Option<DType>, Graph)| {
                every_type || dtype.is_none_or(|dtype| [DType::F16, DType::Q4K, DType::Q8_0].contains(&dtype))
            };
            for (_, graph) in graphs.iter().filter(wanted) {
                let takes = |node: &&Op| !matches!(node, Op::KvWrite(op, _) if !kv.takes(op.head_dim));
                for node in graph.nodes.iter().filter(takes) {
                    let kernels = super::kernels(node, &KernelContext { graph, caps: &caps, capacity: &capacity });
                    for source in kernels.into_iter().map(|kernel| kernel.source) {
                        if seen.insert(format!("{source:?}")) {
                            let stem = stem(caps.tier, &source);
                            let n = count.entry(stem.clone()).and_modify(|n| *n += 1).or_insert(1);
                            out.push((format!("{stem}.{n}"), source));
                        }
                    }
                }
            }
        }
    }
    out
}

/// Tier, file, and what is imported for each role.
fn stem(tier: Tier, source: &ShaderSource) -> String {
    format!("{tier}/{}", source.name().replace(' ', "."))
}

/// Adapters of each kind, the baseline first: real and software ones, subgroups of one size and of several, and kernels
/// laid out as wide as they may be. Whether all weight types are worth listing once more: how a type is decoded depends
/// only on the tier.
fn adapters() -> Vec<(Caps, bool)> {
    let wide = TuneConfig {
        lanes: 64,
        threads: 256,
        rows_per_lane: 4,
        tile_threads: 16,
        f16_tile_rows: 128,
        cooperative_attention: true,
    };
    let caps = |tier, software, subgroup| Caps { tier, software, subgroup, ..Caps::baseline() };
    vec![
        (caps(Tier::Baseline, false, (0, 0)), true),
        (caps(Tier::Baseline, true, (0, 0)), true),
        (caps(Tier::Subgroups, false, (32, 32)), true),
        (caps(Tier::Subgroups, false, (32, 64)), false),
        (caps(Tier::Subgroups, false, (8, 32)), false),
        (caps(Tier::Subgroups, false, (4, 128)), false),
        (caps(Tier::Subgroups, true, (8, 8)), false),
        (Caps { f16: true, ..caps(Tier::F16, false, (0, 0)) }, true),
        (Caps { f16: true, tuned: Some(wide), ..caps(Tier::F16, true, (0, 0)) }, false),
        (caps(Tier::Int8, false, (0, 0)), true),
        (Caps { cooperative: 16, tuned: Some(wide), ..caps(Tier::Cooperative, false, (32, 32)) }, true),
        (Caps { cooperative: 8, ..caps(Tier::Cooperative, true, (8, 8)) }, false),
        (Caps { tuned: Some(wide), ..caps(Tier::Subgroups, false, (32, 32)) }, false),
        // So few workgroups that most grids are folded.
        (Caps { max_workgroups: 48, ..caps(Tier::Baseline, true, (0, 0)) }, false),
        (Caps { max_workgroups: 48, ..caps(Tier::Subgroups, false, (32, 32)) }, false),
        (Caps { max_workgroups: 48, f16: true, ..caps(Tier::F16, false, (0, 0)) }, false),
        (Caps { max_workgroups: 48, ..caps(Tier::Int8, false, (0, 0)) }, false),
        (Caps { max_workgroups: 48, cooperative: 16, ..caps(Tier::Cooperative, false, (32, 32)) }, false),
    ]
}

/// Those of weights with their type.
fn graphs() -> Vec<(Option<DType>, Graph)> {
    let mut typed: Vec<_> = DType::ALL.into_iter().map(|dtype| (Some(dtype), weights(dtype))).collect();
    typed.extend(untyped().into_iter().map(|graph| (None, graph)));
    typed
}

fn untyped() -> Vec<Graph> {
    let mut out = Vec::new();
    // A down projection whose gate and up are of different types, as mixed quantizations have them.
    out.push(gated(DType::Q4K, DType::Q6K, 256));
    // Rows that end within a group of 32, which float types may have.
    out.extend([DType::F32, DType::F16, DType::BF16].map(|dtype| gated(dtype, dtype, 172)));
    for (heads, kv_heads, head_dim) in
        [(4, 4, 8), (6, 2, 80), (8, 2, 64), (14, 2, 64), (9, 3, 96), (8, 1, 128), (32, 4, 256), (8, 1, 512)]
    {
        out.push(block(heads, kv_heads, head_dim));
    }
    out.extend([(4, 4, 32), (6, 2, 64), (4, 1, 80), (2, 2, 320)].map(encoder));
    out.extend([32, 64, 128].map(recurrent));
    out.extend([(4, 64, 16), (16, 512, 64), (7, 128, 32)].map(latent));
    out
}

/// Attention without a cache, by every mask that encoders have.
fn encoder((heads, kv_heads, head_dim): (u32, u32, u32)) -> Graph {
    let mut g = Graph::default();
    let mut input = |cols| {
        let table = g.weight("table.weight", 64, cols, DType::F32);
        g.embed_tokens(table, 2.0)
    };
    let (q, k, v) = (input(heads * head_dim), input(kv_heads * head_dim), input(kv_heads * head_dim));
    for mask in [MaskKind::Bidirectional, MaskKind::SymmetricWindow(64), MaskKind::Causal] {
        let op = Attention { mask, ..Attention::full(heads, kv_heads, head_dim) };
        g.attention_over_rows(q, (k, v), None, op);
    }
    g
}

/// Ops with a recurrent state of each sequence, for heads of `head_dim` values.
fn recurrent(head_dim: u32) -> Graph {
    let mut g = Graph::default();
    let op = DeltaNet { key_heads: 2, heads: 4, head_dim, grouped: true, fused: true, log_decay: true };
    let channels = 8 * head_dim;
    let table = g.weight("table.weight", 64, channels, DType::F32);
    let x = g.embed(table, 1.0);
    let taps = g.vector("taps.weight", 4 * channels);
    let x = g.short_conv(x, taps, "conv_state", ShortConv { kernel_size: 4, silu: true });
    let x = g.short_conv(x, taps, "conv_state", ShortConv { kernel_size: 4, silu: false });
    let rate = g.head_slice(x, HeadSlice { head_dim: channels, start: 4, len: 2 * op.heads });
    let rates = g.vector("rates.weight", 2 * op.heads);
    let y = g.delta_net(x, [rate, rate, rates], "delta_state", op);
    let y = g.glu(y, y, Activation::Sigmoid);
    g.glu(y, y, Activation::Product);
    g
}

/// Attention over latent keys of `rank` values, which are their values, and of `rotated` more.
fn latent((heads, rank, rotated): (u32, u32, u32)) -> Graph {
    let mut g = Graph::default();
    let mut input = |cols| {
        let table = g.weight("table.weight", 64, cols, DType::F32);
        g.embed_tokens(table, 2.0)
    };
    let head_dim = rank + rotated;
    let (q, turned, k) = (input(heads * rank), input(heads * rotated), input(head_dim));
    let q = g.head_concat(q, turned, HeadConcat { heads });
    let cache = g.add("keys", Rows::Fixed(256), head_dim, TensorKind::KvCache { heads: 1, head_dim, sliding: false });
    g.k_write(k, cache, KvWrite { heads: 1, head_dim });
    let y = g.attention(q, (cache, cache), None, Attention { value_dim: rank, ..Attention::full(heads, 1, head_dim) });
    for dtype in [DType::F16, DType::Q8_0] {
        let matrices = g.expert_stack("heads.weight", heads, 128, rank, dtype);
        g.head_linear(y, matrices);
    }
    g
}

/// Ops that read weights of one type.
fn weights(dtype: DType) -> Graph {
    let mut g = gated(dtype, dtype, 256);
    let embedding = g.weight("token_embd.weight", 1024, 256, dtype);
    let x = g.embed(embedding, 1.0);
    let weight = g.weight("w.weight", 256, 256, dtype);
    let bias = g.vector("w.bias", 256);
    let y = g.linear(x, weight, None);
    g.linear(x, weight, Some(bias));
    for bias in [None, Some(bias)] {
        residual(&mut g, x, weight, bias, y);
        projections(&mut g, x, [weight; 3], bias);
    }
    with_fused_norm(&mut g, y);
    post_norms(&mut g, x, y);
    let router = g.weight("router.weight", 64, 256, DType::F32);
    let mut stack = |name| g.expert_stack(name, 64, 256, 256, dtype);
    let [gate, up, down] = ["gates", "ups", "downs"].map(&mut stack);
    let stacks =
        ExpertWeights { expert_scales: None, selection_bias: None, gate, up, down, biases: None, slot_table: None };
    let logits = g.linear(x, router, None);
    let plain = Router::plain(64, 8);
    let one = Router { used: 1, scoring: Scoring::Sigmoid, norm: false, ..plain };
    let bias = g.vector("gates.bias", 64 * 256);
    for slot_table in [None, Some(g.add("slot_table", Rows::Fixed(1), 64, TensorKind::ExpertSlotTable))] {
        let stacks = ExpertWeights { slot_table, ..stacks };
        let dressed = ExpertWeights { biases: Some([bias; 3]), expert_scales: Some(bias), ..stacks };
        g.expert_ffn(x, logits, dressed, plain, Activation::Clamped, RoutingWeights::OnOutputs);
        g.expert_ffn(x, logits, stacks, one, Activation::Silu, RoutingWeights::OnInputs);
    }
    limited_routers(&mut g, x);
    for norm in [true, false] {
        g.expert_ffn(x, logits, stacks, Router { norm, ..plain }, Activation::Gelu, RoutingWeights::OnOutputs);
    }
    // As fusion does, add a residual to the last sum.
    if let Some(Op::ExpertSum(_, io)) = g.nodes.last_mut() {
        io.residual = Some(x);
    }
    let x = g.gather(x);
    let logits = g.linear(x, embedding, None);
    for cap in [None, Some(30.0)] {
        g.logit_scale(logits, LogitScale { scale: 1.0, softcap: cap });
    }
    g.sample(logits);
    g
}

/// Routers that choose by a bias, and among groups.
fn limited_routers(g: &mut Graph, logits: TensorId) {
    let experts = g.cols(logits);
    let bias = g.vector("choice.bias", experts);
    let groups = |top2_sum| Some(RouterGroups { count: 8, used: 4, top2_sum });
    let deepseek3 = Router { scoring: Scoring::Sigmoid, ..Router::plain(experts, 8) };
    for groups in [None, groups(true)] {
        g.router(logits, Some(bias), None, Router { groups, ..deepseek3 });
    }
    g.router(logits, None, None, Router { norm: false, groups: groups(false), ..Router::plain(experts, 6) });
}

/// A linear with a residual, as fusion makes it.
fn residual(g: &mut Graph, x: TensorId, weight: TensorId, bias: Option<TensorId>, y: TensorId) {
    g.linear(x, weight, bias);
    if let Some(Op::Linear(_, io)) = g.nodes.last_mut() {
        io.residual = Some(y);
    }
}

/// Queries, keys and values, as one node.
fn projections(g: &mut Graph, x: TensorId, weights: [TensorId; 3], bias: Option<TensorId>) {
    let bias = bias.map(|bias| g.concat_vectors(&[bias; 3]));
    let cols = weights.iter().map(|id| g.fixed_rows(*id)).sum();
    let y = g.activation("qkv", Rows::Step, cols);
    g.nodes.push(Op::Qkv(Qkv, QkvOperands { x, weights, bias, y, norm: None }));
}

/// A post-norm with the sum that follows, and the same with the next norm.
fn post_norms(g: &mut Graph, x: TensorId, residual: TensorId) {
    let cols = g.cols(x);
    let weight = g.vector("post_norm.weight", cols);
    let [y, z] = ["sum", "next"].map(|name| g.activation(name, Rows::Step, cols));
    for next in [None, Some(NextNorm { eps: 1e-5, weight, z })] {
        g.nodes.push(Op::NormAdd(NormAdd { eps: 1e-5 }, NormAddOperands { x, weight, residual, y, next }));
    }
}

/// Every node so far that can take on a norm, once more with it.
fn with_fused_norm(g: &mut Graph, normed: TensorId) {
    let source_cols = g.cols(normed);
    let weight = g.vector("norm.weight", source_cols);
    let next = NextFusedNorm::new(g, weight, source_cols);
    let NextFusedNorm { scaled, squares, .. } = next;
    let norm = Some(FusedNorm { eps: 1e-5, source_cols, weight, scaled, squares, normed });
    for mut node in g.nodes.clone() {
        match &mut node {
            Op::Linear(_, io) if io.residual.is_some() => io.next_norm = Some(next.clone()),
            Op::Qkv(_, io) => io.norm = norm.clone(),
            Op::LinearGlu(_, io) => io.norm = norm.clone(),
            _ => continue,
        }
        g.nodes.push(node);
    }
}

/// A gated pair, as one node.
fn gated(gate: DType, up: DType, cols: u32) -> Graph {
    let mut g = Graph::default();
    let embedding = g.weight("token_embd.weight", 64, cols, gate);
    let x = g.embed(embedding, 1.0);
    let (gate, up) = (g.weight("gate.weight", 512, cols, gate), g.weight("up.weight", 512, cols, up));
    let y = g.add("y", Rows::Step, 512, TensorKind::Activation);
    let operands = LinearGluOperands::new(&mut g, x, [gate, up], y);
    g.nodes.push(Op::LinearGlu(LinearGlu { activation: Activation::Silu }, operands));
    g
}

/// Everything between projections and attention, as one node: both RoPE styles, with head norms and without.
fn rope_kv(g: &mut Graph, q: TensorId, norm: TensorId, caches: (TensorId, TensorId), shape: (u32, u32, u32)) {
    let (heads, kv_heads, head_dim) = shape;
    let side_by_side = g.add("qkv", Rows::Step, (heads + 2 * kv_heads) * head_dim, TensorKind::Activation);
    let (rows, pages, weights) = (g.input(StepInput::Rows), g.input(StepInput::Pages), g.concat_vectors(&[norm; 2]));
    for (style, rotated) in [(RopeStyle::Interleaved, head_dim), (RopeStyle::Neox, head_dim / 2)] {
        let angles = g.rope_angles(&vec![1.0; rotated as usize / 2], 4096, 1.0);
        let norm = Some(HeadNorm { eps: 1e-6, weights });
        for (head_norm, norm_values) in [(None, false), (norm.clone(), false), (norm, true)] {
            let op = RopeKv { heads, kv_heads, rope: Rope { head_dim, rotated, style }, norm_values };
            let (qkv, keys, values) = (side_by_side, caches.0, caches.1);
            let operands = RopeKvOperands { rows, pages, angles, qkv, head_norm, q, keys, values };
            g.nodes.push(Op::RopeKv(op, operands));
        }
    }
}

/// Ops on heads, for one shape of heads.
fn block(heads: u32, kv_heads: u32, head_dim: u32) -> Graph {
    let mut g = Graph::default();
    let input = |g: &mut Graph, cols| {
        let table = g.weight("table.weight", 64, cols, DType::F32);
        g.embed_tokens(table, 2.0)
    };
    let (q, k) = (input(&mut g, heads * head_dim), input(&mut g, kv_heads * head_dim));
    let (whole, head) = (g.vector("norm.weight", heads * head_dim), g.vector("q_norm.weight", head_dim));
    let normed = g.rms_norm(q, whole, 1e-5);
    let q = g.rms_norm(normed, head, 1e-6);
    g.layer_norm(q, whole, whole, 1e-5);
    for (pairing, rotated) in [(RopeStyle::Interleaved, head_dim), (RopeStyle::Neox, head_dim / 2)] {
        let angles = g.rope_angles(&vec![1.0; rotated as usize / 2], 4096, 1.0);
        g.rope(q, angles, Rope { head_dim, rotated, style: pairing });
    }
    let kind = TensorKind::KvCache { heads: kv_heads, head_dim, sliding: false };
    let caches = ["keys", "values"].map(|name| g.add(name, Rows::Fixed(256), kv_heads * head_dim, kind.clone()));
    let caches = (caches[0], caches[1]);
    rope_kv(&mut g, q, head, caches, (heads, kv_heads, head_dim));
    g.kv_write(k, k, caches, KvWrite { heads: kv_heads, head_dim });
    let plain = Attention::full(heads, kv_heads, head_dim);
    let y = g.attention(q, caches, None, plain.clone());
    let sinks = g.vector("sinks.weight", heads);
    let temperature = Some(AttentionTemperature { floor_scale: 8192, attn_scale: 0.1, offset: 1 });
    for (reach, temperature) in [(MaskKind::SlidingWindow(100), None), (MaskKind::Chunked(100), temperature)] {
        g.attention(
            q,
            caches,
            Some(sinks),
            Attention { mask: reach, softcap: Some(50.0), temperature, ..plain.clone() },
        );
    }
    let y = g.glu(y, q, Activation::Silu);
    let y = g.sum(y, q);
    let last = g.gather(y);
    g.rms_norm(last, whole, 1e-5);
    g
}
