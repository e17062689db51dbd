//! The real binary as a server, and a minimal HTTP client that can also misbehave.

#![allow(dead_code, reason = "each test file uses a part")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

/// A running server; dropping it ends the process.
pub struct Served {
    child: Child,
    pub address: SocketAddr,
}

impl Drop for Served {
    fn drop(&mut self) {
        // The process may already have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts the program with `serve` and these arguments, on a free port.
pub fn serve(args: &[&str]) -> Served {
    let mut child = command(args).spawn().expect("the program starts");
    let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    out.read_line(&mut line).expect("a line");
    let address = line.trim().rsplit_once("http://").map(|(_, address)| address.parse());
    let address = address.unwrap_or_else(|| panic!("no address in {line:?}")).expect("an address");
    Served { child, address }
}

/// The command that starts the server.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_firelight"));
    command.arg("serve").args(args).args(["--port", "0"]);
    command.env_remove("FIRELIGHT_API_KEY").stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

/// The trained model, or `None` (with a note; a failure in CI) where it is missing.
pub fn stories() -> Option<PathBuf> {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let root = std::env::var_os("FIRELIGHT_SHARED").map_or_else(default, PathBuf::from);
    let path = root.join("data/models/stories260K.gguf");
    if path.exists() {
        return Some(path);
    }
    assert!(std::env::var_os("CI").is_none(), "{} is missing: set FIRELIGHT_SHARED", path.display());
    eprintln!("skipped: {} is missing", path.display());
    None
}

/// A response.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    /// In lower case.
    pub head: String,
    pub body: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// The JSON of each `data:` line.
    pub fn events(&self) -> Vec<Value> {
        let data = self.body.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
        data.map(|data| serde_json::from_str(data).unwrap_or_else(|e| panic!("{e}: {data}"))).collect()
    }

    /// The JSON of each line.
    pub fn lines(&self) -> Vec<Value> {
        self.body.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
    }
}

impl Served {
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("the server listens");
        stream.set_read_timeout(Some(Duration::from_secs(120))).expect("a time");
        stream
    }

    /// Sends a request without waiting for the response.
    pub fn send(&self, method: &str, path: &str, headers: &str, body: &str) -> TcpStream {
        let mut stream = self.connect();
        let (host, length) = (self.address, body.len());
        let host = if headers.to_lowercase().contains("host:") { String::new() } else { format!("Host: {host}\r\n") };
        let head =
            format!("{method} {path} HTTP/1.1\r\n{host}Connection: close\r\n{headers}Content-Length: {length}\r\n\r\n");
        // The server may reject the request before it has read the body.
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
        stream
    }

    pub fn get(&self, path: &str) -> Reply {
        read(self.send("GET", path, "", ""))
    }

    pub fn post(&self, path: &str, body: &Value) -> Reply {
        read(self.send("POST", path, "Content-Type: application/json\r\n", &body.to_string()))
    }

    /// A value of `/metrics`.
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").body;
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("firelight_{name} ")));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().expect("a number")
    }
}

/// Reads a whole response.
pub fn read(mut stream: TcpStream) -> Reply {
    let mut bytes = Vec::new();
    // After a rejection the connection may be reset; the response is complete by then.
    let _ = stream.read_to_end(&mut bytes);
    let at = bytes.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or_else(|| panic!("no reply: {bytes:?}"));
    let head = String::from_utf8_lossy(&bytes[..at]).to_lowercase();
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
    let body = &bytes[at + 4..];
    let body = if head.contains("transfer-encoding: chunked") { join_chunks(body) } else { body.to_vec() };
    Reply { status, head, body: String::from_utf8(body).expect("UTF-8") }
}

/// Joins the chunks of a body, which must have a final chunk.
fn join_chunks(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let at = rest.windows(2).position(|w| w == b"\r\n").expect("the length of a chunk");
        let length = std::str::from_utf8(&rest[..at]).expect("hexadecimal digits");
        let length = usize::from_str_radix(length, 16).expect("a length");
        if length == 0 {
            return body;
        }
        body.extend_from_slice(&rest[at + 2..at + 2 + length]);
        rest = &rest[at + 4 + length..];
    }
}
