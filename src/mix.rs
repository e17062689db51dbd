//! Mixes: which type each matrix of a quantized file gets.
//!
//! A few matrices repay more bits than the others: the output head, and the value and down projections, above all in the
//! first and last layers. The named mixes are those that published files have (the rules are llama.cpp's), so that sizes
//! and names mean what people expect.

use crate::dtype::DType;
use crate::{Error, Result};

/// What the rules ask about a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// Layers.
    pub layers: u32,
    /// Query heads for each head of keys and values.
    pub group: u32,
    /// Experts of a layer; 0 for a dense model.
    pub experts: u32,
    /// Whether the embedding is the output head too.
    pub tied: bool,
}

/// One type for every matrix, or a named mix.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mix {
    /// Every matrix in this type.
    Pure(DType),
    /// A named mix.
    Named(&'static Rules),
}

/// A row of the table below.
#[derive(Debug, PartialEq)]
pub struct Rules {
    name: &'static str,
    /// llama.cpp's number for it, `general.file_type`.
    file_type: u32,
    base: DType,
    value: Extra,
    down: Extra,
    /// The attention's output projection.
    output: DType,
}

/// More bits for some layers.
#[derive(Debug, PartialEq)]
enum Extra {
    No,
    All(DType),
    /// The first and last eighth, and every third between.
    Spread(DType),
    /// Layers below a number one type, the rest another.
    FirstRest(u32, DType, DType),
    /// The first 1/n of the layers one type, the rest another.
    PartRest(u32, DType, DType),
    /// Where at least four heads share one of keys and values one type, elsewhere another.
    Grouped(DType, DType),
}

use DType::{BF16, F16, F32, IQ1M, IQ1S, IQ2S, IQ2XS, IQ2XXS, IQ3S, IQ3XXS, IQ4NL, IQ4XS, MXFP4, TQ1_0, TQ2_0};
use DType::{Q2K, Q3K, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0};
use Extra::{All, FirstRest, Grouped, No, PartRest, Spread};

const fn row(name: &'static str, file_type: u32, base: DType, value: Extra, down: Extra, output: DType) -> Rules {
    Rules { name, file_type, base, value, down, output }
}

#[rustfmt::skip]
static TABLE: [Rules; 15] = [
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
    fn of(&self, base: DType, form: Form, layer: u32) -> DType {
        let n = form.layers;
        match *self {
            No => base,
            All(more) => more,
            Spread(more) => choose(layer < n / 8 || layer >= 7 * n / 8 || (layer - n / 8) % 3 == 2, more, base),
            FirstRest(count, more, rest) => choose(layer < count, more, rest),
            PartRest(part, more, rest) => choose(layer < n / part, more, rest),
            Grouped(more, less) => choose(form.group >= 4, more, less),
        }
    }
}

