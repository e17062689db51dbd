//! Which experts a row goes to: those with the largest logits, and how much each of them counts.

use crate::graph::{Graph, Kind, Node, Rows, TensorId};
use crate::ops::{Binding, Choice, Extent, Kernel, Op, Size};
use crate::shader::{Const, Source};

/// Inputs: logits (rows, experts), multipliers of the weights (experts) if any. Outputs: ids and weights of the slots.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Router {
    /// Experts to choose from, 512 at most.
    pub experts: u32,
    /// Experts that a row is sent to.
    pub used: u32,
    /// How logits become weights.
    pub scoring: Scoring,
    /// The weights of a row sum to 1; otherwise they are scores among all experts.
    pub norm: bool,
    /// Multiplier of the weights.
    pub scale: f32,
}

/// How logits become weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scoring {
    /// Softmax over all experts.
    Softmax,
    /// Each logit by itself: `1 / (1 + exp(-x))` (Llama 4).
    Sigmoid,
}

impl Graph {
    /// logits (rows, experts), multipliers of the weights (experts) if any -> expert of each slot (u32), weight of each.
    #[track_caller]
    pub fn router(&mut self, logits: TensorId, gains: Option<TensorId>, op: Router) -> (TensorId, TensorId) {
        crate::graph::same("columns of logits and experts", self.cols(logits), op.experts);
        assert!((1..=op.experts).contains(&op.used) && op.experts <= 512, "{op:?}");
        let [ids, weights] =
            ["expert_ids", "expert_weights"].map(|name| self.add(name, Rows::Slots(op.used), 1, Kind::Activation));
        let inputs = [logits].into_iter().chain(gains).collect();
        self.nodes.push(Node { op: Op::Router(op), inputs, outputs: vec![ids, weights] });
        (ids, weights)
    }
}

impl Router {
    pub(in crate::ops) fn kernels(&self, cx: &Choice) -> Vec<Kernel> {
        let wg = cx.lanes(self.experts);
        let mut consts = cx.reduce_consts(wg, wg);
        consts.extend([
            ("EXPERTS", Const::U32(self.experts)),
            ("USED", Const::U32(self.used)),
            ("SIGMOID", Const::Bool(self.scoring == Scoring::Sigmoid)),
            ("NORM", Const::Bool(self.norm)),
            ("SCALE", Const::F32(self.scale)),
        ]);
        let gains = cx.node.inputs.get(1);
        let gain = if gains.is_some() { "gain/experts" } else { "gain/none" };
        let source = Source { file: "router", imports: vec![cx.reduce(), ("gain", gain)], consts };
        let mut bindings = vec![Binding::read(cx.input(0)), Binding::write(cx.output(0)), Binding::write(cx.output(1))];
        bindings.extend(gains.map(|gains| Binding::read(*gains)));
        vec![Kernel::new(source, bindings, [Extent::each(Size::Rows), Extent::fixed(1), Extent::fixed(1)])]
    }

    /// Expert and weight of each slot. Among equal logits the lower expert is better. Without `gains` all are 1.
    pub fn reference(&self, logits: &[f32], gains: &[f32]) -> (Vec<u32>, Vec<f32>) {
        let (mut ids, mut weights) = (Vec::new(), Vec::new());
        for row in logits.chunks_exact(self.experts as usize) {
            let mut ranked: Vec<usize> = (0..row.len()).collect();
            ranked.sort_by(|a, b| row[*b].total_cmp(&row[*a]));
            let best = &ranked[..self.used as usize];
            let share = |e: &usize| match self.scoring {
                Scoring::Softmax => (row[*e] - row[best[0]]).exp(),
                Scoring::Sigmoid => 1.0 / (1.0 + (-row[*e]).exp()),
            };
            let total: f32 = match (self.norm, self.scoring) {
                (true, _) => best.iter().map(share).sum(),
                (false, Scoring::Softmax) => ranked.iter().map(share).sum(),
                (false, Scoring::Sigmoid) => 1.0,
            };
            ids.extend(best.iter().map(|e| *e as u32));
            let gain = |e: &usize| gains.get(*e).unwrap_or(&1.0);
            weights.extend(best.iter().map(|e| share(e) / total * self.scale * gain(e)));
        }
        (ids, weights)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_probabilities_or_sum_to_the_scale() {
        // exp: 2, 4, 1, 1 of 8.
        let logits = [2f32, 4.0, 1.0, 1.0].map(f32::ln);
        let check = |scoring, used, norm, scale, ids: &[u32], weights: &[f32]| {
            let got = Router { experts: 4, used, scoring, norm, scale }.reference(&logits, &[]);
            assert_eq!(got.0, ids);
            assert!(got.1.iter().zip(weights).all(|(a, b)| (a - b).abs() < 1e-6), "{:?} {weights:?}", got.1);
        };
        check(Scoring::Softmax, 1, false, 1.0, &[1], &[0.5]);
        check(Scoring::Softmax, 1, true, 1.0, &[1], &[1.0]);
        check(Scoring::Softmax, 2, false, 1.0, &[1, 0], &[0.5, 0.25]);
        check(Scoring::Softmax, 2, true, 3.0, &[1, 0], &[2.0, 1.0]);
        check(Scoring::Softmax, 4, false, 1.0, &[1, 0, 2, 3], &[0.5, 0.25, 0.125, 0.125]);
        let gained = Router { experts: 4, used: 2, scoring: Scoring::Softmax, norm: false, scale: 1.0 };
        assert_eq!(gained.reference(&logits, &[8.0, 3.0, 0.0, 0.0]), (vec![1, 0], vec![1.5, 2.0]));
        check(Scoring::Sigmoid, 1, false, 1.0, &[1], &[0.8]);
        check(Scoring::Sigmoid, 3, false, 3.0, &[1, 0, 2], &[2.4, 2.0, 1.5]);
        check(Scoring::Sigmoid, 2, true, 1.0, &[1, 0], &[0.8 / (0.8 + 2.0 / 3.0), 2.0 / 3.0 / (0.8 + 2.0 / 3.0)]);
    }
}
