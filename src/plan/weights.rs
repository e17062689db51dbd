//! The location of a weight's rows: their shards, and their bytes in each plane.

use std::ops::Range;

use super::DispatchList;
use crate::dtype::DType;
use crate::graph::{TensorId, TensorKind};
use crate::ops::Shard;

/// The part of some rows of a weight that one shard holds.
pub struct ShardRows {
    /// The number of the shard.
    pub shard: usize,
    dtype: DType,
    /// Rows and columns of the shard.
    shape: (u32, u32),
    /// The first row, counted in the shard.
    row: u32,
    /// The range of their bytes in the data.
    bytes: Range<usize>,
}

impl DispatchList {
    /// Divides `bytes` bytes of rows, the first of which is `row`, among the shards of a weight.
    ///
    /// # Panics
    /// If the tensor is not a weight.
    pub fn shard_rows(&self, id: TensorId, row: u32, bytes: usize) -> Vec<ShardRows> {
        let t = self.graph.tensor(id);
        let TensorKind::Weight { dtype, .. } = t.kind else { panic!("{} is no weight", t.name) };
        let row_bytes = dtype.row_bytes(t.cols.into()).expect("whole blocks") as usize;
        let end = row + (bytes / row_bytes) as u32;
        let part = |(shard, of): (usize, &Shard)| {
            let (from, to) = (row.max(of.row0), end.min(of.row0 + of.rows));
            (from < to).then(|| ShardRows {
                shard,
                dtype,
                shape: (of.rows, t.cols),
                row: from - of.row0,
                bytes: (from - row) as usize * row_bytes..(to - row) as usize * row_bytes,
            })
        };
        self.shards(id).iter().enumerate().filter_map(part).collect()
    }

    /// The tables that follow the planes of some weight types: (weight, shard, first byte, table).
    pub fn tables(&self) -> Vec<(TensorId, usize, u64, &'static [u8])> {
        let with_table = self.weights().into_iter().filter(|(_, dtype)| !dtype.table().is_empty());
        let of_weight = |(id, dtype): (TensorId, DType)| {
            let of_shard = move |(shard, of): (usize, Shard)| {
                let end = dtype.gpu_bytes(of.rows, self.graph.cols(id));
                (id, shard, end - dtype.table().len() as u64, dtype.table())
            };
            self.shards(id).into_iter().enumerate().map(of_shard)
        };
        with_table.flat_map(of_weight).collect()
    }
}

impl ShardRows {
    /// Repacks `data`, rows in the layout of a file: for each plane, the first byte in the shard and the bytes.
    pub fn planes(&self, data: &[u8]) -> Vec<(u64, Vec<u8>)> {
        let ShardRows { dtype, shape: (rows, cols), row, bytes, .. } = self;
        let mut planes = vec![Vec::new(); dtype.planes().len()];
        dtype.pack_rows(&data[bytes.clone()], *cols as usize, &mut planes);
        let first_group = u64::from(*row) * u64::from(cols.div_ceil(32));
        let mut placed = Vec::new();
        for ((mut plane, layout), start) in
            planes.into_iter().zip(dtype.planes()).zip(dtype.plane_offsets(*rows, *cols))
        {
            let at = first_group / u64::from(layout.groups) * u64::from(layout.bytes);
            assert!(at.is_multiple_of(4), "a chunk of {dtype} begins within a word");
            plane.resize(plane.len().next_multiple_of(4), 0);
            placed.push((start + at, plane));
        }
        placed
    }
}
