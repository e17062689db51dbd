//! Rows times the matrices of their experts: `y[slot, n] = sum_k weight[expert(slot), n, k] * x[row or slot, k]`, and
//! what is done to the sum.

use super::ExpertSort;
use crate::graph::{Graph, Node, Rows, TensorId, TensorKind};
use crate::ops::linear::{MATMUL_TILE, MatvecShape, matmul_source};
use crate::ops::{Binding, GridDim, Kernel, KernelContext, Op, Shard, StepSize, weight_consts};
use crate::shader::{Const, ShaderSource};

/// Inputs: x, stack of weights, ids, what [`ExpertSort`] puts out, biases or shares if any, slot_table if any. Output: y
/// (slots, n).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExpertLinear {
    /// Experts that a row may be sent to.
    pub experts: u32,
    /// Experts of a row.
    pub used: u32,
    /// x has a row for each slot; otherwise one for each row of the step.
    pub from_slots: bool,
    /// What is done to the sum.
    pub epilogue: ExpertEpilogue<()>,
    /// Whether a table says where in the stack an expert's matrix lies ([`TensorKind::ExpertSlotTable`]); otherwise they lie in order.
    pub has_slot_table: bool,
}

/// What is done to a sum, with a tensor or without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpertEpilogue<T> {
    /// Nothing.
    Plain,
    /// The expert's bias is added: (experts, n).
    Bias(T),
    /// It is multiplied by the slot's share: as if x were (Llama 4).
    RoutingWeight(T),
}

impl<T> ExpertEpilogue<T> {
    fn map<U>(self, f: impl FnOnce(T) -> U) -> ExpertEpilogue<U> {
        match self {
            ExpertEpilogue::Plain => ExpertEpilogue::Plain,
            ExpertEpilogue::Bias(t) => ExpertEpilogue::Bias(f(t)),
            ExpertEpilogue::RoutingWeight(t) => ExpertEpilogue::RoutingWeight(f(t)),
        }
    }
}

impl Graph {
    /// x (rows or slots, k), a stack of (n, k) and where in it the experts lie, expert of each slot, sorted slots and
    /// tiles -> (slots, n).
    #[track_caller]
    pub fn expert_linear(
        &mut self,
        x: TensorId,
        (weight, slot_table): (TensorId, Option<TensorId>),
        ids: TensorId,
        sorted: (TensorId, TensorId),
        epilogue: ExpertEpilogue<TensorId>,
    ) -> TensorId {
        let room = self.experts_of(weight);
        let experts = slot_table.map_or(room, |slot_table| self.cols(slot_table));
        let Rows::Routed(used) = self.tensor(ids).rows else { panic!("ids are not of slots") };
        crate::graph::same("columns of x and weight", self.cols(x), self.cols(weight));
        assert!(self.cols(x).is_multiple_of(4), "rows of {}", self.cols(x));
        let from_slots = matches!(self.tensor(x).rows, Rows::Routed(_));
        let op = ExpertLinear {
            experts,
            used,
            from_slots,
            epilogue: epilogue.map(drop),
            has_slot_table: slot_table.is_some(),
        };
        let name = self.tensor(weight).name.trim_end_matches(".weight").to_string();
        let y = self.add(name, Rows::Routed(used), self.fixed_rows(weight) / room, TensorKind::Activation);
        let mut inputs = vec![x, weight, ids, sorted.0, sorted.1];
        let _ = epilogue.map(|added| inputs.push(added));
        inputs.extend(slot_table);
        self.nodes.push(Node { op: Op::ExpertLinear(op), inputs, outputs: vec![y] });
        y
    }
}

