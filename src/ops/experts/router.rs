//! Which experts a row goes to: those with the largest logits, or as a bias and groups have it, and how much each of
//! them counts.

use crate::graph::{Graph, Node, Rows, TensorId, TensorKind};
use crate::ops::{Binding, GridDim, Kernel, KernelContext, Op, StepSize};
use crate::shader::{Const, ShaderSource};

/// Inputs: logits (rows, experts), the bias (experts) if there is one, multipliers of the weights (experts) if any.
/// Outputs: ids and weights of the slots.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Router {
    /// Experts to choose from, 512 at most.
    pub experts: u32,
    /// Experts that a row is sent to.
    pub used: u32,
    /// How logits become scores.
    pub scoring: Scoring,
    /// The weights of a row, which are its experts' scores, are made to sum to 1.
    pub norm: bool,
    /// Multiplier of the weights.
    pub scale: f32,
    /// Experts are chosen by score and a bias; their weights do without it (DeepSeek V3, arXiv 2412.19437, section 2.1.2).
    pub biased: bool,
    /// Only experts of the best groups are chosen.
    pub groups: Option<RouterGroups>,
}

/// Experts in groups, as many in each, and which groups a row may go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouterGroups {
    /// RouterGroups.
    pub count: u32,
    /// RouterGroups that a row's experts come from.
    pub used: u32,
    /// A group is as good as the sum of its two best experts (DeepSeek V3); otherwise as its best one (V2).
    pub top2_sum: bool,
}

/// How logits become scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scoring {
    /// Softmax over all experts.
    Softmax,
    /// Each logit by itself: `1 / (1 + exp(-x))` (Llama 4).
    Sigmoid,
}

impl Router {
    /// The experts with the largest logits, by softmax, with weights that sum to 1.
    pub fn plain(experts: u32, used: u32) -> Self {
        let scoring = Scoring::Softmax;
        Router { experts, used, scoring, norm: true, scale: 1.0, biased: false, groups: None }
    }

    fn fits(&self) -> bool {
        let groups = |g: RouterGroups| {
            let (even, each) = (self.experts.is_multiple_of(g.count), self.experts / g.count);
            even && g.used <= g.count && self.used <= g.used * each && (!g.top2_sum || each > 1)
        };
        (1..=self.experts).contains(&self.used) && self.experts <= 512 && self.groups.is_none_or(groups)
    }
}

impl Graph {
    /// logits (rows, experts), the bias (experts) if the op has one, multipliers of the weights (experts) if any ->
    /// expert of each slot (u32), weight of each.
    #[track_caller]
    pub fn router(
        &mut self,
        logits: TensorId,
        bias: Option<TensorId>,
        expert_scales: Option<TensorId>,
        op: Router,
    ) -> (TensorId, TensorId) {
        crate::graph::same("columns of logits and experts", self.cols(logits), op.experts);
        assert!(op.fits() && bias.is_some() == op.biased, "{op:?}");
        let [ids, weights] = ["expert_ids", "expert_weights"]
            .map(|name| self.add(name, Rows::Routed(op.used), 1, TensorKind::Activation));
        let inputs = [logits].into_iter().chain(bias).chain(expert_scales).collect();
        self.nodes.push(Node { op: Op::Router(op), inputs, outputs: vec![ids, weights] });
        (ids, weights)
    }
}

impl Router {
    pub(in crate::ops) fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        let wg = cx.lanes(self.experts);
        let mut consts = cx.reduce_consts(wg, wg);
        consts.extend([
            ("EXPERTS", Const::U32(self.experts)),
            ("USED", Const::U32(self.used)),
            ("SIGMOID", Const::Bool(self.scoring == Scoring::Sigmoid)),
            ("NORM", Const::Bool(self.norm)),
            ("SCALE", Const::F32(self.scale)),
        ]);
        let choice = match (self.biased, self.groups) {
            (true, _) => "moe/selection/biased",
            (false, Some(_)) => "moe/selection/score",
            (false, None) => "moe/selection/logit",
        };
        let mut groups = "moe/groups/none";
        if let Some(g) = self.groups {
            groups = "moe/groups/best";
            let counts = [("GROUPS", Const::U32(g.count)), ("GROUPS_USED", Const::U32(g.used))];
            consts.extend(counts.into_iter().chain([("TOP2_SUM", Const::Bool(g.top2_sum))]));
        }
        let expert_scales = cx.node.inputs.get(1 + usize::from(self.biased));
        let gain = if expert_scales.is_some() { "moe/scale/per_expert" } else { "moe/scale/none" };
        let mut bindings = vec![Binding::read(cx.input(0)), Binding::write(cx.output(0)), Binding::write(cx.output(1))];
        bindings.extend(expert_scales.map(|expert_scales| Binding::read(*expert_scales)));
        if self.biased {
            bindings.push(Binding::read(cx.input(1)));
            consts.push(("BIAS_AT", Const::U32(bindings.len() as u32)));
        }
        let imports = vec![cx.reduce(), ("selection", choice), ("groups", groups), ("expert_scale", gain)];
        let source = ShaderSource { file: "router", imports, consts };
        vec![Kernel::new(source, bindings, [GridDim::each(StepSize::Rows), GridDim::fixed(1), GridDim::fixed(1)])]
    }

    /// Expert and weight of each slot. Among equal experts, or groups, the lower one is better. `bias` is empty if
    /// there is none, `expert_scales` if all are 1.
    pub fn reference(&self, logits: &[f32], bias: &[f32], expert_scales: &[f32]) -> (Vec<u32>, Vec<f32>) {
        let (mut ids, mut weights) = (Vec::new(), Vec::new());
        for row in logits.chunks_exact(self.experts as usize) {
            let scores = self.scores(row);
            let mut choice: Vec<f32> = match (self.biased, self.groups) {
                (true, _) => scores.iter().zip(bias).map(|(score, bias)| score + bias).collect(),
                (false, Some(_)) => scores.clone(),
                (false, None) => row.to_vec(),
            };
            if let Some(groups) = self.groups {
                groups.limit(&mut choice);
            }
            let best = &ranked(&choice)[..self.used as usize];
            let sum = if self.norm { best.iter().map(|e| scores[*e]).sum() } else { 1.0 };
            ids.extend(best.iter().map(|e| *e as u32));
            let gain = |e: &usize| expert_scales.get(*e).unwrap_or(&1.0);
            weights.extend(best.iter().map(|e| scores[*e] / sum * self.scale * gain(e)));
        }
        (ids, weights)
    }

    fn scores(&self, row: &[f32]) -> Vec<f32> {
        let top = row.iter().copied().fold(f32::MIN, f32::max);
        let total = row.iter().map(|x| (x - top).exp()).sum::<f32>();
        let score = |x: &f32| match self.scoring {
            Scoring::Softmax => (x - top).exp() / total,
            Scoring::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        };
        row.iter().map(score).collect()
    }
}

