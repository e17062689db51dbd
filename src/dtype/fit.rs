//! Choosing the numbers of a block: the scale (and min) with which the rounded weights have the least squared error.
//!
//! Each search tries scales around the one that just reaches the largest weight, rounds, and solves for the scale that
//! is best for those quants (least squares). Superblocks store a group's scale as a small integer times a common one:
//! the integers next to the rounded one are tried too, with the error that the file will really have.

use half::f16;

/// Scales tried on each side of the first.
const TRIES: i32 = 10;

/// The nearest f16, which is what files hold.
pub(super) fn to_half(x: f32) -> f32 {
    f16::from_f32(x).to_f32()
}

/// The weight with the largest magnitude; 0 if none is a number.
pub(super) fn extreme(x: &[f32]) -> f32 {
    x.iter().copied().filter(|x| x.is_finite()).fold(0.0, |max, x| if x.abs() > f32::abs(max) { x } else { max })
}

/// The numbers that quants stand for, before they are scaled.
#[derive(Clone, Copy)]
pub(super) enum Levels {
    /// The integers from `-n` to `n - 1`.
    Integers(i32),
    /// These, in rising order.
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

    /// The lowest level, which is also the one furthest from zero, and how far from it the largest weight is tried.
    fn reach(self) -> (f32, f32) {
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

    /// The scale with which `x` is nearest to scaled levels.
    pub(super) fn scale(self, x: &[f32]) -> f32 {
        let (lowest, slack) = self.reach();
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

    /// Groups of `x` that share a scale: the common f16 factor, and the integer from `-most` to `most - 1` of each.
    pub(super) fn scales<const N: usize>(self, groups: &[[f32; N]], most: i32) -> (f32, Vec<i32>) {
        let scales: Vec<f32> = groups.iter().map(|x| self.scale(x)).collect();
        let common = to_half(extreme(&scales) / -most as f32);
        let integer = |(x, scale): (&[f32; N], &f32)| {
            let near = (ratio(*scale, common).round_ties_even() as i32).clamp(-most, most - 1);
            nearby(near, -most, most - 1)
                .min_by(|a, b| self.error(x, common * *a as f32).total_cmp(&self.error(x, common * *b as f32)))
        };
        (common, groups.iter().zip(&scales).filter_map(integer).collect())
    }
}

/// `x / scale`; 0 where all is zero.
fn ratio(x: f32, scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { x / scale }
}

/// An integer and its neighbours within a range.
fn nearby(n: i32, low: i32, high: i32) -> impl Iterator<Item = i32> {
    (n - 1).max(low)..=(n + 1).min(high)
}

/// Weights `scale * q - min` with q from 0 to `top`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    pub scale: f32,
    pub min: f32,
}

impl Line {
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

    /// The best line for `x`. Where `min` may not be negative (superblocks count mins from zero up), the line goes
    /// through zero or below.
    pub(super) fn fit(x: &[f32], top: u8, signed: bool) -> Self {
        let top = f32::from(top);
        let zero = if signed { f32::INFINITY } else { 0.0 };
        let low = x.iter().copied().fold(zero, f32::min);
        let high = x.iter().copied().fold(-zero, f32::max);
        if !(high > low && (high - low).is_finite()) {
            return Line { scale: 0.0, min: if low.is_finite() { -low } else { 0.0 } };
        }
        let mut best = Line { scale: (high - low) / top, min: -low };
        let mut least = best.error(x, top);
        for step in -TRIES..=TRIES {
            let first = Line { scale: (high - low) / (top + step as f32 / TRIES as f32), min: -low };
            let line = first.refit(x, top, signed);
            let error = line.error(x, top);
            if error < least {
                (best, least) = (line, error);
            }
        }
        best
    }

    /// The least-squares line for the quants that this one gives.
    fn refit(self, x: &[f32], top: f32, signed: bool) -> Self {
        let (mut q1, mut q2, mut x1, mut xq) = (0.0, 0.0, 0.0, 0.0);
        for &x in x {
            let q = self.level(x, top);
            (q1, q2, x1, xq) = (q1 + q, q2 + q * q, x1 + x, xq + x * q);
        }
        let n = x.len() as f32;
        let det = n * q2 - q1 * q1;
        let line = Line { scale: (n * xq - x1 * q1) / det, min: (q1 * xq - q2 * x1) / det };
        match det > 0.0 && (signed || line.min >= 0.0) {
            true => line,
            false if q2 > 0.0 && !signed => Line { scale: xq / q2, min: 0.0 },
            false => self,
        }
    }
}

/// The scales and mins of a superblock's groups: common f16 factors, and integers up to `most` for each group.
pub(super) struct Lines {
    pub scale: f32,
    pub min: f32,
    pub integers: Vec<(u8, u8)>,
}

impl Lines {
    pub(super) fn fit<const N: usize>(groups: &[[f32; N]], top: u8, most: u8) -> Self {
        let lines: Vec<Line> = groups.iter().map(|x| Line::fit(x, top, false)).collect();
        let factor = |values: &mut dyn Iterator<Item = f32>| to_half(values.fold(0.0, f32::max) / f32::from(most));
        let scale = factor(&mut lines.iter().map(|line| line.scale));
        let min = factor(&mut lines.iter().map(|line| line.min));
        let most = i32::from(most);
        let integers = groups.iter().zip(&lines).filter_map(|(x, line)| {
            let near = |x: f32, factor: f32| (ratio(x, factor).round_ties_even() as i32).clamp(0, most);
            let (s, m) = (near(line.scale, scale), near(line.min, min));
            let error =
                |(s, m): (i32, i32)| Line { scale: scale * s as f32, min: min * m as f32 }.error(x, f32::from(top));
            nearby(s, 0, most)
                .flat_map(|s| nearby(m, 0, most).map(move |m| (s, m)))
                .min_by(|a, b| error(*a).total_cmp(&error(*b)))
                .map(|(s, m)| (s as u8, m as u8))
        });
        Lines { scale, min, integers: integers.collect() }
    }

    /// Group `g`'s line.
    pub(super) fn line(&self, g: usize) -> Line {
        let (scale, min) = self.integers[g];
        Line { scale: self.scale * f32::from(scale), min: self.min * f32::from(min) }
    }
}
