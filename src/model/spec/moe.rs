//! Mixtures of experts.

use super::ffn::DenseSpec;
use super::tensors::{LinearSpec, TensorTable, VectorSpec, WeightSpec};
use crate::graph::{Activation, Router, RouterGroups, RoutingWeights, Scoring};
use crate::model::arch::Arch;
use crate::model::keys::{Keys, in_range};
use crate::{Error, Result};

/// The metadata keys of a mixture of experts.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct MoeConfig {
    /// Routed experts of a layer.
    pub experts: u32,
    /// Experts per token.
    pub experts_per_token: u32,
    /// The router's scoring function, if a key gives it.
    pub scoring: Option<Scoring>,
    /// Normalize the weights of a token's experts to sum to 1.
    pub norm_topk_prob: bool,
    /// Multiplier of the experts' weights.
    pub routed_scaling_factor: f32,
    /// Number of expert groups and of the groups a token's experts come from, if there are several groups.
    pub groups: Option<(u32, u32)>,
}

/// A mixture of experts.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct MoeSpec {
    /// How experts are selected and weighted.
    pub router: Router,
    /// The projection to the router's logits.
    pub router_logits: LinearSpec,
    /// Added to scores for the selection only (DeepSeek V3).
    pub selection_bias: Option<VectorSpec>,
    /// Multipliers of each expert's output (Gemma 4).
    pub expert_scales: Option<VectorSpec>,
    /// Gate, up and down projections.
    pub stacks: [WeightSpec; 3],
    /// Their biases, one after another for all experts.
    pub biases: Option<[VectorSpec; 3]>,
    /// Activation.
    pub activation: Activation,
    /// Whether the routing weights multiply the experts' inputs or outputs.
    pub routing_weights: RoutingWeights,
    /// A dense network that every token uses.
    pub shared: Option<SharedExpertSpec>,
}

/// A shared expert.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SharedExpertSpec {
    /// The network.
    pub dense: DenseSpec,
    /// A sigmoid gate of its output (Qwen).
    pub gate: Option<LinearSpec>,
}

impl MoeConfig {
    pub(super) fn read(keys: &Keys, arch: &Arch) -> Result<Option<Self>> {
        let Some(experts) = keys.u32("expert_count")?.filter(|n| *n > 0) else { return Ok(None) };
        let experts = in_range(&keys.path("expert_count"), experts, 512)?;
        let used = in_range(&keys.path("expert_used_count"), keys.u32("expert_used_count")?.unwrap_or(0), experts)?;
        let scoring = match keys.u32("expert_gating_func")?.unwrap_or(0) {
            0 => None,
            1 => Some(Scoring::Softmax),
            2 => Some(Scoring::Sigmoid),
            other => {
                return Err(Error::Unsupported(format!("this model cannot run: expert gating function {other}")));
            }
        };
        let groups = match keys.u32("expert_group_count")?.unwrap_or(1) {
            0 | 1 => None,
            groups => {
                let of = keys.size("expert_group_used_count", groups)?;
                let (even, each) = (experts.is_multiple_of(groups), experts / groups);
                if !even || each < 2 || used > of * each {
                    let sizes = format!("{used} of {experts} experts from {of} of {groups} groups");
                    return Err(Error::Unsupported(format!("this model cannot run: {sizes}")));
                }
                Some((groups, of))
            }
        };
        Ok(Some(MoeConfig {
            experts,
            experts_per_token: used,
            scoring,
            norm_topk_prob: keys.bool("expert_weights_norm")?.unwrap_or(arch.norm_topk_prob),
            routed_scaling_factor: keys.nonzero("expert_weights_scale")?.unwrap_or(1.0),
            groups,
        }))
    }

    /// The router; `biased` if it has a selection bias. Where no key gives the scoring function, such routers use
    /// sigmoids.
    fn router(self, arch: &Arch, biased: bool) -> Router {
        let scoring = self.scoring.unwrap_or(if biased { Scoring::Sigmoid } else { arch.scoring });
        let top2_sum = scoring == Scoring::Sigmoid;
        Router {
            experts: self.experts,
            used: self.experts_per_token,
            scoring,
            norm: self.norm_topk_prob,
            scale: self.routed_scaling_factor,
            groups: self.groups.map(|(count, used)| RouterGroups { count, used, top2_sum }),
        }
    }
}

