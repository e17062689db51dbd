//! Every kernel variant of the catalog parses, validates, stays within the limits that WebGPU guarantees, and
//! translates to the languages of every backend. No GPU is needed.

use firelight::ops::catalog::catalog;
use firelight::shader::{FILES, ShaderLanguage, assemble};
use naga::AddressSpace;
use naga::back::{glsl, hlsl, msl, spv};
use naga::proc::BoundsCheckPolicies;
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A variant: its name and its text in a shader language.
type Variant = (String, String);

/// All variants whose texts differ.
fn variants(dialect: ShaderLanguage) -> Vec<Variant> {
    let mut seen = HashSet::new();
    let texts = catalog().into_iter().map(|(name, source)| (name, assemble(&source, dialect)));
    texts.filter(|(_, text)| seen.insert(text.clone())).collect()
}

/// The variants whose texts differ in more than the values of constants; all with FIRELIGHT_TESTS=all.
fn structures(variants: &[Variant]) -> Vec<&Variant> {
    let all = std::env::var("FIRELIGHT_TESTS").is_ok_and(|tests| tests == "all");
    let value = regex::Regex::new(r"(?m)^(const \w+) = [-+.\w]+;").unwrap();
    let mut seen = HashSet::new();
    variants.iter().filter(|(_, text)| all || seen.insert(value.replace_all(text, "$1;").into_owned())).collect()
}

fn is_baseline(name: &str) -> bool {
    name.starts_with("baseline/")
}

/// Whether it uses cooperative matrices, which only some native backends have.
fn is_cooperative(name: &str) -> bool {
    name.contains("_cooperative.")
}

/// Whether it uses f16 arithmetic.
fn is_f16(name: &str) -> bool {
    name.contains("/matmul_f16")
}

/// Validates a text with only the features of its tier.
fn validate(name: &str, text: &str) -> Result<(naga::Module, ModuleInfo), String> {
    let module = naga::front::wgsl::parse_str(text).map_err(|e| e.emit_to_string_with_path(text, name))?;
    // unpack2x16float needs this; every WebGPU device has it.
    let guaranteed = Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    let mut capabilities = if is_baseline(name) { guaranteed } else { guaranteed | Capabilities::SUBGROUP };
    if is_cooperative(name) {
        capabilities |= Capabilities::SHADER_FLOAT16 | Capabilities::COOPERATIVE_MATRIX;
    }
    if is_f16(name) {
        capabilities |= Capabilities::SHADER_FLOAT16;
    }
    let info = Validator::new(ValidationFlags::all(), capabilities)
        .validate(&module)
        .map_err(|e| e.emit_to_string_with_path(text, name))?;
    Ok((module, info))
}

/// The guaranteed limits of WebGPU that a module exceeds.
fn over_limits(name: &str, module: &naga::Module, info: &ModuleInfo) -> Vec<String> {
    let workgroup_bytes = if is_cooperative(name) { 24 << 10 } else { 16 << 10 };
    let mut out = Vec::new();
    for (i, entry) in module.entry_points.iter().enumerate() {
        let used = |space: fn(&AddressSpace) -> bool| {
            let function = info.get_entry_point(i);
            module.global_variables.iter().filter(move |(h, v)| space(&v.space) && !function[*h].is_empty())
        };
        let buffers = used(|s| matches!(s, AddressSpace::Storage { .. })).count();
        let bytes: u32 = used(|s| matches!(s, AddressSpace::WorkGroup))
            .map(|(_, v)| module.types[v.ty].inner.size(module.to_ctx()).next_multiple_of(16))
            .sum();
        let invocations: u32 = entry.workgroup_size.iter().product();
        for (what, is, most) in [
            ("storage buffers", buffers as u32, 8),
            ("bytes of workgroup memory", bytes, workgroup_bytes),
            ("invocations", invocations, 256),
        ] {
            if is > most {
                out.push(format!("{}: {is} {what}, at most {most} are allowed", entry.name));
            }
        }
    }
    out
}

/// Translates a module to the language of every backend that may run it.
fn translate(name: &str, module: &naga::Module, info: &ModuleInfo) -> Result<(), String> {
    let subgroups = !is_baseline(name);
    let options = spv::Options { lang_version: if subgroups { (1, 3) } else { (1, 0) }, ..Default::default() };
    spv::write_vec(module, info, &options, None).map_err(|e| format!("no SPIR-V: {e}"))?;

    let options = msl::Options { lang_version: (2, 4), ..Default::default() };
    msl::write_string(module, info, &options, &Default::default()).map_err(|e| format!("no MSL: {e}"))?;
    if is_cooperative(name) {
        return Ok(());
    }

    let shader_model = match (is_f16(name), subgroups) {
        (true, _) => hlsl::ShaderModel::V6_2,
        (false, true) => hlsl::ShaderModel::V6_0,
        (false, false) => hlsl::ShaderModel::V5_1,
    };
    let (options, pipeline) = (hlsl::Options { shader_model, ..Default::default() }, Default::default());
    let mut text = String::new();
    hlsl::Writer::new(&mut text, &options, &pipeline).write(module, info, None).map_err(|e| format!("no HLSL: {e}"))?;
    // OpenGL ES has no f16.
    if is_f16(name) {
        return Ok(());
    }

    let options = glsl::Options { version: glsl::Version::new_gles(310), ..Default::default() };
    let (shader_stage, entry_point) = (naga::ShaderStage::Compute, "main".into());
    let pipeline = glsl::PipelineOptions { shader_stage, entry_point, multiview: None };
    let mut text = String::new();
    glsl::Writer::new(&mut text, module, info, &options, &pipeline, BoundsCheckPolicies::default())
        .and_then(|mut writer| writer.write())
        .map_err(|e| format!("no GLSL: {e}"))?;
    Ok(())
}

