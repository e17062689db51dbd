//! The matrices of latent attention (MLA) as Hugging Face folders and older GGUF files have them: in one tensor, of each
//! head the rows that make keys, then those that make values. They are told as newer GGUF files have them: two stacks
//! with a matrix for each head, that of keys turned around.

use super::{Layout, Metadata, Span, Stride, TensorInfo, shape_error};
use crate::dtype::DType;
use crate::{Error, Result};

/// The keys' and the values' matrices of such a tensor.
///
/// # Errors
/// If the keys or the tensor's shape do not say where they lie.
pub(super) fn divide(metadata: &Metadata, tensor: &TensorInfo) -> Result<Option<[TensorInfo; 2]>> {
    let heads = Heads::read(metadata)?;
    heads.divide(tensor).map(Some).ok_or_else(|| shape_error(tensor, &heads))
}

/// How many heads, and how many rows of each make keys, and how many values.
#[derive(Clone, Copy, Debug)]
struct Heads {
    count: u64,
    keys: u64,
    values: u64,
}

impl Heads {
    fn read(metadata: &Metadata) -> Result<Self> {
        let arch = metadata.get_str("general.architecture")?.unwrap_or_default();
        let read = |names: [&str; 2]| -> Result<u64> {
            for name in names {
                if let Some(n) = metadata.get_u32(&format!("{arch}.{name}"))? {
                    return Ok(n.into());
                }
            }
            Err(Error::Format(format!("the file lacks the key {arch}.{}", names[0])))
        };
        let key = read(["attention.key_length_mla", "attention.key_length"])?;
        Ok(Heads {
            count: read(["attention.head_count"; 2])?,
            keys: key.saturating_sub(read(["rope.dimension_count"; 2])?),
            values: read(["attention.value_length_mla", "attention.value_length"])?,
        })
    }

    /// The keys' and the values' matrices of a tensor that lies in one piece.
    fn divide(self, tensor: &TensorInfo) -> Option<[TensorInfo; 2]> {
        let (&[rank, rows], [span]) = (&tensor.dims[..], &tensor.parts[..]) else { return None };
        let (row, each) = (tensor.dtype.row_bytes(rank)?, self.keys.checked_add(self.values)?);
        if self.keys == 0 || self.values == 0 || self.count.checked_mul(each) != Some(rows) {
            return None;
        }
        let spans = |first: u64, count: u64| {
            let at = |head: u64| span.offset + (head * each + first) * row;
            (0..self.count).map(|head| Span { offset: at(head), bytes: count * row, ..*span }).collect()
        };
        // Rows of blocks cannot be turned around: their values are rounded to halves.
        let turned = if tensor.dtype.block_len() == 1 { tensor.dtype } else { DType::F16 };
        let name = |part| tensor.name.replace("attn_kv_b", part);
        let keys = TensorInfo {
            name: name("attn_k_b"),
            dims: vec![self.keys, rank, self.count],
            dtype: turned,
            parts: spans(0, self.keys),
            layout: Layout::Columns(tensor.dtype, rank, Stride::ONE),
        };
        let values = TensorInfo {
            name: name("attn_v_b"),
            dims: vec![rank, self.values, self.count],
            dtype: tensor.dtype,
            parts: spans(self.keys, self.values),
            layout: Layout::Rows,
        };
        Some([keys, values])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_cut_into_keys_and_values() {
        // Two heads of one row of keys and two of values, of four weights each.
        let parts = vec![Span { source: 1, offset: 100, bytes: 96 }];
        let tensor = TensorInfo {
            name: "blk.3.attn_kv_b.weight".into(),
            dims: vec![4, 6],
            dtype: DType::F32,
            parts,
            layout: Layout::Rows,
        };
        let heads = Heads { count: 2, keys: 1, values: 2 };
        let [k, v] = heads.divide(&tensor).unwrap();
        let turned = Layout::Columns(DType::F32, 4, Stride::ONE);
        assert_eq!((&k.name[..], &k.dims[..], k.layout), ("blk.3.attn_k_b.weight", &[1, 4, 2][..], turned));
        assert_eq!((&v.name[..], &v.dims[..], v.layout), ("blk.3.attn_v_b.weight", &[4, 2, 2][..], Layout::Rows));
        let places = |t: &TensorInfo| t.parts.iter().map(|p| (p.source, p.offset, p.bytes)).collect::<Vec<_>>();
        assert_eq!(places(&k), [(1, 100, 16), (1, 148, 16)]);
        assert_eq!(places(&v), [(1, 116, 32), (1, 164, 32)]);
        assert!(Heads { values: 1, ..heads }.divide(&tensor).is_none());
    }
}