impl Mix {
    /// Every named mix.
    pub fn names() -> impl Iterator<Item = &'static str> {
        TABLE.iter().map(|rules| rules.name)
    }

    /// The mix of this name, in either case; `Q3_K`, `Q4_K` and `Q5_K` are their middle-sized mixes. Types that have no
    /// mix (F16, IQ4_NL ...) are used for every matrix. Types to which nothing [rounds](DType::rounds) are not here.
    ///
    /// # Errors
    /// [`Error::Usage`] that lists the names.
    pub fn find(name: &str) -> Result<Self> {
        let named = |name: &str| TABLE.iter().find(|rules| rules.name.eq_ignore_ascii_case(name)).map(Mix::Named);
        named(name)
            .or_else(|| named(&format!("{name}_M")))
            .or_else(|| DType::from_name(name).filter(|d| d.rounds()).map(Mix::Pure))
            .ok_or_else(|| {
                let pure = DType::ALL.iter().filter(|d| d.rounds() && named(d.name()).is_none()).map(|d| d.name());
                let names: Vec<&str> = Mix::names().chain(pure).collect();
                Error::Usage(format!("no type or mix to round to is called {name:?}; there are {}", names.join(", ")))
            })
    }

    /// The type for a tensor by its GGUF name and dimensions (row length first). Vectors, routers and short convolutions
    /// stay F32. A row that cannot be cut into a type's blocks gets a smaller relative of it, or F16.
    pub fn of(self, form: Form, tensor: &str, dims: &[u64]) -> DType {
        let (layer, part) = place(tensor);
        if dims.len() < 2 || UNROUNDED.contains(&part) || !tensor.ends_with(".weight") {
            return F32;
        }
        let wanted = match self {
            Mix::Pure(dtype) => dtype,
            Mix::Named(rules) => rules.of(form, layer, part),
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

    /// `general.file_type`: llama.cpp's number for the mix, or for the most common type.
    pub fn file_type(self) -> u32 {
        match self {
            Mix::Named(rules) => rules.file_type,
            Mix::Pure(dtype) => match dtype {
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

impl Rules {
    fn of(&self, form: Form, layer: u32, part: &str) -> DType {
        let head = if form.tied { "token_embd" } else { "output" };
        let coarse = !matches!(self.base, Q5_0 | Q5_1 | Q5K | Q6K | Q8_0 | Q4_0 | Q4_1);
        match part {
            part if part == head => {
                if self.base == Q8_0 {
                    Q8_0
                } else {
                    Q6K
                }
            }
            // Where eight experts share an attention, its matrices are a small part of the file.
            "attn_k" | "attn_v" if form.experts == 8 => Q8_0,
            "attn_output" if form.experts == 8 && coarse => Q5K,
            "attn_output" => self.output,
            "attn_v" => self.value.of(self.base, form, layer),
            "ffn_down" | "ffn_down_exps" => self.down.of(self.base, form, layer),
            _ => self.base,
        }
    }
}

/// Matrices that are small and matter much.
const UNROUNDED: [&str; 3] = ["ffn_gate_inp", "ssm_conv1d", "shortconv.conv"];

/// Layer (0 outside the blocks) and the name without the block's number and the kind at its end.
pub(crate) fn place(tensor: &str) -> (u32, &str) {
    let (layer, name) = match tensor.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) {
        Some((layer, name)) => (layer.parse().unwrap_or(0), name),
        None => (0, tensor),
    };
    (layer, name.rsplit_once('.').map_or(name, |(part, _)| part))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LLAMA: Form = Form { layers: 32, group: 4, experts: 0, tied: false };

    #[test]
    fn mixes_are_those_of_published_files() {
        let dims = [4096, 4096];
        let of = |mix: &str, form, tensor: &str| Mix::find(mix).unwrap().of(form, tensor, &dims);
        // Llama 3.1 8B as published in Q4_K_M: 16 of 32 down projections have more bits, of layers 0-3, 28-31 and 6, 9 ...
        let more = (0..32).filter(|l| of("q4_k_m", LLAMA, &format!("blk.{l}.ffn_down.weight")) == Q6K);
        assert_eq!(more.collect::<Vec<_>>(), [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31]);
        for (mix, tensor, dtype) in [
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
            assert_eq!(of(mix, LLAMA, tensor), dtype, "{mix} {tensor}");
        }
        let tied = Form { tied: true, ..LLAMA };
        assert_eq!(of("Q4_K_M", tied, "token_embd.weight"), Q6K);
        let mixtral = Form { experts: 8, ..LLAMA };
        assert_eq!(of("Q4_K_M", mixtral, "blk.5.attn_k.weight"), Q8_0);
        assert_eq!(of("Q4_K_M", mixtral, "blk.5.attn_output.weight"), Q5K);
        assert_eq!(of("Q4_K_M", mixtral, "blk.5.ffn_gate_inp.weight"), F32);
        assert!(Mix::find("IQ2_XXS").is_err(), "it is only read");
        assert!(Mix::find("Q9").unwrap_err().to_string().contains("Q4_K_M"));
    }

    #[test]
    fn rows_that_do_not_divide_get_a_relative() {
        let of = |cols: u64| Mix::find("Q4_K_S").unwrap().of(LLAMA, "blk.9.attn_q.weight", &[cols, 64]);
        assert_eq!([of(256), of(96), of(40)], [Q4K, Q5_0, F16]);
        assert_eq!(Mix::find("Q4_K_S").unwrap().of(LLAMA, "blk.9.attn_norm.weight", &[256]), F32);
    }
}
