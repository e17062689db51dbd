//! Downloading models: the program with a mock hub on loopback that redirects, breaks connections, ignores ranges,
//! corrupts bytes and rejects requests; and the files on disk afterwards.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

const REPO: &str = "tests/Tiny-GGUF";
const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// The faults of the mock hub.
#[derive(Clone, Default)]
struct Faults {
    /// Breaks every connection after this many bytes of files in total.
    breaks_after: Option<u64>,
    /// Ignores ranges.
    no_ranges: bool,
    /// The number of requests for files to reject, and the status.
    refuses: (u32, u16),
    /// Requests need this token.
    token: Option<&'static str>,
    /// Corrupts byte 1000 of files.
    damages: bool,
    /// Bytes per second.
    slow: Option<u64>,
}

struct Hub {
    port: u16,
    state: Arc<Mutex<State>>,
}

struct State {
    files: HashMap<String, Vec<u8>>,
    faults: Faults,
    sent: u64,
    /// `GET PATH RANGE` of each request.
    log: Vec<String>,
}

impl Hub {
    fn start(files: Vec<(&str, Vec<u8>)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let files = files.into_iter().map(|(name, bytes)| (name.to_string(), bytes)).collect();
        let state = State { files, faults: Faults::default(), sent: 0, log: Vec::new() };
        let hub = Hub { port, state: Arc::new(Mutex::new(state)) };
        let state = hub.state.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = state.clone();
                // Errors are ignored: the client may disconnect.
                thread::spawn(move || drop(serve(stream, &state, port)));
            }
        });
        hub
    }

    fn set(&self, faults: Faults) {
        let mut state = self.state.lock().expect("the state");
        (state.faults, state.sent) = (faults, 0);
        state.log.clear();
    }

    fn log(&self) -> Vec<String> {
        self.state.lock().expect("the state").log.clone()
    }

    /// Runs the program with this hub and the cache in `home`.
    fn run(&self, home: &TempDir, args: &[&str]) -> Output {
        self.command(home, args).output().expect("the program starts")
    }

    fn command(&self, home: &TempDir, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_firelight"));
        command.args(args).env("HF_ENDPOINT", format!("http://127.0.0.1:{}", self.port)).env("HF_HOME", home.path());
        command.env_remove("HF_HUB_CACHE").env_remove("HF_TOKEN").env_remove("HF_HUB_OFFLINE");
        command.stdin(Stdio::null());
        command
    }
}

fn serve(stream: TcpStream, state: &Mutex<State>, port: u16) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut out = stream;
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        let path = head.split(' ').nth(1).unwrap_or_default().to_string();
        let header = |name: &str| {
            let line = head.lines().find(|line| line.to_lowercase().starts_with(&format!("{name}: ")))?;
            Some(line.split_once(": ")?.1.to_string())
        };
        let (range, authorization) = (header("range"), header("authorization").unwrap_or_default());
        let (faults, body) = {
            let mut state = state.lock().expect("the state");
            state.log.push(format!("GET {path} {}", range.clone().unwrap_or_default()));
            let name = path.split_once("/main/").or(path.split_once("/cdn/")).or(path.split_once(COMMIT));
            let name = name.map(|(_, name)| name.trim_start_matches('/').replace("%20", " "));
            let body = name.and_then(|name| state.files.get(&name).cloned());
            if path.contains("/cdn/") && state.faults.refuses.0 > 0 {
                state.faults.refuses.0 -= 1;
                answer(&mut out, state.faults.refuses.1, "", b"")?;
                continue;
            }
            (state.faults.clone(), body)
        };
        let authorized = faults.token.is_none_or(|token| authorization == format!("Bearer {token}"));
        match (path.as_str(), body) {
            (path, _) if !path.contains("/cdn/") && !authorized => answer(&mut out, 401, "", b"")?,
            (path, Some(_)) if path.contains("/resolve/") => {
                let name = path.split_once(COMMIT).map_or("", |(_, name)| name.trim_start_matches('/'));
                answer(&mut out, 302, &format!("Location: http://127.0.0.1:{port}/cdn/{name}\r\n"), b"")?;
            }
            (path, Some(body)) if path.contains("/cdn/") => {
                assert_eq!(authorization, "", "a redirect must not forward the token");
                file(&mut out, body, range.filter(|_| !faults.no_ranges), &faults, state)?;
            }
            (path, None) if path.starts_with(&format!("/api/models/{REPO}/revision/main")) => {
                let body = listing(&state.lock().expect("the state").files);
                answer(&mut out, 200, "", body.as_bytes())?;
            }
            _ => answer(&mut out, 404, "", b"")?,
        }
    }
}

