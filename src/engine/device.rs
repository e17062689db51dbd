//! Reopens a lost device.

use crate::Result;
use crate::gpu::{self, Clock, Gpu, GpuOptions};

/// A device may be reported lost only after a wait for it has failed, at most this many seconds later.
const LATE: f64 = 1.0;
/// After a crash there may be no adapter for a moment: how often it is asked for, and the milliseconds between.
const REOPEN: (u32, i32) = (10, 500);

/// Reopens a lost device.
pub async fn reopen(options: &GpuOptions) -> Result<Gpu> {
    let (times, pause) = REOPEN;
    for _ in 1..times {
        if let Ok(gpu) = Gpu::open(options).await {
            return Ok(gpu);
        }
        gpu::pause(pause).await;
    }
    Gpu::open(options).await
}

/// Whether a device whose step failed was lost.
pub async fn is_lost(gpu: &Gpu) -> bool {
    let since = Clock::now();
    while gpu.check().is_ok() && since.seconds() < LATE {
        gpu::pause(50).await;
    }
    gpu.check().is_err()
}
