//! Feed-forward networks: dense, mixtures of experts, or both in parallel.

use super::moe::{MoeConfig, MoeSpec};
use super::norm::{NormRule, NormSpec};
use super::tensors::{LinearSpec, TensorTable};
use crate::graph::Activation;
use crate::model::arch::Arch;
use crate::{Error, Result};

/// A layer's feed-forward network.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Ffn {
    /// A dense network.
    Dense(DenseSpec),
    /// A mixture of experts, possibly with a shared expert.
    Moe(MoeSpec),
    /// Both in parallel, with separate norms (Gemma 4).
    MoeAndDense(MoeAndDenseSpec),
}

/// A dense network: `down(activation(gate(x)) * up(x))`, or `down(activation(up(x)))` without a gate.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct DenseSpec {
    /// The gate, if there is one.
    pub gate: Option<LinearSpec>,
    /// Up projection.
    pub up: LinearSpec,
    /// Down projection.
    pub down: LinearSpec,
    /// Activation.
    pub activation: Activation,
}

/// A dense network, which reads the layer's norm, and a mixture of experts, which reads another norm.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct MoeAndDenseSpec {
    /// The dense network.
    pub dense: DenseSpec,
    /// Norm of its output.
    pub dense_after: NormSpec,
    /// The mixture of experts.
    pub moe: MoeSpec,
    /// Norm of the router's input, which is then divided by sqrt(hidden size).
    pub router_norm: NormSpec,
    /// Norm of the experts' input.
    pub moe_before: NormSpec,
    /// Norm of the experts' output.
    pub moe_after: NormSpec,
}

impl DenseSpec {
    /// The network whose tensors' names end in `suffix`.
    pub(super) fn read(tensors: &TensorTable, arch: &Arch, suffix: &str, hidden: u32) -> Result<Self> {
        let [gate, up, down] = ["ffn_gate", "ffn_up", "ffn_down"].map(|stem| format!("{stem}{suffix}"));
        let rows = tensors.rows_of(&format!("{up}.weight"))?;
        let inner = tensors.cols_of(&format!("{down}.weight"));
        let has_gate = tensors.has(&format!("{gate}.weight"));
        let (gate, up, inner) = if has_gate {
            (Some(tensors.linear(&gate, rows, hidden)?), tensors.linear(&up, rows, hidden)?, rows)
        } else if inner == rows {
            (None, tensors.linear(&up, rows, hidden)?, rows)
        } else {
            // Fused, the gate first (Phi 3).
            let [gate, up] = tensors.fused(&up, [rows / 2; 2], hidden)?;
            (Some(gate), up, rows / 2)
        };
        if !inner.is_multiple_of(4) {
            let name = tensors.name(&format!("{down}.weight"));
            return Err(Error::Unsupported(format!("{name} has {inner} columns; a multiple of 4 is needed")));
        }
        Ok(DenseSpec { gate, up, down: tensors.linear(&down, hidden, inner)?, activation: arch.activation })
    }

    /// Size of the hidden layer.
    pub fn inner(&self) -> u32 {
        self.up.weight.rows()
    }
}

impl Ffn {
    /// The network of a layer.
    pub(super) fn read(
        tensors: &TensorTable,
        arch: &Arch,
        norms: &NormRule,
        moe: Option<MoeConfig>,
        hidden: u32,
    ) -> Result<Self> {
        let dense = || DenseSpec::read(tensors, arch, "", hidden);
        let norm = |stem: &str| norms.norm(tensors, stem, hidden);
        if !tensors.has("ffn_gate_inp.weight") {
            return dense().map(Ffn::Dense);
        }
        let moe = MoeSpec::read(tensors, arch, moe, hidden)?;
        if !tensors.has("pre_ffw_norm_2.weight") {
            return Ok(Ffn::Moe(moe));
        }
        Ok(Ffn::MoeAndDense(MoeAndDenseSpec {
            dense: dense()?,
            dense_after: norm("post_ffw_norm_1")?,
            moe,
            router_norm: norms.rms(tensors, "ffn_gate_inp.scale", hidden)?,
            moe_before: norm("pre_ffw_norm_2")?,
            moe_after: norm("post_ffw_norm_2")?,
        }))
    }
}
