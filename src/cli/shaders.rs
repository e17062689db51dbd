//! `shaders`: writes every kernel variant as WGSL and translated to each driver's shader language.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use firelight::Error;
use firelight::ops::catalog::catalog;
use firelight::shader::{ShaderLanguage, assemble};
use naga::back::{glsl, hlsl, msl, spv};
use naga::proc::BoundsCheckPolicies;
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};

use super::term::Failure;
use super::{Result, term};

#[derive(clap::Args)]
#[command(after_help = "\
Files: .wgsl (what naga reads natively), .web.wgsl (what a browser gets), .spv (Vulkan), .metal (Metal), .hlsl (DX12) and \
.glsl (OpenGL ES 3.1).")]
pub struct ShadersArgs {
    /// The output folder
    dir: PathBuf,
    /// Write only variants whose names contain TEXT
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
}

pub fn run(args: ShadersArgs) -> Result {
    let mut seen = HashSet::new();
    let (mut count, mut notes, mut replaced) = (0, 0, 0);
    for (name, source) in catalog().into_iter().filter(|(name, _)| name.contains(&args.only)) {
        let text = assemble(&source, ShaderLanguage::Native);
        if !seen.insert(text.clone()) {
            continue;
        }
        let file = args.dir.join(&name);
        replaced += save(&file, "wgsl", text.as_bytes())?;
        replaced += save(&file, "web.wgsl", assemble(&source, ShaderLanguage::Web).as_bytes())?;
        let (module, info) = read(&name, &text)?;
        for (ending, translated) in translations(&module, &info, !name.starts_with("baseline/")) {
            match translated {
                Ok(bytes) => replaced += save(&file, ending, &bytes)?,
                Err(why) => {
                    notes += 1;
                    term::note(&format!("{name} has no .{ending}: {why}"));
                }
            }
        }
        count += 1;
    }
    if count == 0 {
        return Err(Failure::usage(format!("no variant name contains {:?}", args.only)));
    }
    let missing = if notes == 0 { String::new() } else { format!(", {notes} translations missing") };
    if replaced > 0 {
        term::note(&format!("replaced {replaced} existing files"));
    }
    Ok(writeln!(io::stdout(), "{count} variants in {}{missing}", args.dir.display())?)
}

/// Writes a file. Returns 1 if it replaced one.
fn save(file: &Path, ending: &str, bytes: &[u8]) -> Result<u32> {
    let path = PathBuf::from(format!("{}.{ending}", file.display()));
    let failed = |error| Error::io(format!("cannot write {}", path.display()), error);
    path.parent().map_or(Ok(()), fs::create_dir_all).map_err(failed)?;
    let replaced = path.exists().into();
    fs::write(&path, bytes).map_err(failed)?;
    Ok(replaced)
}

/// Parses and validates a variant as wgpu does.
fn read(name: &str, text: &str) -> Result<(naga::Module, ModuleInfo)> {
    let refused = |why: String| Failure::usage(format!("{name} is invalid: {why}"));
    let module = naga::front::wgsl::parse_str(text).map_err(|e| refused(e.emit_to_string(text)))?;
    let halves = Capabilities::SHADER_FLOAT16_IN_FLOAT32 | Capabilities::SHADER_FLOAT16;
    let capabilities = halves | Capabilities::SUBGROUP | Capabilities::COOPERATIVE_MATRIX;
    let mut validator = Validator::new(ValidationFlags::all(), capabilities);
    let info = validator.validate(&module).map_err(|e| refused(e.emit_to_string(text)))?;
    Ok((module, info))
}

type Translation = std::result::Result<Vec<u8>, String>;

/// File extensions and contents.
fn translations(module: &naga::Module, info: &ModuleInfo, subgroups: bool) -> [(&'static str, Translation); 4] {
    [
        ("spv", to_spirv(module, info, subgroups)),
        ("metal", to_msl(module, info)),
        ("hlsl", to_hlsl(module, info, subgroups)),
        ("glsl", to_glsl(module, info)),
    ]
}

fn to_spirv(module: &naga::Module, info: &ModuleInfo, subgroups: bool) -> Translation {
    let options = spv::Options { lang_version: if subgroups { (1, 3) } else { (1, 0) }, ..Default::default() };
    let words = spv::write_vec(module, info, &options, None).map_err(|e| e.to_string())?;
    Ok(words.into_iter().flat_map(u32::to_le_bytes).collect())
}

fn to_msl(module: &naga::Module, info: &ModuleInfo) -> Translation {
    let options = msl::Options { lang_version: (2, 4), ..Default::default() };
    let (text, _) = msl::write_string(module, info, &options, &Default::default()).map_err(|e| e.to_string())?;
    Ok(text.into_bytes())
}

fn to_hlsl(module: &naga::Module, info: &ModuleInfo, subgroups: bool) -> Translation {
    let shader_model = if subgroups { hlsl::ShaderModel::V6_0 } else { hlsl::ShaderModel::V5_1 };
    let options = hlsl::Options { shader_model, ..Default::default() };
    let (pipeline, mut text) = (Default::default(), String::new());
    hlsl::Writer::new(&mut text, &options, &pipeline).write(module, info, None).map_err(|e| e.to_string())?;
    Ok(text.into_bytes())
}

fn to_glsl(module: &naga::Module, info: &ModuleInfo) -> Translation {
    let options = glsl::Options { version: glsl::Version::new_gles(310), ..Default::default() };
    let (shader_stage, entry_point) = (naga::ShaderStage::Compute, "main".to_string());
    let pipeline = glsl::PipelineOptions { shader_stage, entry_point, multiview: None };
    let mut text = String::new();
    glsl::Writer::new(&mut text, module, info, &options, &pipeline, BoundsCheckPolicies::default())
        .and_then(|mut writer| writer.write())
        .map_err(|e| e.to_string())?;
    Ok(text.into_bytes())
}
