//! Queries, keys and values side by side: three linears of one x, in one matvec when rows are few.

use super::fused_norm::{self, FusedNorm};
use super::linear::{Epilogue, MatvecShape, Product, few_or_many, matmuls};
use super::{Binding, GridDim, Kernel, KernelContext, Shard, StepSize, planes};
use crate::graph::TensorId;
use crate::shader::{Const, ShaderSource};

/// Inputs: x, the three weights, their biases joined if any, what a [`FusedNorm`] norm adds. Outputs: y (rows, all
/// columns), and what the norm adds.
#[derive(Clone, Debug, PartialEq)]
pub struct Qkv {
    /// There are biases.
    pub bias: bool,
    /// A norm of x comes first.
    pub norm: Option<FusedNorm>,
}

impl Qkv {
    pub(super) fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        few_or_many(cx, |tile| self.matvec(cx, tile), || self.many(cx))
    }

    fn epilogue<'a>(&self, cx: &KernelContext<'a>) -> Epilogue<'a> {
        match self.bias {
            true => Epilogue { file: "matmul/epilogue/bias", inputs: &cx.node.inputs[4..5] },
            false => Epilogue::NONE,
        }
    }

    fn many(&self, cx: &KernelContext) -> Vec<Kernel> {
        let (x, norm) = fused_norm::many_read(self.norm.as_ref(), cx);
        let mut out = Vec::from_iter(norm);
        let mut at = 0;
        for weight in [1, 2, 3].map(|i| cx.input(i)) {
            let product = Product { x, weight, y: cx.output(0), at, rows: StepSize::Rows };
            out.extend(matmuls(cx, &product, &self.epilogue(cx)));
            at += cx.graph.fixed_rows(weight);
        }
        out
    }

    fn matvec(&self, cx: &KernelContext, tile: u32) -> Kernel {
        let weights: [TensorId; 3] = [1, 2, 3].map(|i| cx.input(i));
        let types = weights.map(|id| cx.weight(id).0);
        let rows = weights.map(|id| cx.graph.fixed_rows(id));
        let (n, cols) = (cx.graph.cols(cx.output(0)), cx.cols(0));
        let shape = MatvecShape::choose(cx, cols, tile, &types);
        let mut consts = shape.consts(cx, types[0], Shard { row0: 0, rows: rows[0] }, cols, n, tile);
        consts.extend(planes(["k_PLANE1", "k_PLANE2", "k_PLANE3"], types[1], rows[1], cols));
        consts.extend(planes(["v_PLANE1", "v_PLANE2", "v_PLANE3"], types[2], rows[2], cols));
        consts.extend([("KV_ROWS", Const::U32(rows[1])), ("BIAS_AT", Const::U32(6))]);
        let epilogue = self.epilogue(cx);
        let mut imports = vec![cx.reduce(), ("epilogue", epilogue.file)];
        imports.extend(["weight", "k", "v"].into_iter().zip(types).flat_map(|(role, dtype)| shape.weight(role, dtype)));
        imports.extend(shape.sums("dot"));
        let mut source = ShaderSource { file: "matvec_qkv", imports, consts };
        let x = fused_norm::few_read(self.norm.as_ref(), cx);
        let [q, k, v] = weights.map(Binding::read);
        let mut bindings = vec![q, Binding::read(x), Binding::write(cx.output(0)), k, v];
        bindings.extend(epilogue.inputs.iter().map(|id| Binding::read(*id)));
        fused_norm::finish(self.norm.as_ref(), cx, tile, &mut source, &mut bindings);
        let grid = [GridDim::ceil(n, shape.rows()), GridDim::fixed(1), GridDim::fixed(1)];
        let least = if tile == 1 { 1 } else { 2 };
        Kernel::new(source, bindings, grid).when(StepSize::Rows, least, tile)
    }
}
