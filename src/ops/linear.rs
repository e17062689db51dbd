//! Rows times a matrix in any weight type: `y[row, n] = sum_k weight[n, k] * x[row, k] (+ bias[n]) (+ residual[row, n])`.
//!
//! Few rows run as a matvec, which reads each weight once for up to [`Capacity::decode_rows`](super::Capacity::decode_rows) rows; many as a tiled matmul.
//! The gated pair of a feed-forward network is one matvec ([`LinearGlu`]).

use super::glu::{self, Activation};
use super::{Binding, Choice, Extent, Kernel, Op, Shard, Size, weight_consts};
use crate::gpu::Tier;
use crate::graph::{Graph, Kind, Node, Rows, TensorId};
use crate::shader::{Const, Source};

/// Inputs: x, weight, bias if any, residual if any.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Linear {
    /// There is a bias.
    pub bias: bool,
    /// There is a residual.
    pub residual: bool,
}

/// Inputs: x, gate weight, up weight. Outputs: y and, for many rows, the two products.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearGlu {
    /// The function of the gate.
    pub activation: Activation,
}

impl Graph {
    /// x (rows, k), weight (n, k) -> (rows, n).
    #[track_caller]
    pub fn linear(&mut self, x: TensorId, weight: TensorId, bias: Option<TensorId>) -> TensorId {
        crate::graph::same("columns of x and weight", self.cols(x), self.cols(weight));
        assert!(self.cols(x).is_multiple_of(4), "rows of {}", self.cols(x));
        let n = self.fixed_rows(weight);
        let mut inputs = vec![x, weight];
        if let Some(bias) = bias {
            crate::graph::same("bias and rows of weight", self.cols(bias), n);
            inputs.push(bias);
        }
        let rows = self.tensor(x).rows;
        let name = self.tensor(weight).name.trim_end_matches(".weight").to_string();
        self.node(Op::Linear(Linear { bias: bias.is_some(), residual: false }), inputs, &name, rows, n)
    }
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
        let scratch = ["gate", "up"].map(|name| graph.add(name, Rows::Step, n, Kind::Activation));
        let outputs = vec![y, scratch[0], scratch[1]];
        Node { op: Op::LinearGlu(LinearGlu { activation }), inputs: vec![x, gate, up], outputs }
    }

    pub(super) fn kernels(&self, cx: &Choice) -> Vec<Kernel> {
        let few = cx.capacity.decode_rows();
        let mut out = vec![self.matvec(cx, 1)];
        if few > 1 {
            out.push(self.matvec(cx, few));
        }
        if cx.capacity.rows > few {
            for i in [1, 2] {
                let part = Product { x: cx.input(0), weight: cx.input(i), y: cx.output(i), rows: Size::Rows };
                out.extend(matmuls(cx, &part, "epilogue/none", &[]));
            }
            let n = cx.graph.cols(cx.output(0));
            let kernel =
                glu::kernel(self.activation, cx.output(1), cx.output(2), cx.output(0), n, Extent::each(Size::Rows));
            out.push(kernel.when(Size::Rows, few + 1, u32::MAX));
        }
        out
    }

    fn matvec(&self, cx: &Choice, tile: u32) -> Kernel {
        let (gate, up) = (cx.input(1), cx.input(2));
        let ((gate_type, _), (up_type, _)) = (cx.weight(gate), cx.weight(up));
        let (n, cols) = (cx.graph.fixed_rows(gate), cx.cols(0));
        let shape = MatvecShape::choose(cx, cols, tile);
        let shard = Shard { row0: 0, rows: n };
        let mut consts = shape.consts(cx, gate_type, shard, cols, n, tile);
        const NAMES: [&str; 3] = ["up_PLANE1", "up_PLANE2", "up_PLANE3"];
        let planes = up_type.plane_offsets(n, cols);
        consts.extend(NAMES.into_iter().zip(planes.iter().skip(1)).map(|(n, o)| (n, Const::U32((o / 16) as u32))));
        let imports = vec![
            cx.reduce(),
            ("weight", gate_type.shader()),
            ("up", up_type.shader()),
            ("activation", self.activation.shader()),
        ];
        let bindings =
            vec![Binding::read(gate), Binding::read(cx.input(0)), Binding::write(cx.output(0)), Binding::read(up)];
        let source = Source { file: "matvec_glu", imports, consts };
        let grid = [Extent::ceil(n, shape.rows()), Extent::fixed(1), Extent::fixed(1)];
        let least = if tile == 1 { 1 } else { 2 };
        Kernel::new(source, bindings, grid).when(Size::Rows, least, tile)
    }
}

