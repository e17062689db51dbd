//! Rows times a matrix in any weight type: `y[row, n] = sum_k weight[n, k] * x[row, k] (+ bias[n]) (+ residual[row, n])`.
//!
//! Few rows run as a matvec, which reads each weight once for up to [`KernelContext::matvec_rows`] rows; many as a tiled matmul.
//! What several matrices make of one x is in `linear_glu` and `qkv`.

use super::{Binding, GridDim, Kernel, KernelContext, Op, Shard, StepSize, fused_norm, weight_consts};
use crate::dtype::DType;
use crate::gpu::{Caps, Tier, TuneConfig};
use crate::graph::{Graph, Rows, TensorId};
use crate::shader::{Const, ShaderSource};

/// Inputs: x, weight, bias if any, residual if any, the weight of the norm that follows if it is fused_norm.
/// Outputs: y and, for a fused_norm norm, y times that weight and sums of squares of y.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Linear {
    /// There is a bias.
    pub bias: bool,
    /// There is a residual.
    pub residual: bool,
    /// A [fused_norm] norm follows.
    pub tally: bool,
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
        self.node(Op::Linear(Linear { bias: bias.is_some(), ..Default::default() }), inputs, &name, rows, n)
    }
}

impl Linear {
    pub(super) fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        let rows = match cx.graph.tensor(cx.input(0)).rows {
            Rows::Logits => StepSize::Logits,
            _ => StepSize::Rows,
        };
        let product = Product { x: cx.input(0), weight: cx.input(1), y: cx.output(0), at: 0, rows };
        let file = match (self.bias, self.residual) {
            (false, false) => "matmul/epilogue/none",
            (true, false) => "matmul/epilogue/bias",
            (false, true) => "matmul/epilogue/residual",
            (true, true) => "matmul/epilogue/bias_residual",
        };
        let added = usize::from(self.bias) + usize::from(self.residual);
        let epilogue = Epilogue { file, inputs: &cx.node.inputs[2..2 + added] };
        let capacity = if rows == StepSize::Logits { cx.capacity.logits } else { cx.capacity.rows };
        let mut out = self.matvecs(cx, &product, 1, &epilogue);
        let few = cx.matvec_rows();
        if few > 1 {
            out.extend(self.matvecs(cx, &product, few, &epilogue));
        }
        if capacity > few {
            out.extend(matmuls(cx, &product, &epilogue));
        }
        out
    }

    fn matvecs(&self, cx: &KernelContext, product: &Product, tile: u32, epilogue: &Epilogue) -> Vec<Kernel> {
        let (dtype, _) = cx.weight(product.weight);
        let (n, cols) = (cx.graph.fixed_rows(product.weight), cx.graph.cols(product.weight));
        let shape = MatvecShape::choose(cx, cols, tile, &[dtype]);
        let kernel = |(i, shard): (usize, &Shard)| {
            let mut consts = shape.consts(cx, dtype, *shard, cols, n, tile);
            consts.extend([("OVER_LOGITS", Const::Bool(product.rows == StepSize::Logits)), ("BIAS_AT", Const::U32(4))]);
            let mut bindings = bindings(product, i, epilogue);
            let mut tally = "matmul/sum_squares/none";
            if self.tally {
                tally = "matmul/sum_squares/partial";
                let parts = fused_norm::parts(cx, cols, n, tile);
                consts.extend([
                    ("SUM_SQUARES_AT", Const::U32(bindings.len() as u32 + 1)),
                    ("PARTS", Const::U32(parts)),
                    ("PART0", Const::U32(shard.row0 / shape.rows())),
                ]);
                bindings.push(Binding::read(cx.input(2 + epilogue.inputs.len())));
                bindings.extend([1, 2].map(|i| Binding::write(cx.output(i))));
            }
            let mut imports =
                vec![cx.reduce(), ("route", "matmul/route/dense"), ("epilogue", epilogue.file), ("sum_squares", tally)];
            imports.extend(shape.weight("weight", dtype).into_iter().chain(shape.sums("dot")));
            let grid = [GridDim::ceil(shard.rows, shape.rows()), GridDim::fixed(1), GridDim::fixed(1)];
            let least = if tile == 1 { 1 } else { 2 };
            Kernel::new(ShaderSource { file: "matvec", imports, consts }, bindings, grid).when(
                product.rows,
                least,
                tile,
            )
        };
        cx.shards(product.weight).iter().enumerate().map(kernel).collect()
    }
}

