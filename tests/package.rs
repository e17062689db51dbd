//! The package for crates.io: its files and size, what a dependent builds by default, and that it builds.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The size limit of crates.io: 10 MiB.
const LIMIT: u64 = 10 << 20;

fn cargo(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO")).args(arguments).current_dir(folder).output().expect("cargo runs");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "cargo {}: {out}{err}", arguments.join(" "));
    out.into_owned()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn a_dependent_builds_neither_program_nor_server() {
    let tree = cargo(root(), &["tree", "--offline", "--edges=normal", "--prefix=none", "--format={p}"]);
    let crates: Vec<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(crates.contains(&"wgpu") && crates.contains(&"tokenizers"), "{tree}");
    for name in ["axum", "clap", "eframe", "egui", "hyper", "llguidance", "pollster", "rustyline", "tokio", "ureq"] {
        assert!(!crates.contains(&name), "{name} is built by default");
    }
    let least = cargo(root(), &["tree", "--offline", "--no-default-features", "--edges=normal", "--prefix=none"]);
    assert!(!least.contains("tokenizers"), "{least}");
}

/// Packs the crate into `target` and unpacks it there. Returns the unpacked folder.
fn package(target: &Path) -> PathBuf {
    let to = target.to_str().expect("a path in UTF-8");
    cargo(root(), &["package", "--offline", "--allow-dirty", "--no-verify", "--quiet", "--target-dir", to]);
    let version = env!("CARGO_PKG_VERSION");
    let file = target.join(format!("package/firelight-{version}.crate"));
    let bytes = std::fs::metadata(&file).expect("a package").len();
    assert!(bytes < LIMIT, "the package has {bytes} bytes");
    let unpacked = Command::new("tar").arg("-xzf").arg(&file).current_dir(target).status().expect("tar runs");
    assert!(unpacked.success());
    target.join(format!("firelight-{version}"))
}

/// With `FIRELIGHT_TESTS=all`, the packaged crate is also built as a dependency, which takes minutes.
#[test]
fn the_package_is_complete() {
    let folder = tempfile::tempdir().expect("a folder");
    let package = package(folder.path());
    for file in ["src/lib.rs", "shaders", "examples/generate.rs", "assets/demo/demo.gguf", "LICENSE-MIT"] {
        assert!(package.join(file).exists(), "{file} is missing");
    }
    for extra in ["tests", "assets/js", "assets/pictures", "scripts", "x"] {
        assert!(!package.join(extra).exists(), "{extra} is packaged");
    }
    if std::env::var("FIRELIGHT_TESTS").as_deref() != Ok("all") {
        return;
    }
    let app = folder.path().join("app");
    std::fs::create_dir_all(app.join("src")).expect("a folder");
    let manifest = format!(
        "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[dependencies]\nfirelight = {{ path = {:?} }}\n",
        package
    );
    std::fs::write(app.join("Cargo.toml"), manifest).expect("a manifest");
    std::fs::write(
        app.join("src/main.rs"),
        "fn main() {\n    let options = firelight::GpuOptions::default();\n    let _ = firelight::Gpu::open(&options);\n}\n",
    )
    .expect("a program");
    // The tested versions, which are already downloaded.
    std::fs::copy(root().join("Cargo.lock"), app.join("Cargo.lock")).expect("a lock file");
    cargo(&app, &["check", "--offline", "--quiet"]);
}

#[test]
fn the_crate_and_the_npm_package_have_one_version() {
    let text = std::fs::read_to_string(root().join("assets/js/package.json")).expect("a file");
    let package: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(package["version"], env!("CARGO_PKG_VERSION"));
}
