//! The tensors of a checkpoint while a spec is resolved: looked up by name, checked against the shapes that keys imply,
//! and noted as read, so that whatever is left over can be named.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use crate::checkpoint::{Checkpoint, TensorInfo};
use crate::dtype::DType;
use crate::graph::TensorRef;
use crate::{Error, Result};

/// A matrix of a file, or a stack of matrices; possibly only some rows of it (of each).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct WeightSpec {
    /// Where it is; its rows are those of each matrix.
    pub tensor: TensorRef,
    /// Matrices in the stack; 1 for a plain matrix.
    pub experts: u32,
    /// Rows of each matrix in the file, at least those of `tensor`.
    pub file_rows: u32,
    /// Columns.
    pub cols: u32,
    /// How it is stored.
    pub dtype: DType,
}

impl WeightSpec {
    /// Rows of each matrix.
    pub fn rows(&self) -> u32 {
        self.tensor.rows.len() as u32
    }

    /// Bytes of a row in the file.
    pub fn row_bytes(&self) -> u64 {
        self.dtype.row_bytes(self.cols.into()).unwrap_or(0)
    }

    /// The bytes of one matrix of the stack within the file's tensor.
    pub fn expert_bytes(&self, expert: u32) -> Range<u64> {
        let first = u64::from(expert) * u64::from(self.file_rows) + u64::from(self.tensor.rows.start);
        first * self.row_bytes()..(first + u64::from(self.rows())) * self.row_bytes()
    }

    /// Only some of its rows.
    fn part(&self, rows: Range<u32>) -> Self {
        WeightSpec { tensor: TensorRef { rows, ..self.tensor.clone() }, ..self.clone() }
    }
}

/// A vector of a file: norm weights, biases, rates.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct VectorSpec {
    /// Where it is; its rows are values.
    pub tensor: TensorRef,
    /// Added to each value.
    pub plus: f32,
}

impl VectorSpec {
    /// The number of values.
    pub fn len(&self) -> u32 {
        self.tensor.rows.len() as u32
    }

    /// Whether it has no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// `y = W x + b`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LinearSpec {
    /// W.
    pub weight: WeightSpec,
    /// b, if there is one.
    pub bias: Option<VectorSpec>,
}

/// The tensors whose names begin with a prefix, which is empty or `blk.N.`.
pub(super) struct TensorTable<'a> {
    checkpoint: &'a Checkpoint,
    prefix: String,
    read: &'a Mutex<BTreeSet<String>>,
}

impl<'a> TensorTable<'a> {
    /// All tensors. `read` collects the names of those that are read.
    pub fn new(checkpoint: &'a Checkpoint, read: &'a Mutex<BTreeSet<String>>) -> Self {
        TensorTable { checkpoint, prefix: String::new(), read }
    }

