//! The decoder that all architectures share, recorded as a graph. Tensor names are GGUF's, so the graph is the load
//! manifest; every tensor's shape is checked against the file while it is recorded.

mod mla;

use super::expert_slots::{ExpertPart, ExpertSlots, OffloadedLayer};
use super::spec::{LayerSpec, ModelSpec, MoeConfig};
use super::unknown;
use crate::checkpoint::Checkpoint;
use crate::graph::{Graph, Rows, TensorId, TensorKind};
use crate::ops::attention::{Attention, MaskKind};
use crate::ops::delta_net::DeltaNet;
use crate::ops::experts::{ExpertWeights, Router, RouterGroups, RoutingWeights, Scoring};
use crate::ops::glu::Activation;
use crate::ops::head_slice::HeadSlice;
use crate::ops::kv_write::KvWrite;
use crate::ops::logit_scale::LogitScale;
use crate::ops::rope::Rope;
use crate::ops::short_conv::ShortConv;
use crate::{Error, Result};
use std::collections::BTreeMap;

/// A recorded model.
#[derive(Clone, Debug)]
pub struct Decoder {
    /// The graph of a step.
    pub graph: Graph,
    /// Its logits: (logit rows, vocabulary).
    pub logits: TensorId,
    /// What the logits are computed from: (logit rows, hidden), normed.
    pub hidden: TensorId,
    /// Layers with offloaded experts.
    pub offloaded: Vec<OffloadedLayer>,
}

/// How a model is recorded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Recording {
    /// Positions, at most.
    pub context: u32,
    /// Whether layers with local attention have a sliding-window KV cache with pages of its own.
    pub near: bool,
    /// With expert offload, the share of experts beyond one layer's that stays resident ([`ExpertSlots`]); `None`: all
    /// experts are resident.
    pub resident_experts: Option<f64>,
}

/// Records a model.
///
/// # Errors
/// If a tensor is missing or has another shape than the model's keys say.
pub fn record(checkpoint: &Checkpoint, spec: &ModelSpec, recording: Recording) -> Result<Decoder> {
    let Recording { context, near, resident_experts } = recording;
    let (graph, caches, expert_slots) = (Graph::default(), BTreeMap::new(), resident_experts.map(ExpertSlots::new));
    let mut b = Builder { checkpoint, spec, near, expert_slots, graph, layer_inputs: None, caches };
    let c = spec;
    let ropes = c.ropes.iter();
    let angles: Vec<TensorId> =
        ropes.map(|rope| b.graph.rope_angles(rope.frequencies_for(context), context, rope.scale)).collect();
    let embedding = b.weight("token_embd.weight", c.vocab_size, c.hidden_size)?;
    let mut x = b.graph.embed(embedding, c.scales.embedding);
    b.layer_inputs = b.layer_inputs(x)?;
    for (n, layer) in (0..).zip(&c.layers) {
        x = b.block(x, &angles, layer, n)?;
    }
    let x = b.graph.gather(x);
    // LFM2 calls it otherwise.
    let named = ["output_norm.weight", "token_embd_norm.weight"].into_iter().find(|name| b.has(name));
    let hidden = b.norm(x, named.unwrap_or("output_norm.weight"), c.hidden_size)?;
    let head = match b.has("output.weight") {
        true => b.weight("output.weight", c.vocab_size, c.hidden_size)?,
        false => embedding,
    };
    let mut logits = b.graph.linear(hidden, head, None);
    let logit_scale = LogitScale { scale: c.scales.logits, softcap: c.scales.logit_softcap };
    if logit_scale != (LogitScale { scale: 1.0, softcap: None }) {
        logits = b.graph.logit_scale(logits, logit_scale);
    }
    b.graph.sample(logits);
    let offloaded = b.expert_slots.map_or_else(Vec::new, |expert_slots| expert_slots.finish(&mut b.graph));
    let fetched = offloaded.iter().flat_map(|layer| &layer.parts).map(|part| part.tensor.name.as_str());
    let used = b.graph.tensors.iter().map(|t| t.name.as_str()).chain(fetched).collect();
    let unread = unknown::unread(checkpoint, &used, &c.layers);
    if !unread.is_empty() {
        return Err(Error::Unsupported(format!("this model cannot run: {}", unknown::describe(&unread))));
    }
    Ok(Decoder { graph: b.graph, logits, hidden, offloaded })
}