impl Linear {
    pub(super) fn kernels(&self, cx: &Choice) -> Vec<Kernel> {
        let rows = match cx.graph.tensor(cx.input(0)).rows {
            Rows::Logits => Size::Logits,
            _ => Size::Rows,
        };
        let product = Product { x: cx.input(0), weight: cx.input(1), y: cx.output(0), rows };
        let epilogue = match (self.bias, self.residual) {
            (false, false) => "epilogue/none",
            (true, false) => "epilogue/bias",
            (false, true) => "epilogue/residual",
            (true, true) => "epilogue/bias_residual",
        };
        let extra = &cx.node.inputs[2..];
        let capacity = if rows == Size::Logits { cx.capacity.logits } else { cx.capacity.rows };
        let mut out = matvecs(cx, &product, 1, epilogue, extra);
        let few = cx.capacity.decode_rows();
        if few > 1 {
            out.extend(matvecs(cx, &product, few, epilogue, extra));
        }
        if capacity > few {
            out.extend(matmuls(cx, &product, epilogue, extra));
        }
        out
    }
}

/// x times weight into y, with as many rows as `rows` says.
struct Product {
    x: TensorId,
    weight: TensorId,
    y: TensorId,
    rows: Size,
}

/// How a workgroup of a matvec is laid out; see `shaders/matvec.wgsl`.
pub(super) struct MatvecShape {
    wg: u32,
    lanes: u32,
    rows_per_lane: u32,
}

impl MatvecShape {
    /// Real GPUs: a warp's worth of threads a row, a few rows each. Software: a thread a row.
    pub(super) fn choose(cx: &Choice, cols: u32, tile: u32) -> Self {
        let lanes = match cx.caps.software {
            true => cx.lanes(1),
            false => cx.lanes(32.min(cols.div_ceil(32))),
        };
        let wg = lanes.max(if cx.caps.software { 32 } else { 128 });
        MatvecShape { wg, lanes, rows_per_lane: if tile == 1 { 2 } else { 1 } }
    }

    /// Weight rows of a workgroup.
    pub(super) fn rows(&self) -> u32 {
        self.wg / self.lanes * self.rows_per_lane
    }

    /// Constants of the layout, for `tile` tokens.
    pub(super) fn layout(&self, cx: &Choice, tile: u32) -> Vec<(&'static str, Const)> {
        let mut consts = cx.reduce_consts(self.wg, self.lanes);
        consts.extend([("RPL", Const::U32(self.rows_per_lane)), ("TILE", Const::U32(tile))]);
        consts
    }

    fn consts(
        &self,
        cx: &Choice,
        dtype: crate::dtype::DType,
        shard: Shard,
        cols: u32,
        out: u32,
        tile: u32,
    ) -> Vec<(&'static str, Const)> {
        let mut consts = weight_consts(dtype, shard.rows, cols);
        consts.extend(self.layout(cx, tile));
        consts.extend([
            ("COLS4", Const::U32(cols / 4)),
            ("ROW0", Const::U32(shard.row0)),
            ("ROWS", Const::U32(shard.rows)),
            ("OUT", Const::U32(out)),
        ]);
        consts
    }
}

fn bindings(product: &Product, shard: usize, extra: &[TensorId]) -> Vec<Binding> {
    let mut out = vec![Binding::shard(product.weight, shard), Binding::read(product.x), Binding::write(product.y)];
    out.extend(extra.iter().map(|id| Binding::read(*id)));
    out
}

fn matvecs(cx: &Choice, product: &Product, tile: u32, epilogue: &'static str, extra: &[TensorId]) -> Vec<Kernel> {
    let (dtype, _) = cx.weight(product.weight);
    let (n, cols) = (cx.graph.fixed_rows(product.weight), cx.graph.cols(product.weight));
    let shape = MatvecShape::choose(cx, cols, tile);
    let kernel = |(i, shard): (usize, &Shard)| {
        let mut consts = shape.consts(cx, dtype, *shard, cols, n, tile);
        consts.push(("OVER_LOGITS", Const::Bool(product.rows == Size::Logits)));
        let imports = vec![cx.reduce(), ("weight", dtype.shader()), ("route", "route/dense"), ("epilogue", epilogue)];
        let grid = [Extent::ceil(shard.rows, shape.rows()), Extent::fixed(1), Extent::fixed(1)];
        let least = if tile == 1 { 1 } else { 2 };
        Kernel::new(Source { file: "matvec", imports, consts }, bindings(product, i, extra), grid).when(
            product.rows,
            least,
            tile,
        )
    };
    cx.shards(product.weight).iter().enumerate().map(kernel).collect()
}

/// Weight rows and tokens of a tile of `shaders/matmul.wgsl`.
pub const MATMUL_TILE: u32 = 64;

