//! Numbers, durations and dates for people.

use crate::text::date_time;

/// `1.2 GiB`, as the command line has it.
pub fn bytes(n: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    match units.into_iter().find(|(bits, _)| n >> bits > 0) {
        Some((bits, unit)) => format!("{:.1} {unit}", n as f64 / (1u64 << bits) as f64),
        None => format!("{n} B"),
    }
}

/// A parameter count: `1.2 B`.
pub fn count(n: u64) -> String {
    match n as f64 {
        v if v >= 1e9 => format!("{:.1} B", v / 1e9),
        v if v >= 1e6 => format!("{:.0} M", v / 1e6),
        v if v >= 1e3 => format!("{:.0} K", v / 1e3),
        v => format!("{v:.0}"),
    }
}

/// `0.42 s`, `12 s`, `3 min 20 s`.
pub fn seconds(s: f64) -> String {
    match s {
        s if s < 0.9995 => format!("{:.0} ms", s * 1e3),
        s if s < 9.95 => format!("{s:.1} s"),
        s if s < 59.5 => format!("{s:.0} s"),
        s => format!("{} min {:02} s", (s / 60.0) as u64, (s % 60.0) as u64),
    }
}

/// Progress: bytes, rate and time left. `before` bytes were there at the start.
pub fn progress(done: u64, total: u64, before: u64, seconds: f64) -> String {
    let (here, all) = (bytes(done), bytes(total));
    if seconds < 1.0 || done <= before {
        return format!("{here} of {all}");
    }
    let rate = (done - before) as f64 / seconds;
    let left = self::seconds(total.saturating_sub(done) as f64 / rate);
    format!("{here} of {all} · {}/s · {left} left", bytes(rate as u64))
}

/// A speed in tokens per second.
pub fn rate(tokens: usize, seconds: f64) -> String {
    match tokens as f64 / seconds.max(1e-9) {
        r if r < 99.5 => format!("{r:.1} tok/s"),
        r => format!("{r:.0} tok/s"),
    }
}

/// `1 token`, `2 tokens`.
pub fn plural(n: usize, one: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {one}s") }
}

/// `YYYY-MM-DD`: a number of milliseconds since 1970, in UTC.
pub fn date(ms: u64) -> String {
    date_time(ms / 1000).chars().take(10).collect()
}

/// The list's heading for a time, relative to `now`.
pub fn age(now: u64, then: u64) -> &'static str {
    match (now / 86_400_000).saturating_sub(then / 86_400_000) {
        0 => "Today",
        1 => "Yesterday",
        2..=7 => "This week",
        8..=31 => "This month",
        _ => "Older",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!(bytes(5_604_432), "5.3 MiB");
        assert_eq!(bytes(128 << 20), "128.0 MiB");
        assert_eq!(bytes(4_400_000_000), "4.1 GiB");
        assert_eq!(bytes(500), "500 B");
        assert_eq!(count(1_240_000_000), "1.2 B");
        assert_eq!(count(260_000), "260 K");
        assert_eq!(seconds(0.42), "420 ms");
        assert_eq!(seconds(200.0), "3 min 20 s");
        assert_eq!(rate(10, 4.0), "2.5 tok/s");
        assert_eq!(progress(1 << 20, 3 << 20, 0, 0.5), "1.0 MiB of 3.0 MiB");
        let line = "2.0 MiB of 3.0 MiB · 512.0 KiB/s · 2.0 s left";
        assert_eq!(progress(2 << 20, 3 << 20, 1 << 20, 2.0), line);
    }

    #[test]
    fn dates_are_civil() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(951_782_400_000), "2000-02-29");
        assert_eq!(date(1_795_305_600_000), "2026-11-22");
        assert_eq!(age(1_795_305_600_000, 1_795_305_599_000), "Yesterday");
    }
}
