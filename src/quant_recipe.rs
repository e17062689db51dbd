//! Quantization recipes: which weight type each matrix of a quantized file gets.
//!
//! A few matrices need more bits than the others: the output head, and the value and down projections, above all in the
//! first and last layers. The named recipes follow llama.cpp's file types (Q4_K_M and so on), so that names and file
//! sizes mean what people expect.

use crate::dtype::DType;
use crate::{Error, Result};

/// The properties of a model that a recipe depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelShape {
    /// Layers.
    pub layers: u32,
    /// Query heads per key-value head (GQA).
    pub group: u32,
    /// Experts of a layer; 0 for a dense model.
    pub experts: u32,
    /// Whether the embedding is the output head too.
    pub tied: bool,
}

/// One type for every matrix, or a named recipe (llama.cpp's "ftype").
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum QuantRecipe {
    /// Every matrix in this type.
    Pure(DType),
    /// A named recipe.
    Named(&'static NamedRecipe),
}

/// A row of the table below.
#[derive(Debug, PartialEq)]
pub struct NamedRecipe {
    name: &'static str,
    /// llama.cpp's number for it, `general.file_type`.
    file_type: u32,
    base: DType,
    value: Extra,
    down: Extra,
    /// The attention's output projection.
    output: DType,
}

/// Which layers get more bits.
#[derive(Debug, PartialEq)]
enum Extra {
    No,
    All(DType),
    /// The first and last eighth, and every third layer between them.
    Spread(DType),
    /// One type for the first n layers, another for the rest.
    FirstRest(u32, DType, DType),
    /// One type for the first 1/n of the layers, another for the rest.
    PartRest(u32, DType, DType),
    /// One type where at least four query heads share a key-value head, another elsewhere.
    Grouped(DType, DType),
}

use DType::{BF16, F16, F32, IQ1M, IQ1S, IQ2S, IQ2XS, IQ2XXS, IQ3S, IQ3XXS, IQ4NL, IQ4XS, MXFP4, TQ1_0, TQ2_0};
use DType::{Q2K, Q3K, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0};
use Extra::{All, FirstRest, Grouped, No, PartRest, Spread};

const fn row(name: &'static str, file_type: u32, base: DType, value: Extra, down: Extra, output: DType) -> NamedRecipe {
    NamedRecipe { name, file_type, base, value, down, output }
}

#[rustfmt::skip]
static TABLE: [NamedRecipe; 15] = [
    //  name     number base  attn_v                ffn_down                attn_output
    row("Q4_0",    2, Q4_0,  No,                    No,                     Q4_0),
    row("Q4_1",    3, Q4_1,  No,                    No,                     Q4_1),
    row("Q8_0",    7, Q8_0,  No,                    No,                     Q8_0),
    row("Q5_0",    8, Q5_0,  No,                    No,                     Q5_0),
    row("Q5_1",    9, Q5_1,  No,                    No,                     Q5_1),
    row("Q2_K",   10, Q2K,   Grouped(Q4K, Q3K),     All(Q3K),               Q3K),
    row("Q3_K_S", 11, Q3K,   No,                    No,                     Q3K),
    row("Q3_K_M", 12, Q3K,   FirstRest(2, Q5K, Q4K), PartRest(16, Q5K, Q4K), Q4K),
    row("Q3_K_L", 13, Q3K,   All(Q5K),              All(Q5K),               Q5K),
    row("Q4_K_S", 14, Q4K,   FirstRest(4, Q5K, Q4K), PartRest(8, Q5K, Q4K),  Q4K),
    row("Q4_K_M", 15, Q4K,   Spread(Q6K),           Spread(Q6K),            Q4K),
    row("Q5_K_S", 16, Q5K,   No,                    No,                     Q5K),
    row("Q5_K_M", 17, Q5K,   Spread(Q6K),           Spread(Q6K),            Q5K),
    row("Q6_K",   18, Q6K,   No,                    No,                     Q6K),
    row("IQ4_XS", 30, IQ4XS, Grouped(Q5K, IQ4XS),   PartRest(8, Q5K, IQ4XS), IQ4XS),
];

fn choose(condition: bool, yes: DType, no: DType) -> DType {
    if condition { yes } else { no }
}

impl Extra {
    fn of(&self, base: DType, shape: ModelShape, layer: u32) -> DType {
        let n = shape.layers;
        match *self {
            No => base,
            All(more) => more,
            Spread(more) => choose(layer < n / 8 || layer >= 7 * n / 8 || (layer - n / 8) % 3 == 2, more, base),
            FirstRest(count, more, rest) => choose(layer < count, more, rest),
            PartRest(part, more, rest) => choose(layer < n / part, more, rest),
            Grouped(more, less) => choose(shape.group >= 4, more, less),
        }
    }
}

impl QuantRecipe {
    /// Every named recipe.
    pub fn names() -> impl Iterator<Item = &'static str> {
        TABLE.iter().map(|recipe| recipe.name)
    }

    /// The recipe of this name, ignoring case; `Q3_K`, `Q4_K` and `Q5_K` mean their `_M` recipes. Types without a
    /// recipe (F16, IQ4_NL ...) are used for every matrix. Types that cannot be [quantized to](DType::can_quantize) are
    /// refused.
    ///
    /// # Errors
    /// [`Error::Usage`] that lists the names.
    pub fn find(name: &str) -> Result<Self> {
        let named =
            |name: &str| TABLE.iter().find(|recipe| recipe.name.eq_ignore_ascii_case(name)).map(QuantRecipe::Named);
        named(name)
            .or_else(|| named(&format!("{name}_M")))
            .or_else(|| DType::from_name(name).filter(|d| d.can_quantize()).map(QuantRecipe::Pure))
            .ok_or_else(|| {
                let pure =
                    DType::ALL.iter().filter(|d| d.can_quantize() && named(d.name()).is_none()).map(|d| d.name());
                let names: Vec<&str> = QuantRecipe::names().chain(pure).collect();
                Error::Usage(format!(
                    "there is no type or recipe {name:?} to quantize to; choose one of {}",
                    names.join(", ")
                ))
            })
    }

    /// The type of a tensor, given its GGUF name and dimensions (row length first). Vectors, routers and short
    /// convolutions stay F32. If rows do not divide into the type's blocks, a related type with smaller blocks or F16
    /// is used.
    pub fn of(self, shape: ModelShape, tensor: &str, dims: &[u64]) -> DType {
        let (layer, part) = split_name(tensor);
        if dims.len() < 2 || NOT_QUANTIZED.contains(&part) || !tensor.ends_with(".weight") {
            return F32;
        }
        let wanted = match self {
            QuantRecipe::Pure(dtype) => dtype,
            QuantRecipe::Named(recipe) => recipe.of(shape, layer, part),
        };
        let relative = match wanted {
            Q2K | Q3K | IQ4XS | IQ1S | IQ1M | IQ2XXS | IQ2XS | IQ2S | IQ3XXS | IQ3S => IQ4NL,
            TQ1_0 | TQ2_0 => Q4_0,
            Q4K => Q5_0,
            Q5K => Q5_1,
            Q6K => Q8_0,
            other => other,
        };
        let fits = |d: &DType| dims[0].is_multiple_of(d.block_len() as u64);
        [wanted, relative].into_iter().find(fits).unwrap_or(F16)
    }

    /// `general.file_type`: llama.cpp's number for the recipe, or for the most common type.
    pub fn file_type(self) -> u32 {
        match self {
            QuantRecipe::Named(recipe) => recipe.file_type,
            QuantRecipe::Pure(dtype) => match dtype {
                F32 => 0,
                F16 => 1,
                Q4_0 => 2,
                Q4_1 => 3,
                Q8_0 => 7,
                Q5_0 => 8,
                Q5_1 => 9,
                Q2K => 10,
                Q3K => 11,
                Q4K => 14,
                Q5K => 16,
                Q6K => 18,
                IQ2XXS => 19,
                IQ2XS => 20,
                IQ3XXS => 23,
                IQ1S => 24,
                IQ4NL => 25,
                IQ3S => 26,
                IQ2S => 28,
                IQ4XS => 30,
                IQ1M => 31,
                BF16 => 32,
                TQ1_0 => 36,
                TQ2_0 => 37,
                MXFP4 => 38,
            },
        }
    }
}

