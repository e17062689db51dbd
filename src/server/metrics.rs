//! The server's counters, in Prometheus' text format. Numbers only: no text of prompts or answers.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Counters and gauges.
#[derive(Default)]
pub struct Metrics {
    /// Responses by route and status.
    requests: Mutex<BTreeMap<(&'static str, u16), u64>>,
    pub prompt_tokens: AtomicU64,
    pub reused_tokens: AtomicU64,
    pub generated_tokens: AtomicU64,
    pub prompt_microseconds: AtomicU64,
    pub decode_microseconds: AtomicU64,
    pub cancelled: AtomicU64,
    pub loads: AtomicU64,
    /// Answers that are being generated or wait for the session.
    pub running: AtomicU64,
    /// Requests that are not complete.
    pub pending: AtomicU64,
    /// Bytes of the loaded model on the GPU.
    pub gpu_bytes: AtomicU64,
}

/// Adds to a counter.
pub fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

impl Metrics {
    /// Counts a response.
    pub fn responded(&self, route: &'static str, status: u16) {
        let mut requests = self.requests.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        *requests.entry((route, status)).or_default() += 1;
    }

    /// Counts an answer as running until the guard is dropped.
    pub fn run(&self) -> RunningAnswer<'_> {
        add(&self.running, 1);
        RunningAnswer(&self.running)
    }

    /// All metrics as text.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let head = |out: &mut String, name: &str, kind: &str, help: &str| {
            // Writing to a string does not fail.
            let _ = write!(out, "# HELP firelight_{name} {help}\n# TYPE firelight_{name} {kind}\n");
        };
        head(&mut out, "http_responses_total", "counter", "Responses.");
        let requests = self.requests.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone();
        for ((route, status), count) in requests {
            let _ = writeln!(out, "firelight_http_responses_total{{route=\"{route}\",status=\"{status}\"}} {count}");
        }
        let seconds = |micros: &AtomicU64| micros.load(Ordering::Relaxed) as f64 / 1e6;
        let plain = |count: &AtomicU64| count.load(Ordering::Relaxed) as f64;
        let rows = [
            ("prompt_tokens_total", "counter", "Tokens of prompts.", plain(&self.prompt_tokens)),
            ("reused_tokens_total", "counter", "Prompt tokens from the prefix cache.", plain(&self.reused_tokens)),
            ("generated_tokens_total", "counter", "Tokens generated.", plain(&self.generated_tokens)),
            ("prompt_seconds_total", "counter", "Time to first tokens.", seconds(&self.prompt_microseconds)),
            ("decode_seconds_total", "counter", "Time from first tokens to last.", seconds(&self.decode_microseconds)),
            (
                "cancelled_total",
                "counter",
                "Requests whose clients disconnected before the end.",
                plain(&self.cancelled),
            ),
            ("model_loads_total", "counter", "Models loaded.", plain(&self.loads)),
            ("answers_running", "gauge", "Answers begun and not finished.", plain(&self.running)),
            ("requests_pending", "gauge", "Requests not answered yet.", plain(&self.pending)),
            ("gpu_bytes", "gauge", "Bytes of the loaded model on the GPU.", plain(&self.gpu_bytes)),
        ];
        for (name, kind, help, value) in rows {
            head(&mut out, name, kind, help);
            let _ = writeln!(out, "firelight_{name} {value}");
        }
        out
    }
}

/// An answer that is being generated or waits for the session.
pub struct RunningAnswer<'a>(&'a AtomicU64);

impl Drop for RunningAnswer<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request's place in the queue. Dropping it frees the place; a request that is not finished by then counts as
/// cancelled.
pub struct Ticket {
    metrics: Arc<Metrics>,
    finished: bool,
}

impl Ticket {
    /// Takes a place. Returns how many were taken before.
    pub fn take(metrics: &Arc<Metrics>) -> (Self, usize) {
        let pending = metrics.pending.fetch_add(1, Ordering::Relaxed) as usize;
        (Ticket { metrics: metrics.clone(), finished: false }, pending)
    }

    /// The request is answered or refused.
    pub fn finish(mut self) {
        self.finished = true;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.finished {
            add(&self.metrics.cancelled, 1);
        }
        self.metrics.pending.fetch_sub(1, Ordering::Relaxed);
    }
}