/// Runs `check` on every item, on all cores.
fn each<T: Sync, R: Send>(items: &[T], check: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let share = items.len().div_ceil(threads).max(1);
    let check = &check;
    std::thread::scope(|scope| {
        let mut running = Vec::new();
        for chunk in items.chunks(share) {
            running.push(scope.spawn(move || chunk.iter().map(check).collect::<Vec<R>>()));
        }
        running.into_iter().flat_map(|thread| thread.join().expect("no check panics")).collect()
    })
}

#[test]
fn every_variant_validates_translates_and_is_within_the_limits() {
    let variants = variants(ShaderLanguage::Native);
    let translated: HashSet<&str> = structures(&variants).iter().map(|(name, _)| name.as_str()).collect();
    let results = each(&variants, |(name, text)| {
        let (module, info) = validate(name, text)?;
        if let Some(over) = over_limits(name, &module, &info).first() {
            return Err(format!("{name}: {over}"));
        }
        match translated.contains(name.as_str()) {
            true => translate(name, &module, &info).map_err(|e| format!("{name}: {e}")),
            false => Ok(()),
        }
    });
    no_failures(results);
}

/// Asserts that every result is `Ok`, and that there are results.
fn no_failures(results: Vec<Result<(), String>>) {
    let count = results.len();
    let failures: Vec<String> = results.into_iter().filter_map(Result::err).collect();
    println!("{count} shaders");
    assert!(failures.is_empty() && count > 1000, "{} of {count}:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn the_catalog_has_every_kernel_and_every_name_once() {
    let catalog = catalog();
    let names: HashSet<_> = catalog.iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), catalog.len());
    let used: HashSet<&str> =
        catalog.iter().flat_map(|(_, s)| s.imports.iter().map(|(_, f)| *f).chain([s.file])).collect();
    // Other files import libraries by name. Only `bench` uses the files below, and `lib/defaults` is read by section.
    let imports = |line: &str, name: &str| line.starts_with("//#import ") && line.split(' ').any(|word| word == name);
    let imported = |name: &str| FILES.iter().any(|(_, text)| text.lines().any(|line| imports(line, name)));
    let unused = FILES.iter().map(|(name, _)| *name).filter(|name| !used.contains(name) && !imported(name));
    let alone = ["copy", "element/f16", "element/f32", "lib/defaults", "rate", "rate_cooperative"];
    assert_eq!(unused.collect::<Vec<_>>(), alone);
}

/// Checks that all loops of a text end: a counter is incremented or halved, and is not written elsewhere.
fn loops_count(text: &str) -> Result<(), String> {
    let text: String =
        text.lines().map(|line| line.split("//").next().unwrap_or_default().to_string() + "\n").collect();
    let head =
        regex::Regex::new(r"for \((?:var \w+ = [^;]+)?; (\w+) (?:< [^;]+; (\w+) \+= [^)]+|> 0u; (\w+) >>= 1u)\) \{")
            .unwrap();
    for (at, _) in text.match_indices("for (").chain(text.match_indices("while")).chain(text.match_indices("loop {")) {
        let line = text[at..].lines().next().unwrap_or_default();
        let found = head.captures(line).filter(|found| found.get(0).is_some_and(|all| all.start() == 0));
        let found = found.ok_or_else(|| format!("{line} has no bounded counter"))?;
        let counter = &found[1];
        if found.get(2).or(found.get(3)).is_none_or(|other| other.as_str() != counter) {
            return Err(format!("{line} increments another variable"));
        }
        let body = &text[at + found[0].len()..];
        let mut depth = 1;
        let end = body.find(|c| {
            depth += match c {
                '{' => 1,
                '}' => -1,
                _ => 0,
            };
            depth == 0
        });
        let writes = regex::Regex::new(&format!(r"\b{counter} [-+*/%|&^<>]*= ")).unwrap();
        if writes.is_match(&body[..end.unwrap_or(body.len())]) {
            return Err(format!("{line} writes its counter in the body"));
        }
    }
    Ok(())
}

