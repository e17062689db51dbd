//! Searches the scale (and min) of a block that minimize the squared error of the quantized weights.
//!
//! Each search tries scales around the one that maps the largest weight to the last level, quantizes, and solves for
//! the least-squares scale of those quants. A superblock stores each group's scale as a small integer times a common
//! f16 scale; the neighbours of the rounded integer are tried too, and compared by the error of the values in the file.

use half::f16;

/// Scales tried on each side of the first.
const TRIES: i32 = 10;

/// Rounds to f16, the precision of scales in files.
pub(super) fn to_f16_precision(x: f32) -> f32 {
    f16::from_f32(x).to_f32()
}

/// The finite weight of the largest magnitude; 0 if there is none.
pub(super) fn extreme(x: &[f32]) -> f32 {
    x.iter().copied().filter(|x| x.is_finite()).fold(0.0, |max, x| if x.abs() > f32::abs(max) { x } else { max })
}

/// The values that quants represent before scaling.
#[derive(Clone, Copy)]
pub(super) enum Levels {
    /// The integers from `-n` to `n - 1`.
    Integers(i32),
    /// These values, in ascending order.
    Table(&'static [i8; 16]),
}

impl Levels {
    /// The quant of `x` at `scale`, counted from the lowest level.
    pub(super) fn quant(self, x: f32, scale: f32) -> u8 {
        self.nearest(ratio(x, scale))
    }

    /// The quant whose level is nearest to `ratio`.
    fn nearest(self, ratio: f32) -> u8 {
        match self {
            Levels::Integers(n) => ((ratio.round_ties_even() as i32).clamp(-n, n - 1) + n) as u8,
            Levels::Table(values) => {
                let above = values.partition_point(|v| f32::from(*v) < ratio).clamp(1, 15);
                let (low, high) = (f32::from(values[above - 1]), f32::from(values[above]));
                (if ratio - low < high - ratio { above - 1 } else { above }) as u8
            }
        }
    }

    fn level(self, ratio: f32) -> f32 {
        match self {
            Levels::Integers(n) => ratio.round_ties_even().clamp(-n as f32, (n - 1) as f32),
            Levels::Table(values) => f32::from(values[usize::from(self.nearest(ratio))]),
        }
    }

    /// The lowest level, which is also the largest in magnitude, and the range around it to which the largest weight
    /// is mapped during the search.
    fn search_range(self) -> (f32, f32) {
        match self {
            Levels::Integers(n) => (-n as f32, 1.0),
            Levels::Table(values) => (f32::from(values[0]), 12.0),
        }
    }

    /// Quants of `x` at `scale`.
    pub(super) fn quants<const N: usize>(self, x: &[f32; N], scale: f32) -> [u8; N] {
        x.map(|x| self.quant(x, scale))
    }

    /// Squared error of `x` at `scale`.
    fn error(self, x: &[f32], scale: f32) -> f32 {
        x.iter().map(|&x| (x - scale * self.level(ratio(x, scale))).powi(2)).sum()
    }

    /// The scale that minimizes the squared error of `x`.
    pub(super) fn scale(self, x: &[f32]) -> f32 {
        let (lowest, slack) = self.search_range();
        let extreme = extreme(x);
        let mut best = (0.0, 0.0);
        if extreme == 0.0 {
            return 0.0;
        }
        for end in [lowest, -lowest] {
            for step in -TRIES..=TRIES {
                let per_weight = (end + slack * step as f32 / TRIES as f32) / extreme;
                let (mut xl, mut ll) = (0.0, 0.0);
                for &x in x {
                    let level = self.level(x * per_weight);
                    xl += x * level;
                    ll += level * level;
                }
                // The error at the best scale for these levels, xl / ll, is sum(x^2) - xl^2 / ll.
                if xl * xl > best.0 * ll {
                    best = (xl * xl / ll, xl / ll);
                }
            }
        }
        best.1
    }

    /// Scales of a superblock's groups: the common f16 scale, and each group's integer from `-most` to `most - 1`.
    pub(super) fn scales<const N: usize>(self, groups: &[[f32; N]], most: i32) -> (f32, Vec<i32>) {
        let scales: Vec<f32> = groups.iter().map(|x| self.scale(x)).collect();
        let common = to_f16_precision(extreme(&scales) / -most as f32);
        let integer = |(x, scale): (&[f32; N], &f32)| {
            let near = (ratio(*scale, common).round_ties_even() as i32).clamp(-most, most - 1);
            nearby(near, -most, most - 1)
                .min_by(|a, b| self.error(x, common * *a as f32).total_cmp(&self.error(x, common * *b as f32)))
        };
        (common, groups.iter().zip(&scales).filter_map(integer).collect())
    }
}

/// `x / scale`; 0 if the scale is 0.
fn ratio(x: f32, scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { x / scale }
}

/// An integer and its neighbours, limited to a range.
fn nearby(n: i32, low: i32, high: i32) -> impl Iterator<Item = i32> {
    (n - 1).max(low)..=(n + 1).min(high)
}

/// The affine map of a group: weights are `scale * q - min` with q from 0 to `top`.
#[derive(Clone, Copy, Debug)]
pub(super) struct ScaleMin {
    pub scale: f32,
    pub min: f32,
}

impl ScaleMin {
    /// The quant of `x`.
    pub(super) fn quant(self, x: f32, top: u8) -> u8 {
        self.level(x, top.into()) as u8
    }