    /// The tensors of a layer.
    pub fn layer(&self, n: u32) -> TensorTable<'a> {
        TensorTable { checkpoint: self.checkpoint, prefix: format!("blk.{n}."), read: self.read }
    }

    /// The file's name of a tensor.
    pub fn name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Whether there is a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// The tensor of this name, if there is one.
    pub fn find(&self, name: &str) -> Option<&'a TensorInfo> {
        self.checkpoint.tensors.get(&self.name(name))
    }

    /// Notes that a tensor is read, or superfluous.
    pub fn note(&self, name: &str) {
        self.read.lock().unwrap_or_else(PoisonError::into_inner).insert(self.name(name));
    }

    /// A matrix.
    pub fn weight(&self, name: &str, rows: u32, cols: u32) -> Result<WeightSpec> {
        self.stack(name, 1, rows, cols)
    }

    /// A stack of matrices.
    pub fn stack(&self, name: &str, experts: u32, rows: u32, cols: u32) -> Result<WeightSpec> {
        let dtype = self.check(name, &[cols.into(), rows.into(), experts.into()])?;
        let tensor = TensorRef::new(self.name(name), 0..rows);
        Ok(WeightSpec { tensor, experts, file_rows: rows, cols, dtype })
    }

    /// A vector.
    pub fn vector(&self, name: &str, len: u32) -> Result<VectorSpec> {
        self.values(name, &[len])
    }

    /// A vector, if the file has it.
    pub fn vector_if(&self, name: &str, len: u32) -> Result<Option<VectorSpec>> {
        if self.has(name) { self.vector(name, len).map(Some) } else { Ok(None) }
    }

    /// A small matrix of this shape (row length first) as a vector, row by row.
    pub fn values(&self, name: &str, dims: &[u32]) -> Result<VectorSpec> {
        self.check(name, &dims.iter().map(|n| u64::from(*n)).collect::<Vec<_>>())?;
        let tensor = TensorRef::new(self.name(name), 0..dims.iter().product());
        Ok(VectorSpec { tensor, plus: 0.0 })
    }

    /// `{stem}.weight`, and `{stem}.bias` if the file has it.
    pub fn linear(&self, stem: &str, rows: u32, cols: u32) -> Result<LinearSpec> {
        let [linear] = self.fused(stem, [rows], cols)?;
        Ok(linear)
    }

    /// Several linear maps whose matrices (of these numbers of rows) are fused into `{stem}.weight`, one after another,
    /// and their biases into `{stem}.bias`.
    pub fn fused<const N: usize>(&self, stem: &str, rows: [u32; N], cols: u32) -> Result<[LinearSpec; N]> {
        let all = rows.iter().sum();
        let weight = self.weight(&format!("{stem}.weight"), all, cols)?;
        let bias = self.vector_if(&format!("{stem}.bias"), all)?;
        let mut end = 0;
        Ok(rows.map(|len| {
            let rows = end..end + len;
            end += len;
            let part = |bias: &VectorSpec| VectorSpec {
                tensor: TensorRef { rows: rows.clone(), ..bias.tensor.clone() },
                ..bias.clone()
            };
            LinearSpec { bias: bias.as_ref().map(part), weight: weight.part(rows) }
        }))
    }

    /// Stacks of experts' matrices that are fused into one tensor: in each matrix the rows of the first, then those of
    /// the second.
    pub fn fused_stacks(&self, name: &str, experts: u32, rows: u32, cols: u32) -> Result<[WeightSpec; 2]> {
        let whole = self.stack(name, experts, 2 * rows, cols)?;
        Ok([whole.part(0..rows), whole.part(rows..2 * rows)])
    }

    /// The number of rows of the file's matrix, a multiple of 4.
    pub fn rows_of(&self, name: &str) -> Result<u32> {
        let rows = self.info(name)?.dims.get(1).copied().unwrap_or(1);
        match u32::try_from(rows) {
            Ok(rows) if rows > 0 && rows % 4 == 0 && rows < 1 << 20 => Ok(rows),
            _ => Err(Error::Unsupported(format!("{} has {rows} rows; a multiple of 4 is needed", self.name(name)))),
        }
    }

    /// The number of columns of the file's matrix, or of values of its vector; 0 if there is none.
    pub fn cols_of(&self, name: &str) -> u32 {
        self.find(name).and_then(|tensor| u32::try_from(*tensor.dims.first()?).ok()).unwrap_or(0)
    }

    /// A required tensor.
    fn info(&self, name: &str) -> Result<&'a TensorInfo> {
        self.checkpoint.tensor(&self.name(name))
    }

    /// Checks a tensor's shape, row length first, and notes that it is read.
    fn check(&self, name: &str, shape: &[u64]) -> Result<DType> {
        let tensor = self.info(name)?;
        // Trailing dimensions of 1 are ignored.
        let trimmed = |dims: &[u64]| {
            let len = dims.iter().rposition(|d| *d != 1).map_or(1, |i| i + 1);
            dims[..len.min(dims.len())].to_vec()
        };
        if trimmed(&tensor.dims) != trimmed(shape) {
            let (name, have, want) = (&tensor.name, &tensor.dims, trimmed(shape));
            return Err(Error::format(format!("tensor {name} has the shape {have:?}, the model's keys say {want:?}")));
        }
        self.note(name);
        Ok(tensor.dtype)
    }
}

/// A small tensor as f32 values.
pub(in crate::model) async fn read_vector(checkpoint: &Checkpoint, tensor: &TensorInfo) -> Result<Vec<f32>> {
    let bytes = checkpoint.read(tensor, 0..tensor.bytes()).await?;
    let mut values = vec![0.0; tensor.dims.iter().product::<u64>() as usize];
    tensor.dtype.dequantize(&bytes, &mut values);
    Ok(values)
}
