//! Slots sorted by expert, cut into tiles.

use super::{GridDim, Kernel, KernelContext, StepSize};
use crate::graph::{ExpertSort, ExpertSortOperands};

pub(super) fn kernels(op: &ExpertSort, io: &ExpertSortOperands, cx: &KernelContext) -> Vec<Kernel> {
    if cx.capacity.rows <= cx.capacity.decode_rows() {
        return Vec::new();
    }
    let wg = op.experts.next_power_of_two().clamp(32, 256);
    let consts = [("WG", wg), ("EXPERTS", op.experts), ("USED", op.used), ("TILE", op.tile)];
    let kernel = Kernel::new("expert_sort", [GridDim::fixed(1); 3]).set_all(consts);
    let kernel = kernel.read(io.ids).write(io.slots).write(io.tiles);
    vec![kernel.when(StepSize::Rows, cx.capacity.decode_rows() + 1, u32::MAX)]
}

/// Tiles that are dispatched: enough for any routing.
pub(super) fn tiles(experts: u32, used: u32, tile: u32) -> GridDim {
    GridDim { size: StepSize::Rows, times: used, per: tile, plus: experts }
}

impl ExpertSort {
    /// Sorted slots and tiles, as many as are dispatched.
    pub fn reference(&self, ids: &[u32]) -> (Vec<u32>, Vec<[u32; 4]>) {
        let mut slots: Vec<u32> = (0..ids.len() as u32).collect();
        slots.sort_by_key(|slot| ids[*slot as usize]);
        let mut tiles = Vec::new();
        let mut first = 0;
        for run in slots.chunk_by(|a, b| ids[*a as usize] == ids[*b as usize]) {
            for tile in run.chunks(self.tile as usize) {
                tiles.push([ids[tile[0] as usize], first, tile.len() as u32, 0]);
                first += tile.len() as u32;
            }
        }
        tiles.resize(ids.len().div_ceil(self.tile as usize) + self.experts as usize, [0; 4]);
        (slots, tiles)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_sorted_and_tiles_never_mix_experts() {
        let op = ExpertSort { experts: 4, used: 2, tile: 2 };
        let (slots, tiles) = op.reference(&[3, 1, 1, 3, 0, 1]);
        assert_eq!(slots, [4, 1, 2, 5, 0, 3]);
        assert_eq!(tiles, [[0, 0, 1, 0], [1, 1, 2, 0], [1, 3, 1, 0], [3, 4, 2, 0], [0; 4], [0; 4], [0; 4]]);
    }
}
