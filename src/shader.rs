//! Joins WGSL text: a header of constants, a kernel file, and the files it imports. Text in, text out; no GPU here.
//!
//! WGSL does not care about the order of declarations, so *importing a file that defines the agreed names* is the
//! whole mechanism of specialisation: every quant type defines `load_block` and `decode4`, both reduction files define
//! `reduce_sum`. Two macros exist, written as comments so that the files stay WGSL to a reader:
//!
//! * `//#import lib/step` takes in a file; `//#import $weight` takes in the files that the kernel's [`ShaderSource`] names for
//!   that role; `//#import $weight as w2_` also prefixes each of its top-level names (and its binding and planes), so that a
//!   kernel can read two quantized matrices, or keys and values. Several files in one line share their names.
//! * `//#unroll i N` ... `//#end` repeats a body with `i` replaced by `0u`, `1u`, ... N is a number or a constant.
//!   naga turns every `for` into a guarded `while (true)`, so inner loops are written this way.
//!
//! A source that imports [`FOLD`] is changed in one more way: `main` first finds its place in the grid (`unfold`).

use std::collections::BTreeSet;

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

/// What makes a kernel variant: a file, what it imports by role, and its constants. Plain data.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct ShaderSource {
    /// The kernel's file under `shaders/`, without `.wgsl`.
    pub file: &'static str,
    /// Role and file, for `//#import $role`; a role may have several files.
    pub imports: Vec<(&'static str, &'static str)>,
    /// Header constants.
    pub consts: Vec<(&'static str, Const)>,
}

/// What a kernel imports whose grid is folded; see `ops/grid.rs`.
pub const FOLD: (&str, &str) = ("fold", "lib/fold");

/// For whom the text is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShaderLanguage {
    /// naga, natively: it rejects `enable subgroups;`.
    Native,
    /// A browser: it demands `enable subgroups;`, and proves uniformity more strictly than naga.
    Web,
}

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        /// Every shader file, by name.
        pub const FILES: &[(&str, &str)] = &[$(($name, include_str!(concat!("../shaders/", $name, ".wgsl")))),*];
    };
}

files![
    "lib/step",
    "lib/fold",
    "lib/reduce",
    "lib/reduce_subgroup",
    "lib/weight",
    "lib/iq_grid",
    "lib/segment",
    "lib/x_at",
    "lib/dot_i8",
    "lib/quantize_x",
    "lib/sampling",
    "lib/score",
    "quant/f32",
    "quant/f16",
    "quant/bf16",
    "quant/q4_0",
    "quant/q4_1",
    "quant/q5_0",
    "quant/q5_1",
    "quant/q8_0",
    "quant/q2_k",
    "quant/q3_k",
    "quant/q4_k",
    "quant/q5_k",
    "quant/q6_k",
    "quant/iq1_s",
    "quant/iq1_m",
    "quant/iq2_xxs",
    "quant/iq2_xs",
    "quant/iq2_s",
    "quant/iq3_xxs",
    "quant/iq3_s",
    "quant/iq4_nl",
    "quant/iq4_xs",
    "quant/mxfp4",
    "quant/tq1_0",
    "quant/tq2_0",
    "kv/f16",
    "kv/f32",
    "kv/q8_0",
    "matmul/route/dense",
    "matmul/route/experts",
    "matmul/route/expert_tiles",
    "matmul/route/heads",
    "matmul/expert_slot/identity",
    "matmul/expert_slot/table",
    "activation/silu",
    "activation/gelu",
    "activation/clamped",
    "activation/sigmoid",
    "activation/product",
    "attention/mask/causal",
    "attention/mask/sliding_window",
    "attention/mask/chunked",
    "attention/softcap/none",
    "attention/softcap/tanh",
    "attention/temperature/none",
    "attention/temperature/llama4",
    "attention/sink/none",
    "attention/sink/per_head",
    "moe/scale/none",
    "moe/scale/per_expert",
    "norm/head/none",
    "norm/head/rms",
    "moe/selection/logit",
    "moe/selection/score",
    "moe/selection/biased",
    "moe/groups/none",
    "moe/groups/best",
    "kv/values/separate",
    "kv/values/in_keys",
    "kv/store/plain",
    "kv/store/q8_0",
    "norm/next/none",
    "norm/next/rms",
    "matmul/norm_scale/none",
    "matmul/norm_scale/rms",
    "element/f32",
    "element/f16",
    "matmul/cooperative/8",
    "matmul/cooperative/16",
    "matmul/dot/exact",
    "matmul/dot/int8",
    "matmul/gate_up_dot/exact",
    "matmul/gate_up_dot/int8",
    "matmul/quantize_x/none",
    "matmul/quantize_x/int8",
    "matmul/broadcast/subgroup",
    "matmul/broadcast/none",
    "matmul/sum_squares/none",
    "matmul/sum_squares/partial",
    "matmul/epilogue/none",
    "matmul/epilogue/bias",
    "matmul/epilogue/residual",
    "matmul/epilogue/bias_residual",
    "matmul/epilogue/expert_bias",
    "matmul/epilogue/routing_weight",
    "embed",
    "rms_norm",
    "norm_add",
    "layer_norm",
    "matvec",
    "matvec_glu",
    "matvec_qkv",
    "matmul",
    "matmul_rows",
    "matmul_f16",
    "matmul_int8",
    "matmul_cooperative",
    "rope",
    "kv_write",
    "kv_write_blocks",
    "rope_kv",
    "attention_decode",
    "attention_combine",
    "attention_prefill",
    "attention_cooperative",
    "glu",
    "head_slice",
    "head_concat",
    "short_conv",
    "delta_net",
    "add",
    "gather",
    "logit_scale",
    "router",
    "expert_sort",
    "expert_sum",
    "sample_scan",
    "sample_candidates",
    "sample_pick",
    "copy",
    "rate",
    "rate_cooperative",
];

