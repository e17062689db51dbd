//! How many workgroups a kernel runs, and how it runs more of them in a dimension than an adapter allows.
//!
//! A grid follows the sizes of a step. Where it may exceed [`Caps::max_workgroups`](crate::caps::Caps) in some
//! dimension, the kernel is folded: its workgroups are numbered, x first, and dispatched in the shape of a
//! [`GridFold`]; the kernel finds its place in the grid from that number (`shaders/lib/fold.wgsl`). Other kernels are
//! dispatched as they are.

use super::{Capacity, Kernel, attention};
use crate::shader::{Const, FOLD};

/// A number that is known only when a step runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepSize {
    /// 1.
    One,
    /// Rows of the step.
    Rows,
    /// Rows with logits.
    Logits,
    /// Spans of [`attention::KV_SPLIT`] positions that the longest context of the step has.
    KvSplits,
    /// Attention tiles.
    QueryTiles,
    /// Sequences that the step has rows of.
    Segments,
    /// 1 if some row is sampled with a filter (top-k, top-p, min-p), else 0.
    Filtered,
    /// 1 if tokens are sampled on the GPU in this step, else 0.
    Sampled,
}

/// The sizes of one step. Its words, in order, are the `Step` uniform of `shaders/lib/step.wgsl`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct StepSizes {
    /// See [`StepSize::Rows`].
    pub rows: u32,
    /// See [`StepSize::Logits`].
    pub logits: u32,
    /// See [`StepSize::KvSplits`].
    pub splits: u32,
    /// See [`StepSize::QueryTiles`].
    pub tiles: u32,
    /// See [`StepSize::Filtered`].
    pub filtered: u32,
    /// See [`StepSize::Sampled`].
    pub sampled: u32,
    /// See [`StepSize::Segments`].
    pub segments: u32,
    /// The uniform's size is a multiple of 16 bytes.
    pub pad: u32,
}

impl StepSizes {
    /// The value of a size.
    pub fn get(&self, size: StepSize) -> u32 {
        match size {
            StepSize::One => 1,
            StepSize::Rows => self.rows,
            StepSize::Logits => self.logits,
            StepSize::KvSplits => self.splits,
            StepSize::QueryTiles => self.tiles,
            StepSize::Segments => self.segments,
            StepSize::Filtered => self.filtered,
            StepSize::Sampled => self.sampled,
        }
    }
}

/// One dimension of a grid: `ceil(size * times / per) + plus` workgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GridDim {
    /// The size that it depends on.
    pub size: StepSize,
    /// Multiplier.
    pub times: u32,
    /// Divisor.
    pub per: u32,
    /// Added at the end.
    pub plus: u32,
}

impl GridDim {
    /// Always `n` workgroups.
    pub const fn fixed(n: u32) -> Self {
        GridDim { size: StepSize::One, times: n, per: 1, plus: 0 }
    }

    /// `ceil(n / per)` workgroups.
    pub const fn ceil(n: u32, per: u32) -> Self {
        GridDim::fixed(n.div_ceil(per))
    }

    /// One workgroup for each.
    pub const fn each(size: StepSize) -> Self {
        GridDim { size, times: 1, per: 1, plus: 0 }
    }

    /// One workgroup for every `per`.
    pub const fn every(size: StepSize, per: u32) -> Self {
        GridDim { size, times: 1, per, plus: 0 }
    }

    /// Workgroups in a step of these sizes.
    pub fn of(&self, sizes: &StepSizes) -> u32 {
        self.when(sizes.get(self.size))
    }

    /// Workgroups when the size is `n`.
    fn when(&self, n: u32) -> u32 {
        let count = (u64::from(n) * u64::from(self.times)).div_ceil(self.per.into()) + u64::from(self.plus);
        u32::try_from(count).unwrap_or(u32::MAX)
    }
}

/// The shape in which a folded grid is dispatched: `width` by `height` by as many as it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GridFold {
    /// Workgroups in x.
    pub width: u32,
    /// Workgroups in y.
    pub height: u32,
}

impl GridFold {
    /// For up to `count` workgroups, at most `most` in a dimension, with as few idle ones as that allows; none if there
    /// are too many.
    fn new(count: u64, most: u32) -> Option<Self> {
        let most = u64::from(most);
        let depth = count.div_ceil(most * most);
        let height = count.div_ceil(most * depth);
        let width = count.div_ceil(height * depth);
        // Kernels number workgroups in 32 bits.
        let fits = depth <= most && width * height * depth <= u64::from(u32::MAX);
        fits.then_some(GridFold { width: width as u32, height: height as u32 })
    }

