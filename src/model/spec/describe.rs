//! Specs in words, for `firelight info`: one line for each kind of layer.

use std::collections::BTreeMap;

use super::{
    AttentionSpec, BranchNorms, DeltaNetSpec, DenseSpec, Ffn, KvSource, LayerSpec, Mixer, MlaSpec, ModelSpec, MoeSpec,
    NormPlacement, NormSpec,
};
use crate::graph::{Activation, MaskKind};
use crate::model::arch::NormKind;

impl ModelSpec {
    /// The kinds of layers, in order of their first: which layers are of this kind, and a line about them.
    pub fn layer_kinds(&self) -> Vec<(String, String)> {
        let mut kinds: Vec<(String, Vec<usize>)> = Vec::new();
        let mut known = BTreeMap::new();
        for (n, layer) in self.layers.iter().enumerate() {
            let text = layer.describe();
            let kind = *known.entry(text.clone()).or_insert(kinds.len());
            match kinds.get_mut(kind) {
                Some((_, layers)) => layers.push(n),
                None => kinds.push((text, vec![n])),
            }
        }
        kinds.into_iter().map(|(text, layers)| (numbers(&layers), text)).collect()
    }
}

/// `0-3, 5` of 0, 1, 2, 3, 5; long lists are shortened.
pub(super) fn numbers(layers: &[usize]) -> String {
    const SHOWN: usize = 4;
    let runs: Vec<&[usize]> = layers.chunk_by(|a, b| a + 1 == *b).collect();
    let show = |run: &&[usize]| match run {
        [first, .., last] => format!("{first}-{last}"),
        other => other.iter().map(usize::to_string).collect(),
    };
    let mut shown: Vec<String> = runs.iter().take(SHOWN).map(show).collect();
    if runs.len() > SHOWN {
        shown.truncate(SHOWN - 1);
        shown.push("...".into());
        shown.extend(runs.last().map(show));
    }
    shown.join(", ")
}

impl LayerSpec {
    /// One line: mixers, feed-forward network, norms.
    pub fn describe(&self) -> String {
        let mixers: Vec<String> = self.mixers.iter().map(Mixer::describe).collect();
        let mut parts = vec![mixers.join(" + ")];
        parts.extend(self.ffn.as_ref().map(Ffn::describe));
        parts.push(self.norms.describe());
        if self.embedding.is_some() {
            parts.push("per-layer embedding".into());
        }
        parts.retain(|part| !part.is_empty());
        parts.join("; ")
    }
}

impl Mixer {
    fn describe(&self) -> String {
        match self {
            Mixer::Attention(spec) => spec.describe(),
            Mixer::Mla(spec) => spec.describe(),
            Mixer::DeltaNet(spec) => spec.describe(),
            Mixer::ShortConv(spec) => format!("gated short convolution over {}", spec.kernel),
        }
    }
}

impl AttentionSpec {
    fn describe(&self) -> String {
        let AttentionSpec { heads, kv_heads, head_dim, scores, .. } = self;
        let plural = if *kv_heads == 1 { "" } else { "s" };
        let mut text = format!("attention, {heads} heads of {head_dim}, {kv_heads} KV head{plural}");
        let mut add = |condition: bool, what: &str| {
            if condition {
                text += ", ";
                text += what;
            }
        };
        match scores.mask {
            MaskKind::Causal => {}
            MaskKind::SlidingWindow(n) => add(true, &format!("window of {n}")),
            MaskKind::Chunked(n) => add(true, &format!("chunks of {n}")),
            MaskKind::Bidirectional => add(true, "bidirectional"),
            MaskKind::SymmetricWindow(n) => add(true, &format!("symmetric window of {n}")),
        }
        add(scores.rope.is_none(), "NoPE");
        add(scores.temperature.is_some(), "temperature tuning");
        add(scores.softcap.is_some(), "softcap");
        add(self.q_norm.is_some() || self.norm_after_rope.is_some(), "QK norm");
        add(self.q.bias.is_some() || self.output.bias.is_some(), "biases");
        add(self.sinks.is_some(), "sinks");
        add(self.gated, "gated");
        match &self.kv {
            KvSource::Own { v: Some(_), .. } => {}
            KvSource::Own { v: None, .. } => add(true, "keys as values"),
            KvSource::Layer(n) => add(true, &format!("KV cache of layer {n}")),
        }
        text
    }
}

impl MlaSpec {
    fn describe(&self) -> String {
        let sizes = &self.sizes;
        let (latent, rope) = (sizes.kv_lora_rank, sizes.qk_rope_head_dim);
        format!("MLA, {} heads of {}, latent {latent} + {rope}", self.heads, sizes.query_dim())
    }
}

impl DeltaNetSpec {
    fn describe(&self) -> String {
        format!("gated delta net, {} heads of {}, {} key heads", self.op.heads, self.op.head_dim, self.op.key_heads)
    }
}

impl Ffn {
    fn describe(&self) -> String {
        match self {
            Ffn::Dense(dense) => dense.describe(),
            Ffn::Moe(moe) => moe.describe(),
            Ffn::MoeAndDense(both) => format!("{} + {}", both.moe.describe(), both.dense.describe()),
        }
    }
}

impl DenseSpec {
    fn describe(&self) -> String {
        let name = match (self.activation, self.gate.is_some()) {
            (Activation::Silu, true) => "SwiGLU",
            (Activation::Silu, false) => "SiLU",
            (Activation::Gelu, true) => "GeGLU",
            (Activation::Gelu, false) => "GELU",
            (Activation::Clamped, _) => "clamped SwiGLU",
            (other, _) => return format!("{other:?} network of {}", self.inner()),
        };
        format!("{name} of {}", self.inner())
    }
}

impl MoeSpec {
    fn describe(&self) -> String {
        let router = &self.router;
        let text = format!("MoE, {} of {} experts of {}", router.used, router.experts, self.stacks[0].rows());
        match &self.shared {
            Some(shared) => format!("{text} + shared expert of {}", shared.dense.inner()),
            None => text,
        }
    }
}

impl NormPlacement {
    fn describe(&self) -> String {
        match self {
            NormPlacement::Sequential { mixer, ffn } => {
                let norms = |of: fn(&BranchNorms) -> Option<&NormSpec>| of(mixer).or(of(ffn));
                let (before, after) = (norms(|b| b.before.as_ref()), norms(|b| b.after.as_ref()));
                let place = match (before, after) {
                    (Some(_), None) => "before",
                    (None, Some(_)) => "after",
                    (Some(_), Some(_)) => "before and after",
                    (None, None) => return String::new(),
                };
                before.or(after).map_or_else(String::new, |norm| format!("{} {place}", norm.name()))
            }
            NormPlacement::Parallel(norm) => format!("one {} for both branches", norm.name()),
        }
    }
}

impl NormSpec {
    fn name(&self) -> &'static str {
        match self.kind {
            NormKind::Rms => "RMSNorm",
            NormKind::Layer => "LayerNorm",
        }
    }
}
