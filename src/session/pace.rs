//! Submits are sized by time: what a driver would kill, or what would freeze a page, is cut into several. And no more is
//! queued than keeps the device busy: whoever cancels has to wait for it.

/// How long steps take, and what follows from it.
pub struct Pace {
    /// Multiplications and additions of a row.
    pub flops_a_row: f64,
    /// The best rate measured so far.
    pub rows_a_second: Option<f64>,
    /// Seconds that a submit may take.
    pub submit_seconds: f64,
    /// Seconds that the last step took.
    pub step_seconds: Option<f64>,
}

/// Steps for about so many seconds are queued.
const AHEAD_SECONDS: f64 = 0.1;

/// Assumed until a prefill was measured: a slow integrated GPU.
const ASSUMED_FLOPS: f64 = 0.5e12;

impl Pace {
    /// Steps to have queued, at most `most`: one that runs and one behind it, and more if they are short.
    pub fn depth(&self, most: usize) -> usize {
        let enough = self.step_seconds.map_or(2.0, |seconds| (AHEAD_SECONDS / seconds.max(1e-6)).ceil());
        (enough as usize).max(2).min(most)
    }

    /// Submits for a step of `rows` rows.
    pub fn segments(&self, rows: u32) -> u32 {
        let assumed = ASSUMED_FLOPS / self.flops_a_row;
        let seconds = f64::from(rows) / self.rows_a_second.unwrap_or(assumed);
        (seconds / self.submit_seconds).ceil().clamp(1.0, 64.0) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_steps_are_queued_by_two_and_long_prompts_cut() {
        let mut pace = Pace { flops_a_row: 1e9, rows_a_second: None, submit_seconds: 0.25, step_seconds: None };
        assert_eq!((pace.depth(8), pace.depth(1), pace.segments(512)), (2, 1, 5));
        for (seconds, depth) in [(0.0, 8), (0.001, 8), (0.03, 4), (2.0, 2)] {
            pace.step_seconds = Some(seconds);
            assert_eq!(pace.depth(8), depth, "{seconds}");
        }
    }
}
