//! The rules of ARCHITECTURE.md that the compiler does not enforce: layers, reserved words, the length of files and
//! lines, unique names of public types, and paths in documents. They are checked on the text of `src`.

use std::collections::BTreeMap;
use std::path::Path;

/// Every module of the crate, lowest layer first. A module uses its own layer and those below it.
const LAYERS: [&[&str]; 10] = [
    &["error", "send", "setters", "text", "checkpoint", "dtype", "output"],
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
        "sim",
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

/// The maximum number of lines in a file.
const LINES: usize = 600;
/// The maximum number of characters in a comment line: rustfmt does not wrap comments.
const COLUMNS: usize = 120;

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

    /// The text without comments and without the test module at its end.
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

    /// Violations of the rules.
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
        let wide = |line: &str| line.trim_start().starts_with("//") && line.chars().count() > COLUMNS;
        for (number, line) in (1..).zip(self.text.lines()).filter(|(_, line)| wide(line)) {
            out.push(format!(
                "{}:{number} is {} characters wide, {COLUMNS} are allowed",
                self.path,
                line.chars().count()
            ));
        }
        out
    }

    /// The public types that it defines.
    fn public_types(&self) -> Vec<String> {
        let (code, mut out) = (self.code(), Vec::new());
        for line in code.lines() {
            let Some(item) = line.trim_start().strip_prefix("pub ") else { continue };
            let mut words = item.split(|c: char| !(c.is_alphanumeric() || c == '_'));
            if ["struct", "enum", "trait", "type", "union"].contains(&words.next().unwrap_or_default()) {
                out.extend(words.next().map(str::to_string));
            }
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

/// The modules after each `crate::`, alone or in braces. Other names (`Error`, `Result`) belong to the lowest layer.
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

/// Types that two files define. `native.rs` and `web.rs` of a folder are alternatives; `fetch.rs` is native, too.
fn duplicate_types(all: &[File]) -> Vec<String> {
    let mut types: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for file in all {
        for name in file.public_types() {
            types.entry(name).or_default().push(&file.path);
        }
    }
    let alternative = |path: &str| path.replace("native.rs", "web.rs").replace("platform/fetch.rs", "platform/web.rs");
    types.retain(|_, paths| {
        paths.dedup_by_key(|path| alternative(path));
        paths.len() > 1
    });
    types.iter().map(|(name, paths)| format!("{name} is defined in {}", paths.join(" and "))).collect()
}

/// The paths in a document's code spans: what starts with a top-level folder, or below `src` with a module and a `/`.
fn paths(document: &str) -> Vec<String> {
    let spans = document.split('`').skip(1).step_by(2);
    let path = |span: &&str| {
        let plain = span.chars().all(|c| c.is_alphanumeric() || "_-./".contains(c));
        let top = span.split('/').next().unwrap_or_default();
        let known = ["src", "shaders", "tests", "examples", "benches", "scripts", "assets", "fuzz"].contains(&top);
        plain && span.contains('/') && (known || layer(top).is_some())
    };
    spans.filter(path).map(str::to_string).collect()
}

fn all_files() -> Vec<File> {
    let mut all = Vec::new();
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut all);
    assert!(all.len() > 30 && all.iter().any(|f| f.path == "plan/mod.rs"), "src is elsewhere");
    all
}

#[test]
fn modules_keep_to_their_layer_and_names() {
    let faults: Vec<_> = all_files().iter().flat_map(File::faults).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn public_type_names_are_unique() {
    let duplicates = duplicate_types(&all_files());
    assert!(duplicates.is_empty(), "{}", duplicates.join("\n"));
}

#[test]
fn paths_in_documents_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = std::fs::read_to_string(root.join("ARCHITECTURE.md")).expect("text");
    let paths = paths(&document);
    assert!(paths.len() >= 30, "only {} paths are found", paths.len());
    let missing: Vec<_> =
        paths.iter().filter(|path| !root.join(path).exists() && !root.join("src").join(path).exists()).collect();
    assert!(missing.is_empty(), "ARCHITECTURE.md names {missing:?}");
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
    assert_eq!(faults("graph.rs", "use crate::{\n    ops::{self, Op},\n    plan, session::{fit, x},\n};"), 3);
    assert_eq!(faults("graph.rs", "use crate::nonsense;"), 1);
    assert_eq!(faults("nonsense.rs", ""), 1);
    assert_eq!(faults("memory_plan.rs", &"\n".repeat(601)), 1);
    assert_eq!(faults("graph.rs", &format!("// {}\n// {}", "x".repeat(117), "x".repeat(118))), 1);
    let file = |path: &str, text: &str| File { path: path.into(), text: text.into() };
    let (one, two) =
        (file("a.rs", "pub struct X(u32);\npub enum Y {}"), file("b.rs", "    pub type X = u32;\nstruct Y;"));
    assert_eq!(duplicate_types(&[one, two]), ["X is defined in a.rs and b.rs"]);
    let (one, two) = (file("gpu/native.rs", "pub struct X;"), file("gpu/web.rs", "pub struct X;"));
    assert!(duplicate_types(&[one, two]).is_empty());
    assert_eq!(paths("`src/x.rs` `ops/add.rs` `ops/<op>.rs` `a b` c/d `/v1/x` `plan`"), ["src/x.rs", "ops/add.rs"]);
}
