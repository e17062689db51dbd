//! The catalog's translations pass the tools of the platforms that read them: SPIR-V `spirv-val`, HLSL the compiler of
//! Direct3D 12 (DXC).

use std::collections::HashSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use firelight::ops::catalog::catalog;
use firelight::shader::{ShaderLanguage, assemble};
use naga::back::{hlsl, spv};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};

use crate::engine;
use crate::gpus::compilers;

/// A kernel of the catalog, as naga reads it.
struct Kernel {
    name: String,
    module: naga::Module,
    info: ModuleInfo,
}

/// As many variants as it takes to have each kernel with each of its imports; all with FIRELIGHT_TESTS=all.
fn kernels() -> Vec<Kernel> {
    let mut seen = HashSet::new();
    let mut out = Vec::new();
    for (name, source) in catalog() {
        let pairs = source.imports.iter().map(|(_, import)| (source.file, *import)).chain([(source.file, "")]);
        let new = pairs.filter(|pair| seen.insert(*pair)).count() > 0;
        if new || engine::all() {
            let text = assemble(&source, ShaderLanguage::Native);
            let module = naga::front::wgsl::parse_str(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
            let info = Validator::new(ValidationFlags::all(), Capabilities::all()).validate(&module);
            out.push(Kernel { info: info.unwrap_or_else(|e| panic!("{name}: {e}")), name, module });
        }
    }
    out
}

/// The tools that `scripts/gpu-compilers.sh` sets up beside the GPUs' compilers.
fn tool(name: &str) -> Option<PathBuf> {
    Some(Path::new(&compilers()?).with_file_name(name))
}

/// The SPIR-V that a Vulkan driver gets, with checks as in `plan/pipelines.rs`.
fn spirv(kernel: &Kernel) -> Vec<u8> {
    let options = spv::Options { lang_version: (1, 3), ..Default::default() };
    let words = spv::write_vec(&kernel.module, &kernel.info, &options, None);
    let words = words.unwrap_or_else(|e| panic!("{}: {e}", kernel.name));
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

#[test]
fn spirv_val_accepts_the_catalog() {
    let Some(validator) = tool("spirv-val") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let kernels = kernels();
    let validate = |(i, kernel): (usize, &Kernel)| {
        let file = folder.path().join(format!("{i}.spv"));
        std::fs::write(&file, spirv(kernel)).expect("a file is written");
        let output = Command::new(&validator).args(["--target-env", "vulkan1.3"]).arg(&file).output();
        let output = output.expect("spirv-val runs");
        let text = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        (!output.status.success()).then(|| format!("{}: {text}", kernel.name))
    };
    let faults: Vec<String> = kernels.iter().enumerate().filter_map(validate).collect();
    println!("{} kernels", kernels.len());
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
}

/// The shader model that a kernel needs. naga translates no cooperative matrices to HLSL.
fn shader_model(name: &str) -> Option<hlsl::ShaderModel> {
    if name.contains("_cooperative.") {
        None
    } else if name.contains("int8") {
        Some(hlsl::ShaderModel::V6_4)
    } else if name.contains("/matmul_f16") {
        Some(hlsl::ShaderModel::V6_2)
    } else {
        Some(hlsl::ShaderModel::V6_0)
    }
}

#[test]
fn dxc_compiles_the_catalog() {
    let Some(compiler) = tool("hlsl") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let (mut requests, mut count) = (String::new(), 0);
    let kernels = kernels();
    for (i, kernel) in kernels.iter().enumerate() {
        let Some(shader_model) = shader_model(&kernel.name) else { continue };
        let (options, pipeline) = (hlsl::Options { shader_model, ..Default::default() }, Default::default());
        let mut text = String::new();
        let writer = &mut hlsl::Writer::new(&mut text, &options, &pipeline);
        writer.write(&kernel.module, &kernel.info, None).unwrap_or_else(|e| panic!("{}: {e}", kernel.name));
        let file = folder.path().join(format!("{i}.hlsl"));
        std::fs::write(&file, text).expect("a file is written");
        requests += &format!("cs_{} {}\n", shader_model.to_str(), file.display());
        count += 1;
    }
    let library = compiler.with_file_name("libdxcompiler.so");
    let mut child = Command::new(&compiler);
    let mut child = child.arg(library).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("DXC runs");
    let mut input = child.stdin.take().expect("a pipe");
    let writing = std::thread::spawn(move || input.write_all(requests.as_bytes()).expect("DXC reads its input"));
    let output = child.wait_with_output().expect("DXC ends");
    writing.join().expect("no panic");
    let text = String::from_utf8_lossy(&output.stdout);
    let name = |path: &str| {
        let number = Path::new(path).file_stem()?.to_str()?.parse::<usize>().ok()?;
        Some(&kernels[number].name)
    };
    let answers: Vec<(&str, &str)> = text.lines().filter_map(|line| line.split_once(": ")).collect();
    let wrong = answers.iter().filter(|(_, outcome)| *outcome != "ok");
    let faults: Vec<String> = wrong.map(|(path, outcome)| format!("{:?}: {outcome}", name(path))).collect();
    println!("{count} kernels");
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
    assert_eq!(answers.len(), count, "DXC answers for every kernel");
}