/// x times weight into the columns of y from `at` on, with as many rows as `rows` says.
pub(super) struct Product {
    pub x: TensorId,
    pub weight: TensorId,
    pub y: TensorId,
    pub at: u32,
    pub rows: StepSize,
}

/// What is added to a product: a file, and what it binds from 4 on.
pub(super) struct Epilogue<'a> {
    pub file: &'static str,
    pub inputs: &'a [TensorId],
}

impl Epilogue<'_> {
    pub const NONE: Epilogue<'static> = Epilogue { file: "matmul/epilogue/none", inputs: &[] };
}

/// How a workgroup of a matvec is laid out, and in what it multiplies; see `shaders/matvec.wgsl`.
pub(super) struct MatvecShape {
    wg: u32,
    lanes: u32,
    rows_per_lane: u32,
    whole: bool,
}

/// Bytes of a group of 32 values in `shaders/round/int8.wgsl`.
const ROUNDED_GROUP: u32 = 48;

impl MatvecShape {
    /// For rows of `cols` weights of these types, and up to `tile` tokens. In the int8 tier x of one token is rounded, by
    /// each workgroup for itself: on a GPU the more rows share that, the better. How many rows that are does not depend on
    /// the types.
    pub(super) fn choose(cx: &KernelContext, cols: u32, tile: u32, types: &[DType]) -> Self {
        let layout = cx.caps.tune_config();
        let rounds = cx.caps.tier == Tier::Int8 && tile == 1;
        let fits = cols.div_ceil(32) * ROUNDED_GROUP <= cx.caps.workgroup_bytes;
        let whole = rounds && fits && types.iter().all(|dtype| dtype.block_len() > 1);
        let (threads, rows) =
            if rounds && !cx.caps.software { (256, 4) } else { (layout.threads, layout.rows_per_lane) };
        let lanes = if layout.lanes == 1 { 1 } else { cx.lanes(layout.lanes.min(cols.div_ceil(32))) };
        MatvecShape { wg: lanes.max(threads), lanes, rows_per_lane: if tile == 1 { rows } else { 1 }, whole }
    }

    /// What a kernel takes in to read a weight of this type, as `role`.
    pub(super) fn weight(&self, role: &'static str, dtype: DType) -> Vec<(&'static str, &'static str)> {
        let mut files = vec![(role, dtype.shader())];
        files.extend(self.whole.then_some((role, "lib/dot_i8")));
        files
    }

    /// What it takes in to multiply, as `role` (`products` or `pair`).
    pub(super) fn sums(&self, role: &'static str) -> [(&'static str, &'static str); 2] {
        let file = match (role, self.whole) {
            ("gate_up_dot", false) => "matmul/gate_up_dot/exact",
            ("gate_up_dot", true) => "matmul/gate_up_dot/int8",
            (_, false) => "matmul/dot/exact",
            (_, true) => "matmul/dot/int8",
        };
        [(role, file), ("quantize_x", if self.whole { "matmul/quantize_x/int8" } else { "matmul/quantize_x/none" })]
    }

    /// Weight rows of a workgroup.
    pub(super) fn rows(&self) -> u32 {
        self.wg / self.lanes * self.rows_per_lane
    }

    /// Constants of the layout, for `tile` tokens.
    pub(super) fn layout(&self, cx: &KernelContext, tile: u32) -> Vec<(&'static str, Const)> {
        let mut consts = cx.reduce_consts(self.wg, self.lanes);
        consts.extend([("ROWS_PER_LANE", Const::U32(self.rows_per_lane)), ("TILE", Const::U32(tile))]);
        consts
    }