/// Pipelines are created without wgpu's loop bounding, so loops must end; see `plan/pipelines.rs`.
#[test]
fn loops_end() {
    for (name, text) in FILES.iter().filter(|(name, _)| !name.starts_with("sample")) {
        loops_count(text).unwrap_or_else(|why| panic!("{name}: {why}"));
    }
    let ends = |text: &str| loops_count(text).is_ok();
    assert!(ends("for (var i = 0u; i < N; i += WG) { x += i; for (var s = 8u; s > 0u; s >>= 1u) { y[s] = i; } }"));
    assert!(!ends("for (var i = 0u; i < N; j += 1u) { x += i; }"));
    assert!(!ends("for (var i = 0u; i < N; i += 1u) { if (x) { i = 0u; } }"));
    assert!(!ends("for (var i = 0u; x[i] != 0u; i += 1u) { }"));
    assert!(!ends("loop { if (x) { break; } }") && !ends("while (x) { }"));
}

#[test]
fn web_texts_are_native_texts_with_another_header() {
    for (name, source) in catalog() {
        let (native, web) = (assemble(&source, ShaderLanguage::Native), assemble(&source, ShaderLanguage::Web));
        let header = web.strip_suffix(&native).unwrap_or_else(|| panic!("{name}: the texts differ"));
        assert_eq!(
            header.contains("enable subgroups;"),
            ["subgroupAdd", "subgroupBroadcast", "subgroup_id"].iter().any(|op| native.contains(op)),
            "{name}"
        );
        assert!(!(is_baseline(&name) && native.contains("subgroup")), "{name}");
    }
}

/// Compiles the texts with Chromium's compiler, if it is installed.
#[test]
fn tint_compiles_every_structure() {
    if Command::new("tint").arg("--help").output().is_err() {
        println!("skipped: tint is not on PATH");
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str| -> PathBuf {
        let path = dir.path().join(name.replace('/', "-")).with_extension("wgsl");
        std::fs::write(&path, text).expect("a file");
        path
    };
    let wrong = file("wrong", "fn f() -> f32 { return 1u; }");
    assert!(tint(&wrong).is_err(), "tint accepts an invalid shader");
    let variants = variants(ShaderLanguage::Web);
    let texts = structures(&variants).into_iter().filter(|(name, _)| !is_cooperative(name));
    let files: Vec<_> = texts.map(|(name, text)| file(&format!("{name}.x"), text)).collect();
    no_failures(each(&files, |path| tint(path)));
}

fn tint(path: &Path) -> Result<(), String> {
    let output = Command::new("tint").arg(path).arg("--format").arg("wgsl").output().map_err(|e| e.to_string())?;
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("error:") { Err(said.into_owned()) } else { Ok(()) }
}

#[test]
fn the_checks_detect_violations() {
    let text = |declarations: &str, size: u32, body: &str| {
        format!("{declarations}\n@compute @workgroup_size({size}) fn main() {{ {body} }}")
    };
    let over = |text: &str| {
        let (module, info) = validate("baseline/x", text).expect("valid");
        over_limits("baseline/x", &module, &info)
    };
    let array = |n: u32| format!("var<workgroup> a: array<vec4<f32>, {n}>;");
    assert_eq!(over(&text(&array(1024), 256, "a[0].x = 1.0;")), Vec::<String>::new());
    assert_eq!(over(&text(&array(1025), 256, "a[0].x = 1.0;")).len(), 1);
    assert_eq!(over(&text(&array(1025), 257, "a[0].x = 1.0;")).len(), 2);
    let buffers: String =
        (1..=9).map(|i| format!("@group(0) @binding({i}) var<storage, read_write> b{i}: array<u32>;")).collect();
    let body = |n: u32| (1..=n).map(|i| format!("b{i}[0] = 1u;")).collect::<String>();
    assert_eq!(over(&text(&buffers, 1, &body(8))), Vec::<String>::new());
    assert_eq!(over(&text(&buffers, 1, &body(9))).len(), 1);
    let subgroups = text("", 32, "let x = subgroupAdd(1u);");
    assert!(validate("baseline/x", &subgroups).is_err());
    assert!(validate("subgroups/x", &subgroups).is_ok());
    let f16 = "enable f16; @compute @workgroup_size(1) fn main() { var x = 1.0h; }";
    assert!(validate("baseline/x", f16).is_err());
}

/// Contrary to the standard, Chromium 156 and Firefox 153 zero a variable declared without an initializer only once,
/// not in every iteration of a loop. So accumulators declared within a loop need an initializer.
#[test]
fn accumulators_within_loops_have_initializers() {
    let unset = |text: &str| -> Vec<String> {
        let declared = text.lines().filter(|line| line.starts_with("        ")).filter_map(|line| {
            let (name, rest) = line.trim_start().strip_prefix("var ")?.split_once(':')?;
            (!rest.contains('=')).then_some(name)
        });
        let added = |name: &&str| {
            let assigns = |line: &str| line.trim_start().starts_with(*name) && line.contains("+=");
            text.lines().any(assigns)
        };
        declared.filter(added).map(str::to_string).collect()
    };
    for (name, text) in FILES {
        assert_eq!(unset(text), Vec::<String>::new(), "{name}: give them an initializer");
    }
    assert_eq!(unset("        var a: array<f32, 2>;\n        a[1] += 1.0;"), ["a"]);
    assert_eq!(
        unset("    var a: f32;\n        a += 1.0;\n        var b: f32;\n        var c = 0.0;\n        c += b;").len(),
        0
    );
}
