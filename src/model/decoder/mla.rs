//! Attention over latent keys (MLA, arXiv 2405.04434, section 2.1), as a part of the decoder.

use super::Builder;
use crate::graph::TensorId;
use crate::model::spec::{LayerSpec, MlaConfig, ModelSpec};
use crate::ops::attention::Attention;
use crate::ops::head_concat::HeadConcat;
use crate::ops::head_slice::HeadSlice;
use crate::ops::kv_write::KvWrite;
use crate::ops::rope::Rope;
use crate::{Error, Result};

/// What norms of latent parts add under their root, whatever the file says of other norms: transformers' models have no
/// setting for it.
const LATENT_EPS: f32 = 1e-6;

impl Builder<'_> {
    /// Attention over latent keys (DeepSeek): (rows, hidden) -> (rows, hidden). The matrices that would make keys and
    /// values of the latent part stand behind queries and attention instead, so that all heads read one head's keys.
    pub(super) fn latent_attention(
        &mut self,
        x: TensorId,
        angles: &[TensorId],
        layer: &LayerSpec,
        n: u32,
    ) -> Result<TensorId> {
        let name = |part: &str| format!("blk.{n}.{part}");
        let ModelSpec { heads, mla, scales, .. } = *self.spec;
        let LayerSpec { head_dim, reach, temperature, .. } = *layer;
        let (Some(mla), Some(which)) = (mla, layer.rope) else {
            return Err(Error::Format(format!("{} has no latent part or no rotation", name("attn_k"))));
        };
        let MlaConfig { kv_lora_rank: rank, qk_rope_head_dim: rotated, qk_nope_head_dim: plain, v_head_dim: value } =
            mla;
        let angles = angles[which];
        let rope = Rope { head_dim: rotated, rotated, style: self.spec.ropes[which].pairing };
        let q = self.latent_queries(x, &name, heads * (plain + rotated))?;
        let part = |first, len| HeadSlice { head_dim: plain + rotated, start: first, len };
        let (q, turned) = (self.graph.head_slice(q, part(0, plain)), self.graph.head_slice(q, part(plain, rotated)));
        let turned = self.graph.rope(turned, angles, rope.clone());
        let matrices = self.head_matrices(&name("attn_k_b.weight"), heads, rank, plain)?;
        let q = self.graph.head_linear(q, matrices);
        let q = self.graph.head_concat(q, turned, HeadConcat { heads });

        let [k, turned] = self.parts_of(x, &name("attn_kv_a_mqa"), [rank, rotated])?;
        let k = self.latent_norm(k, &name("attn_kv_a_norm.weight"), rank)?;
        let turned = self.graph.rope(turned, angles, rope);
        let k = self.graph.head_concat(k, turned, HeadConcat { heads: 1 });
        let cache = self.cache(&name("k_cache"), layer);
        self.graph.k_write(k, cache, KvWrite { heads: 1, head_dim });

        let (scale, cap) = (scales.attention, scales.attention_softcap);
        let op = Attention {
            value_dim: rank,
            scale,
            mask: reach,
            softcap: cap,
            temperature,
            ..Attention::full(heads, 1, head_dim)
        };
        let h = self.graph.attention(q, (cache, cache), None, op);
        let matrices = self.head_matrices(&name("attn_v_b.weight"), heads, value, rank)?;
        let h = self.graph.head_linear(h, matrices);
        self.linear(h, &name("attn_output"), self.spec.hidden_size)
    }

    /// Queries of one matrix, or of two with a norm between them.
    fn latent_queries(&mut self, x: TensorId, name: &dyn Fn(&str) -> String, rows: u32) -> Result<TensorId> {
        if self.has(&name("attn_q.weight")) {
            return self.linear(x, &name("attn_q"), rows);
        }
        let rank = self.count_rows(&name("attn_q_a.weight"))?;
        let q = self.linear(x, &name("attn_q_a"), rank)?;
        let q = self.latent_norm(q, &name("attn_q_a_norm.weight"), rank)?;
        self.linear(q, &name("attn_q_b"), rows)
    }

    /// The norm of a latent part.
    fn latent_norm(&mut self, x: TensorId, name: &str, cols: u32) -> Result<TensorId> {
        let weight = self.vector(name, cols)?;
        Ok(self.graph.rms_norm(x, weight, LATENT_EPS))
    }

    /// A matrix (rows, cols) for each head.
    fn head_matrices(&mut self, name: &str, heads: u32, rows: u32, cols: u32) -> Result<TensorId> {
        let dtype = self.check(name, &[cols.into(), rows.into(), heads.into()])?;
        Ok(self.graph.expert_stack(name, heads, rows, cols, dtype))
    }
}
