//! The gated delta rule over a recurrent state.

use super::{GridDim, Kernel, KernelContext, StepSize};
use crate::graph::{DeltaNet, DeltaNetOperands, Segment};

pub(super) fn kernels(op: &DeltaNet, io: &DeltaNetOperands, cx: &KernelContext) -> Vec<Kernel> {
    // Few threads in a workgroup: heads are few, and columns are independent.
    let wg = cx.lanes(32);
    let workgroups = GridDim::fixed(op.heads * op.head_dim.div_ceil(wg));
    let kernel = Kernel::new("delta_net", [workgroups, GridDim::each(StepSize::Segments), GridDim::fixed(1)]);
    let kernel = cx
        .reduce(kernel, wg, wg)
        .set("KEY_HEADS", op.key_heads)
        .set("HEADS", op.heads)
        .set("D4", op.head_dim / 4)
        .set("GROUPED", op.grouped)
        .set("TOGETHER", op.rates_per_head())
        .set("LOG_DECAY", op.log_decay)
        .set("ROOT", (op.head_dim as f32).sqrt().recip())
        .reads([io.segments, io.x, io.alpha, io.b, io.rates])
        .write(io.y)
        .write(io.state);
    vec![kernel]
}

impl DeltaNet {
    /// The key head of a value head.
    fn key_head(self, head: usize) -> usize {
        let [key_heads, heads] = [self.key_heads, self.heads].map(|n| n as usize);
        if self.grouped { head / (heads / key_heads) } else { head % key_heads }
    }

    /// The indices of a head's alpha and b in their tensors.
    fn rates_at(self, row: usize, head: usize) -> [usize; 2] {
        let [together, heads, each] =
            [self.rates_per_head(), self.heads, self.heads / self.key_heads].map(|n| n as usize);
        let b = (row * heads + head / each * each) * together + head % each;
        [b + (together - 1) * each, b]
    }
}

/// The op's reference. `state` is (slot, head, key, value).
pub fn reference(
    runs: &[Segment],
    x: &[f32],
    [alpha, b, rates]: [&[f32]; 3],
    op: &DeltaNet,
    state: &mut [f32],
) -> Vec<f32> {
    let [key_heads, heads, d] = [op.key_heads, op.heads, op.head_dim].map(|n| n as usize);
    let (width, square) = ((2 * key_heads + heads) * d, d * d);
    let mut y = vec![0.0; x.len() / width * heads * d];
    let unit = |v: &[f32]| -> Vec<f64> {
        let length = (v.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() + 1e-6).sqrt();
        v.iter().map(|v| f64::from(*v) / length).collect()
    };
    for run in runs {
        for head in 0..heads {
            let slot = |slot: u32| (slot as usize * heads + head) * square..(slot as usize * heads + head + 1) * square;
            let mut s: Vec<f64> = match run.begins() {
                Some(reads) => state[slot(reads)].iter().map(|v| f64::from(*v)).collect(),
                None => vec![0.0; square],
            };
            for row in run.rows() {
                let of = |head: usize| &x[row * width + head * d..][..d];
                let (q, k) = (unit(of(op.key_head(head))), unit(of(key_heads + op.key_head(head))));
                let v = of(2 * key_heads + head);
                let [alpha_at, b_at] = op.rates_at(row, head);
                let (alpha, b) = (f64::from(alpha[alpha_at]), f64::from(b[b_at]));
                let a = f64::from(rates[head]);
                let a = if op.log_decay { -a.exp() } else { a };
                let softplus = (alpha + f64::from(rates[heads + head])).exp().ln_1p();
                let decay = (a * softplus).exp();
                s.iter_mut().for_each(|s| *s *= decay);
                for j in 0..d {
                    let known: f64 = (0..d).map(|i| s[i * d + j] * k[i]).sum();
                    let news = (f64::from(v[j]) - known) / (1.0 + (-b).exp());
                    (0..d).for_each(|i| s[i * d + j] += k[i] * news);
                    let sum: f64 = (0..d).map(|i| s[i * d + j] * q[i]).sum();
                    y[(row * heads + head) * d + j] = (sum / (d as f64).sqrt()) as f32;
                }
            }
            state[slot(run.writes)].iter_mut().zip(&s).for_each(|(state, s)| *state = *s as f32);
        }
    }
    y
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::NO_STATE;

    #[test]
    fn what_a_key_was_given_is_found_again_and_replaced() {
        let op = DeltaNet { key_heads: 1, heads: 1, head_dim: 4, grouped: false, fused: false, log_decay: false };
        // No decay (a is 0) and a beta of 1: the key e0 is given a value, e1 another, then e0 is given a third.
        let row = |q: usize, k: usize, v: f32| {
            let mut row = vec![0.0; 12];
            (row[q], row[4 + k]) = (1.0, 3.0);
            row[8..].fill(v);
            row
        };
        let x: Vec<f32> = [row(0, 0, 5.0), row(0, 1, 7.0), row(1, 0, 9.0), row(0, 1, 7.0)].concat();
        let mut state = vec![f32::NAN; 16];
        let run = Segment { first: 0, count: 4, reads: NO_STATE, writes: 0 };
        let y = reference(&[run], &x, [&[0.0; 4], &[50.0; 4], &[0.0, 0.0]], &op, &mut state);
        for (row, want) in y.chunks(4).zip([5.0, 5.0, 7.0, 9.0]) {
            assert!(row.iter().all(|y| (y * 2.0 - want).abs() < 1e-4), "{row:?} should be half of {want}");
        }
        assert!((state[0] - 9.0).abs() < 1e-4 && (state[4] - 7.0).abs() < 1e-4 && state[8] == 0.0, "{state:?}");
    }

    #[test]
    fn heads_and_their_rates_are_found() {
        let op = DeltaNet { key_heads: 2, heads: 4, head_dim: 4, grouped: false, fused: false, log_decay: false };
        assert_eq!([0, 1, 2, 3].map(|head| op.key_head(head)), [0, 1, 0, 1]);
        assert_eq!([0, 1, 2, 3].map(|head| op.rates_at(1, head)), [[4, 4], [5, 5], [6, 6], [7, 7]]);
        let op = DeltaNet { grouped: true, fused: true, ..op };
        assert_eq!([0, 1, 2, 3].map(|head| op.key_head(head)), [0, 0, 1, 1]);
        assert_eq!([0, 1, 2, 3].map(|head| op.rates_at(1, head)), [[10, 8], [11, 9], [14, 12], [15, 13]]);
    }
}
