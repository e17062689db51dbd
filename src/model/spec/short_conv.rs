//! Gated short convolutions (LFM2).

use super::tensors::{LinearSpec, TensorTable, VectorSpec};
use crate::{Error, Result};

/// A gated short convolution: `output(c * conv(b * x))`, where b, c and x are projections of the input.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ShortConvSpec {
    /// Kernel size.
    pub kernel: u32,
    /// The projections to b, c and x.
    pub input: [LinearSpec; 3],
    /// The convolution: (channels, kernel).
    pub conv: VectorSpec,
    /// The output projection.
    pub output: LinearSpec,
}

impl ShortConvSpec {
    /// The convolution of a layer, if it has one.
    pub(super) fn read(tensors: &TensorTable, hidden: u32) -> Result<Option<Self>> {
        let name = "shortconv.conv.weight";
        if !tensors.has(name) {
            return Ok(None);
        }
        let kernel = tensors.cols_of(name);
        if !(2..=8).contains(&kernel) {
            return Err(Error::Unsupported(format!("{} is a convolution over {kernel} rows", tensors.name(name))));
        }
        Ok(Some(ShortConvSpec {
            kernel,
            input: tensors.fused("shortconv.in_proj", [hidden; 3], hidden)?,
            conv: tensors.values(name, &[kernel, hidden])?,
            output: tensors.linear("shortconv.out_proj", hidden, hidden)?,
        }))
    }
}
