//! The decoder that all architectures share, recorded as a graph. Tensor names are GGUF's, so the graph is the load
//! manifest; every tensor's shape is checked against the file while it is recorded.

use super::config::Config;
use crate::checkpoint::Checkpoint;
use crate::graph::{Graph, Kind, Rows, TensorId};
use crate::ops::attention::Attention;
use crate::ops::experts::{ExpertWeights, Router};
use crate::ops::glu::Activation;
use crate::ops::kv_write::KvWrite;
use crate::ops::rope::Rope;
use crate::{Error, Result};

/// A recorded model.
#[derive(Clone, Debug)]
pub struct Decoder {
    /// The graph of a step.
    pub graph: Graph,
    /// Its logits: (logit rows, vocabulary).
    pub logits: TensorId,
    /// What the logits are computed from: (logit rows, width), normed.
    pub hidden: TensorId,
}

/// Records a model for at most `context` positions.
///
/// # Errors
/// If a tensor is missing or has another shape than the model's keys say.
pub fn record(checkpoint: &Checkpoint, config: &Config, context: u32) -> Result<Decoder> {
    let mut b = Builder { checkpoint, config, graph: Graph::default() };
    let c = config;
    let angles = b.graph.rope_angles(&c.rope.frequencies, context, c.rope.scale);
    let embedding = b.weight("token_embd.weight", c.vocab, c.width)?;
    let mut x = b.graph.embed(embedding, 1.0);
    for layer in 0..c.layers {
        x = b.block(x, angles, layer)?;
    }
    let x = b.graph.gather(x);
    let hidden = b.norm(x, "output_norm.weight", c.width)?;
    let head = match b.has("output.weight") {
        true => b.weight("output.weight", c.vocab, c.width)?,
        false => embedding,
    };
    let logits = b.graph.linear(hidden, head, None);
    b.graph.sample(logits);
    Ok(Decoder { graph: b.graph, logits, hidden })
}

