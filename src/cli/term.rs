//! The terminal: warnings, progress bars, Ctrl-C, tables, sizes, and how the program fails.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use firelight::gpu::AdapterInfo;
use firelight::model::load::Progress;
use firelight::output::discard_unfinished;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::screen::wrap;
use super::tty;

/// Exit code after Ctrl-C, by the shells' convention (128 + SIGINT).
const INTERRUPTED_CODE: u8 = 130;

/// Why a command ended early.
pub enum Failure {
    /// An error of the library.
    Error(firelight::Error),
    /// Writing to stdout failed.
    Output(io::Error),
    /// Ctrl-C.
    Interrupted,
}

impl From<firelight::Error> for Failure {
    fn from(error: firelight::Error) -> Self {
        Failure::Error(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Output(error)
    }
}

impl Failure {
    /// Contradictory arguments, or an input file with the wrong contents.
    pub fn usage(message: impl Display) -> Self {
        firelight::Error::Usage(message.to_string()).into()
    }

    /// Prints the error; the program goes on.
    pub fn print(self) {
        let _ = self.report();
    }

    /// Prints the error and returns the exit code. A closed output pipe is not an error.
    pub fn report(self) -> ExitCode {
        match self {
            Failure::Output(e) if e.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
            Failure::Output(e) => fail(&format!("cannot write the output: {e}")),
            Failure::Error(e) => fail(&e.to_string()),
            Failure::Interrupted => ExitCode::from(INTERRUPTED_CODE),
        }
    }
}

fn fail(message: &str) -> ExitCode {
    complain("error", message);
    ExitCode::FAILURE
}

/// Prints a warning or a note to stderr.
pub fn note(message: &str) {
    complain("note", message);
}

/// If `card` is a software adapter, prints that the CPU computes, and with which driver.
pub fn say_software(card: &AdapterInfo) {
    if card.caps.software {
        let driver = &card.driver;
        note(&format!("no GPU found: computing on the CPU with {driver}. A GPU would be many times faster."));
    }
}

fn complain(kind: &str, message: &str) {
    say(&format!("{kind}: {message}"));
}

/// Prints a text to stderr, without control characters; on a terminal it is wrapped.
pub fn say(line: &str) {
    // There is nowhere to report that stderr is closed.
    let _ = writeln!(io::stderr(), "{}", wrapped(line));
}

/// Like [`say`], but dim: what is neither the answer nor a problem.
pub fn aside(line: &str) {
    let (on, off) = if colours(&io::stderr()) { (DIM, PLAIN) } else { ("", "") };
    let _ = writeln!(io::stderr(), "{on}{}{off}", wrapped(line));
}

fn wrapped(line: &str) -> String {
    let line = printable(line);
    let columns = if io::stderr().is_terminal() { tty::columns() } else { None };
    match columns {
        Some(columns) => wrap::fill(&line, columns),
        None => line,
    }
}

/// The text without control characters: a name in a file may contain escape sequences.
pub fn printable(text: &str) -> String {
    let escape = |c: char| match c {
        '\n' | '\t' => c.to_string(),
        c if c.is_control() => c.escape_default().to_string(),
        c => c.to_string(),
    };
    text.chars().map(escape).collect()
}

/// Turns a panic, which is always a bug in Firelight, into a message for the user.
pub fn install_panic_message() {
    std::panic::set_hook(Box::new(|panic| {
        tty::restore();
        let place = panic.location().map(|l| format!("{}:{}", l.file(), l.line())).unwrap_or_default();
        let what = panic.payload_as_str().unwrap_or("unknown");
        complain("error", &format!("this is a bug in Firelight; please report it: {what} ({place})"));
    }));
}

/// Sends logs to stderr: errors by default, information with `verbose` 1, every detail with 2. wgpu logs a missing
/// driver as an error, which is useful only with `--verbose`.
pub fn install_log(verbose: u8) {
    let level = [LevelFilter::ERROR, LevelFilter::INFO, LevelFilter::DEBUG][usize::from(verbose.min(2))];
    let drivers = if verbose == 0 { LevelFilter::OFF } else { level };
    let targets = Targets::new().with_default(level).with_target("wgpu_hal", drivers);
    // The window shows what goes wrong with tools; rmcp's log would repeat what they are sent.
    let targets = targets.with_target("rmcp", LevelFilter::OFF);
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(colours(&io::stderr()));
    // Fails only if a logger is already installed.
    let _ = tracing_subscriber::registry().with(targets).with(lines.without_time()).try_init();
}

/// Whether a stream may be coloured: it is a terminal that can, and NO_COLOR (<https://no-color.org>) is unset.
pub fn colours(stream: &impl IsTerminal) -> bool {
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    stream.is_terminal() && !dumb && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

/// Escape sequences that start and end dimmed text.
pub const DIM: &str = "\x1b[2m";
pub const PLAIN: &str = "\x1b[0m";

/// The current meaning of Ctrl-C. It is one atomic, because the handler runs on another thread and an answer may end at
/// any time.
static STATE: AtomicU8 = AtomicU8::new(IDLE);
const IDLE: u8 = 0;
const ANSWERING: u8 = 1;
const INTERRUPTED: u8 = 2;

/// Makes Ctrl-C end the program with its exit code or, while an [`Answering`] lives, only the answer.
pub fn catch_interrupts() {
    let handler = || {
        if STATE.compare_exchange(ANSWERING, INTERRUPTED, Ordering::SeqCst, Ordering::SeqCst).is_err() {
            discard_unfinished();
            tty::restore();
            if io::stderr().is_terminal() {
                // The shell's prompt goes below a progress bar or an answer.
                let _ = writeln!(io::stderr());
            }
            std::process::exit(INTERRUPTED_CODE.into());
        }
    };
    // Without a handler, Ctrl-C ends the program by default.
    let _ = ctrlc::set_handler(handler);
}

/// While it lives, the first Ctrl-C only sets a flag; the second one ends the program.
pub struct Answering(());

impl Answering {
    /// Starts to catch Ctrl-C.
    pub fn begin() -> Self {
        STATE.store(ANSWERING, Ordering::SeqCst);
        Answering(())
    }

    /// Whether Ctrl-C was pressed since the start.
    pub fn interrupted(&self) -> bool {
        STATE.load(Ordering::SeqCst) == INTERRUPTED
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        STATE.store(IDLE, Ordering::SeqCst);
    }
}

/// A progress bar on stderr with bytes, rate and remaining time, if stderr is a terminal; it disappears at the end.
pub fn bytes_bar(what: &'static str) -> impl FnMut(Progress) {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{prefix} {wide_bar} {bytes}/{total_bytes}  {bytes_per_sec}  {eta}")
    {
        bar.set_style(style.progress_chars("=> "));
    }
    let bar = bar.with_prefix(what);
    move |progress| {
        bar.set_length(progress.total);
        bar.set_position(progress.done);
        if progress.done >= progress.total {
            bar.finish_and_clear();
        }
    }
}

/// A sign on stderr that something goes on, if stderr is a terminal. Dropping it removes it.
pub struct Spinner(ProgressBar);

impl Spinner {
    pub fn begin(what: String) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
            bar.set_style(style);
        }
        bar.set_message(what);
        bar.enable_steady_tick(Duration::from_millis(100));
        Spinner(bar)
    }

