//! Quantization: each type's error compared with the error of ggml's quantizer on the same weights
//! (`tests/quantize/make.py` recorded it), and blocks that are hard to quantize.

use std::path::{Path, PathBuf};

use firelight::checkpoint::Checkpoint;
use firelight::dtype::DType;

/// Our error may be this much larger than the reference's.
const SLACK: f64 = 1.01;

/// Rows of 1,024 nearly normal weights, every second one with heavy tails; the same as in `make.py`.
fn drawn() -> Vec<f32> {
    let mut state = 1u64;
    let mut number = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f64 - f64::from(1 << 23)
    };
    let mut out = Vec::new();
    for row in 0..64 {
        for _ in 0..1024 {
            let x = (number() + number() + number() + number()) / f64::from(1 << 23);
            out.push((if row % 2 == 1 { x * x.abs() } else { x }) as f32);
        }
    }
    out
}

/// The matrices of a small trained model, one after the other, in whole rows of 1,024.
fn trained(path: &Path) -> Vec<f32> {
    let checkpoint = pollster::block_on(Checkpoint::open(path)).expect("a model");
    let mut out = Vec::new();
    for info in checkpoint.tensors.values().filter(|t| t.dims.len() == 2) {
        let bytes = pollster::block_on(checkpoint.read(info, 0..info.bytes())).expect("weights");
        let start = out.len();
        out.resize(start + bytes.len() / info.dtype.block_bytes() * info.dtype.block_len(), 0.0);
        info.dtype.dequantize(&bytes, &mut out[start..]);
    }
    out.truncate(out.len() / 1024 * 1024);
    out
}

/// Root of the squared error over the squared weights.
fn error(dtype: DType, x: &[f32]) -> f64 {
    let mut bytes = vec![0; x.len() / dtype.block_len() * dtype.block_bytes()];
    dtype.quantize(x, &mut bytes);
    let mut y = vec![0.0; x.len()];
    dtype.dequantize(&bytes, &mut y);
    let squares = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>();
    let wrong = squares(&mut x.iter().zip(&y).map(|(x, y)| f64::from(*x) - f64::from(*y)));
    (wrong / squares(&mut x.iter().map(|x| f64::from(*x)))).sqrt()
}

fn check(name: &str, x: &[f32]) {
    let text = include_str!("quantize/errors.json");
    let errors: serde_json::Value = serde_json::from_str(text).expect("JSON");
    let errors = errors[name].as_object().expect("types");
    let rounded = DType::ALL.iter().filter(|dtype| dtype.can_quantize());
    assert_eq!(errors.len(), rounded.count() - 3, "all but F32, F16 and BF16");
    let mut worse = Vec::new();
    for (label, reference) in errors {
        let reference = reference.as_f64().expect("a number");
        let ours = error(DType::from_name(label).expect("a type"), x);
        println!("{name} {label}: {ours:.5}, reference {reference:.5}, ratio {:.3}", ours / reference);
        if ours > reference * SLACK {
            worse.push(label);
        }
    }
    assert!(worse.is_empty(), "{name}: worse than the reference: {worse:?}");
}

#[test]
fn errors_are_no_larger_than_the_references() {
    check("drawn", &drawn());
}

#[test]
fn errors_on_trained_weights_are_no_larger_than_the_references() {
    let shared = std::env::var_os("FIRELIGHT_SHARED").map_or_else(|| PathBuf::from("../shared"), PathBuf::from);
    let path = shared.join("data/models/stories260K.gguf");
    if !path.exists() {
        assert!(std::env::var_os("CI").is_none(), "{} is missing", path.display());
        return println!("skipped: {} is missing", path.display());
    }
    check("trained", &trained(&path));
}

/// Zeros stay zeros, constant blocks and a single spike stay accurate, and tiny values stay finite.
#[test]
fn hard_blocks() {
    for dtype in DType::ALL.into_iter().filter(|dtype| dtype.can_quantize()) {
        let round = |x: &[f32]| {
            let mut bytes = vec![0; x.len() / dtype.block_len() * dtype.block_bytes()];
            dtype.quantize(x, &mut bytes);
            let mut y = vec![0.0; x.len()];
            dtype.dequantize(&bytes, &mut y);
            y
        };
        assert!(round(&[0.0; 256]).iter().all(|y| *y == 0.0), "{dtype}");
        for one in [1.0, -1.0, 1e-3, 100.0] {
            let y = round(&[one; 256]);
            assert!(y.iter().all(|y| ((y - one) / one).abs() < 0.05), "{dtype} {one}: {y:?}");
        }
        let mut spike = [0.0; 256];
        spike[77] = -3.0;
        let y = round(&spike);
        assert!((y[77] + 3.0).abs() < 0.1 && y.iter().filter(|y| y.abs() > 0.1).count() == 1, "{dtype}: {y:?}");
        for tiny in [1e-30, -1e-38, 1e-45] {
            assert!(round(&[tiny; 256]).iter().all(|y| y.is_finite()), "{dtype} {tiny}");
        }
    }
}
