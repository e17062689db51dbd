//! Submits are sized by time: what a driver would kill, or what would freeze a page, is cut into several.

/// How long prefills take, and into how many submits they are cut for it.
pub struct Pace {
    /// Multiplications and additions of a row.
    pub flops_a_row: f64,
    /// The best rate measured so far.
    pub rows_a_second: Option<f64>,
    /// Seconds that a submit may take.
    pub submit_seconds: f64,
}

/// Assumed until a prefill was measured: a slow integrated GPU.
const ASSUMED_FLOPS: f64 = 0.5e12;

impl Pace {
    /// Submits for a step of `rows` rows.
    pub fn segments(&self, rows: u32) -> u32 {
        let assumed = ASSUMED_FLOPS / self.flops_a_row;
        let seconds = f64::from(rows) / self.rows_a_second.unwrap_or(assumed);
        (seconds / self.submit_seconds).ceil().clamp(1.0, 64.0) as u32
    }
}