    /// Constants for a shard of a weight of `cols` columns, into rows of y of `out` values.
    pub(super) fn consts(
        &self,
        cx: &KernelContext,
        dtype: DType,
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

fn bindings(product: &Product, shard: usize, epilogue: &Epilogue) -> Vec<Binding> {
    let mut out = vec![Binding::shard(product.weight, shard), Binding::read(product.x), Binding::write(product.y)];
    out.extend(epilogue.inputs.iter().map(|id| Binding::read(*id)));
    out
}

/// Tokens of a matmul's tile.
pub const MATMUL_TILE: u32 = 64;

/// What a kernel takes in for an adapter's small matrices.
pub(crate) fn unit(caps: &Caps) -> &'static str {
    if caps.cooperative == 16 { "matmul/cooperative/16" } else { "matmul/cooperative/8" }
}

/// The kernel for tiles of a matrix of this type, and how threads share one; and weight rows of such a tile. Software
/// adapters pay for loads more than for arithmetic: there each thread does much out of registers, and subgroups, where they
/// are known, share what they fetch.
pub(super) fn matmul_source(cx: &KernelContext, dtype: DType) -> (ShaderSource, u32) {
    let (min, max) = cx.caps.subgroup;
    let TuneConfig { tile_threads, f16_tile_rows: side, .. } = cx.caps.tune_config();
    let tiles = |span| vec![("WG", span * span), ("TILE_THREADS", span), ("PER_THREAD", MATMUL_TILE / span)];
    let fours = |span| [tiles(span), vec![("FOURS", MATMUL_TILE / span / 4)]].concat();
    let rows = |subgroup, fetches| vec![("WG", 8), ("ROWS_PER_LANE", 8), ("SUBGROUP", subgroup), ("FETCHES", fetches)];
    let (file, import, consts) = match cx.caps.tier {
        Tier::Cooperative if dtype != DType::F32 => {
            let [units_n, units_t] = [side, MATMUL_TILE].map(|side| side / 2 / cx.caps.cooperative);
            let consts = vec![("WG", 4 * max), ("SIDE", side), ("COOP_N", units_n), ("COOP_T", units_t)];
            ("matmul_cooperative", Some(("cooperative", unit(cx.caps))), consts)
        }
        Tier::F16 if dtype != DType::F32 => {
            ("matmul_f16", None, vec![("SIDE", side), ("PER_THREAD", side / 16), ("PARTS", side / 64)])
        }
        Tier::Int8 if dtype.block_len() > 1 => ("matmul_int8", None, tiles(8)),
        _ if !cx.caps.software => ("matmul", None, fours(tile_threads)),
        _ if cx.caps.subgroups() && min == max && max <= 8 => {
            ("matmul_rows", Some(("broadcast", "matmul/broadcast/subgroup")), rows(max, 16 / max))
        }
        _ => ("matmul_rows", Some(("broadcast", "matmul/broadcast/none")), rows(1, 8)),
    };
    let tile = if consts.iter().any(|(name, _)| *name == "SIDE") { side } else { MATMUL_TILE };
    let consts = consts.into_iter().chain([("TILE", MATMUL_TILE)]).map(|(name, n)| (name, Const::U32(n))).collect();
    (ShaderSource { file, imports: Vec::from_iter(import), consts }, tile)
}

/// The kernels of an op that is a matvec for few rows, given up to how many, and `many` others for more.
pub(super) fn few_or_many(
    cx: &KernelContext,
    matvec: impl Fn(u32) -> Kernel,
    many: impl FnOnce() -> Vec<Kernel>,
) -> Vec<Kernel> {
    let few = cx.matvec_rows();
    let mut out = vec![matvec(1)];
    if few > 1 {
        out.push(matvec(few));
    }
    if cx.capacity.rows > few {
        out.extend(many());
    }
    out
}

/// The kernels for more rows than a decode has.
pub(super) fn matmuls(cx: &KernelContext, product: &Product, epilogue: &Epilogue) -> Vec<Kernel> {
    let (dtype, _) = cx.weight(product.weight);
    let (n, cols) = (cx.graph.cols(product.y), cx.graph.cols(product.weight));
    let kernel = |(i, shard): (usize, &Shard)| {
        let (mut source, tile) = matmul_source(cx, dtype);
        source.consts.extend(weight_consts(dtype, shard.rows, cols));
        source.consts.extend([
            ("COLS4", Const::U32(cols / 4)),
            ("ROW0", Const::U32(product.at + shard.row0)),
            ("ROWS", Const::U32(shard.rows)),
            ("OUT", Const::U32(n)),
            ("OVER_LOGITS", Const::Bool(product.rows == StepSize::Logits)),
            ("BIAS_AT", Const::U32(4)),
        ]);
        source.imports.extend([
            ("weight", dtype.shader()),
            ("route", "matmul/route/dense"),
            ("epilogue", epilogue.file),
        ]);
        let grid = [GridDim::ceil(shard.rows, tile), GridDim::every(product.rows, MATMUL_TILE), GridDim::fixed(1)];
        Kernel::new(source, bindings(product, i, epilogue), grid).when(product.rows, cx.matvec_rows() + 1, u32::MAX)
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
}
