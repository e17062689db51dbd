//! The experts of each row, and their routing weights.

use super::{GridDim, Kernel, KernelContext, StepSize};
use crate::graph::{Router, RouterGroups, RouterOperands, Scoring};

pub(super) fn kernels(op: &Router, io: &RouterOperands, cx: &KernelContext) -> Vec<Kernel> {
    let wg = cx.lanes(op.experts);
    let kernel = Kernel::new("router", [GridDim::each(StepSize::Rows), GridDim::fixed(1), GridDim::fixed(1)]);
    let selection = match (io.selection_bias, op.groups) {
        (Some(_), _) => "moe/selection/biased",
        (None, Some(_)) => "moe/selection/score",
        (None, None) => "moe/selection/logit",
    };
    let mut kernel = cx
        .reduce(kernel, wg, wg)
        .import("selection", selection)
        .set("EXPERTS", op.experts)
        .set("USED", op.used)
        .set("SIGMOID", op.scoring == Scoring::Sigmoid)
        .set("NORM", op.norm)
        .set("SCALE", op.scale)
        .read(io.logits)
        .write(io.ids)
        .write(io.weights);
    if let Some(g) = op.groups {
        let counts = [("GROUPS", g.count), ("GROUPS_USED", g.used)];
        kernel = kernel.import("groups", "moe/groups/best").set_all(counts).set("TOP2_SUM", g.top2_sum);
    }
    if let Some(scales) = io.expert_scales {
        kernel = kernel.import("expert_scale", "moe/scale/per_expert").set_next_binding("SCALES_AT").read(scales);
    }
    if let Some(bias) = io.selection_bias {
        kernel = kernel.set_next_binding("BIAS_AT").read(bias);
    }
    vec![kernel]
}

impl Router {
    /// Expert and weight of each slot. Among equal experts, or groups, the lower one is better. `bias` is empty if
    /// there is none, `expert_scales` if all are 1.
    pub fn reference(&self, logits: &[f32], bias: &[f32], expert_scales: &[f32]) -> (Vec<u32>, Vec<f32>) {
        let (mut ids, mut weights) = (Vec::new(), Vec::new());
        for row in logits.chunks_exact(self.experts as usize) {
            let scores = self.scores(row);
            let mut choice: Vec<f32> = match (bias, self.groups) {
                ([_, ..], _) => scores.iter().zip(bias).map(|(score, bias)| score + bias).collect(),
                ([], Some(_)) => scores.clone(),
                ([], None) => row.to_vec(),
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
    /// Ranks the experts of unused groups last.
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
        let router = Router { norm: false, ..Router::plain(4, 2) };
        check(router, &[0.0, 0.0, 0.0, 0.5], &[3, 1], &[0.125, 0.5]);
    }

    #[test]
    fn experts_come_from_the_best_groups() {
        let groups = |used, top2_sum| Some(RouterGroups { count: 2, used, top2_sum });
        let of = |groups| Router { norm: false, groups, ..Router::plain(4, 2) };
        // With the bias: 0, 0.5, and 0.4, 0.325.
        let bias = [-0.25, 0.0, 0.275, 0.2];
        check(of(groups(1, false)), &bias, &[1, 0], &[0.5, 0.25]);
        check(of(groups(1, true)), &bias, &[2, 3], &[0.125, 0.125]);
        check(of(groups(2, true)), &bias, &[1, 2], &[0.5, 0.125]);
    }
}
