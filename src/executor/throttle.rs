//! Submit throttling: a step is cut into submits that are short enough for the driver's watchdog and for a page's
//! frames, and only as many steps are queued as keep the device busy, since a cancelled request still waits for them.

/// Measured times, and what follows from them.
pub struct SubmitThrottle {
    /// Multiplications and additions of a row.
    pub flops_per_row: f64,
    /// The best rate measured so far.
    pub rows_per_second: Option<f64>,
    /// Longest duration of a submit, in seconds.
    pub submit_seconds: f64,
    /// Duration of the last step.
    pub step_seconds: Option<f64>,
}

/// Steps of about this duration in all are queued.
const QUEUED_SECONDS: f64 = 0.1;

/// Assumed until a prefill was measured: a slow integrated GPU.
const ASSUMED_FLOPS: f64 = 0.5e12;

impl SubmitThrottle {
    /// Steps to queue, at most `most`: one that runs and one that follows it, and more if they are short.
    pub fn depth(&self, most: usize) -> usize {
        let enough = self.step_seconds.map_or(2.0, |seconds| (QUEUED_SECONDS / seconds.max(1e-6)).ceil());
        (enough as usize).max(2).min(most)
    }

    /// Submits of a step of `rows` rows.
    pub fn submits(&self, rows: u32) -> u32 {
        let assumed = ASSUMED_FLOPS / self.flops_per_row;
        let seconds = f64::from(rows) / self.rows_per_second.unwrap_or(assumed);
        (seconds / self.submit_seconds).ceil().clamp(1.0, 64.0) as u32
    }

    /// Notes that a step took `step_seconds` since the one before it, and `seconds` since its submit, which
    /// `prefill_rows` rows took if it was a prefill.
    pub fn measured(&mut self, step_seconds: f64, prefill_rows: Option<u32>, seconds: f64) {
        self.step_seconds = Some(step_seconds);
        if let Some(rows) = prefill_rows {
            let rate = f64::from(rows) / seconds.max(1e-6);
            self.rows_per_second = Some(self.rows_per_second.map_or(rate, |best| rate.max(best)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_long_steps_are_queued_and_long_prompts_are_cut() {
        let mut throttle =
            SubmitThrottle { flops_per_row: 1e9, rows_per_second: None, submit_seconds: 0.25, step_seconds: None };
        assert_eq!((throttle.depth(8), throttle.depth(1), throttle.submits(512)), (2, 1, 5));
        for (seconds, depth) in [(0.0, 8), (0.001, 8), (0.03, 4), (2.0, 2)] {
            throttle.measured(seconds, None, seconds);
            assert_eq!(throttle.depth(8), depth, "{seconds}");
        }
        throttle.measured(1.0, Some(512), 1.0);
        throttle.measured(1.0, Some(128), 1.0);
        assert_eq!(throttle.submits(512), 4);
    }
}
