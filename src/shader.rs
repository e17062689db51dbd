//! Joins WGSL text: a header of constants, a kernel file, and the files it imports. Text in, text out; no GPU here.
//!
//! WGSL does not care about the order of declarations, so *importing a file that defines the agreed names* is the whole
//! mechanism of specialisation: every quant type defines `load_block` and `decode4`, both reduction files define
//! `reduce_sum`. `shaders/README.md` lists the roles and the names that their files define. Directives are comments, so
//! that the files stay WGSL to a reader:
//!
//! * `//#import lib/step` includes a file; `//#import $weight` includes the files that the kernel's [`ShaderSource`]
//!   names for that role, or its section of `lib/defaults`; `//#import $weight as w2_` also prefixes each of its
//!   top-level names (and its binding and planes), so that a kernel can read two quantized matrices, or keys and
//!   values. Several files in one line share their names.
//! * `//#enable f16` declares a feature that the file needs.
//! * `//#unroll i N` ... `//#end` repeats a body with `i` replaced by `0u`, `1u`, ... N is a number or a constant.
//!   naga turns every `for` into a guarded `while (true)`, so inner loops are written this way.
//!
//! A source that imports [`FOLD`] is changed in one more way: `main` first finds its place in the grid (`unfold`).

use std::collections::BTreeSet;
use std::fmt;

/// A constant of the header.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Const {
    /// `const NAME = 7u;`
    U32(u32),
    /// `const NAME: f32 = 0.5;`
    F32(f32),
    /// `const NAME = true;`
    Bool(bool),
}

impl fmt::Display for Const {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Const::U32(v) => write!(f, "{v}"),
            Const::F32(v) => write!(f, "{v:?}"),
            Const::Bool(v) => write!(f, "{v}"),
        }
    }
}

impl From<u32> for Const {
    fn from(value: u32) -> Self {
        Const::U32(value)
    }
}

impl From<f32> for Const {
    fn from(value: f32) -> Self {
        Const::F32(value)
    }
}

impl From<bool> for Const {
    fn from(value: bool) -> Self {
        Const::Bool(value)
    }
}

/// A kernel variant: a file, the files it imports by role, and its constants. Plain data.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct ShaderSource {
    /// The kernel's file under `shaders/`, without `.wgsl`.
    pub file: &'static str,
    /// Role and file, for `//#import $role`; a role may have several files.
    pub imports: Vec<(&'static str, &'static str)>,
    /// Header constants.
    pub consts: Vec<(&'static str, Const)>,
}

impl ShaderSource {
    /// The file and what it imports, without folders: `matvec reduce_subgroup exact q8_0`.
    pub fn name(&self) -> String {
        let imports = self.imports.iter().map(|(_, file)| file.rsplit('/').next().unwrap_or(file));
        [self.file].into_iter().chain(imports).collect::<Vec<_>>().join(" ")
    }

    /// The name and the constants: `matvec reduce_subgroup exact q8_0, GROUPS = 32, TILE = 1`.
    pub fn label(&self) -> String {
        let consts = self.consts.iter().map(|(name, value)| format!(", {name} = {value}"));
        self.name() + &consts.collect::<String>()
    }
}

/// The import of kernels whose grid is folded; see `ops/grid.rs`.
pub const FOLD: (&str, &str) = ("fold", "lib/fold");

/// The dialect of the generated text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShaderLanguage {
    /// naga, natively: it rejects `enable subgroups;`.
    Native,
    /// A browser: it demands `enable subgroups;`, and proves uniformity more strictly than naga.
    Web,
}

/// Every shader file, by name: its path under `shaders/` without `.wgsl`. Listed by `build.rs`.
pub const FILES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/shaders.rs"));

fn file(name: &str) -> &'static str {
    FILES.iter().find(|(n, _)| *n == name).unwrap_or_else(|| panic!("no shader file {name}")).1
}

/// The section of `lib/defaults` for a role, if it has one.
fn default_of(role: &str) -> Option<&'static str> {
    let mut sections = file("lib/defaults").split("//#role ").skip(1);
    sections.find_map(|section| section.split_once('\n').filter(|(name, _)| *name == role)).map(|(_, text)| text)
}

