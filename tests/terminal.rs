//! The chat on a pseudo-terminal of 80 x 24: what a person sees on the screen, and what is left of the terminal's modes
//! when the program has ended.
#![cfg(unix)]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_firelight");
const COLUMNS: u16 = 80;
const ROWS: u16 = 24;
/// Rows of the screen that the tests read: nothing scrolls out of sight.
const KEPT_ROWS: u16 = 200;
/// How long to wait for the screen to show something. Software adapters are slow.
const PATIENCE: Duration = Duration::from_secs(240);

const CTRL_C: &str = "\x03";
const UP: &str = "\x1b[A";

/// The program on a pseudo-terminal.
struct Terminal {
    child: Child,
    /// Our end.
    master: File,
    /// The program's end, kept open so that its modes can be read after the program has ended.
    slave: OwnedFd,
    seen: Arc<Mutex<Seen>>,
}

struct Seen {
    screen: vt100::Parser,
    bytes: Vec<u8>,
}

/// A folder for what the program keeps of a user.
fn home() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

/// The program on a terminal with colours.
fn firelight(args: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(args).env("TERM", "xterm-256color").env_remove("NO_COLOR");
    command
}

impl Terminal {
    /// `firelight` with these arguments.
    fn start(home: &TempDir, args: &[&str]) -> Self {
        Self::open(home, COLUMNS, firelight(args))
    }