impl NamedRecipe {
    fn of(&self, shape: ModelShape, layer: u32, part: &str) -> DType {
        let head = if shape.tied { "token_embd" } else { "output" };
        let coarse = !matches!(self.base, Q5_0 | Q5_1 | Q5K | Q6K | Q8_0 | Q4_0 | Q4_1);
        match part {
            part if part == head => {
                if self.base == Q8_0 {
                    Q8_0
                } else {
                    Q6K
                }
            }
            // With eight experts, the attention's matrices are a small part of the file.
            "attn_k" | "attn_v" if shape.experts == 8 => Q8_0,
            "attn_output" if shape.experts == 8 && coarse => Q5K,
            "attn_output" => self.output,
            "attn_v" => self.value.of(self.base, shape, layer),
            "ffn_down" | "ffn_down_exps" => self.down.of(self.base, shape, layer),
            _ => self.base,
        }
    }
}

/// Small matrices that matter much.
const NOT_QUANTIZED: [&str; 3] = ["ffn_gate_inp", "ssm_conv1d", "shortconv.conv"];

/// The layer (0 outside the blocks), and the name without the layer's number and the suffix.
pub(crate) fn split_name(tensor: &str) -> (u32, &str) {
    let (layer, name) = match tensor.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) {
        Some((layer, name)) => (layer.parse().unwrap_or(0), name),
        None => (0, tensor),
    };
    (layer, name.rsplit_once('.').map_or(name, |(part, _)| part))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LLAMA: ModelShape = ModelShape { layers: 32, group: 4, experts: 0, tied: false };

    #[test]
    fn mixes_are_those_of_published_files() {
        let dims = [4096, 4096];
        let of = |recipe: &str, shape, tensor: &str| QuantRecipe::find(recipe).unwrap().of(shape, tensor, &dims);
        // Llama 3.1 8B as published in Q4_K_M: 16 of 32 down projections have more bits, of layers 0-3, 28-31 and 6, 9
        // ...
        let more = (0..32).filter(|l| of("q4_k_m", LLAMA, &format!("blk.{l}.ffn_down.weight")) == Q6K);
        assert_eq!(more.collect::<Vec<_>>(), [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31]);
        for (recipe, tensor, dtype) in [
            ("Q4_K_M", "output.weight", Q6K),
            ("Q4_K_M", "token_embd.weight", Q4K),
            ("Q4_K_M", "blk.5.attn_q.weight", Q4K),
            ("Q4_K_M", "blk.5.attn_norm.weight", Q4K),
            ("Q4_K", "blk.31.attn_v.weight", Q6K),
            ("Q4_K_S", "blk.3.attn_v.weight", Q5K),
            ("Q4_K_S", "blk.4.attn_v.weight", Q4K),
            ("Q3_K_M", "blk.1.attn_v.weight", Q5K),
            ("Q3_K_M", "blk.9.attn_v.weight", Q4K),
            ("Q3_K_L", "blk.9.attn_output.weight", Q5K),
            ("Q2_K", "blk.9.attn_v.weight", Q4K),
            ("Q2_K", "blk.9.ffn_down.weight", Q3K),
            ("IQ4_XS", "blk.3.ffn_down.weight", Q5K),
            ("Q8_0", "output.weight", Q8_0),
            ("Q4_0", "output.weight", Q6K),
            ("F16", "output.weight", F16),
            ("IQ4_NL", "output.weight", IQ4NL),
        ] {
            assert_eq!(of(recipe, LLAMA, tensor), dtype, "{recipe} {tensor}");
        }
        let tied = ModelShape { tied: true, ..LLAMA };
        assert_eq!(of("Q4_K_M", tied, "token_embd.weight"), Q6K);
        let mixtral = ModelShape { experts: 8, ..LLAMA };
        assert_eq!(of("Q4_K_M", mixtral, "blk.5.attn_k.weight"), Q8_0);
        assert_eq!(of("Q4_K_M", mixtral, "blk.5.attn_output.weight"), Q5K);
        assert_eq!(of("Q4_K_M", mixtral, "blk.5.ffn_gate_inp.weight"), F32);
        assert!(QuantRecipe::find("IQ2_XXS").is_err(), "it is read-only");
        assert!(QuantRecipe::find("Q9").unwrap_err().to_string().contains("Q4_K_M"));
    }

    #[test]
    fn rows_that_do_not_divide_get_a_relative() {
        let of = |cols: u64| QuantRecipe::find("Q4_K_S").unwrap().of(LLAMA, "blk.9.attn_q.weight", &[cols, 64]);
        assert_eq!([of(256), of(96), of(40)], [Q4K, Q5_0, F16]);
        assert_eq!(QuantRecipe::find("Q4_K_S").unwrap().of(LLAMA, "blk.9.attn_norm.weight", &[256]), F32);
    }
}