    /// Quants of `x`.
    pub(super) fn quants<const N: usize>(self, x: &[f32; N], top: u8) -> [u8; N] {
        x.map(|x| self.quant(x, top))
    }

    fn level(self, x: f32, top: f32) -> f32 {
        ratio(x + self.min, self.scale).round_ties_even().clamp(0.0, top)
    }

    fn error(self, x: &[f32], top: f32) -> f32 {
        x.iter().map(|&x| (self.scale * self.level(x, top) - self.min - x).powi(2)).sum()
    }

    /// The scale and min that minimize the squared error of `x`. Unless `signed`, `min` is not negative, because
    /// superblocks store mins as unsigned integers.
    pub(super) fn fit(x: &[f32], top: u8, signed: bool) -> Self {
        let top = f32::from(top);
        let zero = if signed { f32::INFINITY } else { 0.0 };
        let low = x.iter().copied().fold(zero, f32::min);
        let high = x.iter().copied().fold(-zero, f32::max);
        if !(high > low && (high - low).is_finite()) {
            return ScaleMin { scale: 0.0, min: if low.is_finite() { -low } else { 0.0 } };
        }
        let mut best = ScaleMin { scale: (high - low) / top, min: -low };
        let mut least = best.error(x, top);
        for step in -TRIES..=TRIES {
            let first = ScaleMin { scale: (high - low) / (top + step as f32 / TRIES as f32), min: -low };
            let line = first.refit(x, top, signed);
            let error = line.error(x, top);
            if error < least {
                (best, least) = (line, error);
            }
        }
        best
    }

    /// The least-squares scale and min for the quants of this one.
    fn refit(self, x: &[f32], top: f32, signed: bool) -> Self {
        let (mut q1, mut q2, mut x1, mut xq) = (0.0, 0.0, 0.0, 0.0);
        for &x in x {
            let q = self.level(x, top);
            (q1, q2, x1, xq) = (q1 + q, q2 + q * q, x1 + x, xq + x * q);
        }
        let n = x.len() as f32;
        let det = n * q2 - q1 * q1;
        let line = ScaleMin { scale: (n * xq - x1 * q1) / det, min: (q1 * xq - q2 * x1) / det };
        match det > 0.0 && (signed || line.min >= 0.0) {
            true => line,
            false if q2 > 0.0 && !signed => ScaleMin { scale: xq / q2, min: 0.0 },
            false => self,
        }
    }
}

/// The scales and mins of a superblock: common f16 factors, and two integers up to `most` for each group.
pub(super) struct SuperblockScales {
    pub scale: f32,
    pub min: f32,
    pub integers: Vec<(u8, u8)>,
}

impl SuperblockScales {
    pub(super) fn fit<const N: usize>(groups: &[[f32; N]], top: u8, most: u8) -> Self {
        let fits: Vec<ScaleMin> = groups.iter().map(|x| ScaleMin::fit(x, top, false)).collect();
        let factor =
            |values: &mut dyn Iterator<Item = f32>| to_f16_precision(values.fold(0.0, f32::max) / f32::from(most));
        let scale = factor(&mut fits.iter().map(|fit| fit.scale));
        let min = factor(&mut fits.iter().map(|fit| fit.min));
        let most = i32::from(most);
        let integers = groups.iter().zip(&fits).filter_map(|(x, fit)| {
            let near = |x: f32, factor: f32| (ratio(x, factor).round_ties_even() as i32).clamp(0, most);
            let (s, m) = (near(fit.scale, scale), near(fit.min, min));
            let error =
                |(s, m): (i32, i32)| ScaleMin { scale: scale * s as f32, min: min * m as f32 }.error(x, top.into());
            nearby(s, 0, most)
                .flat_map(|s| nearby(m, 0, most).map(move |m| (s, m)))
                .min_by(|a, b| error(*a).total_cmp(&error(*b)))
                .map(|(s, m)| (s as u8, m as u8))
        });
        SuperblockScales { scale, min, integers: integers.collect() }
    }

    /// The scale and min of group `g`.
    pub(super) fn group(&self, g: usize) -> ScaleMin {
        let (scale, min) = self.integers[g];
        ScaleMin { scale: self.scale * f32::from(scale), min: self.min * f32::from(min) }
    }
}