impl ExpertLinear {
    pub(in crate::ops) fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        let shards = cx.shards(cx.input(1));
        let mut out: Vec<Kernel> = shards.iter().enumerate().map(|(i, shard)| self.matvec(cx, i, shard)).collect();
        if cx.capacity.rows > cx.capacity.decode_rows() {
            out.extend(shards.iter().enumerate().map(|(i, shard)| self.matmul(cx, i, shard)));
        }
        out
    }

    /// Few rows: a tile of one slot.
    fn matvec(&self, cx: &KernelContext, i: usize, shard: &Shard) -> Kernel {
        let dtype = cx.weight(cx.input(1)).0;
        let shape = MatvecShape::choose(cx, cx.cols(0), 1, &[dtype]);
        let mut consts = self.consts(cx, shard);
        consts.extend(shape.layout(cx, 1));
        let mut bindings = bindings(cx, i, &[2]);
        let epilogue = self.epilogue(cx, &mut bindings, &mut consts);
        let place = self.place(cx, &mut bindings, &mut consts);
        let mut imports = vec![
            cx.reduce(),
            ("route", "matmul/route/experts"),
            place,
            epilogue,
            ("sum_squares", "matmul/sum_squares/none"),
        ];
        imports.extend(shape.weight("weight", dtype).into_iter().chain(shape.sums("dot")));
        let slots = GridDim { size: StepSize::Rows, times: self.used, per: 1, plus: 0 };
        let grid = [GridDim::ceil(cx.graph.cols(cx.output(0)), shape.rows()), slots, GridDim::fixed(1)];
        let kernel = Kernel::new(ShaderSource { file: "matvec", imports, consts }, bindings, grid);
        Kernel { experts_read: Some((cx.weight(cx.input(1)).1, self.used)), ..kernel }.when(
            StepSize::Rows,
            1,
            cx.capacity.decode_rows(),
        )
    }

    /// Many rows: tiles of slots that share an expert.
    fn matmul(&self, cx: &KernelContext, i: usize, shard: &Shard) -> Kernel {
        let dtype = cx.weight(cx.input(1)).0;
        let (mut source, tile) = matmul_source(cx, dtype);
        source.consts.extend(self.consts(cx, shard));
        let mut bindings = bindings(cx, i, &[4, 3]);
        let epilogue = self.epilogue(cx, &mut bindings, &mut source.consts);
        let place = self.place(cx, &mut bindings, &mut source.consts);
        source.imports.extend([("weight", dtype.shader()), ("route", "matmul/route/expert_tiles"), place, epilogue]);
        let tiles = ExpertSort { experts: self.experts, used: self.used, tile: MATMUL_TILE }.tiles();
        let grid = [GridDim::ceil(cx.graph.cols(cx.output(0)), tile), tiles, GridDim::fixed(1)];
        let kernel = Kernel::new(source, bindings, grid);
        Kernel { experts_read: Some((cx.weight(cx.input(1)).1, self.used)), ..kernel }.when(
            StepSize::Rows,
            cx.capacity.decode_rows() + 1,
            u32::MAX,
        )
    }

    /// The file that finishes sums; binds what it reads.
    fn epilogue(
        &self,
        cx: &KernelContext,
        bindings: &mut Vec<Binding>,
        consts: &mut Vec<(&'static str, Const)>,
    ) -> (&'static str, &'static str) {
        consts.push(("BIAS_AT", Const::U32(bindings.len() as u32 + 1)));
        let (file, reads): (_, &[usize]) = match self.epilogue {
            ExpertEpilogue::Plain => ("matmul/epilogue/none", &[]),
            ExpertEpilogue::Bias(()) => ("matmul/epilogue/expert_bias", &[5, 2]),
            ExpertEpilogue::RoutingWeight(()) => ("matmul/epilogue/routing_weight", &[5]),
        };
        bindings.extend(reads.iter().map(|i| Binding::read(cx.input(*i))));
        ("epilogue", file)
    }

    /// The file that finds an expert's matrix; binds what it reads.
    fn place(
        &self,
        cx: &KernelContext,
        bindings: &mut Vec<Binding>,
        consts: &mut Vec<(&'static str, Const)>,
    ) -> (&'static str, &'static str) {
        if !self.has_slot_table {
            return ("expert_slot", "matmul/expert_slot/identity");
        }
        let slot_table = *cx.node.inputs.last().expect("slot_table come last");
        bindings.push(Binding::read(slot_table));
        consts.push(("SLOT_TABLE_AT", Const::U32(bindings.len() as u32)));
        ("expert_slot", "matmul/expert_slot/table")
    }

    /// The kernels of `linear` see a single matrix of (n, k); the route finds where it begins in the shard.
    fn consts(&self, cx: &KernelContext, shard: &Shard) -> Vec<(&'static str, Const)> {
        let n = cx.graph.cols(cx.output(0));
        let mut consts = weight_consts(cx.weight(cx.input(1)).0, shard.rows, cx.cols(0));
        consts.extend([
            ("COLS4", Const::U32(cx.cols(0) / 4)),
            ("ROW0", Const::U32(0)),
            ("ROWS", Const::U32(n)),
            ("OUT", Const::U32(n)),
            ("USED", Const::U32(self.used)),
            ("FROM_SLOTS", Const::Bool(self.from_slots)),
            ("EXPERT0", Const::U32(shard.row0 / n)),
            ("EXPERTS", Const::U32(shard.rows / n)),
        ]);
        consts
    }

    /// y of x, of a stack of dequantized (n, k) matrices of all experts in order, of the expert of each slot, and of the
    /// biases or shares.
    pub fn reference(&self, x: &[f32], weight: &[f32], ids: &[u32], k: usize, added: &[f32]) -> Vec<f32> {
        let matrix = weight.len() / self.experts as usize;
        let mut y = Vec::new();
        for (slot, id) in ids.iter().enumerate() {
            let row = if self.from_slots { slot } else { slot / self.used as usize };
            let x = &x[row * k..][..k];
            let expert = &weight[*id as usize * matrix..][..matrix];
            let n = matrix / k;
            let sum = |w: &[f32]| w.iter().zip(x).map(|(w, x)| w * x).sum::<f32>();
            y.extend(expert.chunks_exact(k).enumerate().map(|(i, w)| match self.epilogue {
                ExpertEpilogue::Plain => sum(w),
                ExpertEpilogue::Bias(()) => sum(w) + added[*id as usize * n + i],
                ExpertEpilogue::RoutingWeight(()) => sum(w) * added[slot],
            }));
        }
        y
    }
}

/// A shard of the weight, x, y, and the inputs that the route reads.
fn bindings(cx: &KernelContext, shard: usize, routing: &[usize]) -> Vec<Binding> {
    let mut out = vec![Binding::shard(cx.input(1), shard), Binding::read(cx.input(0)), Binding::write(cx.output(0))];
    out.extend(routing.iter().map(|i| Binding::read(cx.input(*i))));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_meets_the_matrix_of_its_expert() {
        // Two experts of (1, 2).
        let weight = [1.0, 10.0, 100.0, 1000.0];
        let op = ExpertLinear {
            experts: 2,
            used: 2,
            from_slots: false,
            epilogue: ExpertEpilogue::Plain,
            has_slot_table: false,
        };
        assert_eq!(op.reference(&[1.0, 2.0, 3.0, 4.0], &weight, &[0, 1, 1, 0], 2, &[]), [21.0, 2100.0, 4300.0, 43.0]);
        let op = ExpertLinear { used: 1, from_slots: true, ..op };
        assert_eq!(op.reference(&[1.0, 2.0, 3.0, 4.0], &weight, &[1, 0], 2, &[]), [2100.0, 43.0]);
        let (bias, share) = (ExpertEpilogue::Bias(()), ExpertEpilogue::RoutingWeight(()));
        let finished = |epilogue| {
            ExpertLinear { epilogue, ..op }.reference(&[1.0, 2.0, 3.0, 4.0], &weight, &[1, 0], 2, &[0.5, 2.0])
        };
        assert_eq!((finished(bias), finished(share)), (vec![2102.0, 43.5], vec![1050.0, 86.0]));
    }
}
