//! Published chat templates against what Hugging Face's `transformers` renders; hostile templates.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use firelight::Error;
use firelight::template::{ChatTemplate, TemplateInput};
use serde_json::{Value, json};

/// The shared test data, or `None` (with a note; a failure in CI) where it is missing.
fn shared() -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let root = std::env::var_os("FIRELIGHT_SHARED").map_or_else(beside, PathBuf::from);
    if root.join("data").is_dir() {
        return Some(root.join("data"));
    }
    assert!(std::env::var_os("CI").is_none(), "no test data in {}: set FIRELIGHT_SHARED", root.display());
    eprintln!("left out: no test data in {}", root.display());
    None
}

/// Whether the case comes out as it should; what is wrong otherwise.
fn check(template: &ChatTemplate, case: &Value) -> Result<(), String> {
    let mut case = case.clone();
    let object = case.as_object_mut().unwrap();
    let rendered = object.remove("rendered");
    let error = object.remove("error");
    object.remove("case");
    let input: TemplateInput = serde_json::from_value(case).unwrap();
    let got = template.render(&input);
    match (&rendered, &error, &got) {
        (Some(Value::String(want)), _, Ok(text)) if want == text => Ok(()),
        (Some(_), ..) => Err(format!("want {rendered:?}\n got {got:?}")),
        (None, Some(Value::String(error)), _) => match error.strip_prefix("TemplateError: ") {
            Some(want) => match got {
                Err(Error::Text(message)) if message.ends_with(want) => Ok(()),
                _ => Err(format!("want the refusal {want:?}\n got {got:?}")),
            },
            // Python failed over a type: rendering something is as good.
            None => Ok(()),
        },
        _ => Err("the case says neither what is rendered nor what is wrong".to_owned()),
    }
}

#[test]
fn published_templates() {
    let Some(data) = shared() else { return };
    let mut files: Vec<_> = std::fs::read_dir(data.join("templates")).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    let (mut failures, mut count) = (Vec::new(), 0);
    for path in files {
        let file: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let cases = file["cases"].as_array().unwrap();
        let template = match ChatTemplate::new(file["template"].as_str().unwrap()) {
            Ok(template) => template,
            Err(e) => {
                failures.push(format!("{name}: {e}"));
                continue;
            }
        };
        let wrong: Vec<_> = cases
            .iter()
            .filter_map(|case| Some(format!("{name}, {}: {}", case["case"], check(&template, case).err()?)))
            .collect();
        println!("{:3} of {:3}  {name}", cases.len() - wrong.len(), cases.len());
        count += cases.len();
        failures.extend(wrong);
    }
    assert!(count >= 190, "only {count} cases");
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}
