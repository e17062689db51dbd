//! Matrix times few rows (GEMV): how a workgroup is laid out, and what it multiplies with.

use super::context::KernelContext;
use super::grid::StepSize;
use super::kernel::Kernel;
use crate::caps::Tier;
use crate::dtype::DType;

/// How a workgroup of a matvec is laid out, and whether it multiplies integers; see `shaders/matvec.wgsl`.
#[derive(Clone, Copy)]
pub(super) struct MatvecShape {
    wg: u32,
    lanes: u32,
    rows_per_lane: u32,
    int8: bool,
    tile: u32,
}

/// Bytes of a group of 32 values in `shaders/matmul/quantize_x/int8.wgsl`.
const QUANTIZED_GROUP_BYTES: u32 = 48;

impl MatvecShape {
    /// For rows of `cols` weights of these types, and up to `tile` tokens. In the int8 tier each workgroup quantizes
    /// the x of one token for itself: on a GPU the more rows share that, the better. The number of rows does not depend
    /// on the types.
    pub fn choose(cx: &KernelContext, cols: u32, tile: u32, types: &[DType]) -> Self {
        let config = cx.caps.tune_config();
        let quantizes = cx.caps.tier == Tier::Int8 && tile == 1;
        let fits = cols.div_ceil(32) * QUANTIZED_GROUP_BYTES <= cx.caps.workgroup_bytes;
        let int8 = quantizes && fits && types.iter().all(|dtype| dtype.block_len() > 1);
        let (threads, rows) =
            if quantizes && !cx.caps.software { (256, 4) } else { (config.threads, config.rows_per_lane) };
        let lanes = if config.lanes == 1 { 1 } else { cx.lanes(config.lanes.min(cols.div_ceil(32))) };
        MatvecShape { wg: lanes.max(threads), lanes, rows_per_lane: if tile == 1 { rows } else { 1 }, int8, tile }
    }

    /// Weight rows of a workgroup.
    pub fn rows(self) -> u32 {
        self.wg / self.lanes * self.rows_per_lane
    }

    /// Gives a kernel the layout, and the dot products of a role (`dot` or `gate_up_dot`).
    pub fn add_to(self, kernel: Kernel, cx: &KernelContext, role: &'static str) -> Kernel {
        let file = match (role, self.int8) {
            ("gate_up_dot", false) => "matmul/gate_up_dot/exact",
            ("gate_up_dot", true) => "matmul/gate_up_dot/int8",
            (_, false) => "matmul/dot/exact",
            (_, true) => "matmul/dot/int8",
        };
        let kernel = cx.reduce(kernel, self.wg, self.lanes).import(role, file);
        let kernel = kernel.set("ROWS_PER_LANE", self.rows_per_lane).set("TILE", self.tile);
        if self.int8 { kernel.import("quantize_x", "matmul/quantize_x/int8") } else { kernel }
    }

    /// Gives a kernel a weight of this type, as `role`.
    pub fn weight(self, kernel: Kernel, role: &'static str, dtype: DType) -> Kernel {
        let kernel = kernel.import(role, dtype.shader());
        if self.int8 { kernel.import(role, "lib/dot_i8") } else { kernel }
    }

    /// The same kernel, run for up to as many rows as its tile has; for more than one unless that is its tile.
    pub fn when(self, kernel: Kernel, rows: StepSize) -> Kernel {
        kernel.when(rows, self.tile.min(2), self.tile)
    }
}

/// The kernels of an op that is a matvec for few rows, given the most that it takes, and `many` others for more.
pub(super) fn few_or_many(
    cx: &KernelContext,
    rows: StepSize,
    matvecs: impl Fn(u32) -> Vec<Kernel>,
    many: impl FnOnce() -> Vec<Kernel>,
) -> Vec<Kernel> {
    let few = cx.matvec_rows();
    let mut out = matvecs(1);
    if few > 1 {
        out.extend(matvecs(few));
    }
    if cx.most_rows(rows) > few {
        out.extend(many());
    }
    out
}
