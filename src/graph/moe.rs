//! Mixture of experts (MoE): routing, sorting, the experts' matrices, and their weighted sum. Routing stays on the GPU.
//!
//! A row is sent to `used` of `experts` experts; slot `s` of row `r` is number `r * used + s`, best expert first. Few
//! rows: a matvec for each slot. Many rows: slots sorted by expert, a matmul for each tile of one expert's slots. A
//! stack of matrices that exceeds a binding is split between experts, and each shard skips the slots of others.

use super::elementwise::Activation;
use super::op::{Access, Op, Operand, operands};
use super::{Graph, Rows, TensorId, assert_same};

/// The experts of each row: those with the largest logits, or by a selection bias and groups, and their routing
/// weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Router {
    /// Experts to choose from, 512 at most.
    pub experts: u32,
    /// Experts that a row is sent to.
    pub used: u32,
    /// How logits become scores.
    pub scoring: Scoring,
    /// The weights of a row, which are its experts' scores, are scaled to sum to 1 (norm_topk_prob).
    pub norm: bool,
    /// Multiplier of the weights.
    pub scale: f32,
    /// Only experts of the best groups are chosen.
    pub groups: Option<RouterGroups>,
}

operands! {
    /// The operands of [`Router`].
    RouterOperands {
        read {
            /// (rows, experts)
            logits: TensorId,
            /// Added to the scores for selection only (DeepSeek V3, arXiv 2412.19437, section 2.1.2): (experts).
            selection_bias: Option<TensorId>,
            /// Multipliers of the weights: (experts).
            expert_scales: Option<TensorId>,
        }
        write {
            /// Expert of each slot.
            ids: TensorId,
            /// Routing weight of each slot.
            weights: TensorId,
        }
    }
}

/// Experts in groups of equal size, and which groups a row may go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouterGroups {
    /// Groups.
    pub count: u32,
    /// Groups that a row's experts come from.
    pub used: u32,
    /// A group's score is the sum of its two best experts (DeepSeek V3); otherwise that of its best one (V2).
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
        Router { experts, used, scoring: Scoring::Softmax, norm: true, scale: 1.0, groups: None }
    }

    fn fits(&self) -> bool {
        let groups = |g: RouterGroups| {
            let (even, each) = (self.experts.is_multiple_of(g.count), self.experts / g.count);
            even && g.used <= g.count && self.used <= g.used * each && (!g.top2_sum || each > 1)
        };
        (1..=self.experts).contains(&self.used) && self.experts <= 512 && self.groups.is_none_or(groups)
    }
}

/// Slots of a tile, at most: as many as a tile of a matmul has tokens.
pub const EXPERT_TILE: u32 = 64;

/// Slots sorted by expert, cut into tiles; for the matmuls of many rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExpertSort {
    /// Experts of the stack.
    pub experts: u32,
    /// Experts of a row.
    pub used: u32,
    /// Slots of a tile, at most.
    pub tile: u32,
}

operands! {
    /// The operands of [`ExpertSort`].
    ExpertSortOperands {
        read {
            /// Expert of each slot.
            ids: TensorId,
        }
        write {
            /// Slots sorted by expert, those of one expert in order.
            slots: TensorId,
            /// {expert, first index into the slots, count, 0}. Tiles with a count of 0 fill up what is dispatched.
            tiles: TensorId,
        }
    }
}

/// Rows times the matrices of their experts: `y[slot, n] = sum_k weight[expert(slot), n, k] * x[row or slot, k]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExpertLinear {
    /// Experts that a row may be sent to.
    pub experts: u32,
    /// Experts of a row.
    pub used: u32,
    /// x has a row for each slot; otherwise one for each row of the step.
    pub from_slots: bool,
}

operands! {
    /// The operands of [`ExpertLinear`].
    ExpertLinearOperands {
        read {
            /// (rows or slots, k)
            x: TensorId,
            /// A stack of matrices (n, k).
            weight: TensorId,
            /// Expert of each slot.
            ids: TensorId,
            /// Slots sorted by expert.
            slots: TensorId,
            /// Tiles of them.
            tiles: TensorId,
            /// The operation on each sum.
            epilogue: Option<ExpertEpilogue>,
            /// Where in the stack each expert's matrix is; otherwise the stack has all of them in order.
            slot_table: Option<TensorId>,
        }
        write {
            /// (slots, n)
            y: TensorId,
        }
    }
}

/// An operation on each sum over an expert's weights, with a tensor or its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpertEpilogue<T = TensorId> {
    /// The expert's bias is added: (experts, n).
    Bias(T),
    /// It is multiplied by the slot's routing weight, as if x were (Llama 4): (slots).
    RoutingWeight(T),
}

impl Operand for ExpertEpilogue {
    fn visit(&self, access: Access, f: &mut dyn FnMut(TensorId, Access)) {
        let (ExpertEpilogue::Bias(id) | ExpertEpilogue::RoutingWeight(id)) = self;
        f(*id, access);
    }
}

/// Weighted sum over a row's slots: `y[row] = sum_s weights[row, s] * x[row, s] (+ residual[row])`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExpertSum {
    /// Experts of a row.
    pub used: u32,
}

operands! {
    /// The operands of [`ExpertSum`].
    ExpertSumOperands {
        read {
            /// (slots, n)
            x: TensorId,
            /// Routing weights: (slots).
            weights: TensorId,
            /// (rows, n)
            residual: Option<TensorId>,
        }
        write {
            /// (rows, n)
            y: TensorId,
        }
    }
}