/// The whole WGSL text of a variant.
///
/// # Panics
/// If a file, role or constant is missing: a bug in the kernel's Rust file.
pub fn assemble(source: &ShaderSource, language: ShaderLanguage) -> String {
    let mut text = Text { source, seen: BTreeSet::new(), enabled: BTreeSet::new(), out: String::new() };
    for (name, value) in &source.consts {
        text.out.push_str(&declare(name, *value));
    }
    text.include(file(source.file));
    if source.imports.contains(&FOLD) {
        text.include("//#import lib/step");
        text.out = unfold(&text.out);
    }
    let mut header = String::new();
    if text.enabled.remove("subgroups") && language == ShaderLanguage::Web {
        header += "enable subgroups;\ndiagnostic(off, subgroup_uniformity);\n";
    }
    header.extend(text.enabled.iter().map(|feature| format!("enable {feature};\n")));
    header + &unroll(&text.out, source)
}

fn declare(name: &str, value: Const) -> String {
    match value {
        Const::U32(v) => format!("const {name} = {v}u;\n"),
        Const::F32(v) => format!("const {name}: f32 = {v:?};\n"),
        Const::Bool(v) => format!("const {name} = {v};\n"),
    }
}

/// A text that is put together.
struct Text<'a> {
    source: &'a ShaderSource,
    /// Files that are in it.
    seen: BTreeSet<&'a str>,
    /// Features that they need.
    enabled: BTreeSet<&'a str>,
    out: String,
}

impl<'a> Text<'a> {
    fn include(&mut self, text: &'a str) {
        for line in text.lines() {
            if let Some(feature) = line.strip_prefix("//#enable ") {
                self.enabled.insert(feature);
            } else if let Some(import) = line.trim().strip_prefix("//#import ") {
                self.import(import);
            } else {
                self.out.push_str(line);
                self.out.push('\n');
            }
        }
    }

    fn import(&mut self, import: &'a str) {
        let (what, prefix) = match import.split_once(" as ") {
            Some((what, prefix)) => (what, Some(prefix.trim())),
            None => (import, None),
        };
        match prefix {
            Some(prefix) => {
                let (seen, out) = (std::mem::take(&mut self.seen), std::mem::take(&mut self.out));
                self.import_all(what);
                let inner = std::mem::replace(&mut self.out, out);
                self.out.push_str(&rename(&inner, prefix));
                self.seen = seen;
            }
            None => self.import_all(what),
        }
    }

    /// Files and roles, each of them once: a library that two others need comes in once.
    fn import_all(&mut self, names: &'a str) {
        for name in names.split_whitespace() {
            match name.strip_prefix('$') {
                Some(role) => self.import_role(role),
                None if self.seen.insert(name) => self.include(file(name)),
                None => {}
            }
        }
    }

    fn import_role(&mut self, role: &'a str) {
        let chosen = self.source.imports.iter().filter(|(of, _)| *of == role);
        let mut files = chosen.map(|(_, file)| *file).peekable();
        if files.peek().is_none() {
            let default = default_of(role);
            self.include(default.unwrap_or_else(|| panic!("{}: nothing chosen for ${role}", self.source.file)));
        }
        for name in files {
            if self.seen.insert(name) {
                self.include(file(name));
            }
        }
    }
}

/// Prefixes every top-level name of `text`, and the names that a file of weights or of the KV cache expects from its
/// kernel.
fn rename(text: &str, prefix: &str) -> String {
    let mut names: BTreeSet<String> = ["weight", "PLANE1", "PLANE2", "PLANE3", "cache"].map(String::from).into();
    for line in text.lines() {
        let mut words = line.split(|c: char| !(c.is_alphanumeric() || c == '_'));
        if let (Some("fn" | "struct" | "const" | "alias"), Some(name)) = (words.next(), words.next()) {
            names.insert(name.to_string());
        }
    }
    replace_words(text, |word| names.contains(word).then(|| format!("{prefix}{word}")))
}

