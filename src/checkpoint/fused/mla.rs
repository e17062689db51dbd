//! Multi-head latent attention (MLA): splits `attn_kv_b` into `attn_k_b` and `attn_v_b`.
//!
//! `attn_kv_b` holds, for each head, the rows of the key up-projection and then those of the value up-projection.
//! Newer GGUF files store two stacks with a matrix per head instead, and transpose the keys' matrices.

use super::shape_error;
use crate::checkpoint::{Metadata, RowStride, Span, TensorInfo, TensorLayout};
use crate::dtype::DType;
use crate::{Error, Result};

/// Returns `attn_k_b` and `attn_v_b`.
///
/// # Errors
/// If a metadata key is missing or contradicts the tensor's shape.
pub(super) fn split(metadata: &Metadata, tensor: &TensorInfo) -> Result<Option<[TensorInfo; 2]>> {
    let heads = MlaHeads::read(metadata)?;
    heads.split(tensor).map(Some).ok_or_else(|| shape_error(tensor, &heads))
}

/// Number of heads, and rows per head of the key (`qk_nope_head_dim`) and value (`v_head_dim`) up-projections.
#[derive(Clone, Copy, Debug)]
struct MlaHeads {
    count: u64,
    keys: u64,
    values: u64,
}

impl MlaHeads {
    fn read(metadata: &Metadata) -> Result<Self> {
        let arch = metadata.get_str("general.architecture")?.unwrap_or_default();
        let read = |names: [&str; 2]| -> Result<u64> {
            for name in names {
                if let Some(n) = metadata.get_u32(&format!("{arch}.{name}"))? {
                    return Ok(n.into());
                }
            }
            Err(Error::format(format!("the file lacks the key {arch}.{}", names[0])))
        };
        let key = read(["attention.key_length_mla", "attention.key_length"])?;
        Ok(MlaHeads {
            count: read(["attention.head_count"; 2])?,
            keys: key.saturating_sub(read(["rope.dimension_count"; 2])?),
            values: read(["attention.value_length_mla", "attention.value_length"])?,
        })
    }

    /// Splits a tensor whose data is one span; `None` if its shape does not fit.
    fn split(self, tensor: &TensorInfo) -> Option<[TensorInfo; 2]> {
        let (&[rank, rows], [span]) = (&tensor.dims[..], &tensor.parts[..]) else { return None };
        let (row, each) = (tensor.dtype.row_bytes(rank)?, self.keys.checked_add(self.values)?);
        if self.keys == 0 || self.values == 0 || self.count.checked_mul(each) != Some(rows) {
            return None;
        }
        let spans = |first: u64, count: u64| {
            let at = |head: u64| span.offset + (head * each + first) * row;
            (0..self.count).map(|head| Span { offset: at(head), bytes: count * row, ..*span }).collect()
        };
        // Quantized blocks cannot be transposed, so those weights become f16.
        let transposed = if tensor.dtype.block_len() == 1 { tensor.dtype } else { DType::F16 };
        let name = |part| tensor.name.replace("attn_kv_b", part);
        let keys = TensorInfo {
            name: name("attn_k_b"),
            dims: vec![self.keys, rank, self.count],
            dtype: transposed,
            parts: spans(0, self.keys),
            layout: TensorLayout::Transposed(tensor.dtype, rank, RowStride::ONE),
        };
        let values = TensorInfo {
            name: name("attn_v_b"),
            dims: vec![rank, self.values, self.count],
            dtype: tensor.dtype,
            parts: spans(self.keys, self.values),
            layout: TensorLayout::Contiguous,
        };
        Some([keys, values])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_split_into_keys_and_values() {
        // Two heads of one row of keys and two of values, of four weights each.
        let parts = vec![Span { source: 1, offset: 100, bytes: 96 }];
        let tensor = TensorInfo {
            name: "blk.3.attn_kv_b.weight".into(),
            dims: vec![4, 6],
            dtype: DType::F32,
            parts,
            layout: TensorLayout::Contiguous,
        };
        let heads = MlaHeads { count: 2, keys: 1, values: 2 };
        let [k, v] = heads.split(&tensor).unwrap();
        let transposed = TensorLayout::Transposed(DType::F32, 4, RowStride::ONE);
        assert_eq!((&k.name[..], &k.dims[..], k.layout), ("blk.3.attn_k_b.weight", &[1, 4, 2][..], transposed));
        assert_eq!(
            (&v.name[..], &v.dims[..], v.layout),
            ("blk.3.attn_v_b.weight", &[4, 2, 2][..], TensorLayout::Contiguous)
        );
        let places = |t: &TensorInfo| t.parts.iter().map(|p| (p.source, p.offset, p.bytes)).collect::<Vec<_>>();
        assert_eq!(places(&k), [(1, 100, 16), (1, 148, 16)]);
        assert_eq!(places(&v), [(1, 116, 32), (1, 164, 32)]);
        assert!(MlaHeads { values: 1, ..heads }.split(&tensor).is_none());
    }
}
