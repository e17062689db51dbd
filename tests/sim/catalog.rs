//! The kernels of the catalog compile for the simulator: every eighth text, or all with FIRELIGHT_TESTS=all.

use firelight::ops::catalog::catalog;
use firelight::shader::{ShaderLanguage, assemble};
use firelight::sim::Program;
use std::collections::HashSet;

/// At one subgroup size: only cooperative matrices are lowered differently at others.
#[test]
fn variants_compile() {
    let mut seen = HashSet::new();
    let texts = catalog().into_iter().map(|(name, source)| (name, assemble(&source, ShaderLanguage::Native)));
    let texts: Vec<(String, String)> = texts.filter(|(_, text)| seen.insert(text.clone())).collect();
    let all = std::env::var("FIRELIGHT_TESTS").is_ok_and(|tests| tests == "all");
    let texts: Vec<_> = texts.into_iter().step_by(if all { 1 } else { 8 }).collect();
    let next = std::sync::atomic::AtomicUsize::new(0);
    let compile_some = || {
        let mut failures = Vec::new();
        while let Some((name, text)) = texts.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
            if let Err(e) = Program::compile(text, 32) {
                failures.push(format!("{name}: {e}"));
            }
        }
        failures
    };
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let failures: Vec<String> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(compile_some)).collect();
        running.into_iter().flat_map(|thread| thread.join().expect("nothing panics")).collect()
    });
    println!("{} texts", texts.len());
    assert!(failures.is_empty(), "{} of {}: {}", failures.len(), texts.len(), failures.join("\n"));
}