fn answer(out: &mut TcpStream, status: u16, headers: &str, body: &[u8]) -> std::io::Result<()> {
    write!(out, "HTTP/1.1 {status} X\r\n{headers}Content-Length: {}\r\n\r\n", body.len())?;
    out.write_all(body)
}

fn file(
    out: &mut TcpStream,
    mut body: Vec<u8>,
    range: Option<String>,
    faults: &Faults,
    state: &Mutex<State>,
) -> std::io::Result<()> {
    if faults.damages {
        body[1000] ^= 1;
    }
    let total = body.len();
    let range = range.and_then(|range| {
        let (start, end) = range.strip_prefix("bytes=")?.split_once('-')?;
        Some((start.parse::<usize>().ok()?, end.parse::<usize>().ok()?))
    });
    let part = match range {
        Some((start, end)) => {
            write!(out, "HTTP/1.1 206 X\r\nContent-Range: bytes {start}-{end}/{total}\r\n")?;
            &body[start..=end]
        }
        None => {
            write!(out, "HTTP/1.1 200 X\r\n")?;
            &body[..]
        }
    };
    write!(out, "Content-Length: {}\r\n\r\n", part.len())?;
    for piece in part.chunks(1 << 16) {
        let sent = {
            let mut state = state.lock().expect("the state");
            state.sent += piece.len() as u64;
            state.sent
        };
        if faults.breaks_after.is_some_and(|limit| sent > limit) {
            return Err(std::io::ErrorKind::ConnectionAborted.into());
        }
        if let Some(rate) = faults.slow {
            thread::sleep(Duration::from_secs_f64(piece.len() as f64 / rate as f64));
        }
        out.write_all(piece)?;
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

fn listing(files: &HashMap<String, Vec<u8>>) -> String {
    let mut siblings: Vec<_> = files
        .iter()
        .map(|(name, bytes)| {
            let size = bytes.len();
            json!({ "rfilename": name, "size": size, "blobId": "00ff", "lfs": { "sha256": hex(bytes), "size": size } })
        })
        .collect();
    siblings.push(
        json!({ "rfilename": "../../evil.gguf", "size": 1, "blobId": "00", "lfs": { "sha256": "00", "size": 1 } }),
    );
    json!({ "sha": COMMIT, "siblings": siblings, "cardData": { "license": "apache-2.0" } }).to_string()
}

/// `len` bytes without a pattern.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 7u64;
    let step = |_| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 56) as u8
    };
    (0..len).map(step).collect()
}

/// Five chunks of 8 MiB, the last one short.
fn large() -> Vec<u8> {
    noise((4 << 23) + 12345)
}

fn home() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn path_of(output: &Output) -> PathBuf {
    assert!(output.status.success(), "{}", err(output));
    PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
}

