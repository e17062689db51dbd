//! Gated DeltaNet (Qwen3-Next): splits `ssm_in` (`in_proj_qkvz`) into `attn_qkv` and `attn_gate`.
//!
//! `ssm_in` holds, for each key head, the rows of its query, key, values and output gates. Newer GGUF files store all
//! queries, then all keys, then all values in one matrix, and the gates in another.

use super::shape_error;
use crate::Result;
use crate::checkpoint::{Metadata, Span, TensorInfo, TensorLayout};

/// Returns `attn_qkv` and `attn_gate`, or `None` if the metadata has no DeltaNet keys.
///
/// # Errors
/// If the metadata contradicts the tensor's shape.
pub(super) fn split(metadata: &Metadata, tensor: &TensorInfo) -> Result<Option<[TensorInfo; 2]>> {
    let arch = metadata.get_str("general.architecture")?.unwrap_or_default();
    let size = |key: &str| metadata.get_u32(&format!("{arch}.ssm.{key}"));
    let sizes = (size("group_count")?, size("time_step_rank")?, size("state_size")?);
    let (Some(key_heads), Some(heads), Some(head_dim)) = sizes else { return Ok(None) };
    let heads = DeltaNetHeads { key_heads: key_heads.into(), value_heads: heads.into(), head_dim: head_dim.into() };
    heads.split(tensor).map(Some).ok_or_else(|| shape_error(tensor, &heads))
}

#[derive(Clone, Copy, Debug)]
struct DeltaNetHeads {
    key_heads: u64,
    value_heads: u64,
    head_dim: u64,
}

impl DeltaNetHeads {
    /// Splits a tensor whose data is one span; `None` if its shape does not fit.
    fn split(self, tensor: &TensorInfo) -> Option<[TensorInfo; 2]> {
        let DeltaNetHeads { key_heads, value_heads, head_dim } = self;
        let (&[cols, rows], [span]) = (&tensor.dims[..], &tensor.parts[..]) else { return None };
        let row = tensor.dtype.row_bytes(cols)?;
        let values = value_heads.checked_div(key_heads)?.checked_mul(head_dim)?;
        let each = head_dim.checked_mul(2)?.checked_add(values.checked_mul(2)?)?;
        if values == 0 || !value_heads.is_multiple_of(key_heads) || each.checked_mul(key_heads) != Some(rows) {
            return None;
        }
        let of_each = |(first, count): (u64, u64)| {
            let at = move |head: u64| span.offset + (head * each + first) * row;
            (0..key_heads).map(move |head| Span { offset: at(head), bytes: count * row, ..*span })
        };
        let part = |name: &str, runs: &[(u64, u64)]| TensorInfo {
            name: tensor.name.replace("ssm_in", name),
            dims: vec![cols, runs.iter().map(|(_, count)| count * key_heads).sum()],
            dtype: tensor.dtype,
            parts: runs.iter().copied().flat_map(of_each).collect(),
            layout: TensorLayout::Contiguous,
        };
        let mixed = [(0, head_dim), (head_dim, head_dim), (2 * head_dim, values)];
        Some([part("attn_qkv", &mixed), part("attn_gate", &[(2 * head_dim + values, values)])])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::DType;

    #[test]
    fn rows_of_key_heads_are_gathered() {
        // Two key heads of one row, two values of each, rows of one weight: q k v v z z, twice.
        let parts = vec![Span { source: 1, offset: 100, bytes: 48 }];
        let (name, dtype) = ("blk.3.ssm_in.weight".into(), DType::F32);
        let tensor = TensorInfo { name, dims: vec![1, 12], dtype, parts, layout: TensorLayout::Contiguous };
        let heads = DeltaNetHeads { key_heads: 2, value_heads: 4, head_dim: 1 };
        let [mixed, gates] = heads.split(&tensor).unwrap();
        let places = |t: &TensorInfo| t.parts.iter().map(|p| (p.source, p.offset, p.bytes)).collect::<Vec<_>>();
        assert_eq!((&mixed.name[..], &mixed.dims[..]), ("blk.3.attn_qkv.weight", &[1, 8][..]));
        assert_eq!(places(&mixed), [(1, 100, 4), (1, 124, 4), (1, 104, 4), (1, 128, 4), (1, 108, 8), (1, 132, 8)]);
        assert_eq!((&gates.name[..], &gates.dims[..]), ("blk.3.attn_gate.weight", &[1, 4][..]));
        assert_eq!(places(&gates), [(1, 116, 8), (1, 140, 8)]);
        assert!(DeltaNetHeads { value_heads: 2, ..heads }.split(&tensor).is_none());
        assert!(DeltaNetHeads { value_heads: 3, ..heads }.split(&tensor).is_none());
    }
}