    /// The grid to dispatch for `count` workgroups.
    fn of(&self, count: u32) -> [u32; 3] {
        let rows = count.div_ceil(self.width);
        [count.min(self.width), rows.min(self.height), rows.div_ceil(self.height)]
    }
}

impl Capacity {
    /// The largest value of every size.
    pub fn largest_step(&self) -> StepSizes {
        StepSizes {
            rows: self.rows,
            logits: self.logits,
            splits: attention::max_splits(self.pages_per_sequence),
            // A tile has at least one row.
            tiles: self.rows,
            filtered: 1,
            sampled: 1,
            segments: self.sequences,
            pad: 0,
        }
    }
}

impl Kernel {
    /// Workgroups in each dimension of the dispatch, in a step of these sizes.
    pub fn workgroups(&self, sizes: &StepSizes) -> [u32; 3] {
        let grid = self.grid.map(|extent| extent.of(sizes));
        self.fold.map_or(grid, |fold| fold.of(grid.iter().product()))
    }

    /// The largest grid of any step for which the kernel runs.
    fn largest_grid(&self, capacity: &Capacity) -> [u32; 3] {
        let step = capacity.largest_step();
        let most = |size| self.when.iter().filter(|w| w.size == size).map(|w| w.max).fold(step.get(size), u32::min);
        self.grid.map(|extent| extent.when(most(extent.size)))
    }

    /// Whether the dispatch of some step has more than `most` workgroups in a dimension.
    pub fn exceeds(&self, capacity: &Capacity, most: u32) -> bool {
        let grid = self.largest_grid(capacity);
        let dispatch = self.fold.map_or(grid, |fold| fold.of(grid.iter().product()));
        dispatch.iter().any(|n| *n > most)
    }

    /// The same kernel, folded if its grid may exceed `most` workgroups in a dimension.
    pub(super) fn folded(mut self, capacity: &Capacity, most: u32) -> Self {
        if !self.exceeds(capacity, most) {
            return self;
        }
        let count = self.largest_grid(capacity).iter().map(|n| u64::from(*n)).try_fold(1, u64::checked_mul);
        self.fold = count.and_then(|count| GridFold::new(count, most));
        if let Some(GridFold { width, height }) = self.fold {
            self.source.imports.push(FOLD);
            let [x, y, z] = self.grid;
            let consts = [
                ("FOLD_WIDTH", width),
                ("FOLD_HEIGHT", height),
                ("X_SIZE", x.size as u32),
                ("X_TIMES", x.times),
                ("X_PER", x.per),
                ("X_PLUS", x.plus),
                ("Y_SIZE", y.size as u32),
                ("Y_TIMES", y.times),
                ("Y_PER", y.per),
                ("Y_PLUS", y.plus),
                ("Z_SIZE", z.size as u32),
                ("Z_TIMES", z.times),
                ("Z_PER", z.per),
                ("Z_PLUS", z.plus),
            ];
            self.source.consts.extend(consts.map(|(name, n)| (name, Const::U32(n))));
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of each workgroup that is dispatched, as `shaders/lib/fold.wgsl` counts.
    fn numbers(fold: GridFold, [x, y, z]: [u32; 3]) -> impl Iterator<Item = u32> {
        let row = move |z: u32, y: u32| (0..x).map(move |x| (z * fold.height + y) * fold.width + x);
        (0..z).flat_map(move |z| (0..y).flat_map(move |y| row(z, y)))
    }

    #[test]
    fn a_fold_has_every_workgroup_once_and_few_more() {
        for most in [1, 2, 7, 10] {
            for largest in 1..=most * most * most {
                let fold = GridFold::new(largest.into(), most).expect("it fits");
                for count in [1, largest / 3, largest - 1, largest].into_iter().filter(|n| *n > 0) {
                    let dispatched = fold.of(count);
                    assert!(dispatched.iter().all(|n| (1..=most).contains(n)), "{dispatched:?} for {count}");
                    let used = numbers(fold, dispatched).filter(|n| *n < count);
                    assert!(used.eq(0..count), "{dispatched:?} for {count}");
                }
                let idle = fold.of(largest).iter().product::<u32>() - largest;
                assert!(idle <= most + most * most, "{idle} idle of {largest}");
            }
            assert_eq!(GridFold::new(u64::from(most * most * most) + 1, most), None);
        }
        // A vocabulary of 262,144 in workgroups of two rows.
        assert_eq!(GridFold::new(131_072, 65_535), Some(GridFold { width: 43_691, height: 3 }));
        assert_eq!(GridFold::new(1 << 33, 65_535), None);
    }
}