impl RouterGroups {
    /// Puts the experts of the groups that are not used behind all others.
    fn limit(&self, choice: &mut [f32]) {
        let each = choice.len() / self.count as usize;
        let good = |group: &[f32]| {
            let best = ranked(group);
            if self.top2_sum { group[best[0]] + group[best[1]] } else { group[best[0]] }
        };
        let goods: Vec<f32> = choice.chunks_exact(each).map(good).collect();
        for group in &ranked(&goods)[self.used as usize..] {
            choice[group * each..][..each].fill(f32::NEG_INFINITY);
        }
    }
}

/// The slot_table of values, the largest first.
fn ranked(values: &[f32]) -> Vec<usize> {
    let mut slot_table: Vec<usize> = (0..values.len()).collect();
    slot_table.sort_by(|a, b| values[*b].total_cmp(&values[*a]));
    slot_table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(router: Router, bias: &[f32], ids: &[u32], weights: &[f32]) {
        // exp: 2, 4, 1, 1 of 8.
        let got = router.reference(&[2f32, 4.0, 1.0, 1.0].map(f32::ln), bias, &[]);
        assert_eq!(got.0, ids);
        assert!(got.1.iter().zip(weights).all(|(a, b)| (a - b).abs() < 1e-6), "{:?} {weights:?}", got.1);
    }

    #[test]
    fn weights_are_probabilities_or_sum_to_the_scale() {
        let of = |scoring, used, norm, scale| Router { scoring, norm, scale, ..Router::plain(4, used) };
        check(of(Scoring::Softmax, 1, false, 1.0), &[], &[1], &[0.5]);
        check(of(Scoring::Softmax, 1, true, 1.0), &[], &[1], &[1.0]);
        check(of(Scoring::Softmax, 2, false, 1.0), &[], &[1, 0], &[0.5, 0.25]);
        check(of(Scoring::Softmax, 2, true, 3.0), &[], &[1, 0], &[2.0, 1.0]);
        check(of(Scoring::Softmax, 4, false, 1.0), &[], &[1, 0, 2, 3], &[0.5, 0.25, 0.125, 0.125]);
        check(of(Scoring::Sigmoid, 1, false, 1.0), &[], &[1], &[0.8]);
        check(of(Scoring::Sigmoid, 3, false, 3.0), &[], &[1, 0, 2], &[2.4, 2.0, 1.5]);
        let sum = 0.8 + 2.0 / 3.0;
        check(of(Scoring::Sigmoid, 2, true, 1.0), &[], &[1, 0], &[0.8 / sum, 2.0 / 3.0 / sum]);
    }

    #[test]
    fn gains_multiply_weights() {
        let router = Router { norm: false, ..Router::plain(4, 2) };
        let logits = [2f32, 4.0, 1.0, 1.0].map(f32::ln);
        let (ids, weights) = router.reference(&logits, &[], &[8.0, 3.0, 0.0, 0.0]);
        assert!(ids == [1, 0] && weights.iter().zip([1.5, 2.0]).all(|(a, b)| (a - b).abs() < 1e-6), "{weights:?}");
    }

    #[test]
    fn a_bias_chooses_and_does_not_weigh() {
        let router = Router { biased: true, norm: false, ..Router::plain(4, 2) };
        check(router, &[0.0, 0.0, 0.0, 0.5], &[3, 1], &[0.125, 0.5]);
    }

    #[test]
    fn experts_come_from_the_best_groups() {
        let groups = |used, top2_sum| Some(RouterGroups { count: 2, used, top2_sum });
        let of = |groups| Router { biased: true, norm: false, groups, ..Router::plain(4, 2) };
        // With the bias: 0, 0.5, and 0.4, 0.325.
        let bias = [-0.25, 0.0, 0.275, 0.2];
        check(of(groups(1, false)), &bias, &[1, 0], &[0.5, 0.25]);
        check(of(groups(1, true)), &bias, &[2, 3], &[0.125, 0.125]);
        check(of(groups(2, true)), &bias, &[1, 2], &[0.5, 0.125]);
    }
}