impl MoeSpec {
    /// The experts of a layer.
    pub(super) fn read(tensors: &TensorTable, arch: &Arch, config: Option<MoeConfig>, hidden: u32) -> Result<Self> {
        let Some(config) = config else {
            let name = tensors.name("ffn_gate_inp");
            return Err(Error::format(format!("{name} is there, but no key says how many experts there are")));
        };
        let experts = config.experts;
        let selection_bias = tensors.vector_if("exp_probs_b.bias", experts)?;
        let router = config.router(arch, selection_bias.is_some());
        if arch.routing_weights == RoutingWeights::OnInputs && router.used != 1 {
            return Err(Error::Unsupported(format!("{} experts a token in a {} model", router.used, arch.name)));
        }
        let stacks = stacks(tensors, experts, hidden)?;
        Ok(MoeSpec {
            router,
            router_logits: tensors.linear("ffn_gate_inp", experts, hidden)?,
            selection_bias,
            expert_scales: tensors.vector_if("ffn_down_exps.scale", experts)?,
            biases: biases(tensors, experts, &stacks)?,
            stacks,
            activation: arch.activation,
            routing_weights: arch.routing_weights,
            shared: SharedExpertSpec::read(tensors, arch, hidden)?,
        })
    }
}

/// Gate, up and down projections. Gate and up may be fused, the gate first in each matrix.
fn stacks(tensors: &TensorTable, experts: u32, hidden: u32) -> Result<[WeightSpec; 3]> {
    let whole = "ffn_gate_up_exps.weight";
    let [gate, up] = if tensors.has(whole) {
        let inner = tensors.rows_of(whole)? / 2;
        if !inner.is_multiple_of(4) {
            let name = tensors.name(whole);
            return Err(Error::Unsupported(format!(
                "{name} fuses matrices of {inner} rows; a multiple of 4 is needed"
            )));
        }
        tensors.fused_stacks(whole, experts, inner, hidden)?
    } else {
        let inner = tensors.rows_of("ffn_gate_exps.weight")?;
        let stack = |name: &str| tensors.stack(name, experts, inner, hidden);
        [stack("ffn_gate_exps.weight")?, stack("ffn_up_exps.weight")?]
    };
    let down = tensors.stack("ffn_down_exps.weight", experts, hidden, gate.rows())?;
    Ok([gate, up, down])
}

/// The biases of the experts' projections: all of them, or none.
fn biases(tensors: &TensorTable, experts: u32, stacks: &[WeightSpec; 3]) -> Result<Option<[VectorSpec; 3]>> {
    let names = ["ffn_gate_exps.bias", "ffn_up_exps.bias", "ffn_down_exps.bias"];
    match names.iter().filter(|name| tensors.has(name)).count() {
        0 => Ok(None),
        3 => {
            let [gate, up, down] = [0, 1, 2].map(|i| tensors.values(names[i], &[stacks[i].rows(), experts]));
            Ok(Some([gate?, up?, down?]))
        }
        _ => {
            let name = tensors.name("ffn");
            Err(Error::Unsupported(format!("{name}: only some of the experts' matrices have biases")))
        }
    }
}

impl SharedExpertSpec {
    fn read(tensors: &TensorTable, arch: &Arch, hidden: u32) -> Result<Option<Self>> {
        if !tensors.has("ffn_up_shexp.weight") {
            return Ok(None);
        }
        let dense = DenseSpec::read(tensors, arch, "_shexp", hidden)?;
        let has_gate = tensors.has("ffn_gate_inp_shexp.weight");
        let gate = if has_gate { Some(tensors.linear("ffn_gate_inp_shexp", 1, hidden)?) } else { None };
        Ok(Some(SharedExpertSpec { dense, gate }))
    }
}
