//! Prepares the process for graphics drivers before any is loaded: selects the software Vulkan driver on a machine
//! without a GPU, and sets the runtime directory that libraries expect. Linux only; other systems need nothing.

use std::env;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Environment variables with which a user chooses a driver.
const CHOSEN_BY_USER: [&str; 4] = ["VK_DRIVER_FILES", "VK_ICD_FILENAMES", "VK_ADD_DRIVER_FILES", "WGPU_BACKEND"];

/// Device nodes of GPUs: Direct Rendering Manager, NVIDIA, WSL, Adreno, Mali.
const GPU_NODES: [&str; 5] = ["dri/renderD", "nvidia0", "dxg", "kgsl-3d0", "mali0"];

/// Prepares the process. Call it first, while the process has one thread.
pub fn prepare() {
    give_runtime_directory();
    if CHOSEN_BY_USER.iter().any(|name| env::var_os(name).is_some()) || has_gpu(Path::new("/dev")) {
        return;
    }
    let Some(wrapper) = newer_lavapipe() else { return };
    let Ok(program) = env::current_exe() else { return };
    // Returns only if the wrapper cannot be started; the system's driver is used then.
    let _ = Command::new(wrapper).arg(program).args(env::args_os().skip(1)).exec();
}

/// Mesa opens libwayland-client even without a display, and the library complains on stderr if XDG_RUNTIME_DIR is unset
/// (containers, cron, ssh). This is the directory that systemd creates; it need not exist.
fn give_runtime_directory() {
    if env::var_os("XDG_RUNTIME_DIR").is_some_and(|directory| Path::new(&directory).is_absolute()) {
        return;
    }
    let Ok(own) = std::fs::metadata("/proc/self") else { return };
    // SAFETY: `prepare` runs before any thread is started, so no other thread reads the environment.
    unsafe { env::set_var("XDG_RUNTIME_DIR", format!("/run/user/{}", own.uid())) };
}

/// Whether `dev` holds a GPU's device node.
fn has_gpu(dev: &Path) -> bool {
    GPU_NODES.iter().any(|node| {
        let (folder, prefix) = node.rsplit_once('/').unwrap_or(("", node));
        let names = std::fs::read_dir(dev.join(folder)).into_iter().flatten().flatten();
        names.map(|entry| entry.file_name()).any(|name| name.to_string_lossy().starts_with(prefix))
    })
}

/// The wrapper with which `scripts/newer-mesa.sh` starts programs on the newer lavapipe, if it is installed.
fn newer_lavapipe() -> Option<PathBuf> {
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| Some(env::home_dir()?.join(".cache")))?;
    let wrapper = cache.join("firelight/mesa-trixie/run");
    wrapper.is_file().then_some(wrapper)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpus_are_seen_by_their_device_nodes() {
        let dev = tempfile::tempdir().unwrap();
        assert!(!has_gpu(dev.path()));
        std::fs::create_dir(dev.path().join("dri")).unwrap();
        std::fs::write(dev.path().join("dri/card0"), "").unwrap();
        std::fs::write(dev.path().join("nvidiactl"), "").unwrap();
        assert!(!has_gpu(dev.path()), "a display without a renderer, and a driver without a card");
        std::fs::write(dev.path().join("dri/renderD128"), "").unwrap();
        assert!(has_gpu(dev.path()));
    }
}