    /// Says something else.
    pub fn set(&self, what: String) {
        self.0.set_message(what);
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// A progress bar on stderr that counts steps, if stderr is a terminal.
pub fn counting_bar(what: &'static str, steps: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{prefix} {pos}/{len} {wide_bar} {msg}  {eta}") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.with_prefix(what)
}

/// `1.5 GiB`, `12.0 KiB`, `17 B`.
pub fn bytes(n: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    match units.into_iter().find(|(bits, _)| n >> bits > 0) {
        Some((bits, unit)) => format!("{:.1} {unit}", n as f64 / (1u64 << bits) as f64),
        None => format!("{n} B"),
    }
}

/// Parses `6GiB`, `1.5 GB`, `512M`, `1000`; all units are powers of 1024.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let bits = match unit.to_ascii_lowercase().trim_end_matches("ib").trim_end_matches('b') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        _ => return Err("expected a number with KiB, MiB or GiB, e.g. 6GiB".into()),
    };
    let number: f64 = number.trim().parse().map_err(|_| format!("{:?} is not a number", number.trim()))?;
    if number.is_finite() && number > 0.0 {
        Ok((number * f64::from(1u32 << bits)) as u64)
    } else {
        Err("a size must be positive".into())
    }
}

/// A parameter count: `1.24 B`, `135.0 M`, `260.0 K`.
pub fn count(n: u64) -> String {
    let units = [(1e9, "B", 2), (1e6, "M", 1), (1e3, "K", 1)];
    match units.into_iter().find(|(unit, ..)| n as f64 >= *unit) {
        Some((unit, name, digits)) => format!("{:.digits$} {name}", n as f64 / unit),
        None => n.to_string(),
    }
}

/// A table with a header; columns marked `<` are left-aligned, others right-aligned.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let names: Vec<String> = header.iter().map(|h| h.trim_start_matches('<').to_string()).collect();
    let width = |i: usize| rows.iter().chain([&names]).map(|row| row[i].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..names.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cell = |i: usize| match header[i].starts_with('<') {
            true => format!("{:<1$}", row[i], widths[i]),
            false => format!("{:>1$}", row[i], widths[i]),
        };
        let cells: Vec<String> = (0..row.len()).map(cell).collect();
        cells.join("  ").trim_end().to_string() + "\n"
    };
    let ruler: Vec<String> = widths.iter().map(|w| "-".repeat(*w)).collect();
    [&names, &ruler].into_iter().chain(rows).map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_readable() {
        assert_eq!([bytes(17), bytes(1024), bytes(1536 << 20)], ["17 B", "1.0 KiB", "1.5 GiB"]);
        let read = ["17", "6GiB", "1.5g", "512 mb", "2K"].map(parse_bytes);
        assert_eq!(read, [17, 6 << 30, 3 << 29, 512 << 20, 2048].map(Ok));
        assert!(["", "GiB", "-1G", "1TB", "nan"].iter().all(|text| parse_bytes(text).is_err()));
        assert_eq!([count(17), count(260_032), count(1_240_000_000)], ["17", "260.0 K", "1.24 B"]);
    }

    #[test]
    fn tables_are_aligned_and_end_without_blanks() {
        let rows = [vec!["matvec".to_string(), "1".to_string()], vec!["é".to_string(), "100".to_string()]];
        assert_eq!(table(&["<op", "n"], &rows), "op        n\n------  ---\nmatvec    1\né       100\n");
    }

    #[test]
    fn control_characters_are_shown_and_not_sent() {
        assert_eq!(printable("a\u{1b}[2Jb\r\n"), "a\\u{1b}[2Jb\\r\n");
    }
}
