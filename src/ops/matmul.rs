//! Matrix times many rows (GEMM): the choice of the kernel for a tile, and the products of dense matrices.

use super::context::KernelContext;
use super::epilogue::Epilogue;
use super::grid::{GridDim, StepSize};
use super::kernel::Kernel;
use super::shard::{MatrixRows, Shard};
use crate::caps::{Caps, Tier, TuneConfig};
use crate::dtype::DType;
use crate::graph::{EXPERT_TILE, TensorId};

/// Tokens of a tile.
pub const MATMUL_TILE: u32 = EXPERT_TILE;

/// The file that declares an adapter's cooperative matrices.
pub(crate) fn cooperative_shader(caps: &Caps) -> &'static str {
    if caps.cooperative == 16 { "matmul/cooperative/16" } else { "matmul/cooperative/8" }
}

/// How tiles of a matrix are multiplied.
pub(super) struct MatmulShape {
    file: &'static str,
    import: Option<(&'static str, &'static str)>,
    consts: Vec<(&'static str, u32)>,
    /// Weight rows of a tile.
    pub rows: u32,
}

impl MatmulShape {
    /// For a matrix of this type. Software adapters pay for loads more than for arithmetic: there each thread does much
    /// out of registers, and the lanes of subgroups, where they are known, share what they load.
    pub fn choose(cx: &KernelContext, dtype: DType) -> Self {
        let (min, max) = cx.caps.subgroup;
        let TuneConfig { tile_threads, f16_tile_rows, .. } = cx.caps.tune_config();
        let shape = |file, rows, consts| MatmulShape { file, import: None, consts, rows };
        let square = |side: u32| vec![("WG", side * side), ("TILE_THREADS", side), ("PER_THREAD", MATMUL_TILE / side)];
        let in_registers = |subgroup, fetches, broadcast| MatmulShape {
            import: broadcast,
            ..shape(
                "matmul_rows",
                MATMUL_TILE,
                vec![("WG", 8), ("ROWS_PER_LANE", 8), ("SUBGROUP", subgroup), ("FETCHES", fetches)],
            )
        };
        match cx.caps.tier {
            Tier::Cooperative if dtype != DType::F32 => {
                let [n, t] = [f16_tile_rows, MATMUL_TILE].map(|side| side / 2 / cx.caps.cooperative);
                let consts = vec![("WG", 4 * max), ("SIDE", f16_tile_rows), ("COOP_N", n), ("COOP_T", t)];
                let import = Some(("cooperative", cooperative_shader(cx.caps)));
                MatmulShape { import, ..shape("matmul_cooperative", f16_tile_rows, consts) }
            }
            Tier::F16 if dtype != DType::F32 => {
                let (per_thread, parts) = (f16_tile_rows / 16, f16_tile_rows / 64);
                let consts = vec![("SIDE", f16_tile_rows), ("PER_THREAD", per_thread), ("PARTS", parts)];
                shape("matmul_f16", f16_tile_rows, consts)
            }
            Tier::Int8 if dtype.block_len() > 1 => shape("matmul_int8", MATMUL_TILE, square(8)),
            _ if !cx.caps.software => {
                let fours = [square(tile_threads), vec![("FOURS", MATMUL_TILE / tile_threads / 4)]].concat();
                shape("matmul", MATMUL_TILE, fours)
            }
            _ if cx.caps.subgroups() && min == max && max <= 8 => {
                in_registers(max, 16 / max, Some(("broadcast", "matmul/broadcast/subgroup")))
            }
            _ => in_registers(1, 8, None),
        }
    }

    /// The kernel for a matrix of this type, with a route.
    pub fn kernel(self, dtype: DType, route: &'static str, grid: [GridDim; 3]) -> Kernel {
        let kernel = Kernel::new(self.file, grid).set_all(self.consts).set("TILE", MATMUL_TILE);
        let kernel = kernel.import("weight", dtype.shader()).import("route", route);
        self.import.into_iter().fold(kernel, |kernel, (role, file)| kernel.import(role, file))
    }
}

/// x times weight into the columns of y from `column` on, with as many rows as `rows` says.
pub(super) struct Product {
    pub x: TensorId,
    pub weight: TensorId,
    pub y: TensorId,
    pub column: u32,
    pub rows: StepSize,
    pub epilogue: Epilogue,
}

impl Product {
    /// The rows of a shard.
    pub fn matrix(&self, cx: &KernelContext, shard: &Shard) -> MatrixRows {
        let (dtype, cols, out) = (cx.dtype(self.weight), cx.cols(self.weight), cx.cols(self.y));
        let (rows, row0) = (shard.rows, self.column + shard.row0);
        MatrixRows { dtype, bound: rows, cols, rows, row0, out }
    }

    /// The kernels for more rows than a matvec takes, one for each shard.
    pub fn matmuls(&self, cx: &KernelContext) -> Vec<Kernel> {
        let kernel = |(i, shard): (usize, &Shard)| {
            let matrix = self.matrix(cx, shard);
            let shape = MatmulShape::choose(cx, matrix.dtype);
            let grid =
                [GridDim::ceil(shard.rows, shape.rows), GridDim::every(self.rows, MATMUL_TILE), GridDim::fixed(1)];
            let kernel = shape.kernel(matrix.dtype, "matmul/route/dense", grid).set_all(matrix.consts());
            let kernel = kernel.set("OVER_LOGITS", self.rows == StepSize::Logits);
            let kernel = kernel.shard(self.weight, i).read(self.x).write(self.y);
            self.epilogue.add_to(kernel).when(self.rows, cx.matvec_rows() + 1, u32::MAX)
        };
        cx.shards(self.weight).iter().enumerate().map(kernel).collect()
    }
}
