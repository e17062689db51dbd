//! Lists the shader files for `src/shader.rs`: `&[("lib/step", include_str!("..")), ..]`.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=shaders");
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("shaders");
    let mut files = Vec::new();
    find(&root, &mut files)?;
    files.sort();
    let entry = |path: &PathBuf| {
        let name = path.strip_prefix(&root).expect("below the root").with_extension("");
        let name = name.to_str().expect("a name in UTF-8").replace('\\', "/");
        format!("    ({name:?}, include_str!({path:?})),\n")
    };
    let list: String = files.iter().map(entry).collect();
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("shaders.rs");
    fs::write(out, format!("&[\n{list}]\n"))
}

fn find(folder: &Path, out: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            find(&path, out)?;
        } else if path.extension().is_some_and(|extension| extension == "wgsl") {
            out.push(path);
        }
    }
    Ok(())
}