/// The weights of a feed-forward network of experts; biases where the model has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpertWeights {
    /// Multipliers of the experts' routing weights: (experts).
    pub expert_scales: Option<TensorId>,
    /// Stack of gate matrices: experts of (n, d).
    pub gate: TensorId,
    /// Stack of up matrices: experts of (n, d).
    pub up: TensorId,
    /// Stack of down matrices: experts of (d, n).
    pub down: TensorId,
    /// Added to the scores for selection only: (experts).
    pub selection_bias: Option<TensorId>,
    /// Added to the products with gate, up and down: (experts, n), (experts, n), (experts, d).
    pub biases: Option<[TensorId; 3]>,
    /// Where in the stacks the experts are, if the stacks hold only some of them (expert offload).
    pub slot_table: Option<TensorId>,
}

/// The factor that routing weights are applied to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoutingWeights {
    /// The experts' outputs.
    OnOutputs,
    /// Their inputs (Llama 4).
    OnInputs,
}

impl Graph {
    /// A feed-forward network of experts: x (rows, d) and the router's logits (rows, experts) -> (rows, d), and the
    /// expert of each slot. Routing weights on inputs need one expert a row, and no biases.
    #[track_caller]
    pub fn expert_ffn(
        &mut self,
        x: TensorId,
        logits: TensorId,
        experts: ExpertWeights,
        router: Router,
        activation: Activation,
        routing: RoutingWeights,
    ) -> (TensorId, TensorId) {
        let on_inputs = routing == RoutingWeights::OnInputs;
        assert!(!on_inputs || (router.used == 1 && experts.biases.is_none()), "{router:?}");
        let (ids, weights) = self.router(logits, experts.selection_bias, experts.expert_scales, router);
        let sorted = self.expert_sort(ids, router.experts, router.used);
        let epilogue = |i: usize| match experts.biases {
            Some(biases) => Some(ExpertEpilogue::Bias(biases[i])),
            None => (on_inputs && i < 2).then_some(ExpertEpilogue::RoutingWeight(weights)),
        };
        let gate = self.expert_linear(x, (experts.gate, experts.slot_table), ids, sorted, epilogue(0));
        let up = self.expert_linear(x, (experts.up, experts.slot_table), ids, sorted, epilogue(1));
        let gated = self.glu(gate, up, activation);
        let down = self.expert_linear(gated, (experts.down, experts.slot_table), ids, sorted, epilogue(2));
        if on_inputs {
            // A row has one slot: slots are rows.
            self.tensors[down.0].rows = Rows::Step;
            return (down, ids);
        }
        (self.expert_sum(down, weights), ids)
    }

    /// logits (rows, experts), a selection bias (experts) and multipliers of the weights (experts) if any -> expert of
    /// each slot (u32), weight of each.
    #[track_caller]
    pub fn router(
        &mut self,
        logits: TensorId,
        selection_bias: Option<TensorId>,
        expert_scales: Option<TensorId>,
        op: Router,
    ) -> (TensorId, TensorId) {
        assert_same("columns of logits and experts", self.cols(logits), op.experts);
        assert!(op.fits(), "{op:?}");
        let [ids, weights] =
            ["expert_ids", "expert_weights"].map(|name| self.activation(name, Rows::Routed(op.used), 1));
        let operands = RouterOperands { logits, selection_bias, expert_scales, ids, weights };
        self.nodes.push(Op::Router(op, operands));
        (ids, weights)
    }

    /// Expert of each slot -> sorted slots, tiles. Both are only written in a step of more than
    /// [`Capacity::decode_rows`](crate::ops::Capacity::decode_rows) rows.
    #[track_caller]
    pub fn expert_sort(&mut self, ids: TensorId, experts: u32, used: u32) -> (TensorId, TensorId) {
        assert!(experts <= 512, "{experts} experts");
        let tile = EXPERT_TILE;
        let slots = self.activation("expert_slots", Rows::Routed(used), 1);
        let tiles = self.activation("expert_tiles", Rows::ExpertTiles { used, tile, experts }, 4);
        self.nodes.push(Op::ExpertSort(ExpertSort { experts, used, tile }, ExpertSortOperands { ids, slots, tiles }));
        (slots, tiles)
    }

    /// x (rows or slots, k), a stack of (n, k) and where in it the experts are, expert of each slot, sorted slots and
    /// tiles
    /// -> (slots, n).
    #[track_caller]
    pub fn expert_linear(
        &mut self,
        x: TensorId,
        (weight, slot_table): (TensorId, Option<TensorId>),
        ids: TensorId,
        (slots, tiles): (TensorId, TensorId),
        epilogue: Option<ExpertEpilogue>,
    ) -> TensorId {
        let resident = self.experts_of(weight);
        let experts = slot_table.map_or(resident, |table| self.cols(table));
        let Rows::Routed(used) = self.tensor(ids).rows else { panic!("ids are not of slots") };
        assert_same("columns of x and weight", self.cols(x), self.cols(weight));
        assert!(self.cols(x).is_multiple_of(4), "rows of {}", self.cols(x));
        let from_slots = matches!(self.tensor(x).rows, Rows::Routed(_));
        let y = self.activation(self.stem(weight), Rows::Routed(used), self.fixed_rows(weight) / resident);
        let operands = ExpertLinearOperands { x, weight, ids, slots, tiles, epilogue, slot_table, y };
        self.nodes.push(Op::ExpertLinear(ExpertLinear { experts, used, from_slots }, operands));
        y
    }

    /// x (slots, n), weights (slots, 1) -> (rows, n).
    #[track_caller]
    pub fn expert_sum(&mut self, x: TensorId, weights: TensorId) -> TensorId {
        let Rows::Routed(used) = self.tensor(weights).rows else { panic!("weights are not of slots") };
        let y = self.activation("expert_sum", Rows::Step, self.cols(x));
        self.nodes.push(Op::ExpertSum(ExpertSum { used }, ExpertSumOperands { x, weights, residual: None, y }));
        y
    }
}