/// The file names in the folder of blobs.
fn blobs(home: &TempDir) -> Vec<String> {
    let folder = home.path().join("hub/models--tests--Tiny-GGUF/blobs");
    let names = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = names.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_model_is_downloaded_run_listed_and_removed() {
    let mut model = Vec::new();
    firelight::synth::write("tiny-llama", "Q4_0", &mut model).expect("a model");
    let hub =
        Hub::start(vec![("Tiny-Q4_0.gguf", model.clone()), ("Tiny-Q8_0.gguf", noise(9 << 20)), ("a.md", vec![1])]);
    let home = home();
    let name = format!("{REPO}:q4_0");
    let pulled = hub.run(&home, &["pull", &name]);
    let path = path_of(&pulled);
    assert!(path.ends_with(format!("hub/models--tests--Tiny-GGUF/snapshots/{COMMIT}/Tiny-Q4_0.gguf")), "{path:?}");
    assert_eq!(fs::read(&path).expect("the file"), model);
    assert!(err(&pulled).contains("licence: apache-2.0"), "{}", err(&pulled));
    assert_eq!(blobs(&home), [hex(&model)], "only the requested file");
    assert!(!home.path().join("evil.gguf").exists());
    // A cached model is used by name, without requests.
    hub.set(Faults::default());
    let run = hub.run(&home, &["run", &name, "--raw", "--greedy", "-n", "3", "--offline", "Once"]);
    assert!(run.status.success(), "{}", err(&run));
    let info = hub.run(&home, &["show", &format!("hf.co/{REPO}")]);
    assert!(String::from_utf8_lossy(&info.stdout).contains("architecture    llama"), "{}", err(&info));
    assert_eq!(hub.log(), [""; 0]);
    let list = hub.run(&home, &["list"]);
    assert!(String::from_utf8_lossy(&list.stdout).contains("tests/Tiny-GGUF:Tiny-Q4_0.gguf"), "{list:?}");
    let rm = hub.run(&home, &["rm", &name]);
    assert!(rm.status.success() && err(&rm).contains("removed"), "{}", err(&rm));
    assert!(!home.path().join("hub/models--tests--Tiny-GGUF").exists());
    let rm = hub.run(&home, &["rm", &name]);
    assert!(rm.status.code() == Some(1) && err(&rm).contains("firelight list"), "{}", err(&rm));
}

#[test]
fn run_downloads_a_missing_model_and_reports_it() {
    let mut model = Vec::new();
    firelight::synth::write("tiny-llama", "Q8_0", &mut model).expect("a model");
    let hub = Hub::start(vec![("Tiny-Q8_0.gguf", model)]);
    let home = home();
    let offline = hub.run(&home, &["run", REPO, "--offline", "--raw", "Once"]);
    assert!(offline.status.code() == Some(1) && err(&offline).contains("offline"), "{}", err(&offline));
    assert_eq!(hub.log(), [""; 0]);
    let run = hub.run(&home, &["run", REPO, "--raw", "-n", "3", "Once"]);
    assert!(run.status.success() && err(&run).contains("fetching"), "{}", err(&run));
}

/// Without a quantization, the largest file that fits is chosen by its header, before the rest is downloaded.
#[test]
fn without_a_quantization_the_largest_that_fits_is_chosen() {
    let model = |types: &str| {
        let mut model = Vec::new();
        firelight::synth::write("tiny-llama", types, &mut model).expect("a model");
        model
    };
    let (small, large) = (model("Q4_0"), model("F16"));
    // The largest file gets a tensor of an unsupported type (Q4_2). The name is followed by the rank 2, two sizes, and
    // the type.
    let mut strange = model("F32");
    let name = b"blk.0.ffn_down.weight";
    let at = strange.windows(name.len()).position(|w| w == name).expect("the tensor") + name.len() + 4 + 16;
    strange[at..at + 4].copy_from_slice(&4u32.to_le_bytes());
    let hub = Hub::start(vec![("Tiny-Q4_0.gguf", small), ("Tiny-F16.gguf", large), ("Tiny-Q4_2.gguf", strange)]);
    let home = home();
    let pulled = hub.run(&home, &["pull", REPO]);
    let why = err(&pulled);
    // Software adapters report enough memory for the larger one.
    assert!(path_of(&pulled).ends_with("Tiny-F16.gguf") && why.contains("the largest that fits"), "{why}");
    let wrong = hub.run(&home, &["pull", &format!("{REPO}:Q5_K_M")]);
    assert!(wrong.status.code() == Some(1) && err(&wrong).contains("there are Q4_2, F16, Q4_0"), "{}", err(&wrong));
}

/// A file named by a model name or URL is downloaded, and no other.
#[test]
fn the_named_file_is_downloaded() {
    let files = [
        ("Tiny-Q4_0.gguf", 10),
        ("old/Tiny-Q4_0.gguf", 40),
        ("Tiny-F16.gguf", 50),
        ("my tiny-Q8_0.gguf", 20),
        ("Tiny-UD-Q8_0.gguf", 30),
        ("BF16/Tiny-BF16.gguf", 60),
        ("a.md", 1),
    ];
    let files = files.map(|(name, kib)| (name, noise(kib << 10)));
    let hub = Hub::start(files.to_vec());
    let host = format!("127.0.0.1:{}", hub.port);
    for (name, file) in [
        (format!("{REPO}:Tiny-Q4_0.gguf"), "Tiny-Q4_0.gguf"),
        (format!("{REPO}:old/tiny-q4_0.gguf"), "old/Tiny-Q4_0.gguf"),
        (format!("https://huggingface.co/{REPO}?show_file_info=Tiny-Q4_0.gguf"), "Tiny-Q4_0.gguf"),
        (format!("https://WWW.HuggingFace.co/{REPO}/tree/main?show_file_info=Tiny%2DQ4_0.gguf"), "Tiny-Q4_0.gguf"),
        (format!("HTTPS://HF.CO/{REPO}/blob/main/my%20tiny-Q8_0.gguf#x"), "my tiny-Q8_0.gguf"),
        (format!("http://{host}/{REPO}/resolve/main/old/Tiny-Q4_0.gguf?download=true"), "old/Tiny-Q4_0.gguf"),
        (format!("https://huggingface.co/{REPO}/tree/main/BF16"), "BF16/Tiny-BF16.gguf"),
        (format!("\"hf.co/{REPO}:UD-Q8_0\" "), "Tiny-UD-Q8_0.gguf"),
        (format!("{REPO}:bf16"), "BF16/Tiny-BF16.gguf"),
    ] {
        let home = home();
        let path = path_of(&hub.run(&home, &["pull", &name]));
        let bytes = &files.iter().find(|(name, _)| *name == file).expect("it").1;
        assert!(
            path.ends_with(format!("{COMMIT}/{file}")) && fs::read(&path).expect("it") == *bytes,
            "{name}: {path:?}"
        );
        assert_eq!(blobs(&home), [hex(bytes)], "{name}: only this file");
    }
    hub.set(Faults::default());
    for (name, words) in [
        (format!("{REPO}:Q4_0"), &["old/Tiny-Q4_0.gguf, Tiny-Q4_0.gguf"][..]),
        (format!("{REPO}:nope.gguf"), &["Tiny-F16.gguf", "F16"]),
        (format!("https://huggingface.co/{REPO}?show_file_info=nope.gguf"), &["nope.gguf"]),
        (format!("https://huggingface.co/{REPO}/blob/main/a.md"), &["a.md"]),
    ] {
        let home = home();
        let pulled = hub.run(&home, &["pull", &name]);
        let said = err(&pulled);
        assert_eq!(pulled.status.code(), Some(1), "{name}: {said}");
        assert!(words.iter().any(|word| said.contains(word)), "{name}: {said}");
        assert_eq!(blobs(&home), [""; 0], "{name}");
    }
    let requests = hub.log().len();
    for name in [
        format!("https://huggingface.co/{REPO}/tree/v2"),
        format!("https://huggingface.co/datasets/{REPO}"),
        format!("https://ollama.com/{REPO}"),
        "llama3.2:1b".to_string(),
    ] {
        let pulled = hub.run(&home(), &["pull", &name]);
        assert!(pulled.status.code() == Some(1) && err(&pulled).contains("ORG/REPO"), "{}", err(&pulled));
    }
    assert_eq!(hub.log().len(), requests, "invalid names must not cause requests");
}

/// `:latest` (Ollama's default tag) selects no quantization, and offline errors list the cached models.
#[test]
fn latest_selects_no_quantization_and_offline_errors_list_cached_models() {
    let mut model = Vec::new();
    firelight::synth::write("tiny-llama", "Q4_0", &mut model).expect("a model");
    let hub = Hub::start(vec![("Tiny-Q4_0.gguf", model)]);
    let home = home();
    let address = format!("https://huggingface.co/{REPO}/blob/main/Tiny-Q4_0.gguf");
    assert!(path_of(&hub.run(&home, &["pull", &format!("hf.co/{REPO}:latest")])).ends_with("Tiny-Q4_0.gguf"));
    hub.set(Faults::default());
    for name in [&format!("{REPO}:latest"), &address, &address.replace("https://", ""), &format!("hf.co/{REPO}")] {
        let info = hub.run(&home, &["info", name, "--offline"]);
        assert!(info.status.success(), "{name}: {}", err(&info));
    }
    for name in [format!("{REPO}:Q8_0"), address.replace("Q4", "Q8"), format!("{REPO}:q8_0")] {
        let info = hub.run(&home, &["info", &name, "--offline"]);
        let said = err(&info);
        assert!(info.status.code() == Some(1) && said.contains("offline"), "{name}: {said}");
        assert!(said.contains(&format!("cached are {REPO}:Tiny-Q4_0.gguf")), "{name}: {said}");
    }
    let other = hub.run(&home, &["info", "some/other", "--offline"]);
    assert!(err(&other).contains("firelight list") && !err(&other).contains("Tiny"), "{}", err(&other));
    assert_eq!(hub.log(), [""; 0]);
}

#[test]
fn an_interrupted_download_resumes() {
    let body = large();
    let hub = Hub::start(vec![("Big-Q8_0.gguf", body.clone())]);
    let (home, name) = (home(), format!("{REPO}:Q8_0"));
    // Kills the program during the download.
    hub.set(Faults { slow: Some(6 << 20), ..Faults::default() });
    let mut child = hub.command(&home, &["pull", &name]).stderr(Stdio::null()).spawn().expect("the program starts");
    let journal = |home: &TempDir| {
        let folder = home.path().join("hub/models--tests--Tiny-GGUF/blobs");
        let text = fs::read(folder.join(format!("{}.firelight.json", hex(&body)))).unwrap_or_default();
        let json: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
        json["chunks"].as_array().map_or(0, Vec::len)
    };
    let begin = Instant::now();
    while journal(&home) == 0 {
        assert!(begin.elapsed() < Duration::from_secs(60), "no chunk arrived");
        thread::sleep(Duration::from_millis(20));
    }
    child.kill().expect("a running process");
    child.wait().expect("an ended process");
    let had = journal(&home);
    assert!(had < 5, "all {had} chunks were downloaded before the kill");
    hub.set(Faults::default());
    assert_eq!(fs::read(path_of(&hub.run(&home, &["pull", &name]))).expect("the file"), body);
    // One request tests for range support.
    let requests = hub.log().iter().filter(|line| line.starts_with("GET /cdn/")).count();
    assert_eq!(requests, 1 + 5 - had, "{:?}", hub.log());
    assert_eq!(blobs(&home), [hex(&body)]);
}

#[test]
fn network_faults_are_recovered_or_reported() {
    let body = large();
    let hub = Hub::start(vec![("Big-Q8_0.gguf", body.clone())]);
    let name = format!("{REPO}:Q8_0");
    let good = |faults: Faults| {
        let home = home();
        hub.set(faults);
        assert_eq!(fs::read(path_of(&hub.run(&home, &["pull", &name]))).expect("the file"), body);
        assert_eq!(blobs(&home), [hex(&body)]);
    };
    good(Faults { refuses: (3, 503), ..Faults::default() });
    good(Faults { no_ranges: true, ..Faults::default() });
    let bad = |faults: Faults, words: &[&str]| {
        let home = home();
        hub.set(faults);
        let pulled = hub.run(&home, &["pull", &name]);
        assert_eq!(pulled.status.code(), Some(1), "{}", err(&pulled));
        assert!(words.iter().all(|word| err(&pulled).contains(word)), "{words:?}: {}", err(&pulled));
        assert!(!blobs(&home).contains(&hex(&body)), "a damaged file must not get the final name");
        home
    };
    let home = bad(Faults { damages: true, ..Faults::default() }, &["damaged", "try again"]);
    assert_eq!(blobs(&home), [""; 0]);
    bad(Faults { token: Some("secret"), ..Faults::default() }, &["401", "HF_TOKEN"]);
    // The server dies at 40 %; the next attempt resumes.
    let home = bad(Faults { breaks_after: Some(body.len() as u64 * 2 / 5), ..Faults::default() }, &["broke off"]);
    hub.set(Faults { token: Some("secret"), ..Faults::default() });
    let again = hub.command(&home, &["pull", &name]).env("HF_TOKEN", "secret").output().expect("the program starts");
    assert_eq!(fs::read(path_of(&again)).expect("the file"), body);
    hub.set(Faults::default());
    let missing = hub.run(&home, &["pull", "tests/Other-GGUF"]);
    assert!(err(&missing).contains("404") && err(&missing).contains("spelling"), "{}", err(&missing));
    let mut gone = hub.command(&home, &["pull", "tests/Other-GGUF"]);
    let gone = gone.env("HF_ENDPOINT", "http://127.0.0.1:1").output().expect("the program starts");
    assert!(err(&gone).contains("cannot be reached"), "{}", err(&gone));
}

/// Two concurrent processes download a file only once.
#[test]
fn two_processes_download_a_file_once() {
    let body = large();
    let hub = Hub::start(vec![("Big-Q8_0.gguf", body.clone())]);
    let (home, name) = (home(), format!("{REPO}:Q8_0"));
    let children: Vec<_> = (0..2)
        .map(|_| {
            hub.command(&home, &["pull", &name])
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("it starts")
        })
        .collect();
    for child in children {
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(fs::read(path_of(&output)).expect("the file"), body);
    }
    assert_eq!(hub.log().iter().filter(|line| line.starts_with("GET /cdn/")).count(), 6, "{:?}", hub.log());
    assert_eq!(blobs(&home), [hex(&body)]);
}

/// A file system of 4 MiB, mounted for the test.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_reported_with_sizes() {
    let hub = Hub::start(vec![("Big-Q8_0.gguf", large())]);
    let home = home();
    let disk = home.path().join("hub");
    fs::create_dir(&disk).expect("a folder");
    let mount = |args: &[&str]| Command::new("mount").args(args).arg(&disk).stderr(Stdio::null()).status();
    if !mount(&["-t", "tmpfs", "-o", "size=4m", "none"]).is_ok_and(|status| status.success()) {
        assert!(std::env::var_os("CI").is_none(), "a disk cannot be mounted");
        return println!("skipped: only root can mount a small file system");
    }
    let pulled = hub.run(&home, &["pull", &format!("{REPO}:Q8_0")]);
    let unmounted = Command::new("umount").arg(&disk).status().expect("umount runs");
    assert!(unmounted.success());
    let text = err(&pulled);
    assert!(
        pulled.status.code() == Some(1) && text.contains("GB are to come") && text.contains("firelight list"),
        "{text}"
    );
}
