//! Every dependency has a permissive licence.

use std::process::Command;

/// Licences that require no more than a notice; the font licences also require that changed fonts are renamed.
const PERMISSIVE: [&str; 15] = [
    "MIT",
    "MIT-0",
    "OFL-1.1",
    "Ubuntu-font-1.0",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Whether permissive licences alone satisfy an SPDX expression: one side of each OR, both sides of each AND.
fn permissive(expression: &str) -> bool {
    let text = expression.replace('/', " OR ").replace(['(', ')'], " ");
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if expression.contains('(') {
        // With parentheses: (A OR B) AND C is the only form in use; every part must be permissive.
        return expression.split(" AND ").all(|part| permissive(part.trim().trim_matches(['(', ')'])));
    }
    text.split(" OR ").any(|choice| choice.split(" AND ").all(|one| PERMISSIVE.contains(&one.trim())))
}

#[test]
fn dependencies_are_permissive() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--features", "chat,cli"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo metadata runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    assert!(packages.len() > 50, "only {} packages", packages.len());
    let bad: Vec<String> = packages
        .iter()
        .map(|p| (p["name"].to_string(), p["license"].as_str().unwrap_or("none")))
        .filter(|(_, licence)| !permissive(licence))
        .map(|(name, licence)| format!("{name}: {licence}"))
        .collect();
    assert!(bad.is_empty(), "{bad:#?}");
}

#[test]
fn spdx_expressions_are_evaluated() {
    for good in ["MIT", "MIT/Apache-2.0", "GPL-3.0 OR MIT", "(MIT OR Apache-2.0) AND Unicode-3.0"] {
        assert!(permissive(good), "{good}");
    }
    for bad in ["none", "GPL-3.0", "MIT AND GPL-3.0", "(GPL-2.0 OR GPL-3.0) AND MIT"] {
        assert!(!permissive(bad), "{bad}");
    }
}
