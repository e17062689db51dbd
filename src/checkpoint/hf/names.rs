//! Translates the tensor names of a Hugging Face folder to GGUF's.
//!
//! A family's row lists the names ([`HfFamily::names`]). An unknown name is an error, because a model with a missing
//! part still produces text, but wrong text. No weights are moved: experts are stacked by listing their spans, and
//! `layouts.rs` divides fused tensors.

use super::families::HfFamily;
use super::layouts::{MappedTensor, NameMapping, StoredAs};
use super::safetensors::SafeTensor;
use crate::checkpoint::{Span, TensorInfo, TensorLayout};
use crate::dtype::DType;
use crate::{Error, Result};
use indexmap::IndexMap;

/// The settings that decide which tensors a model has.
pub(super) struct HfShape {
    pub blocks: u32,
    /// Multi-token-prediction (MTP) blocks, which follow the others and are not run.
    pub mtp_blocks: u32,
    pub experts: u32,
    pub tied_embeddings: Option<bool>,
}

/// A GGUF tensor that is assembled from one or more Hugging Face tensors.
struct PendingTensor {
    dims: Vec<u64>,
    dtype: DType,
    layout: TensorLayout,
    /// Expected number of pieces (experts, or weights and scales); `None` for a tensor in one piece.
    pieces: Option<u32>,
    /// Spans with the number of their piece.
    spans: Vec<(u32, Span)>,
}

/// Translates a folder's tensor table. `file` is quoted in errors.
///
/// # Errors
/// If a tensor is unknown, missing, or has an unexpected shape.
pub(super) fn translate(
    family: &HfFamily,
    shape: &HfShape,
    file: &str,
    tensors: IndexMap<String, SafeTensor>,
) -> Result<IndexMap<String, TensorInfo>> {
    let mut pending: IndexMap<String, PendingTensor> = IndexMap::new();
    for (name, tensor) in tensors {
        // MTP layers are numbered after the blocks, or have their own prefix (Qwen 3.5).
        if name.starts_with("mtp.")
            || block_of(&name)
                .is_some_and(|b| (shape.blocks..shape.blocks.saturating_add(shape.mtp_blocks)).contains(&b))
        {
            continue;
        }
        let bad = |why: &str| Error::format(format!("{file}: tensor {name}: {why}"));
        let (matched, targets) = find_row(family, &name).ok_or_else(|| {
            let class = family.class;
            Error::Unsupported(format!("{file}: tensor {name} is unknown for {class}; use a GGUF of the model"))
        })?;
        if targets.is_empty() || (shape.tied_embeddings == Some(true) && targets == "output.weight") {
            continue;
        }
        if matched.block.is_some_and(|block| block >= shape.blocks) {
            return Err(bad(&format!("there should be only {} layers", shape.blocks)));
        }
        let mapping = NameMapping::parse(targets);
        let mapped = mapping.map(&tensor, shape.experts).map_err(|why| bad(&why))?;
        let pieces = match mapping.stored_as {
            StoredAs::Blocks | StoredAs::Scales => 2,
            _ => shape.experts,
        };
        let piece = match mapping.stored_as {
            StoredAs::Blocks => Some(0),
            StoredAs::Scales => Some(1),
            _ => matched.expert,
        };
        for (target, mapped) in mapping.names.iter().map(|target| matched.fill(target)).zip(mapped) {
            let MappedTensor { dims, dtype, layout, spans } = mapped;
            let spans = spans.into_iter().map(|span| (piece.unwrap_or(0), span));
            match pending.get_mut(&target) {
                None => {
                    let pieces = piece.map(|_| pieces);
                    pending.insert(target, PendingTensor { dims, dtype, layout, pieces, spans: spans.collect() });
                }
                Some(tensor) if tensor.pieces.is_none() || piece.is_none() => return Err(bad("it occurs twice")),
                Some(tensor) if tensor.dims != dims || tensor.dtype != dtype => {
                    return Err(bad("its shape or type is not that of the other experts"));
                }
                Some(tensor) => tensor.spans.extend(spans),
            }
        }
    }
    if shape.tied_embeddings == Some(false) && !pending.contains_key("output.weight") {
        return Err(Error::format(format!("{file}: tie_word_embeddings is false, but there is no lm_head.weight")));
    }
    pending.into_iter().map(|(name, tensor)| Ok((name.clone(), tensor.finish(name, file)?))).collect()
}

impl PendingTensor {
    fn finish(mut self, name: String, file: &str) -> Result<TensorInfo> {
        if let Some(pieces) = self.pieces {
            self.spans.sort_unstable_by_key(|(piece, _)| *piece);
            let complete = self.spans.iter().map(|(piece, _)| *piece).eq(0..pieces);
            if !complete {
                let got = self.spans.len();
                let what = if self.layout == TensorLayout::Contiguous { "experts" } else { "parts, blocks and scales" };
                return Err(Error::format(format!("{file}: {name} should have {pieces} {what}, {got} were found")));
            }
            if self.layout == TensorLayout::Contiguous {
                self.dims.push(pieces.into());
            }
        }
        let parts = self.spans.into_iter().map(|(_, span)| span).collect();
        Ok(TensorInfo { name, dims: self.dims, dtype: self.dtype, parts, layout: self.layout })
    }
}

/// The values of a pattern's placeholders in a name.
#[derive(Default)]
struct NameMatch<'a> {
    block: Option<u32>,
    expert: Option<u32>,
    /// `weight` or `bias`.
    leaf: &'a str,
}

impl NameMatch<'_> {
    fn fill(&self, target: &str) -> String {
        let block = self.block.map(|block| block.to_string()).unwrap_or_default();
        target.replace("{b}", &block).replace("{w}", self.leaf)
    }
}

/// `model.layers.3.mlp.gate.weight` -> 3.
fn block_of(name: &str) -> Option<u32> {
    number(name.strip_prefix("model.layers.")?.split('.').next()?)
}

fn find_row<'a>(family: &HfFamily, name: &'a str) -> Option<(NameMatch<'a>, &'static str)> {
    family.names.iter().copied().flatten().find_map(|(pattern, target)| Some((match_name(pattern, name)?, *target)))
}

fn match_name<'a>(pattern: &str, name: &'a str) -> Option<NameMatch<'a>> {
    let mut matched = NameMatch::default();
    let mut words = name.split('.');
    for placeholder in pattern.split('.') {
        let word = words.next()?;
        match placeholder {
            "{b}" => matched.block = Some(number(word)?),
            "{e}" => matched.expert = Some(number(word)?),
            "{w}" if word == "weight" || word == "bias" => matched.leaf = word,
            same if same == word => {}
            _ => return None,
        }
    }
    words.next().is_none().then_some(matched)
}

/// Parses a number without leading zeros or signs, so that no two names mean the same tensor.
fn number(word: &str) -> Option<u32> {
    word.parse().ok().filter(|number: &u32| number.to_string() == word)
}
