//! Multi-head latent attention (MLA, arXiv 2405.04434, section 2.1), with the matrices for keys and values absorbed
//! into queries and outputs.

use super::Recorder;
use crate::graph::{Attention, HeadConcat, HeadSlice, KvWrite, TensorId};
use crate::model::spec::{KvCacheSpec, MlaConfig, MlaQuery, MlaSpec};

impl Recorder<'_> {
    /// x (rows, hidden) -> (rows, hidden)
    pub fn mla(&mut self, x: TensorId, spec: &MlaSpec, n: u32) -> TensorId {
        let MlaSpec { heads, sizes, scores, rope, .. } = *spec;
        let MlaConfig { kv_lora_rank, qk_rope_head_dim, qk_nope_head_dim, .. } = sizes;
        let q = self.mla_queries(x, &spec.q);
        let slice = |start, len| HeadSlice { head_dim: sizes.query_dim(), start, len };
        let q_nope = self.graph.head_slice(q, slice(0, qk_nope_head_dim));
        let q_rope = self.graph.head_slice(q, slice(qk_nope_head_dim, qk_rope_head_dim));
        let q_rope = self.rope(q_rope, rope, qk_rope_head_dim);
        let k_b = self.weight(&spec.k_b);
        let q_latent = self.graph.head_linear(q_nope, k_b);
        let q = self.graph.head_concat(q_latent, q_rope, HeadConcat { heads });

        let latent = self.linear(x, &spec.kv_a);
        let k_rope = self.linear(x, &spec.k_rope);
        let latent = self.norm(latent, &spec.kv_norm);
        let k_rope = self.rope(k_rope, rope, qk_rope_head_dim);
        let k = self.graph.head_concat(latent, k_rope, HeadConcat { heads: 1 });
        let head_dim = sizes.cached_dim();
        let cache = self.cache(format!("blk.{n}.k_cache"), KvCacheSpec { heads: 1, head_dim, mask: scores.mask });
        self.graph.k_write(k, cache, KvWrite { heads: 1, head_dim });

        let op = Attention {
            value_dim: kv_lora_rank,
            scale: scores.scale,
            mask: scores.mask,
            softcap: scores.softcap,
            temperature: scores.temperature,
            ..Attention::full(heads, 1, head_dim)
        };
        let h = self.graph.attention(q, (cache, cache), None, op);
        let v_b = self.weight(&spec.v_b);
        let h = self.graph.head_linear(h, v_b);
        self.linear(h, &spec.output)
    }

    fn mla_queries(&mut self, x: TensorId, spec: &MlaQuery) -> TensorId {
        match spec {
            MlaQuery::Full(q) => self.linear(x, q),
            MlaQuery::LowRank { a, norm, b } => {
                let q = self.linear(x, a);
                let q = self.norm(q, norm);
                self.linear(q, b)
            }
        }
    }
}
