//! The rules of ARCHITECTURE.md that the compiler does not hold: who may name what, and how long a file may be. They are
//! checked on the text of `src`, comments and test modules left out.

use std::path::Path;

/// Every module of the crate, ground floor first. A module uses its own layer and those below it.
const LAYERS: [&[&str]; 10] = [
    &["error", "send", "text", "checkpoint", "dtype", "output"],
    &["caps", "graph", "shader"],
    &["ops"],
    &["gpu"],
    &["plan"],
    &[
        "model",
        "memory_plan",
        "kv_cache",
        "executor",
        "tokenizer",
        "template",
        "sampler",
        "synth",
        "demo",
        "quant_recipe",
    ],
    &["session", "hub"],
    &["conversation"],
    &["engine"],
    FRONT_ENDS,
];

const FRONT_ENDS: &[&str] = &["main", "cli", "server", "chat", "web"];

/// Words that only these modules may write.
const RESERVED: [(&str, &[&str]); 6] = [
    ("wgpu", &["gpu", "plan"]),
    ("target_arch", &["gpu", "lib", "send", "main", "cli", "server", "chat", "web"]),
    ("wasm_bindgen", &["gpu", "chat", "web"]),
    ("js_sys", &["gpu", "chat", "web"]),
    ("pollster", FRONT_ENDS),
    ("block_on", FRONT_ENDS),
];

/// Lines of a file, at most.
const LINES: usize = 600;

struct File {
    /// Below `src`.
    path: String,
    text: String,
}

impl File {
    /// The top-level module: `plan` of `plan/fuse.rs`.
    fn module(&self) -> &str {
        self.path.split('/').next().unwrap_or_default().trim_end_matches(".rs")
    }

    /// Without comments, and without the test module, which comes last or is a file `tests.rs`.
    fn code(&self) -> String {
        if self.path.ends_with("/tests.rs") {
            return String::new();
        }
        let tests = self.text.find("#[cfg(test)]\nmod ").unwrap_or(self.text.len());
        self.text[..tests]
            .lines()
            .map(|line| line.split("//").next().unwrap_or_default())
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// What it does against the rules.
    fn faults(&self) -> Vec<String> {
        let (code, mut out) = (self.code(), Vec::new());
        for (word, allowed) in RESERVED {
            if !allowed.contains(&self.module()) && words(&code).any(|w| w == word) {
                out.push(format!("{} names {word}, which is for {}", self.path, allowed.join(", ")));
            }
        }
        if let Some(layer) = layer(self.module()) {
            for used in used(&code) {
                match self::layer(&used) {
                    Some(other) if other > layer => out.push(format!("{} uses {used}, which is above it", self.path)),
                    Some(_) => {}
                    None => out.push(format!("{} uses {used}, which has no layer", self.path)),
                }
            }
        } else if self.module() != "lib" {
            out.push(format!("{} has no layer: add it to LAYERS", self.path));
        }
        let lines = self.text.lines().count();
        if lines > LINES {
            out.push(format!("{} has {lines} lines, {LINES} are allowed: divide it", self.path));
        }
        out
    }
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_'))
}

/// The modules behind each `crate::`, alone or in braces. Other names (`Error`, `Result`) come from the ground floor.
fn used(code: &str) -> Vec<String> {
    let mut out = Vec::new();
    for path in code.split("crate::").skip(1) {
        match path.strip_prefix('{') {
            Some(group) => out.extend(heads(group)),
            None => out.extend(words(path).next().map(str::to_string)),
        }
    }
    out.retain(|name| name.starts_with(|c: char| c.is_lowercase()));
    out
}

/// `a`, `b` of `a, b::{c, d}};`: the first word of each member of a group.
fn heads(group: &str) -> Vec<String> {
    let (mut out, mut depth, mut fresh) = (vec![String::new()], 0, true);
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                out.push(String::new());
                fresh = true;
            }
            c if depth == 0 && fresh && (c.is_alphanumeric() || c == '_') => out.last_mut().expect("one").push(c),
            c if c.is_whitespace() => {}
            _ => fresh = false,
        }
    }
    out
}

fn files(dir: &Path, below: &str, out: &mut Vec<File>) {
    for entry in std::fs::read_dir(dir).expect("a folder") {
        let entry = entry.expect("an entry");
        let name = entry.file_name().into_string().expect("a name");
        if entry.path().is_dir() {
            files(&entry.path(), &format!("{below}{name}/"), out);
        } else if name.ends_with(".rs") {
            let text = std::fs::read_to_string(entry.path()).expect("text");
            out.push(File { path: format!("{below}{name}"), text });
        }
    }
}

#[test]
fn modules_keep_to_their_layer_and_names() {
    let mut all = Vec::new();
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut all);
    assert!(all.len() > 30 && all.iter().any(|f| f.path == "plan/mod.rs"), "src is elsewhere");
    let faults: Vec<_> = all.iter().flat_map(File::faults).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn faults_are_found() {
    let faults = |path: &str, text: &str| File { path: path.into(), text: text.into() }.faults().len();
    assert_eq!(faults("plan/mod.rs", "use crate::ops; wgpu::x(); use crate::{Error, gpu::{self, Gpu}, graph};"), 0);
    assert_eq!(faults("ops/add.rs", "use wgpu::Buffer;"), 1);
    assert_eq!(faults("ops/add.rs", "// wgpu\n#[cfg(test)]\nmod tests { use pollster; }"), 0);
    assert_eq!(faults("session/mod.rs", "pollster::block_on(x)"), 2);
    assert_eq!(faults("session/tests.rs", "pollster::block_on(x)"), 0);
    assert_eq!(faults("cli/mod.rs", "use crate::session; pollster::block_on(x)"), 0);
    assert_eq!(faults("graph.rs", "fn f() { crate::plan::f() }"), 1);
    assert_eq!(faults("graph.rs", "use crate::{\n    ops::{self, Op},\n    plan, session::{fit, x},\n};"), 2);
    assert_eq!(faults("graph.rs", "use crate::nonsense;"), 1);
    assert_eq!(faults("nonsense.rs", ""), 1);
    assert_eq!(faults("memory_plan.rs", &"\n".repeat(601)), 1);
}