struct Builder<'a> {
    checkpoint: &'a Checkpoint,
    config: &'a Config,
    graph: Graph,
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

    fn experts(&mut self, name: &str, experts: u32, rows: u32, cols: u32) -> Result<TensorId> {
        let dtype = self.check(name, &[cols.into(), rows.into(), experts.into()])?;
        Ok(self.graph.experts(name, experts, rows, cols, dtype))
    }

    fn vector(&mut self, name: &str, cols: u32) -> Result<TensorId> {
        self.check(name, &[cols.into()])?;
        Ok(self.graph.vector(name, cols))
    }

    fn norm(&mut self, x: TensorId, name: &str, cols: u32) -> Result<TensorId> {
        let weight = self.vector(name, cols)?;
        Ok(self.graph.rms_norm(x, weight, self.config.eps))
    }

    /// x times the matrix `{stem}.weight`, plus `{stem}.bias` if the file has one.
    fn linear(&mut self, x: TensorId, stem: &str, rows: u32) -> Result<TensorId> {
        let cols = self.graph.cols(x);
        let weight = self.weight(&format!("{stem}.weight"), rows, cols)?;
        let bias = format!("{stem}.bias");
        let bias = if self.has(&bias) { Some(self.vector(&bias, rows)?) } else { None };
        Ok(self.graph.linear(x, weight, bias))
    }

    /// x (rows, width) -> (rows, width)
    fn block(&mut self, x: TensorId, angles: TensorId, layer: u32) -> Result<TensorId> {
        let name = |part: &str| format!("blk.{layer}.{part}");
        let width = self.config.width;
        let h = self.norm(x, &name("attn_norm.weight"), width)?;
        let h = self.attention(h, angles, layer)?;
        let h = self.linear(h, &name("attn_output"), width)?;
        let x = self.graph.sum(x, h);
        let h = self.norm(x, &name("ffn_norm.weight"), width)?;
        let h = match self.config.experts {
            Some(_) => self.expert_ffn(h, layer)?,
            None => self.ffn(h, layer)?,
        };
        Ok(self.graph.sum(x, h))
    }

    /// (rows, width) -> (rows, heads * head_dim)
    fn attention(&mut self, x: TensorId, angles: TensorId, layer: u32) -> Result<TensorId> {
        let Config { heads, kv_heads, head_dim, .. } = *self.config;
        let name = |part: &str| format!("blk.{layer}.{part}");
        let q = self.linear(x, &name("attn_q"), heads * head_dim)?;
        let k = self.linear(x, &name("attn_k"), kv_heads * head_dim)?;
        let v = self.linear(x, &name("attn_v"), kv_heads * head_dim)?;
        let q = self.head_norm(q, &name("attn_q_norm.weight"))?;
        let k = self.head_norm(k, &name("attn_k_norm.weight"))?;
        let rope = &self.config.rope;
        let rope = Rope { head_dim, rotated: 2 * rope.frequencies.len() as u32, pairing: rope.pairing };
        let q = self.graph.rope(q, angles, rope.clone());
        let k = self.graph.rope(k, angles, rope);
        let cache =
            |graph: &mut Graph, part| graph.add(name(part), Rows::Fixed(0), 0, Kind::Kv { heads: kv_heads, head_dim });
        let caches = (cache(&mut self.graph, "k_cache"), cache(&mut self.graph, "v_cache"));
        self.graph.kv_write(k, v, caches, KvWrite { heads: kv_heads, head_dim });
        let scale = 1.0 / (head_dim as f32).sqrt();
        Ok(self.graph.attention(q, caches, Attention { heads, kv_heads, head_dim, scale }))
    }

    /// A norm of each head, if the file has its weight.
    fn head_norm(&mut self, x: TensorId, name: &str) -> Result<TensorId> {
        if self.has(name) { self.norm(x, name, self.config.head_dim) } else { Ok(x) }
    }

    /// (rows, width) -> (rows, width)
    fn ffn(&mut self, x: TensorId, layer: u32) -> Result<TensorId> {
        let name = |part: &str| format!("blk.{layer}.{part}");
        let hidden = self.rows_of(&name("ffn_gate.weight"))?;
        let gate = self.linear(x, &name("ffn_gate"), hidden)?;
        let up = self.linear(x, &name("ffn_up"), hidden)?;
        let h = self.graph.glu(gate, up, Activation::Silu);
        self.linear(h, &name("ffn_down"), self.config.width)
    }

    /// How many rows the file's matrix has; a multiple of 4.
    fn rows_of(&self, name: &str) -> Result<u32> {
        let rows = self.checkpoint.tensor(name)?.dims.get(1).copied().unwrap_or(1);
        match u32::try_from(rows) {
            Ok(rows) if rows > 0 && rows % 4 == 0 && rows < 1 << 20 => Ok(rows),
            _ => Err(Error::Unsupported(format!("{name} has {rows} rows; a multiple of 4 is needed"))),
        }
    }

    /// (rows, width) -> (rows, width)
    fn expert_ffn(&mut self, x: TensorId, layer: u32) -> Result<TensorId> {
        let name = |part: &str| format!("blk.{layer}.{part}");
        let Some(experts) = self.config.experts else { unreachable!("the caller looked") };
        let (count, width) = (experts.count, self.config.width);
        let hidden = self.rows_of(&name("ffn_gate_exps.weight"))?;
        let weights = ExpertWeights {
            router: self.weight(&name("ffn_gate_inp.weight"), count, width)?,
            gate: self.experts(&name("ffn_gate_exps.weight"), count, hidden, width)?,
            up: self.experts(&name("ffn_up_exps.weight"), count, hidden, width)?,
            down: self.experts(&name("ffn_down_exps.weight"), count, width, hidden)?,
        };
        let router = Router { experts: count, used: experts.used, norm: true, scale: 1.0 };
        Ok(self.graph.expert_ffn(x, weights, router, Activation::Silu))
    }
}
