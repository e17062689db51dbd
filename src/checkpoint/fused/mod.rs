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
    type Split = fn(&Metadata, &TensorInfo) -> Result<Option<[TensorInfo; 2]>>;
    let kinds: [(&str, Split); 2] = [(".attn_kv_b.weight", mla::split), (".ssm_in.weight", delta_net::split)];
    for (suffix, split) in kinds {
        let fused: Vec<String> = tensors.keys().filter(|name| name.ends_with(suffix)).cloned().collect();
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
    Error::Format(format!("tensor {} has the shape {:?}, the model's keys say {heads:?}", tensor.name, tensor.dims))
}
