//! `--profile`: the time of each op in a decode step.

use std::collections::BTreeMap;

use firelight::Error;
use firelight::gpu::Gpu;
use firelight::plan::{self, Timing};
use firelight::session::Session;

use super::{Result, term};

/// Buffer size for the bandwidth measurement: larger than caches, small enough for a software adapter.
const COPY_BYTES: u64 = 256 << 20;
const COPY_BYTES_SOFTWARE: u64 = 32 << 20;

/// GB/s that a copy shader reaches on this device.
pub async fn bandwidth(gpu: &Gpu) -> Result<f64> {
    let bytes = if gpu.caps().software { COPY_BYTES_SOFTWARE } else { COPY_BYTES };
    Ok(plan::copy_bandwidth(gpu, bytes).await?)
}

/// Fails before a model is loaded if the device has no timestamps.
pub fn check(gpu: &Gpu) -> Result {
    match gpu.caps().timestamps {
        true => Ok(()),
        false => {
            let name = &gpu.adapter().name;
            Err(Error::Unsupported(format!("{name} has no timestamp queries; omit --profile")).into())
        }
    }
}

/// The table of one decode step at `position`.
pub async fn decode(gpu: &Gpu, session: &mut Session, position: usize) -> Result<String> {
    let copy = bandwidth(gpu).await?;
    // The first step is a warm-up.
    session.profile(1, position).await?;
    let timings = session.profile(1, position).await?;
    let kv = session.plan().dispatch_list().kv_traffic(position as u32 + 1);
    let title = format!("one decode step at position {position}; a copy shader reaches {copy:.1} GB/s\n");
    Ok(title + &table(&timings, kv, copy))
}

#[derive(Clone, Copy, Default)]
struct OpTotal {
    count: usize,
    seconds: f64,
    bytes: u64,
}

impl OpTotal {
    fn add(&mut self, other: OpTotal) {
        self.count += other.count;
        self.seconds += other.seconds;
        self.bytes += other.bytes;
    }

    fn row(&self, name: &str, all: f64, copy: f64) -> Vec<String> {
        let rate = self.bytes as f64 / self.seconds.max(1e-12) / 1e9;
        vec![
            name.to_string(),
            self.count.to_string(),
            format!("{:.3}", self.seconds * 1e3),
            format!("{:.1}%", self.seconds / all.max(1e-12) * 100.0),
            format!("{rate:.1}"),
            format!("{:.0}%", rate / copy * 100.0),
        ]
    }
}

/// Ops by time, slowest first. Attention reads `kv` bytes of the KV cache.
fn table(timings: &[Timing], kv: u64, copy: f64) -> String {
    let mut ops: BTreeMap<&str, OpTotal> = BTreeMap::new();
    for t in timings {
        let one = OpTotal { count: 1, seconds: t.time.as_secs_f64(), bytes: t.bytes };
        ops.entry(t.op).or_default().add(one);
    }
    if let Some(attention) = ops.get_mut("attention") {
        attention.bytes += kv;
    }
    let mut all = OpTotal::default();
    ops.values().for_each(|op| all.add(*op));
    let mut ops: Vec<_> = ops.into_iter().collect();
    ops.sort_by(|(_, a), (_, b)| b.seconds.total_cmp(&a.seconds));
    let mut rows: Vec<_> = ops.iter().map(|(name, op)| op.row(name, all.seconds, copy)).collect();
    rows.push(all.row("all", all.seconds, copy));
    term::table(&["<op", "dispatches", "ms", "share", "GB/s", "% of copy"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn ops_are_summed_and_the_slowest_comes_first() {
        let timing =
            |op, ms, bytes| Timing { op, name: String::new(), shader: "", time: Duration::from_millis(ms), bytes };
        let timings = [timing("add", 1, 1000), timing("attention", 1, 0), timing("add", 2, 2_999_000)];
        let table = table(&timings, 2_000_000, 10.0);
        let lines: Vec<Vec<&str>> = table.lines().map(|l| l.split_whitespace().collect()).collect();
        assert_eq!(lines[2], ["add", "2", "3.000", "75.0%", "1.0", "10%"]);
        assert_eq!(lines[3], ["attention", "1", "1.000", "25.0%", "2.0", "20%"]);
        assert_eq!(lines[4], ["all", "3", "4.000", "100.0%", "1.2", "12%"]);
    }
}