/// The kernel for tiles, and how threads share one. Software adapters pay for loads more than for arithmetic: there
/// few threads do much each, out of registers where subgroups let them share what they fetch.
pub(super) fn matmul_layout(cx: &Choice) -> (&'static str, Vec<(&'static str, Const)>) {
    let (min, max) = cx.caps.subgroup;
    let tile = ("TILE", Const::U32(MATMUL_TILE));
    if cx.caps.software && cx.caps.tier >= Tier::Subgroups && min == max && max <= 8 {
        let consts = [("WG", 8), ("RPL", 8), ("SUBGROUP", max), ("FETCHES", 16 / max)];
        return ("matmul_rows", consts.map(|(name, n)| (name, Const::U32(n))).into_iter().chain([tile]).collect());
    }
    let side = if cx.caps.software { 4 } else { 8 };
    let consts = [("SPAN", side), ("WG", side * side), ("PER", MATMUL_TILE / side)];
    ("matmul", consts.map(|(name, n)| (name, Const::U32(n))).into_iter().chain([tile]).collect())
}

fn matmuls(cx: &Choice, product: &Product, epilogue: &'static str, extra: &[TensorId]) -> Vec<Kernel> {
    let (dtype, _) = cx.weight(product.weight);
    let (n, cols) = (cx.graph.fixed_rows(product.weight), cx.graph.cols(product.weight));
    let kernel = |(i, shard): (usize, &Shard)| {
        let mut consts = weight_consts(dtype, shard.rows, cols);
        let (file, layout) = matmul_layout(cx);
        consts.extend(layout);
        consts.extend([
            ("COLS4", Const::U32(cols / 4)),
            ("ROW0", Const::U32(shard.row0)),
            ("ROWS", Const::U32(shard.rows)),
            ("OUT", Const::U32(n)),
            ("OVER_LOGITS", Const::Bool(product.rows == Size::Logits)),
        ]);
        let imports = vec![("weight", dtype.shader()), ("route", "route/dense"), ("epilogue", epilogue)];
        let grid = [Extent::ceil(shard.rows, MATMUL_TILE), Extent::every(product.rows, MATMUL_TILE), Extent::fixed(1)];
        Kernel::new(Source { file, imports, consts }, bindings(product, i, extra), grid).when(
            product.rows,
            cx.capacity.decode_rows() + 1,
            u32::MAX,
        )
    };
    cx.shards(product.weight).iter().enumerate().map(kernel).collect()
}

/// What [`Linear`] means: x (rows, `k`), weight (n, `k`), bias (n), residual (rows, n) -> (rows, n), summed in f64.
pub fn reference(x: &[f32], weight: &[f32], k: usize, bias: Option<&[f32]>, residual: Option<&[f32]>) -> Vec<f32> {
    let mut y = Vec::new();
    for x in x.chunks_exact(k) {
        for (n, weight) in weight.chunks_exact(k).enumerate() {
            let sum: f64 = x.iter().zip(weight).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
            let bias = bias.map_or(0.0, |b| f64::from(b[n]));
            let residual = residual.map_or(0.0, |r| f64::from(r[y.len()]));
            y.push((sum + bias + residual) as f32);
        }
    }
    y
}

/// What [`LinearGlu`] means: `activation(x gate^T) * (x up^T)`.
pub fn reference_glu(x: &[f32], gate: &[f32], up: &[f32], k: usize, activation: Activation) -> Vec<f32> {
    glu::reference(&reference(x, gate, k, None, None), &reference(x, up, k, None, None), activation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_meets_every_row_of_the_weight() {
        let (x, weight) = ([1.0, 2.0, 3.0, -1.0], [1.0, 0.0, 2.0, 1.0, 0.5, -1.0]);
        assert_eq!(reference(&x, &weight, 2, None, None), [1.0, 4.0, -1.5, 3.0, 5.0, 2.5]);
        let (bias, residual) = ([10.0, 20.0, 30.0], [0.0, 0.0, 0.5, 1.0, 2.0, 3.0]);
        assert_eq!(reference(&x, &weight, 2, Some(&bias), None), [11.0, 24.0, 28.5, 13.0, 25.0, 32.5]);
        assert_eq!(reference(&x, &weight, 2, None, Some(&residual)), [1.0, 4.0, -1.0, 4.0, 7.0, 5.5]);
        assert_eq!(reference(&x, &weight, 2, Some(&bias), Some(&residual)), [11.0, 24.0, 29.0, 14.0, 27.0, 35.5]);
    }

    #[test]
    fn only_the_gates_product_is_activated() {
        // gate . x = 0 and 64, up . x = 5 and 3; silu(0) = 0, silu(64) = 64.
        let y = reference_glu(&[1.0, 2.0], &[2.0, -1.0, 60.0, 2.0], &[1.0, 2.0, 1.0, 1.0], 2, Activation::Silu);
        assert_eq!(y, [0.0, 192.0]);
    }
}
