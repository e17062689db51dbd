//! Slots in order of their experts, cut into tiles; for the matmuls of many rows.

use crate::graph::{Graph, Node, Rows, TensorId, TensorKind};
use crate::ops::linear::MATMUL_TILE;
use crate::ops::{Binding, GridDim, Kernel, KernelContext, Op, StepSize};
use crate::shader::{Const, ShaderSource};

/// Inputs: ids. Outputs: slots in order of their experts (equal experts in order of the slots), and tiles
/// {expert, first index into the slots, count, 0}. Tiles with a count of 0 fill up what is dispatched.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExpertSort {
    /// Experts of the stack.
    pub experts: u32,
    /// Experts of a row.
    pub used: u32,
    /// Slots of a tile, at most.
    pub tile: u32,
}

impl Graph {
    /// Expert of each slot -> sorted slots, tiles. Both are only filled in a step of more than [`Capacity::decode_rows`](crate::ops::Capacity::decode_rows) rows.
    #[track_caller]
    pub fn expert_sort(&mut self, ids: TensorId, experts: u32, used: u32) -> (TensorId, TensorId) {
        assert!(experts <= 512, "{experts} experts");
        let op = ExpertSort { experts, used, tile: MATMUL_TILE };
        let slots = self.add("expert_slots", Rows::Routed(used), 1, TensorKind::Activation);
        let tiles =
            self.add("expert_tiles", Rows::ExpertTiles { used, tile: op.tile, experts }, 4, TensorKind::Activation);
        self.nodes.push(Node { op: Op::ExpertSort(op), inputs: vec![ids], outputs: vec![slots, tiles] });
        (slots, tiles)
    }
}

impl ExpertSort {
    /// Tiles that are dispatched: enough for any routing.
    pub(super) fn tiles(&self) -> GridDim {
        GridDim { size: StepSize::Rows, times: self.used, per: self.tile, plus: self.experts }
    }

    pub(in crate::ops) fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        if cx.capacity.rows <= cx.capacity.decode_rows() {
            return Vec::new();
        }
        let consts = vec![
            ("WG", Const::U32(self.experts.next_power_of_two().clamp(32, 256))),
            ("EXPERTS", Const::U32(self.experts)),
            ("USED", Const::U32(self.used)),
            ("TILE", Const::U32(self.tile)),
        ];
        let source = ShaderSource { file: "expert_sort", imports: vec![], consts };
        let bindings = vec![Binding::read(cx.input(0)), Binding::write(cx.output(0)), Binding::write(cx.output(1))];
        vec![Kernel::new(source, bindings, [GridDim::fixed(1); 3]).when(
            StepSize::Rows,
            cx.capacity.decode_rows() + 1,
            u32::MAX,
        )]
    }

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
