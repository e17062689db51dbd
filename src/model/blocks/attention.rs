//! Attention with a KV cache.

use super::Recorder;
use crate::graph::{Activation, Attention, HeadSlice, KvWrite, Rope, TensorId};
use crate::model::spec::{AttentionSpec, KvCacheSpec, KvSource, NormSpec};

impl Recorder<'_> {
    /// x (rows, hidden) -> (rows, hidden)
    pub fn attention(&mut self, x: TensorId, spec: &AttentionSpec, n: u32) -> TensorId {
        let AttentionSpec { heads, kv_heads, head_dim, scores, .. } = *spec;
        let q = self.linear(x, &spec.q);
        let kv = match &spec.kv {
            KvSource::Own { k, v, .. } => {
                let k = self.linear(x, k);
                Some((k, v.as_ref().map_or(k, |v| self.linear(x, v))))
            }
            KvSource::Layer(_) => None,
        };
        let (q, gate) = if spec.gated { self.split_gates(q, head_dim) } else { (q, None) };
        let q = self.norm_and_rotate(q, spec.q_norm.as_ref(), spec);
        let caches = match (&spec.kv, kv) {
            (KvSource::Own { k_norm, v_norm, .. }, Some((k, v))) => {
                let k = self.norm_and_rotate(k, k_norm.as_ref(), spec);
                let v = self.norm_if(v, v_norm.as_ref());
                let cache = KvCacheSpec { heads: kv_heads, head_dim, mask: scores.mask };
                let [k_cache, v_cache] =
                    ["k_cache", "v_cache"].map(|part| self.cache(format!("blk.{n}.{part}"), cache));
                self.graph.kv_write(k, v, (k_cache, v_cache), KvWrite { heads: kv_heads, head_dim });
                self.caches.insert(n, (k_cache, v_cache));
                (k_cache, v_cache)
            }
            (KvSource::Layer(other), _) => self.caches[other],
            (KvSource::Own { .. }, None) => unreachable!("keys and values were just computed"),
        };
        let sinks = self.vector_if(spec.sinks.as_ref());
        let op = Attention {
            scale: scores.scale,
            mask: scores.mask,
            softcap: scores.softcap,
            temperature: scores.temperature,
            ..Attention::full(heads, kv_heads, head_dim)
        };
        let h = self.graph.attention(q, caches, sinks, op);
        let h = gate.map_or(h, |gate| self.graph.glu(gate, h, Activation::Sigmoid));
        self.linear(h, &spec.output)
    }

    /// Queries, and the gates that follow each head's query.
    fn split_gates(&mut self, q: TensorId, head_dim: u32) -> (TensorId, Option<TensorId>) {
        let mut half = |start| self.graph.head_slice(q, HeadSlice { head_dim: 2 * head_dim, start, len: head_dim });
        let gate = half(head_dim);
        (half(0), Some(gate))
    }

    /// Heads of queries or keys, normed and rotated as the layer does it.
    fn norm_and_rotate(&mut self, x: TensorId, norm: Option<&NormSpec>, spec: &AttentionSpec) -> TensorId {
        let x = self.norm_if(x, norm);
        let Some(rope) = spec.scores.rope else { return x };
        let x = self.rope(x, rope, spec.head_dim);
        self.norm_if(x, spec.norm_after_rope.as_ref())
    }

    /// Rotates heads by the model's rotary embedding number `rope`.
    pub(super) fn rope(&mut self, x: TensorId, rope: usize, head_dim: u32) -> TensorId {
        let (config, angles) = self.ropes[rope];
        self.graph.rope(x, angles, Rope { head_dim, rotated: config.rotated(), style: config.style })
    }
}
