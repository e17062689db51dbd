//! The gated pair of a feed-forward network: `y = activation(x gate^T) * (x up^T)`, in one matvec when rows are few.

use super::fused_norm::{self, FusedNorm};
use super::glu::{self, Activation};
use super::linear::{Epilogue, MatvecShape, Product, few_or_many, matmuls};
use super::{Binding, GridDim, Kernel, KernelContext, Op, Shard, StepSize, planes};
use crate::graph::{Graph, Node, Rows, TensorId, TensorKind};
use crate::shader::ShaderSource;

/// Inputs: x, gate weight, up weight, what a [`FusedNorm`] norm adds. Outputs: y and, for many rows, the two products.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearGlu {
    /// The function of the gate.
    pub activation: Activation,
    /// A norm of x comes first.
    pub norm: Option<FusedNorm>,
}

impl LinearGlu {
    /// The node that replaces two linears and a glu whose output was `y`.
    pub fn node(
        graph: &mut Graph,
        x: TensorId,
        gate: TensorId,
        up: TensorId,
        y: TensorId,
        activation: Activation,
    ) -> Node {
        let n = graph.fixed_rows(gate);
        let scratch = ["gate", "up"].map(|name| graph.add(name, Rows::Step, n, TensorKind::Activation));
        let outputs = vec![y, scratch[0], scratch[1]];
        Node { op: Op::LinearGlu(LinearGlu { activation, norm: None }), inputs: vec![x, gate, up], outputs }
    }

    pub(super) fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        few_or_many(cx, |tile| self.matvec(cx, tile), || self.many(cx))
    }

    fn many(&self, cx: &KernelContext) -> Vec<Kernel> {
        let (x, norm) = fused_norm::many_read(self.norm.as_ref(), cx);
        let mut out = Vec::from_iter(norm);
        for i in [1, 2] {
            let part = Product { x, weight: cx.input(i), y: cx.output(i), at: 0, rows: StepSize::Rows };
            out.extend(matmuls(cx, &part, &Epilogue::NONE));
        }
        let (y, gate, up) = (cx.output(0), cx.output(1), cx.output(2));
        let kernel = glu::kernel(cx, self.activation, gate, up, y, GridDim::each(StepSize::Rows));
        out.push(kernel.when(StepSize::Rows, cx.matvec_rows() + 1, u32::MAX));
        out
    }

    fn matvec(&self, cx: &KernelContext, tile: u32) -> Kernel {
        let (gate, up) = (cx.input(1), cx.input(2));
        let ((gate_type, _), (up_type, _)) = (cx.weight(gate), cx.weight(up));
        let (n, cols) = (cx.graph.fixed_rows(gate), cx.cols(0));
        let shape = MatvecShape::choose(cx, cols, tile, &[gate_type, up_type]);
        let mut consts = shape.consts(cx, gate_type, Shard { row0: 0, rows: n }, cols, n, tile);
        consts.extend(planes(["up_PLANE1", "up_PLANE2", "up_PLANE3"], up_type, n, cols));
        let mut imports = vec![cx.reduce(), ("activation", self.activation.shader())];
        imports.extend(shape.weight("weight", gate_type).into_iter().chain(shape.weight("up", up_type)));
        imports.extend(shape.sums("gate_up_dot"));
        let mut source = ShaderSource { file: "matvec_glu", imports, consts };
        let x = fused_norm::few_read(self.norm.as_ref(), cx);
        let mut bindings = vec![Binding::read(gate), Binding::read(x), Binding::write(cx.output(0)), Binding::read(up)];
        fused_norm::finish(self.norm.as_ref(), cx, tile, &mut source, &mut bindings);
        let grid = [GridDim::ceil(n, shape.rows()), GridDim::fixed(1), GridDim::fixed(1)];
        let least = if tile == 1 { 1 } else { 2 };
        Kernel::new(source, bindings, grid).when(StepSize::Rows, least, tile)
    }
}

/// What the op means.
pub fn reference(x: &[f32], gate: &[f32], up: &[f32], k: usize, activation: Activation) -> Vec<f32> {
    let product = |weight| super::linear::reference(x, weight, k, None, None);
    glu::reference(&product(gate), &product(up), activation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_gates_product_is_activated() {
        // gate . x = 0 and 64, up . x = 5 and 3; silu(0) = 0, silu(64) = 64.
        let y = reference(&[1.0, 2.0], &[2.0, -1.0, 60.0, 2.0], &[1.0, 2.0, 1.0, 1.0], 2, Activation::Silu);
        assert_eq!(y, [0.0, 192.0]);
    }
}