fn file(name: &str) -> &'static str {
    FILES.iter().find(|(n, _)| *n == name).unwrap_or_else(|| panic!("no shader file {name}")).1
}

/// The whole WGSL text of a variant.
///
/// # Panics
/// If a file, role or constant is missing: a bug in the kernel's Rust file.
pub fn assemble(source: &ShaderSource, dialect: ShaderLanguage) -> String {
    let mut out = String::new();
    for (name, value) in &source.consts {
        out.push_str(&declare(name, *value));
    }
    let mut seen = BTreeSet::new();
    include(source, file(source.file), &mut seen, &mut out);
    if source.imports.contains(&FOLD) {
        include(source, "//#import lib/step", &mut seen, &mut out);
        out = unfold(&out);
    }
    let text = unroll(&out, source);
    let mut header = String::new();
    if dialect == ShaderLanguage::Web && names(&text, "subgroup") {
        header += "enable subgroups;\ndiagnostic(off, subgroup_uniformity);\n";
    }
    if names(&text, "<f16") {
        header += "enable f16;\n";
    }
    if names(&text, "coop_mat") {
        header += "enable wgpu_cooperative_matrix;\n";
    }
    header + &text
}

/// Whether code, not only a comment, has this in it.
fn names(text: &str, what: &str) -> bool {
    text.lines().any(|line| line.split("//").next().unwrap_or_default().contains(what))
}

fn declare(name: &str, value: Const) -> String {
    match value {
        Const::U32(v) => format!("const {name} = {v}u;\n"),
        Const::F32(v) => format!("const {name}: f32 = {v:?};\n"),
        Const::Bool(v) => format!("const {name} = {v};\n"),
    }
}

fn include(source: &ShaderSource, text: &str, seen: &mut BTreeSet<String>, out: &mut String) {
    for line in text.lines() {
        let Some(import) = line.trim().strip_prefix("//#import ") else {
            out.push_str(line);
            out.push('\n');
            continue;
        };
        let (what, prefix) = match import.split_once(" as ") {
            Some((what, prefix)) => (what, Some(prefix.trim())),
            None => (import, None),
        };
        let chosen = |role: &str| {
            let files = source.imports.iter().filter(|(r, _)| *r == role).map(|(_, file)| *file).collect::<Vec<_>>();
            assert!(!files.is_empty(), "{}: nothing chosen for ${role}", source.file);
            files
        };
        let names = what.split_whitespace().flat_map(|name| match name.strip_prefix('$') {
            Some(role) => chosen(role),
            None => vec![name],
        });
        match prefix {
            Some(prefix) => {
                let mut inner = String::new();
                let mut within = BTreeSet::new();
                names.for_each(|name| include(source, file(name), &mut within, &mut inner));
                out.push_str(&rename(&inner, prefix));
            }
            // A library file that two others need comes in once.
            None => names.for_each(|name| {
                if seen.insert(name.to_string()) {
                    include(source, file(name), seen, out);
                }
            }),
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

/// Copies `text`, asking for each identifier whether to put something else.
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
    use std::path::Path;

    #[test]
    fn every_shader_file_is_listed() {
        fn walk(root: &Path, dir: &Path, out: &mut Vec<String>) {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(root, &path, out);
                } else if path.extension().is_some_and(|extension| extension == "wgsl") {
                    let name = path.strip_prefix(root).unwrap().with_extension("");
                    out.push(name.to_str().unwrap().replace('\\', "/"));
                }
            }
        }
        let (root, mut found) = (Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders"), Vec::new());
        walk(&root, &root, &mut found);
        found.sort();
        let mut listed: Vec<_> = FILES.iter().map(|(n, _)| n.to_string()).collect();
        listed.sort();
        assert_eq!(found, listed);
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
