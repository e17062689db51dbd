//! Common code of GPU tests: the adapter, random data, comparisons, and (in `cpu`) a graph's evaluation on the CPU.
//!
//! A missing adapter fails a test; nothing here skips.

#![allow(dead_code, reason = "each test file uses a part")]

pub mod cpu;
pub mod test_plan;

use firelight::dtype::DType;
use firelight::gpu::{Gpu, GpuOptions, Tuning};
use firelight::graph::{Graph, Op, Segment, StepInput, TensorId, TensorKind};
use firelight::ops::StepSizes;
use firelight::ops::attention::KV_SPLIT;
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// The best adapter, opened once for all tests of a file.
pub fn gpu() -> &'static Gpu {
    static GPU: OnceLock<Gpu> = OnceLock::new();
    GPU.get_or_init(|| match pollster::block_on(Gpu::open(&GpuOptions::default().tuning(Tuning::Off))) {
        Ok(gpu) => gpu,
        Err(e) => panic!("these tests need a GPU or a software adapter: {e}"),
    })
}

/// Whether only what depends on the adapter is tested (FIRELIGHT_TESTS=few), because compiling is slow on some.
pub fn few() -> bool {
    std::env::var_os("FIRELIGHT_TESTS").is_some_and(|tests| tests == "few")
}

/// The weight types to test: all, or with [`few`] one of each kind of layout.
pub fn types() -> impl Iterator<Item = DType> {
    let few = few();
    let some = [DType::F16, DType::Q4_0, DType::Q4K, DType::Q6K, DType::IQ3S];
    DType::ALL.into_iter().filter(move |dtype| !few || some.contains(dtype))
}

/// A small generator (splitmix64): the same numbers everywhere.
pub fn random(mut state: u64) -> impl FnMut() -> u32 {
    move || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        ((z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB) >> 32) as u32
    }
}

/// `n` values between -1 and 1.
pub fn floats(rng: &mut impl FnMut() -> u32, n: usize) -> Vec<f32> {
    (0..n).map(|_| (rng() as i32) as f32 / 2f32.powi(31)).collect()
}

/// The largest difference, relative to the root mean square of the expected values.
///
/// # Errors
/// If it is above `tolerance`, if lengths differ, if a value is not finite, or if all expected values are zero.
pub fn compare(got: &[f32], want: &[f32], tolerance: f64) -> Result<f64, String> {
    if got.len() != want.len() {
        return Err(format!("{} values, not {}", got.len(), want.len()));
    }
    let rms = (want.iter().map(|w| f64::from(*w).powi(2)).sum::<f64>() / want.len() as f64).sqrt();
    if !(rms > 0.0 && rms.is_finite()) {
        return Err(format!(
            "the root mean square of the expected values is {rms}: the comparison would be meaningless"
        ));
    }
    let mut worst = 0.0;
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        let difference = (f64::from(*got) - f64::from(*want)).abs() / rms;
        if difference.is_nan() || difference > tolerance {
            return Err(format!(
                "value {i} is {got:e}, not {want:e}: off by {difference:.1e}, {tolerance:.0e} is allowed"
            ));
        }
        worst = f64::max(worst, difference);
    }
    Ok(worst)
}

/// Embedding slots.
pub const EMBEDDINGS: u32 = 2;

/// One step: its rows, and the rows with logits.
#[derive(Clone, Debug, Default)]
pub struct Step {
    /// {input, position, sequence, output slot}.
    pub rows: Vec<[u32; 4]>,
    /// Indices of the rows with logits.
    pub logit_rows: Vec<u32>,
    /// The segments, with the slots of the states that they read and write; for graphs with recurrent states.
    pub segments: Vec<Segment>,
}

impl Step {
    /// The query tiles: at most `most` rows with consecutive positions of one sequence, and the rows of their sequence
    /// in the step.
    pub fn tiles(&self, most: u32) -> Vec<[u32; 4]> {
        let (mut tiles, mut first) = (Vec::new(), 0);
        for sequence in self.rows.chunk_by(|a, b| a[2] == b[2]) {
            let (mut row, count) = (first, sequence.len() as u32);
            for consecutive in sequence.chunk_by(|a, b| a[1] + 1 == b[1]) {
                for tile in consecutive.chunks(most as usize) {
                    tiles.push([row, tile.len() as u32, first, count]);
                    row += tile.len() as u32;
                }
            }
            first += count;
        }
        tiles
    }

    /// The step's sizes, for query tiles of `tile` rows.
    pub fn sizes(&self, tile: u32) -> StepSizes {
        StepSizes {
            rows: self.rows.len() as u32,
            logits: self.logit_rows.len() as u32,
            splits: self.rows.iter().map(|row| row[1] / KV_SPLIT + 1).max().unwrap_or(0),
            tiles: self.tiles(tile).len() as u32,
            segments: self.segments.len() as u32,
            ..Default::default()
        }
    }
}

/// A graph's weights and vectors, as a file would contain them.
#[derive(Clone, Debug)]
pub struct Data {
    /// The rows of each weight, as blocks of its type.
    pub weights: BTreeMap<TensorId, Vec<u8>>,
    /// The values of each vector.
    pub vectors: BTreeMap<TensorId, Vec<f32>>,
}

impl Data {
    /// Random weights and vectors, scaled so that activations stay around 1.
    pub fn random(graph: &Graph, seed: u64) -> Self {
        let mut rng = random(seed);
        let (mut weights, mut vectors) = (BTreeMap::new(), BTreeMap::new());
        for (i, tensor) in graph.tensors.iter().enumerate() {
            let (id, cols) = (TensorId(i), tensor.cols);
            match tensor.kind {
                TensorKind::Weight { dtype, .. } => {
                    let embeds = graph.nodes.iter().any(|op| matches!(op, Op::Embed(..)) && op.reads(id));
                    let scale = if embeds { 1.0 } else { (cols as f32).sqrt().recip() };
                    let bytes = row_bytes(dtype, cols) * graph.fixed_rows(id) as usize;
                    let mut data = vec![0; bytes];
                    dtype.random_blocks(&mut rng, &mut data, scale);
                    weights.insert(id, data);
                }
                TensorKind::Vector { .. } => {
                    vectors.insert(id, floats(&mut rng, cols as usize));
                }
                TensorKind::StepInput(StepInput::Embeddings) => {
                    vectors.insert(id, floats(&mut random(seed + 1), (EMBEDDINGS * cols) as usize));
                }
                _ => {}
            }
        }
        Data { weights, vectors }
    }
}

/// Bytes of a row of `cols` weights.
pub fn row_bytes(dtype: DType, cols: u32) -> usize {
    dtype.row_bytes(cols.into()).unwrap_or_else(|| panic!("rows of {cols} {dtype}")) as usize
}

mod tests {
    use super::compare;

    #[test]
    fn compare_detects_large_differences_and_nan() {
        let want = [3.0, 4.0, -3.0, -4.0]; // root mean square 3.5355
        assert_eq!(compare(&want, &want, 0.0), Ok(0.0));
        assert!(compare(&[3.0, 4.0, -3.0, -4.003], &want, 1e-3).is_ok());
        assert!(compare(&[3.0, 4.0, -3.0, -4.004], &want, 1e-3).is_err());
        assert!(compare(&[3.0, f32::NAN, -3.0, -4.0], &want, 1e9).is_err());
        assert!(compare(&[3.0, 4.0, -3.0], &want, 1.0).is_err());
        assert!(compare(&[0.0; 4], &[0.0; 4], 1.0).is_err());
    }
}
