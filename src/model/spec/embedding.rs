//! Token embeddings, and embeddings of each layer (PLE).

use super::norm::{NormRule, NormSpec};
use super::tensors::{LinearSpec, TensorTable, VectorSpec, WeightSpec};
use crate::graph::Activation;
use crate::model::arch::Arch;
use crate::{Error, Result};

/// The beginning of a model.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct EmbeddingSpec {
    /// A row for each token.
    pub table: WeightSpec,
    /// Multiplier.
    pub scale: f32,
    /// Embeddings of each layer (Gemma 4).
    pub per_layer: Option<PerLayerSpec>,
}

/// Per-layer embeddings: in addition to the residual stream, each layer reads its own vector for each token, the sum of
/// one from a table and one projected from the token's embedding.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct PerLayerSpec {
    /// Size of a layer's vector.
    pub size: u32,
    /// For each token the vectors of all layers.
    pub table: WeightSpec,
    /// The projection to the vectors of all layers.
    pub projection: LinearSpec,
    /// Norm of each projected vector.
    pub norm: NormSpec,
}

/// How a layer adds its own embedding to the residual stream: `x + norm(proj(activation(gate(x)) * embedding))`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LayerEmbeddingSpec {
    /// Where the layer's vector begins among those of all layers.
    pub start: u32,
    /// The gate.
    pub gate: LinearSpec,
    /// The projection to the residual stream.
    pub projection: LinearSpec,
    /// Its norm.
    pub norm: NormSpec,
    /// Activation.
    pub activation: Activation,
}

impl PerLayerSpec {
    pub(super) fn read(
        tensors: &TensorTable,
        norms: &NormRule,
        (vocab, hidden, layers): (u32, u32, u32),
    ) -> Result<Option<Self>> {
        let name = "per_layer_token_embd.weight";
        if !tensors.has(name) {
            return Ok(None);
        }
        let cols = tensors.cols_of(name);
        if cols == 0 || cols > 1 << 20 || !cols.is_multiple_of(4 * layers) {
            return Err(Error::Unsupported(format!("{name} has rows of {cols} for {layers} layers")));
        }
        let size = cols / layers;
        let norm = norms.rms(tensors, "per_layer_proj_norm.weight", size)?;
        Ok(Some(PerLayerSpec {
            size,
            table: tensors.weight(name, vocab, cols)?,
            projection: tensors.linear("per_layer_model_proj", cols, hidden)?,
            // Projections should be divided by sqrt(hidden). The norm cancels that factor, except in its epsilon.
            norm: NormSpec { eps: norm.eps * hidden as f32, ..norm },
        }))
    }

    /// Layer `n`'s use of its embedding.
    pub(super) fn layer(
        &self,
        tensors: &TensorTable,
        norms: &NormRule,
        arch: &Arch,
        n: u32,
        hidden: u32,
    ) -> Result<LayerEmbeddingSpec> {
        let norm = norms.rms(tensors, "post_norm.weight", hidden)?;
        Ok(LayerEmbeddingSpec {
            start: n * self.size,
            gate: tensors.linear("inp_gate", self.size, hidden)?,
            projection: tensors.linear("proj", hidden, self.size)?,
            // Embeddings should be divided by sqrt(2), being sums of two vectors. Only the epsilon sees it.
            norm: NormSpec { eps: norm.eps * 2.0, ..norm },
            activation: arch.activation,
        })
    }
}

/// The multiplier of a layer's output, if it has one.
pub(super) fn output_scale(tensors: &TensorTable) -> Result<Option<VectorSpec>> {
    tensors.vector_if("layer_output_scale.weight", 1)
}