/// A kernel whose `main` takes its place in the grid from `lib/fold` instead of the dispatch: `wg`, the workgroup, or
/// `id`, the invocation.
///
/// # Panics
/// If `main` is not written as all kernels write it.
fn unfold(text: &str) -> String {
    let (before, main) = text.split_once("fn main(").expect("a main function");
    let (given, body) = main.split_once(") {\n").expect("its body");
    let own = given.replace("workgroup_id) wg:", "workgroup_id) folded:");
    let (own, id) = match own.replace("global_invocation_id) id:", "local_invocation_id) local:") {
        local if local == own => (own, String::new()),
        local => {
            let size = before.rsplit_once("@workgroup_size(").and_then(|(_, size)| size.split_once(')'));
            let size = size.expect("a workgroup's size").0;
            let own = format!("@builtin(workgroup_id) folded: vec3<u32>, {local}");
            (own, format!("    let id = wg * vec3<u32>({size}, 1u, 1u) + local;\n"))
        }
    };
    assert!(own.contains(" folded:"), "main asks neither for its workgroup nor for its invocation");
    format!("{before}fn main({own}) {{\n{}{id}{body}", file(FOLD.1))
}

fn unroll(text: &str, source: &ShaderSource) -> String {
    let mut out = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(macro_) = line.trim().strip_prefix("//#unroll ") else {
            out.push_str(line);
            out.push('\n');
            continue;
        };
        let (var, count) = macro_.split_once(' ').expect("//#unroll NAME COUNT");
        let count = count.trim();
        let n = count.parse::<u32>().unwrap_or_else(|_| match source.consts.iter().find(|(name, _)| *name == count) {
            Some((_, Const::U32(n))) => *n,
            _ => panic!("{}: //#unroll {var} {count}: no such constant", source.file),
        });
        let (mut body, mut depth) = (String::new(), 1);
        for line in lines.by_ref() {
            match line.trim() {
                l if l.starts_with("//#unroll ") => depth += 1,
                "//#end" => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                break;
            }
            body.push_str(line);
            body.push('\n');
        }
        assert_eq!(depth, 0, "{}: //#unroll without //#end", source.file);
        for i in 0..n {
            let copy = replace_words(&body, |word| (word == var).then(|| format!("{i}u")));
            out.push_str(&unroll(&copy, source));
        }
    }
    out
}

/// Copies `text` and replaces each identifier for which `replacement` returns a text.
fn replace_words(text: &str, replacement: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_alphanumeric() || c == '_') {
        out.push_str(&rest[..start]);
        rest = &rest[start..];
        let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
        let word = &rest[..end];
        out.push_str(&replacement(word).unwrap_or_else(|| word.to_string()));
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_without_a_file_has_its_default() {
        let text = |imports| {
            let source = ShaderSource { file: "gather", imports, ..Default::default() };
            let mut text =
                Text { source: &source, seen: BTreeSet::new(), enabled: BTreeSet::new(), out: String::new() };
            text.include("//#import $softcap\n//#import $epilogue");
            text.out
        };
        let (default, chosen) = (text(vec![]), text(vec![("softcap", "attention/softcap/tanh")]));
        assert!(default.contains("return score;") && !default.contains("SOFTCAP") && !default.contains("fn sink"));
        assert!(chosen.contains("SOFTCAP * tanh") && !chosen.contains("return score;"));
        assert_eq!(default.matches("fn epilogue").count(), 1);
    }

    #[test]
    fn unroll_nests_and_counts_by_constant() {
        let source = ShaderSource { file: "t", consts: vec![("N", Const::U32(2))], ..Default::default() };
        let text = "//#unroll i N\na(i);\n//#unroll j 2\nb(i, j, ij);\n//#end\n//#end\n";
        assert_eq!(
            unroll(text, &source),
            "a(0u);\nb(0u, 0u, ij);\nb(0u, 1u, ij);\na(1u);\nb(1u, 0u, ij);\nb(1u, 1u, ij);\n"
        );
    }

    #[test]
    fn a_prefix_reaches_every_name_of_the_file() {
        let text = "struct Block { q: u32 }\nfn load_block(g: u32) -> Block { return Block(weight[PLANE1 + g].x); }";
        let want = "struct w_Block { q: u32 }\nfn w_load_block(g: u32) -> w_Block { return w_Block(w_weight[w_PLANE1 + g].x); }";
        assert_eq!(rename(text, "w_"), want);
        let (text, want) =
            ("alias Cell = u32;\nlet c: Cell = cache[0];", "alias k_Cell = u32;\nlet c: k_Cell = k_cache[0];");
        assert_eq!(rename(text, "k_"), want);
    }
}
