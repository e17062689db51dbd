//! Weights larger than a binding: how they are split by rows, and the constants with which kernels read a shard.

use crate::dtype::DType;
use crate::graph::{Graph, TensorId, TensorKind};

/// The rows of a weight that are in one buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// First row (over the whole stack).
    pub row0: u32,
    /// Rows.
    pub rows: u32,
}

/// Rows of a plain matrix at whose multiples it may be split.
pub const SHARD_UNIT: u32 = 64;

/// How a weight of `rows x cols` is split so that each buffer can be bound: at multiples of `unit` rows.
///
/// # Panics
/// If `unit` rows alone are larger than a binding; the memory plan refuses such a model before.
pub fn shards(dtype: DType, rows: u32, cols: u32, unit: u32, max_bytes: u64) -> Vec<Shard> {
    let fitting = shard_rows(dtype, cols, unit, max_bytes);
    assert!(fitting > 0, "{unit} rows of {cols} {} weights exceed a binding of {max_bytes} bytes", dtype.name());
    let count = rows.div_ceil(fitting);
    let each = rows.div_ceil(count).next_multiple_of(unit).min(fitting);
    (0..rows).step_by(each as usize).map(|row0| Shard { row0, rows: each.min(rows - row0) }).collect()
}

/// The most rows of `cols` weights that a shard has, a multiple of `unit`; 0 if no shard can be bound.
pub fn shard_rows(dtype: DType, cols: u32, unit: u32, max_bytes: u64) -> u32 {
    let table = dtype.table().len() as u64;
    let row_bytes = (dtype.gpu_bytes(1, cols) - table + 16 * dtype.planes().len() as u64).max(1);
    u32::try_from(max_bytes.saturating_sub(table) / row_bytes).unwrap_or(u32::MAX) / unit * unit
}

/// The rows at whose multiples a weight of `rows` rows may be split: a stack of experts only between experts.
pub fn shard_unit(rows: u32, experts: u32) -> u32 {
    if experts > 1 { rows / experts } else { SHARD_UNIT }
}

/// The shards of a weight tensor under a binding limit.
pub fn weight_shards(graph: &Graph, id: TensorId, max_bytes: u64) -> Vec<Shard> {
    let t = graph.tensor(id);
    let TensorKind::Weight { dtype, experts, .. } = t.kind else { panic!("{} is no weight", t.name) };
    let rows = graph.fixed_rows(id);
    shards(dtype, rows, t.cols, shard_unit(rows, experts), max_bytes)
}

/// Header constants of these names: where the planes of a weight after the first, and then its table, begin, in units
/// of 16 bytes.
pub(super) fn planes(
    names: [&'static str; 3],
    dtype: DType,
    rows: u32,
    cols: u32,
) -> impl Iterator<Item = (&'static str, u32)> {
    let offsets = dtype.plane_offsets(rows, cols).into_iter().skip(1);
    names.into_iter().zip(offsets.map(|offset| (offset / 16) as u32))
}

/// Constants with which a kernel reads a shard of a weight: its planes, and the groups of a row.
pub(super) fn weight_consts(dtype: DType, rows: u32, cols: u32) -> impl Iterator<Item = (&'static str, u32)> {
    planes(["PLANE1", "PLANE2", "PLANE3"], dtype, rows, cols).chain([("GROUPS", cols.div_ceil(32))])
}

/// The rows of a matrix that a kernel multiplies by, and where their products go.
#[derive(Clone, Copy)]
pub(super) struct MatrixRows {
    pub dtype: DType,
    /// Rows in the bound buffer.
    pub bound: u32,
    /// Columns.
    pub cols: u32,
    /// Rows of the matrix.
    pub rows: u32,
    /// The column of y that the first row's products go to.
    pub row0: u32,
    /// Columns of y.
    pub out: u32,
}

impl MatrixRows {
    /// The constants of `shaders/matvec.wgsl` and `shaders/matmul*.wgsl`.
    pub fn consts(self) -> impl Iterator<Item = (&'static str, u32)> {
        let MatrixRows { dtype, bound, cols, rows, row0, out } = self;
        weight_consts(dtype, bound, cols).chain([("COLS4", cols / 4), ("ROW0", row0), ("ROWS", rows), ("OUT", out)])
    }
}
