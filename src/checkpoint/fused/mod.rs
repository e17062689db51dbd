//! Splits tensors that older GGUF files and Hugging Face folders store fused, into the tensors of newer GGUF files.
//! Only the tensor table changes; no weights are moved.

mod delta_net;
mod mla;

use super::{Metadata, TensorInfo};
use crate::{Error, Result};
use indexmap::IndexMap;
use std::fmt;

/// Replaces each fused tensor by its two parts.
///
/// # Errors
/// If a fused tensor's shape contradicts the metadata.
pub(super) fn split(metadata: &Metadata, tensors: &mut IndexMap<String, TensorInfo>) -> Result<()> {
    type SplitTensor = fn(&Metadata, &TensorInfo) -> Result<Option<[TensorInfo; 2]>>;
    let kinds: [(&str, SplitTensor); 2] = [(".attn_kv_b.weight", mla::split), (".ssm_in.weight", delta_net::split)];
    for (suffix, split) in kinds {
        // Mamba layers have an `ssm_in` of another meaning; only they have an `ssm_d`.
        let layer = |name: &str| name.strip_suffix("ssm_in.weight").map(|layer| format!("{layer}ssm_d"));
        let is_mamba = |name: &str| layer(name).is_some_and(|d| tensors.contains_key(&d));
        let fused = tensors.keys().filter(|name| name.ends_with(suffix) && !is_mamba(name));
        let fused: Vec<String> = fused.cloned().collect();
        for name in fused {
            if let Some(parts) = split(metadata, &tensors[&name])? {
                tensors.shift_remove(&name);
                tensors.extend(parts.map(|part| (part.name.clone(), part)));
            }
        }
    }
    Ok(())
}

fn shape_error(tensor: &TensorInfo, heads: &dyn fmt::Debug) -> Error {
    Error::format(format!("tensor {} has the shape {:?}, the model's keys say {heads:?}", tensor.name, tensor.dims))
}