    fn open(home: &TempDir, columns: u16, mut command: Command) -> Self {
        let (mut master, mut slave) = (-1, -1);
        let mut size = libc::winsize { ws_row: ROWS, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: `openpty` writes two file descriptors, which nobody else owns.
        let (master, slave) = unsafe {
            let made = libc::openpty(
                &raw mut master,
                &raw mut slave,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
                &raw mut size,
            );
            assert_eq!(made, 0, "no pseudo-terminal");
            // Programs that other tests start must not keep this terminal open.
            for end in [master, slave] {
                assert_eq!(libc::fcntl(end, libc::F_SETFD, libc::FD_CLOEXEC), 0);
            }
            (File::from_raw_fd(master), OwnedFd::from_raw_fd(slave))
        };
        let stdio = || Stdio::from(slave.try_clone().expect("a file descriptor"));
        command.env("XDG_DATA_HOME", home.path()).env_remove("XDG_RUNTIME_DIR");
        command.stdin(stdio()).stdout(stdio()).stderr(stdio());
        // SAFETY: these functions may be called between fork and exec.
        unsafe {
            command.pre_exec(|| {
                // Under nohup, the program would ignore it.
                libc::signal(libc::SIGHUP, libc::SIG_DFL);
                libc::setsid();
                libc::ioctl(0, libc::TIOCSCTTY as _, 0);
                Ok(())
            });
        }
        let child = command.spawn().expect("the program starts");
        let screen = vt100::Parser::new(KEPT_ROWS, columns, 0);
        let seen = Arc::new(Mutex::new(Seen { screen, bytes: Vec::new() }));
        let (mut reader, shared) = (master.try_clone().expect("a file descriptor"), seen.clone());
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(n @ 1..) = reader.read(&mut bytes) {
                let mut seen = shared.lock().expect("the screen");
                seen.screen.process(&bytes[..n]);
                seen.bytes.extend(&bytes[..n]);
            }
        });
        Terminal { child, master, slave, seen }
    }

    /// A chat with the built-in model that waits for a message.
    fn chat(home: &TempDir, args: &[&str]) -> Self {
        let terminal = Self::start(home, &[&["run", "demo", "--greedy"], args].concat());
        terminal.wait("Type a message, or /? for help.");
        terminal.wait_prompt();
        terminal
    }

    fn keys(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).expect("keys");
    }

    /// The rows of the screen, without those below the last text.
    fn rows(&self) -> Vec<String> {
        let seen = self.seen.lock().expect("the screen");
        let columns = seen.screen.screen().size().1;
        let rows = seen.screen.screen().rows(0, columns);
        let mut rows: Vec<String> = rows.map(|row| row.trim_end().to_string()).collect();
        rows.truncate(rows.iter().rposition(|row| !row.is_empty()).map_or(0, |last| last + 1));
        rows
    }

    fn text(&self) -> String {
        self.rows().join("\n")
    }

    /// Everything that was ever written, escape sequences included.
    fn written(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().expect("the screen").bytes).into_owned()
    }

    fn wait_until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !holds(self) {
            assert!(begun.elapsed() < PATIENCE, "waiting for {what}:\n{}", self.text());
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn wait(&self, text: &str) {
        self.wait_until(text, |terminal| terminal.text().contains(text));
    }

    /// Waits for a prompt at which nothing is typed.
    fn wait_prompt(&self) {
        let empty = |row: &String| row == ">" || row == "> Type a message, or /? for help";
        self.wait_until("the prompt", |terminal| terminal.rows().last().is_some_and(empty));
    }

    /// Sends a line, and waits until it is answered. Returns the rows between it and the next prompt.
    fn say(&mut self, line: &str) -> Vec<String> {
        let before = self.rows().len();
        self.keys(&format!("{line}\r"));
        self.wait_until(line, |terminal| terminal.rows().len() > before);
        self.wait_prompt();
        let rows = self.rows();
        rows[before..rows.len() - 1].to_vec()
    }

    /// Waits until the last row is a part of an answer.
    fn wait_answer(&self) {
        let answers = |row: &String| !row.starts_with('>') && !row.contains("reading ") && row.split(' ').count() > 2;
        self.wait_until("an answer", |terminal| terminal.rows().last().is_some_and(answers));
    }

    fn resize(&self, columns: u16) {
        let size = libc::winsize { ws_row: ROWS, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        self.seen.lock().expect("the screen").screen.screen_mut().set_size(KEPT_ROWS, columns);
        // SAFETY: the file descriptor is open, and the size is one.
        assert_eq!(unsafe { libc::ioctl(self.master.as_raw_fd(), libc::TIOCSWINSZ as _, &raw const size) }, 0);
    }

    fn modes(&self) -> libc::termios {
        // SAFETY: an all-zero `termios` is valid, and the file descriptor is open.
        unsafe {
            let mut modes: libc::termios = std::mem::zeroed();
            assert_eq!(libc::tcgetattr(self.slave.as_raw_fd(), &raw mut modes), 0);
            modes
        }
    }

    /// Whether the terminal echoes what is typed, line by line, as it did at the start.
    fn is_restored(&self) -> bool {
        let wanted = libc::ECHO | libc::ICANON | libc::ISIG;
        self.modes().c_lflag & wanted == wanted
    }

    fn set_echo(&self) {
        let mut modes = self.modes();
        modes.c_lflag |= libc::ECHO;
        // SAFETY: the file descriptor is open, and the modes are valid.
        assert_eq!(unsafe { libc::tcsetattr(self.slave.as_raw_fd(), libc::TCSANOW, &raw const modes) }, 0);
    }

    fn signal(&self, signal: i32) {
        // SAFETY: the child is ours, and not waited for yet.
        assert_eq!(unsafe { libc::kill(self.child.id() as i32, signal) }, 0);
    }

    fn ended(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status;
            }
            assert!(begun.elapsed() < PATIENCE, "it does not end:\n{}", self.text());
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn quit(mut self) -> String {
        self.keys("/bye\r");
        let status = self.ended();
        assert!(status.success(), "{status}:\n{}", self.text());
        assert!(self.is_restored(), "the terminal's modes");
        self.text()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const STORY: &str = "Tell me a story about a dog.";

/// The answer in a pipe, which is not wrapped.
fn piped(question: &str) -> String {
    let mut command = Command::new(PROGRAM);
    command.args(["run", "demo", "--greedy", question]).env_remove("XDG_RUNTIME_DIR").stdin(Stdio::null());
    String::from_utf8(command.output().expect("the program starts").stdout).expect("UTF-8")
}

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

/// Arguments with which the model never ends an answer: its end tokens are ruled out.
fn endless() -> Vec<String> {
    let output = Command::new(PROGRAM).args(["info", "demo"]).output().expect("it starts");
    let info = String::from_utf8(output.stdout).expect("UTF-8");
    let line = info.lines().find_map(|line| line.strip_prefix("end tokens")).expect("end tokens");
    let ids = line.split(", ").filter_map(|token| token.split_whitespace().next());
    let args: Vec<String> = ids.map(|id| format!("--logit-bias={id}=-1000")).collect();
    assert!(!args.is_empty(), "{info}");
    args
}

#[test]
fn answers_and_help_wrap_between_words_also_after_a_resize() {
    let (home, want) = (home(), piped(STORY));
    assert!(want.len() > 100 && want.lines().any(|line| line.len() > 80), "{want}");
    let mut terminal = Terminal::chat(&home, &[]);
    let answer = terminal.say(STORY);
    assert!(answer.len() > 1 && answer.iter().all(|row| row.len() <= 80), "{answer:?}");
    assert_eq!(words(&answer.join("\n")), words(&want));
    terminal.say("/clear");
    terminal.resize(40);
    let answer = terminal.say(STORY);
    assert!(answer.len() > want.len() / 40 && answer.iter().all(|row| row.len() <= 40), "{answer:?}");
    assert_eq!(words(&answer.join("\n")), words(&want));
    let help = terminal.say("/?");
    let all = words(&terminal.quit()).len();
    assert!(help.iter().all(|row| row.len() <= 40) && all > 100, "{help:?}");
    // A word that is divided would be no word of the help.
    assert!(words(&help.join("\n")).contains(&"conversation"), "{help:?}");
}

#[test]
fn typing_and_ctrl_c_leave_no_trace_in_an_answer() {
    let home = home();
    let endless = endless();
    let mut terminal = Terminal::chat(&home, &endless.iter().map(String::as_str).collect::<Vec<_>>());
    terminal.keys(&format!("{STORY}\r"));
    terminal.wait_answer();
    terminal.keys("xyzzy");
    thread::sleep(Duration::from_millis(100));
    terminal.keys(CTRL_C);
    terminal.wait("[stopped]");
    terminal.wait_prompt();
    let rows = terminal.rows();
    assert_eq!(rows[rows.len() - 2], "[stopped]", "{rows:?}");
    // The terminal discards with Ctrl-C what was typed before it.
    assert!(rows.iter().all(|row| !row.contains("xyz") && !row.contains("^C")), "{rows:?}");
    // Ctrl-C twice at the prompt ends the program.
    terminal.keys(CTRL_C);
    terminal.wait("press Ctrl-C again");
    terminal.keys(CTRL_C);
    assert_eq!(terminal.ended().code(), Some(130));
    assert!(terminal.is_restored());
}

#[test]
fn signals_restore_the_terminal() {
    use std::os::unix::process::ExitStatusExt;
    let endless = endless();
    let args: Vec<&str> = endless.iter().map(String::as_str).collect();
    for during_answer in [false, true] {
        for signal in [libc::SIGTERM, libc::SIGHUP] {
            let home = home();
            let mut terminal = Terminal::chat(&home, &args);
            if during_answer {
                terminal.keys(&format!("{STORY}\r"));
                terminal.wait_answer();
            }
            assert!(!terminal.is_restored(), "its modes while it runs");
            terminal.signal(signal);
            assert_eq!(terminal.ended().signal(), Some(signal));
            assert!(terminal.is_restored(), "signal {signal}, {during_answer}");
        }
    }
}

#[test]
fn loading_and_reading_are_shown_and_leave_nothing_behind() {
    let home = home();
    let mut terminal = Terminal::chat(&home, &[]);
    terminal.say("What can you do?");
    let written = terminal.written();
    assert!(written.contains("compiling kernels"), "{written:?}");
    let reading = written.split("reading the prompt, ").nth(1).expect("a spinner");
    assert!(reading.split(' ').next().is_some_and(|n| n.parse::<usize>().is_ok_and(|n| n > 5)), "{reading:?}");
    let text = terminal.quit();
    assert!(!text.contains("compiling") && !text.contains("reading "), "{text}");
}

#[test]
fn a_full_context_drops_the_oldest_turns() {
    let home = home();
    let mut terminal = Terminal::chat(&home, &["--context", "160"]);
    let dropped = |rows: &[String]| rows.join(" ").contains("no longer sent to the model");
    let mut turns = 0;
    loop {
        turns += 1;
        assert!(turns < 12, "nothing was dropped:\n{}", terminal.text());
        let rows = terminal.say(&format!("What is {turns} + 2?"));
        if dropped(&rows) {
            assert!(rows.last().is_some_and(|row| row.contains('+')), "an answer follows: {rows:?}");
            break;
        }
    }
    assert!(turns > 1);
    // It goes on, and the whole conversation is saved.
    let rows = terminal.say("What is 3 + 4?");
    assert!(rows.last().is_some_and(|row| row.contains('+')), "{rows:?}");
    let saved = home.path().join("chat.json");
    terminal.say(&format!("/save {}", saved.display()));
    let saved: serde_json::Value = serde_json::from_str(&fs::read_to_string(saved).expect("the file")).expect("JSON");
    assert_eq!(saved["messages"].as_array().map(Vec::len), Some(2 * (turns + 1)));
    let rows = terminal.say(&"word ".repeat(200));
    assert!(rows.join(" ").contains("your message is too long"), "{rows:?}");
    terminal.say("What is 3 + 4?");
    terminal.quit();
}

#[test]
fn commands_answer_with_a_confirmation() {
    let home = home();
    let path = |name: &str| home.path().join(name).display().to_string();
    let (saved, notes) = (path("chat.json"), path("notes.txt"));
    fs::write(&notes, "Notes.").expect("a file");
    let mut terminal = Terminal::chat(&home, &["-n", "16"]);
    let question = terminal.say("What is 2 + 2?");
    assert!(question.join(" ").contains('4'), "{question:?}");
    for (line, wanted) in [
        ("/save", "/save needs a file, e.g. /save chat.json"),
        (&format!("/save {saved}"), "Saved 2 messages to"),
        ("/undo", "Removed \"What is 2 + 2?\" and its answer."),
        ("/undo", "there is nothing to undo"),
        ("/regen", "there is no message to answer again"),
        (&format!("/LOAD {saved}"), "Loaded 2 messages from"),
        ("/load nowhere.json", "cannot read nowhere.json"),
        ("/regen", "2 + 2"),
        (&format!("/read {notes}"), "to your next message."),
        ("/system", "No system prompt is set."),
        ("/set system Be brief.", "System prompt set."),
        ("/show system", "Be brief."),
        ("/system \"\"", "System prompt removed."),
        ("/seed", "/seed needs a whole number, e.g. /seed 42"),
        ("/seed 42", "Set seed 42."),
        ("/set parameter temperature 0.5", "Set temperature 0.5."),
        ("/set temperature hot", "\"hot\" is not a valid number"),
        ("/set parameter nonsense 1", "there is no parameter \"nonsense\"; there are temperature"),
        ("/set nonsense", "there is no setting nonsense"),
        ("/set temprature 1", "did you mean /set temperature?"),
        ("/show parameters", "temperature 0.5"),
        ("/set verbose", "Speed and seed are printed"),
        ("/set nomarkdown", "shown as it is written"),
        ("/set nowordwrap", "where the terminal ends"),
        ("/set nohistory", "not kept"),
        ("/set think", "this model has no switch for reasoning"),
        ("/set format yaml", "yaml is not a JSON schema"),
        ("/set format {\"type\": 5}", "5 is not a type"),
        ("/set format @nowhere.json", "cannot read nowhere.json"),
        ("/set format json", "Answers are JSON."),
        ("/set noformat", "Answers are text."),
        ("/show", "2 messages in the conversation"),
        ("/show info", "parameters"),
        ("/show license", "MIT OR Apache-2.0"),
        ("/show template", "messages"),
        ("/stats", "tokens of the context are used"),
        ("/model", "demo on "),
        ("/model nowhere.gguf", "nowhere.gguf: no such file"),
        ("/load demo", "Now demo on "),
        ("/set parameter num_ctx 256", "context 256 tokens."),
        ("/claer", "unknown command /claer: did you mean /clear?"),
        ("/Clear", "Conversation cleared."),
        ("/frobnicate", "unknown command /frobnicate: try /?"),
        ("/?", "/regen"),
        ("/? set", "temperature"),
    ] {
        let rows = terminal.say(line);
        assert!(rows.join(" ").contains(wanted), "{line}: {rows:?}");
    }
    // Why it ends in the midst of a sentence, and the line that /set verbose switches on.
    let rows = terminal.say(STORY).join("\n");
    assert!(rows.contains("[stopped at 16 tokens]") && rows.contains(", seed 42"), "{rows}");
    let text = terminal.quit();
    assert!(!text.contains("panicked"), "{text}");
}

#[test]
fn lines_are_kept_from_one_chat_to_the_next() {
    let home = home();
    let mut terminal = Terminal::chat(&home, &[]);
    terminal.say("/system Brief.");
    terminal.say(" /seed 7");
    terminal.quit();
    let file = home.path().join("firelight/history");
    let mode = fs::metadata(&file).expect("the history").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "only its owner may read it");
    assert!(!fs::read_to_string(&file).expect("text").contains("seed"), "a line after a blank is private");
    let mut terminal = Terminal::chat(&home, &[]);
    terminal.keys(UP);
    terminal.wait("> /bye");
    terminal.keys(UP);
    terminal.wait("> /system Brief.");
    terminal.keys("\r");
    terminal.wait("System prompt set.");
    terminal.quit();
}

#[test]
fn several_lines_are_one_message() {
    let home = home();
    let mut args = endless();
    args.extend(["-n".to_string(), "4".to_string()]);
    let mut terminal = Terminal::chat(&home, &args.iter().map(String::as_str).collect::<Vec<_>>());
    terminal.keys("\"\"\"one\r");
    terminal.wait("\n...");
    terminal.keys("two\"\"\"\r");
    terminal.wait("[stopped");
    terminal.wait_prompt();
    terminal.keys("three \\\r");
    terminal.wait("> three \\\n...");
    terminal.keys("four\r");
    terminal.wait_until("two answers", |terminal| terminal.text().matches("[stopped").count() == 2);
    let saved = home.path().join("chat.json");
    terminal.wait_prompt();
    terminal.say(&format!("/save {}", saved.display()));
    let saved: serde_json::Value = serde_json::from_str(&fs::read_to_string(saved).expect("the file")).expect("JSON");
    assert_eq!(saved["messages"][0]["content"], "one\ntwo");
    assert_eq!(saved["messages"][2]["content"], "three \nfour");
    terminal.quit();
}

#[test]
fn lines_typed_during_an_answer_are_read_after_it() {
    let home = home();
    let args = [endless(), vec!["-n".into(), "40".into()]].concat();
    let mut terminal = Terminal::chat(&home, &args.iter().map(String::as_str).collect::<Vec<_>>());
    terminal.keys(&format!("{STORY}\r"));
    terminal.wait_answer();
    terminal.keys("/seed 7\r/seed 8\r");
    terminal.wait("Set seed 7.");
    terminal.wait("Set seed 8.");
    terminal.wait_prompt();
    assert!(terminal.text().contains("[stopped at 40 tokens]"), "{}", terminal.text());
    terminal.quit();
}

/// A shell changes the modes while the program is stopped.
#[test]
fn an_answer_that_was_suspended_continues_without_echo() {
    let (home, endless) = (home(), endless());
    let mut terminal = Terminal::chat(&home, &endless.iter().map(String::as_str).collect::<Vec<_>>());
    terminal.keys(&format!("{STORY}\r"));
    terminal.wait_answer();
    terminal.signal(libc::SIGSTOP);
    terminal.set_echo();
    terminal.signal(libc::SIGCONT);
    terminal.wait_until("echo off", |terminal| !terminal.is_restored());
    terminal.keys(CTRL_C);
    terminal.wait("[stopped]");
    terminal.wait_prompt();
    terminal.quit();
}

/// A pager on the other side of a pipe has its own modes.
#[test]
fn a_pipeline_keeps_the_modes_of_the_terminal() {
    let home = home();
    let program = format!("exec {PROGRAM} run demo --greedy {} '{STORY}' | cat", endless().join(" "));
    let mut command = Command::new("sh");
    command.args(["-c", &program]).env("TERM", "xterm-256color");
    let mut terminal = Terminal::open(&home, COLUMNS, command);
    while !terminal.text().contains("dog") {
        assert!(terminal.is_restored(), "echo is off:\n{}", terminal.text());
        thread::sleep(Duration::from_millis(20));
    }
    assert!(terminal.is_restored(), "echo is off:\n{}", terminal.text());
    terminal.keys(CTRL_C);
    terminal.ended();
}

#[test]
fn control_characters_of_models_and_templates_do_not_reach_the_terminal() {
    let home = home();
    let output = Command::new(PROGRAM).args(["tokenize", "demo", "--no-special", "\x1b"]).output().expect("it starts");
    let ids: Vec<u32> = serde_json::from_slice(&output.stdout).expect("tokens");
    let bias = format!("--logit-bias={}=1000", ids.last().expect("a token"));
    let args = ["run", "demo", "--greedy", "-n", "4", &bias, "Hi"];
    let mut terminal = Terminal::start(&home, &args);
    assert!(terminal.ended().success());
    terminal.wait("\\u{1b}\\u{1b}\\u{1b}\\u{1b}");
    assert!(!terminal.written().contains("\x1b\x1b"), "{:?}", terminal.written());
    // A pipe gets the text as it is.
    let piped = Command::new(PROGRAM).args(args).stdin(Stdio::null()).output().expect("it starts");
    assert_eq!(piped.stdout, b"\x1b\x1b\x1b\x1b\n");
    let path = |name: &str, text: &str| {
        fs::write(home.path().join(name), text).expect("a file");
        home.path().join(name).display().to_string()
    };
    let (template, case) = (path("evil.jinja", "\x1b[2Jevil"), path("case.json", r#"{"messages": []}"#));
    let mut terminal = Terminal::start(&home, &["template", "demo", "--input", &case, "--template", &template]);
    assert!(terminal.ended().success());
    terminal.wait("\\u{1b}[2Jevil");
}

#[test]
fn terminals_without_colours_get_none() {
    let home = home();
    let run = |name: &str, value: &str| {
        let mut command = firelight(&["run", "demo", "--greedy", "--stats", "-n", "8", STORY]);
        command.env(name, value);
        let mut terminal = Terminal::open(&home, COLUMNS, command);
        assert!(terminal.ended().success());
        terminal.wait(" tok/s");
        terminal.written()
    };
    let colours = run("TERM", "xterm");
    assert!(colours.contains("\x1b[2m"), "{colours:?}");
    // The spinner still erases itself.
    let plain = run("NO_COLOR", "1");
    assert!(!plain.contains("\x1b[2m") && !plain.contains("\x1b[0m"), "{plain:?}");
    let dumb = run("TERM", "dumb");
    assert!(!dumb.contains('\x1b'), "{dumb:?}");
}

/// A narrow and low terminal.
#[test]
fn a_small_terminal_is_enough() {
    let home = home();
    let mut terminal = Terminal::open(&home, 20, firelight(&["run", "demo", "--greedy", "-n", "24"]));
    terminal.wait_prompt();
    let answer = terminal.say("What can you do?");
    assert!(answer.iter().all(|row| row.len() <= 20) && answer.len() > 3, "{answer:?}");
    assert!(words(&answer.join("\n")).contains(&"Firelight,"), "{answer:?}");
    let help = terminal.say("/?");
    assert!(help.iter().all(|row| row.len() <= 20) && help.iter().any(|row| row == "    conversation"), "{help:?}");
    terminal.quit();
}

#[test]
fn a_paste_of_many_lines_is_one_message() {
    let home = home();
    let mut terminal = Terminal::chat(&home, &["-n", "4", "--context", "256"]);
    let paste: Vec<String> = (0..90).map(|n| format!("line {n} of a long paste")).collect();
    terminal.keys(&format!("\x1b[200~{}\x1b[201~", paste.join("\r\n")));
    terminal.wait("line 89 of a long paste");
    terminal.keys("\r");
    terminal.wait("your message is too long");
    terminal.wait_prompt();
    terminal.say("What is 2 + 2?");
    terminal.quit();
}

/// The session in the documentation. FIRELIGHT_RECORD=1 records it anew.
#[test]
fn the_recorded_session_is_what_the_program_shows() {
    let home = home();
    let mut terminal = Terminal::chat(&home, &[]);
    for question in ["What can you do?", "What is 12 + 30?", STORY] {
        terminal.say(question);
    }
    let text = terminal.quit();
    // The device is another one on each machine.
    let begin = text.find("Type a message").expect("the first line");
    let shown =
        format!("$ firelight run --greedy\ndemo on NAME OF YOUR GPU, context 1024 tokens\n{}\n", &text[begin..]);
    assert!(text[..begin].contains("demo on ") && text[..begin].contains(", context 1024 tokens"), "{text}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/terminal.md");
    let document = fs::read_to_string(&path).expect("the document");
    let (before, rest) = document.split_once("```text\n").expect("the session");
    let (recorded, after) = rest.split_once("```").expect("its end");
    if std::env::var_os("FIRELIGHT_RECORD").is_some() {
        return fs::write(&path, format!("{before}```text\n{shown}```{after}")).expect("the file is written");
    }
    assert_eq!(shown, recorded, "FIRELIGHT_RECORD=1 records it anew");
}