struct Builder<'a> {
    checkpoint: &'a Checkpoint,
    spec: &'a ModelSpec,
    near: bool,
    expert_slots: Option<ExpertSlots>,
    graph: Graph,
    /// What each layer is told of a row's token besides, side by side: (rows, layers * n).
    layer_inputs: Option<TensorId>,
    /// Keys and values of the layers so far that have their own.
    caches: BTreeMap<u32, (TensorId, TensorId)>,
}

impl Builder<'_> {
    fn has(&self, name: &str) -> bool {
        self.checkpoint.tensors.contains_key(name)
    }

    /// Checks that the file's tensor has this shape (rows last, as GGUF counts).
    fn check(&self, name: &str, shape: &[u64]) -> Result<crate::dtype::DType> {
        let tensor = self.checkpoint.tensor(name)?;
        let trimmed = |dims: &[u64]| {
            let len = dims.iter().rposition(|d| *d != 1).map_or(1, |i| i + 1);
            dims[..len.min(dims.len())].to_vec()
        };
        if trimmed(&tensor.dims) != trimmed(shape) {
            let have = &tensor.dims;
            return Err(Error::Format(format!("tensor {name} has the shape {have:?}, the model's keys say {shape:?}")));
        }
        Ok(tensor.dtype)
    }

    fn weight(&mut self, name: &str, rows: u32, cols: u32) -> Result<TensorId> {
        let dtype = self.check(name, &[cols.into(), rows.into()])?;
        Ok(self.graph.weight(name, rows, cols, dtype))
    }

    fn vector(&mut self, name: &str, cols: u32) -> Result<TensorId> {
        self.check(name, &[cols.into()])?;
        Ok(self.graph.vector(name, cols))
    }

    /// x times parts of the matrix `{stem}.weight`, which holds matrices of `parts` rows one after another; plus
    /// `{stem}.bias` if the file has one.
    fn parts_of<const N: usize>(&mut self, x: TensorId, stem: &str, parts: [u32; N]) -> Result<[TensorId; N]> {
        let rows = parts.iter().sum();
        let mut end = 0;
        let starts = parts.map(|len| {
            end += len;
            end - len
        });
        if N > 1 && self.has(&format!("{stem}.bias")) {
            // A bias is not read in parts, so what comes of it is cut instead.
            let all = self.linear(x, stem, rows)?;
            return Ok(std::array::from_fn(|i| {
                self.graph.head_slice(all, HeadSlice { head_dim: rows, start: starts[i], len: parts[i] })
            }));
        }
        let (name, cols) = (format!("{stem}.weight"), self.graph.cols(x));
        let dtype = self.check(&name, &[cols.into(), rows.into()])?;
        Ok(std::array::from_fn(|i| {
            let weight = self.graph.weight_rows(&name, starts[i], parts[i], cols, dtype);
            self.graph.linear(x, weight, None)
        }))
    }

    /// x times the matrix `{stem}.weight`, plus `{stem}.bias` if the file has one.
    fn linear(&mut self, x: TensorId, stem: &str, rows: u32) -> Result<TensorId> {
        let weight = self.weight(&format!("{stem}.weight"), rows, self.graph.cols(x))?;
        let bias = format!("{stem}.bias");
        let bias = if self.has(&bias) { Some(self.vector(&bias, rows)?) } else { None };
        Ok(self.graph.linear(x, weight, bias))
    }

    /// The norm of this weight: a layer norm if it has a bias.
    fn norm(&mut self, x: TensorId, name: &str, cols: u32) -> Result<TensorId> {
        let bias = name.replace(".weight", ".bias");
        if bias == name || !self.has(&bias) {
            return self.norm_of(x, name, cols, 1.0);
        }
        if cols != self.graph.cols(x) {
            return Err(Error::Unsupported(format!("{bias} belongs to a norm of parts of a row")));
        }
        let (weight, bias) = (self.vector(name, cols)?, self.vector(&bias, cols)?);
        Ok(self.graph.layer_norm(x, weight, bias, self.spec.norm_eps))
    }

    /// The norm of x over the root of `squared`, without dividing: that only counts against epsilon.
    fn norm_of(&mut self, x: TensorId, name: &str, cols: u32, squared: f32) -> Result<TensorId> {
        self.check(name, &[cols.into()])?;
        let weight = self.graph.vector_with_offset(name, cols, self.spec.norm_weight_offset);
        Ok(self.graph.rms_norm(x, weight, self.spec.norm_eps * squared))
    }

    /// A norm of every `cols` values, without a weight.
    fn bare_norm(&mut self, x: TensorId, cols: u32) -> TensorId {
        let ones = self.graph.add("ones", Rows::Fixed(1), cols, TensorKind::Constant(vec![1.0; cols as usize]));
        self.graph.rms_norm(x, ones, self.spec.norm_eps)
    }

    /// A norm of whole rows, if the file has its weight.
    fn norm_if(&mut self, x: TensorId, name: &str) -> Result<TensorId> {
        if self.has(name) { self.norm(x, name, self.graph.cols(x)) } else { Ok(x) }
    }

    /// x (rows, hidden) -> (rows, hidden)
    fn block(&mut self, x: TensorId, angles: &[TensorId], layer: &LayerSpec, n: u32) -> Result<TensorId> {
        let name = |part: &str| format!("blk.{n}.{part}.weight");
        let residual = self.spec.scales.residual;
        // Norms behind a part come in pairs; a single one stands before the feed-forward network (gpt-oss).
        let both = self.has(&name("post_ffw_norm"));
        let ffn_norm = if both || self.has(&name("ffn_norm")) { "ffn_norm" } else { "post_attention_norm" };
        // Norms before a part may be left out only where there are norms behind it (OLMo 2).
        let before = |b: &mut Self, x, norm: &str| match both {
            true => b.norm_if(x, &name(norm)),
            false => b.norm(x, &name(norm), b.spec.hidden_size),
        };
        let h = before(self, x, "attn_norm")?;
        let has = |part: &str| self.has(&format!("blk.{n}.{part}"));
        let h = match (has("ssm_a") || has("ssm_a_log"), has("shortconv.conv.weight")) {
            (true, _) => self.delta_net(h, n)?,
            (false, true) => self.gated_conv(h, n)?,
            (false, false) if self.spec.mla.is_some() => self.latent_attention(h, angles, layer, n)?,
            (false, false) => self.attention(h, angles, layer, n)?,
        };
        let h = if both { self.norm(h, &name("post_attention_norm"), self.spec.hidden_size)? } else { h };
        let x = self.graph.scaled_sum(x, h, residual);
        let h = before(self, x, ffn_norm)?;
        let h = match (self.has(&name("ffn_gate_inp")), self.has(&name("pre_ffw_norm_2"))) {
            (true, true) => self.dense_and_experts(x, h, n)?,
            (true, false) => self.expert_ffn(h, h, n)?,
            (false, _) => self.ffn(h, n, "")?,
        };
        let h = self.norm_if(h, &name("post_ffw_norm"))?;
        let x = self.graph.scaled_sum(x, h, residual);
        let x = self.add_layer_input(x, n)?;
        let scale = name("layer_output_scale");
        if !self.has(&scale) {
            return Ok(x);
        }
        let scale = self.vector(&scale, 1)?;
        Ok(self.graph.glu(scale, x, Activation::Product))
    }

    /// What each layer is told of a row's token besides the residual stream (Gemma 4): the token's own vector for the
    /// layer, and one made of its embedding x (rows, hidden) -> (rows, layers * n), if the file has such vectors.
    fn layer_inputs(&mut self, x: TensorId) -> Result<Option<TensorId>> {
        const TABLE: &str = "per_layer_token_embd.weight";
        let ModelSpec { hidden_size, vocab_size, .. } = *self.spec;
        let layers = self.spec.layers.len() as u32;
        let Some(table) = self.checkpoint.tensors.get(TABLE) else { return Ok(None) };
        let cols = table.dims.first().and_then(|n| u32::try_from(*n).ok()).unwrap_or(0);
        if cols == 0 || cols > 1 << 20 || !cols.is_multiple_of(4 * layers) {
            return Err(Error::Unsupported(format!("{TABLE} has rows of {cols} for {layers} layers")));
        }
        let size = cols / layers;
        let table = self.weight(TABLE, vocab_size, cols)?;
        let own = self.graph.embed(table, (size as f32).sqrt());
        let made = self.linear(x, "per_layer_model_proj", cols)?;
        let made = self.norm_of(made, "per_layer_proj_norm.weight", size, hidden_size as f32)?;
        Ok(Some(self.graph.sum(made, own)))
    }

    /// x (rows, hidden) plus what layer `n` makes of its own input, if there is one.
    fn add_layer_input(&mut self, x: TensorId, n: u32) -> Result<TensorId> {
        let Some(inputs) = self.layer_inputs else { return Ok(x) };
        let name = |part: &str| format!("blk.{n}.{part}");
        let all = self.graph.cols(inputs);
        let size = all / self.spec.layers.len() as u32;
        let gate = self.linear(x, &name("inp_gate"), size)?;
        let input = self.graph.head_slice(inputs, HeadSlice { head_dim: all, start: n * size, len: size });
        let h = self.graph.glu(gate, input, self.spec.arch.activation);
        let h = self.linear(h, &name("proj"), self.spec.hidden_size)?;
        // The inputs should be the sums of their two parts over the root of two.
        let h = self.norm_of(h, &name("post_norm.weight"), self.spec.hidden_size, 2.0)?;
        Ok(self.graph.sum(x, h))
    }

    /// (rows, hidden) -> (rows, hidden)
    fn attention(&mut self, x: TensorId, angles: &[TensorId], layer: &LayerSpec, n: u32) -> Result<TensorId> {
        let ModelSpec { heads, scales, .. } = *self.spec;
        let LayerSpec { reach, temperature, kv_heads, head_dim, .. } = *layer;
        let name = |part: &str| format!("blk.{n}.{part}");
        if kv_heads == 0 {
            return Err(Error::Format(format!("layer {n} should have no attention, but it has nothing else")));
        }
        let (mut q, kv) = self.projections(x, layer, n)?;
        // A matrix twice as large makes, head by head, queries and the gates of what attention makes of them.
        let mut gate = None;
        if self.graph.cols(q) == 2 * heads * head_dim {
            let part = |first| HeadSlice { head_dim: 2 * head_dim, start: first, len: head_dim };
            gate = Some(self.graph.head_slice(q, part(head_dim)));
            q = self.graph.head_slice(q, part(0));
        }
        let q = self.head(q, &name("attn_q_norm.weight"), angles, layer)?;
        let caches = match kv {
            Some((k, v)) => {
                let k = self.head(k, &name("attn_k_norm.weight"), angles, layer)?;
                let v = if self.spec.arch.v_norm { self.bare_norm(v, head_dim) } else { v };
                let mut cache = |part| self.cache(&name(part), layer);
                let caches = (cache("k_cache"), cache("v_cache"));
                self.graph.kv_write(k, v, caches, KvWrite { heads: kv_heads, head_dim });
                self.caches.insert(n, caches);
                caches
            }
            None => {
                let other = layer.kv_from.and_then(|other| self.caches.get(&other)).copied();
                other.ok_or_else(|| Error::Format(format!("layer {n} shares keys and values that are not there")))?
            }
        };
        let sinks = name("attn_sinks.weight");
        let sinks = if self.has(&sinks) { Some(self.vector(&sinks, heads)?) } else { None };
        let (scale, cap, sinks_there) = (scales.attention, scales.attention_softcap, sinks.is_some());
        let op = Attention {
            scale,
            mask: reach,
            softcap: cap,
            temperature,
            sinks: sinks_there,
            ..Attention::full(heads, kv_heads, head_dim)
        };
        let h = self.graph.attention(q, caches, sinks, op);
        let h = gate.map_or(h, |gate| self.graph.glu(gate, h, Activation::Sigmoid));
        self.linear(h, &name("attn_output"), self.spec.hidden_size)
    }

    /// What a layer's keys lie in, or its values.
    fn cache(&mut self, name: &str, layer: &LayerSpec) -> TensorId {
        let LayerSpec { kv_heads: heads, head_dim, reach, .. } = *layer;
        let near = self.near && reach != MaskKind::Causal;
        self.graph.add(name, Rows::Fixed(0), 0, TensorKind::KvCache { heads, head_dim, sliding: near })
    }

    /// Heads of queries or keys, normed and rotated as far as the layer does so.
    fn head(&mut self, x: TensorId, norm: &str, angles: &[TensorId], layer: &LayerSpec) -> Result<TensorId> {
        let head_dim = layer.head_dim;
        let x = self.head_norm(x, norm, head_dim)?;
        let Some(which) = layer.rope else { return Ok(x) };
        let rope = &self.spec.ropes[which];
        let rope = Rope { head_dim, rotated: 2 * rope.frequencies.len() as u32, style: rope.pairing };
        let x = self.graph.rope(x, angles[which], rope);
        Ok(if self.spec.qk_norm_after_rope { self.bare_norm(x, head_dim) } else { x })
    }

    /// A gated delta net (Qwen 3.5, Qwen3-Next): (rows, hidden) -> (rows, hidden).
    fn delta_net(&mut self, x: TensorId, n: u32) -> Result<TensorId> {
        let name = |part: &str| format!("blk.{n}.{part}");
        let Some(delta) = &self.spec.delta_net else {
            return Err(Error::Format(format!("{} is there, but no key says how large its state is", name("ssm_a"))));
        };
        let has = |part: &str| self.has(&name(part));
        let (fused, log_decay) = (has("ssm_ba.weight"), has("ssm_a_log"));
        let net = DeltaNet { fused, log_decay, ..delta.net };
        let inner = net.heads * net.head_dim;
        let channels = 2 * net.key_heads * net.head_dim + inner;
        let mixed = self.linear(x, &name("attn_qkv"), channels)?;
        let taps = self.taps(&name("ssm_conv1d.weight"), delta.conv_kernel, channels)?;
        let mixed = self.graph.short_conv(
            mixed,
            taps,
            &name("conv_state"),
            ShortConv { kernel_size: delta.conv_kernel, silu: true },
        );
        let (alpha, b) = match fused {
            true => [self.linear(x, &name("ssm_ba"), 2 * net.heads)?; 2].into(),
            false => (self.linear(x, &name("ssm_alpha"), net.heads)?, self.linear(x, &name("ssm_beta"), net.heads)?),
        };
        let a = name(if log_decay { "ssm_a_log" } else { "ssm_a" });
        let rates = [self.vector(&a, net.heads)?, self.vector(&name("ssm_dt.bias"), net.heads)?];
        let rates = self.graph.concat_vectors(&rates);
        let norm = self.vector(&name("ssm_norm.weight"), net.head_dim)?;
        let h = self.graph.delta_net(mixed, [alpha, b, rates], &name("delta_state"), net);
        let h = self.graph.rms_norm(h, norm, self.spec.norm_eps);
        let gate = self.linear(x, &name("attn_gate"), inner)?;
        let h = self.graph.glu(gate, h, Activation::Silu);
        self.linear(h, &name("ssm_out"), self.spec.hidden_size)
    }

    /// What a short convolution of so many taps multiplies: (channels * taps).
    fn taps(&mut self, name: &str, taps: u32, channels: u32) -> Result<TensorId> {
        self.check(name, &[taps.into(), channels.into()])?;
        Ok(self.graph.vector(name, channels * taps))
    }

    /// A gated short convolution (LFM2): (rows, hidden) -> (rows, hidden).
    fn gated_conv(&mut self, x: TensorId, n: u32) -> Result<TensorId> {
        let (name, hidden_size) = (|part: &str| format!("blk.{n}.shortconv.{part}"), self.spec.hidden_size);
        let taps = name("conv.weight");
        let rows = self.checkpoint.tensor(&taps)?.dims.first().copied().unwrap_or(0);
        let count = u32::try_from(rows).ok().filter(|n| (2..=8).contains(n));
        let count = count.ok_or_else(|| Error::Unsupported(format!("{taps} is over {rows} rows at a time")))?;
        let taps = self.taps(&taps, count, hidden_size)?;
        let [before, behind, h] = self.parts_of(x, &name("in_proj"), [hidden_size; 3])?;
        let h = self.graph.glu(before, h, Activation::Product);
        let h = self.graph.short_conv(h, taps, &name("state"), ShortConv { kernel_size: count, silu: false });
        let h = self.graph.glu(behind, h, Activation::Product);
        self.linear(h, &name("out_proj"), hidden_size)
    }

    /// Queries, and keys and values if the layer has its own: of three matrices, or of one that holds them one after
    /// another. Without a matrix for values, keys are the values (Gemma 4).
    fn projections(
        &mut self,
        x: TensorId,
        layer: &LayerSpec,
        n: u32,
    ) -> Result<(TensorId, Option<(TensorId, TensorId)>)> {
        let heads = self.spec.heads;
        let LayerSpec { kv_heads, head_dim, kv_from, .. } = *layer;
        let name = |part: &str| format!("blk.{n}.{part}");
        let (q, kv) = (heads * head_dim, kv_heads * head_dim);
        // Where queries have gates, their matrix is twice as large.
        let queries = |part: &str, others: u32| {
            let rows = self.checkpoint.tensors.get(&name(&format!("{part}.weight"))).map(|tensor| tensor.rows());
            if rows == Some(u64::from(2 * q + others)) { 2 * q } else { q }
        };
        if self.has(&name("attn_qkv.weight")) {
            let [q, k, v] = self.parts_of(x, &name("attn_qkv"), [queries("attn_qkv", 2 * kv), kv, kv])?;
            return Ok((q, Some((k, v))));
        }
        let q = self.linear(x, &name("attn_q"), queries("attn_q", 0))?;
        if kv_from.is_some() {
            return Ok((q, None));
        }
        let k = self.linear(x, &name("attn_k"), kv)?;
        let v = match self.spec.arch.v_norm && !self.has(&name("attn_v.weight")) {
            true => k,
            false => self.linear(x, &name("attn_v"), kv)?,
        };
        Ok((q, Some((k, v))))
    }

    /// A norm, if the file has its weight: of each head, or of all at once if the weight is as long (OLMo 2).
    fn head_norm(&mut self, x: TensorId, name: &str, head: u32) -> Result<TensorId> {
        let Some(tensor) = self.checkpoint.tensors.get(name) else { return Ok(x) };
        let all = self.graph.cols(x);
        self.norm(x, name, if tensor.dims.first() == Some(&u64::from(all)) { all } else { head })
    }

    /// (rows, hidden) -> (rows, hidden); `of` is what the names end in.
    fn ffn(&mut self, x: TensorId, n: u32, of: &str) -> Result<TensorId> {
        let name = |part: &str| format!("blk.{n}.{part}{of}");
        let (gate, up, down) = (name("ffn_gate"), name("ffn_up"), name("ffn_down"));
        let rows = self.count_rows(&format!("{up}.weight"))?;
        let read = self.checkpoint.tensor(&format!("{down}.weight"))?.dims.first().copied();
        let [gate, up] = match self.has(&format!("{gate}.weight")) {
            true => [self.linear(x, &gate, rows)?, self.linear(x, &up, rows)?],
            // No gate (StarCoder 2): what is activated is multiplied by one.
            false if read == Some(rows.into()) => {
                let one = self.graph.add("one", Rows::Fixed(1), 1, TensorKind::Constant(vec![1.0]));
                [self.linear(x, &up, rows)?, one]
            }
            // Both in one, the gate first (Phi 3).
            false => self.parts_of(x, &up, [rows / 2; 2])?,
        };
        let h = self.graph.glu(gate, up, self.spec.arch.activation);
        self.linear(h, &down, self.spec.hidden_size)
    }

    /// How many rows the file's matrix has; a multiple of 4.
    fn count_rows(&self, name: &str) -> Result<u32> {
        let rows = self.checkpoint.tensor(name)?.dims.get(1).copied().unwrap_or(1);
        match u32::try_from(rows) {
            Ok(rows) if rows > 0 && rows % 4 == 0 && rows < 1 << 20 => Ok(rows),
            _ => Err(Error::Unsupported(format!("{name} has {rows} rows; a multiple of 4 is needed"))),
        }
    }

    /// A dense network and experts side by side, each with norms of its own (Gemma 4): x (rows, hidden), and what the
    /// dense one reads of it -> (rows, hidden).
    fn dense_and_experts(&mut self, x: TensorId, normed: TensorId, n: u32) -> Result<TensorId> {
        let (name, hidden_size) = (|part: &str| format!("blk.{n}.{part}"), self.spec.hidden_size);
        let dense = self.ffn(normed, n, "")?;
        let dense = self.norm(dense, &name("post_ffw_norm_1.weight"), hidden_size)?;
        // The router reads a norm that is divided by the root of the hidden size.
        let root =
            self.graph.add("root", Rows::Fixed(1), 1, TensorKind::Constant(vec![(hidden_size as f32).sqrt().recip()]));
        let routed = self.norm(x, &name("ffn_gate_inp.scale"), hidden_size)?;
        let routed = self.graph.glu(root, routed, Activation::Product);
        let h = self.norm(x, &name("pre_ffw_norm_2.weight"), hidden_size)?;
        let h = self.expert_ffn(h, routed, n)?;
        let h = self.norm(h, &name("post_ffw_norm_2.weight"), hidden_size)?;
        Ok(self.graph.sum(dense, h))
    }

    /// x (rows, hidden), and what the router reads, alike -> (rows, hidden)
    fn expert_ffn(&mut self, x: TensorId, routed: TensorId, n: u32) -> Result<TensorId> {
        let name = |part: &str| format!("blk.{n}.{part}");
        let ModelSpec { arch, hidden_size, .. } = *self.spec;
        let Some(moe) = self.spec.moe else {
            return Err(Error::Format(format!(
                "{} is there, but no key says how many experts there are",
                name("ffn_gate_inp")
            )));
        };
        let count = moe.expert_count;
        // Gate and up may be one stack, the gate first in each matrix.
        let (whole, gate) = (name("ffn_gate_up_exps.weight"), name("ffn_gate_exps.weight"));
        let parts = match self.has(&whole) {
            true => {
                let rows = self.count_rows(&whole)?;
                [
                    ("ffn_gate_up_exps", 0..rows / 2, rows, hidden_size),
                    ("ffn_gate_up_exps", rows / 2..rows, rows, hidden_size),
                ]
            }
            false => {
                let rows = self.count_rows(&gate)?;
                [("ffn_gate_exps", 0..rows, rows, hidden_size), ("ffn_up_exps", 0..rows, rows, hidden_size)]
            }
        };
        let hidden = parts[0].1.end;
        if !hidden.is_multiple_of(4) {
            return Err(Error::Unsupported(format!("{whole} has halves of {hidden} rows; a multiple of 4 is needed")));
        }
        let down = ("ffn_down_exps", 0..hidden_size, hidden_size, hidden);
        let mut stacks = Vec::new();
        let mut biases = None;
        for (i, (part, at, rows, cols)) in parts.into_iter().chain([down]).enumerate() {
            let whole_stack = at == (0..rows);
            let weight = name(&format!("{part}.weight"));
            self.check(&weight, &[cols.into(), rows.into(), count.into()])?;
            stacks.push(ExpertPart {
                tensor: self.checkpoint.tensor(&weight)?.clone(),
                first: at.start,
                rows: at.end - at.start,
            });
            let bias = name(&format!("{part}.bias"));
            if self.has(&bias) && whole_stack {
                self.check(&bias, &[rows.into(), count.into()])?;
                biases.get_or_insert([x; 3])[i] = self.graph.vector(&bias, rows * count);
            }
        }
        if let Some(biases) = &biases
            && biases.contains(&x)
        {
            return Err(Error::Unsupported(format!("{}: only some of the experts' matrices have biases", name("ffn"))));
        }
        let router_bias = name("ffn_gate_inp.bias");
        let router_bias = if self.has(&router_bias) { Some(self.vector(&router_bias, count)?) } else { None };
        let selection_bias = name("exp_probs_b.bias");
        let selection_bias = if self.has(&selection_bias) { Some(self.vector(&selection_bias, count)?) } else { None };
        let biased = selection_bias.is_some();
        // Where no key says it: scores that a bias is added to are of each expert by itself.
        let scoring = moe.scoring.unwrap_or(if biased { Scoring::Sigmoid } else { arch.scoring });
        let top2_sum = scoring == Scoring::Sigmoid;
        let groups = moe.groups.map(|(count, used)| RouterGroups { count, used, top2_sum });
        let router = self.weight(&name("ffn_gate_inp.weight"), count, hidden_size)?;
        let logits = self.graph.linear(routed, router, router_bias);
        let expert_scales = name("ffn_down_exps.scale");
        let expert_scales = if self.has(&expert_scales) { Some(self.vector(&expert_scales, count)?) } else { None };
        let parts: [ExpertPart; 3] = stacks.try_into().expect("three parts");
        let (stacks, places) = match &mut self.expert_slots {
            Some(expert_slots) => {
                let (stacks, places) = expert_slots.stacks(&mut self.graph, &parts, count);
                (stacks, Some(places))
            }
            None => (parts.each_ref().map(|part| part.stack(&mut self.graph, count)), None),
        };
        let [gate, up, down] = stacks;
        let weights = ExpertWeights { selection_bias, expert_scales, gate, up, down, biases, slot_table: places };
        let MoeConfig { experts_per_token: used, norm_topk_prob: norm, routed_scaling_factor: scale, .. } = moe;
        let router = Router { experts: count, used, scoring, norm, scale, biased, groups };
        if arch.routing_weights == RoutingWeights::OnInputs && moe.experts_per_token != 1 {
            return Err(Error::Unsupported(format!(
                "{} experts a token in a {} model",
                moe.experts_per_token, arch.name
            )));
        }
        let (y, ids) = self.graph.expert_ffn(x, logits, weights, router, arch.activation, arch.routing_weights);
        if let (Some(expert_slots), Some(places)) = (&mut self.expert_slots, places) {
            expert_slots.offloaded.push(OffloadedLayer { ids, places, stacks, parts });
        }
        if !self.has(&name("ffn_up_shexp.weight")) {
            return Ok(y);
        }
        let mut shared = self.ffn(x, n, "_shexp")?;
        let gate = name("ffn_gate_inp_shexp.weight");
        if self.has(&gate) {
            let gate = self.weight(&gate, 1, hidden_size)?;
            let gate = self.graph.linear(x, gate, None);
            shared = self.graph.glu(gate, shared, Activation::Sigmoid);
        }
        Ok(self.graph.sum(y, shared))
    }
}
