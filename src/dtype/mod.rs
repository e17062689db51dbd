//! Weight types (quantization formats): the block format in files, its meaning on the CPU, and the layout on the GPU.
//!
//! The table below has one row per type; everything else is derived from it. The functions of a type are in the file of
//! its name: `dequantize` computes a block's weights in f32 exactly as ggml's `dequantize_row_*` does, `quantize`
//! encodes weights as a block (with the searches of `scale_search`), and `pack` rearranges blocks into planes, so that
//! neighbouring GPU threads read neighbouring 16-byte words. Packing moves bits and never rounds.
//! `shaders/quant/<type>.wgsl` reads the planes; change both files together. An IQ type also has a table (ggml calls it
//! a grid), which follows the planes of every tensor. Nothing here depends on file formats or on the GPU's API.

use crate::{Error, Result};
use std::fmt;

mod bits;
mod float;
mod grid;
mod iq1_m;
mod iq1_s;
mod iq2_s;
mod iq2_xs;
mod iq2_xxs;
mod iq3_s;
mod iq3_xxs;
mod iq4_nl;
mod iq4_xs;
mod mxfp4;
mod q2_k;
mod q3_k;
mod q4_0;
mod q4_1;
mod q4_k;
mod q5_0;
mod q5_1;
mod q5_k;
mod q6_k;
mod q8_0;
mod random;
mod scale_search;
mod tq1_0;
mod tq2_0;

/// Weights per group, the unit of planes and shaders.
pub const GROUP: usize = 32;

/// One plane of a type's GPU layout: `bytes` bytes for every `groups` groups of 32 weights, for all groups in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plane {
    /// Bytes for each `groups` groups.
    pub bytes: u32,
    /// Number of consecutive groups that share those bytes: 1, or 8 (a superblock of 256 weights).
    pub groups: u32,
}

impl Plane {
    /// Size in bytes for `groups` groups, rounded up to the 16-byte boundary at which the next plane starts. `None` on
    /// overflow.
    pub fn size(self, groups: u64) -> Option<u64> {
        groups.div_ceil(self.groups.into()).checked_mul(self.bytes.into())?.checked_next_multiple_of(16)
    }

    fn expect_size(&self, rows: u32, cols: u32) -> u64 {
        let groups = u64::from(rows) * u64::from(cols.div_ceil(GROUP as u32));
        self.size(groups).expect("a tensor larger than any memory")
    }
}

/// Encodes weights as file blocks.
type Quantize = fn(&[f32], &mut [u8]);

struct DTypeInfo {
    name: &'static str,
    gguf_id: u32,
    block_len: usize,
    block_bytes: usize,
    planes: &'static [Plane],
    shader: &'static str,
    dequantize: fn(&[u8], &mut [f32]),
    pack: fn(&[u8], &mut [Vec<u8>]),
    quantize: Option<Quantize>,
    table: Option<&'static [u8]>,
}

macro_rules! option {
    () => {
        None
    };
    ($value:expr) => {
        Some($value)
    };
}

macro_rules! table {
    ($($dtype:ident $name:literal $id:literal $len:literal $bytes:literal
       [$($plane:literal / $groups:literal),+] $shader:literal
       $dequantize:path, $pack:path $(, $quantize:path)? $(=> $table:path)?;)+) => {
        /// A weight type: the format of stored weights, named after ggml's.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum DType {
            $(#[doc = concat!("`", $name, "`: ", $len, " weights in ", $bytes, " bytes.")] $dtype,)+
        }

        impl DType {
            /// All types, in the order of the table.
            pub const ALL: [Self; [$(DType::$dtype),+].len()] = [$(DType::$dtype),+];

            fn info(self) -> &'static DTypeInfo {
                match self {
                    $(DType::$dtype => &DTypeInfo {
                        name: $name,
                        gguf_id: $id,
                        block_len: $len,
                        block_bytes: $bytes,
                        planes: &[$(Plane { bytes: $plane, groups: $groups }),+],
                        shader: concat!("quant/", $shader),
                        dequantize: |bytes, out| {
                            let blocks = bytes.as_chunks::<$bytes>().0;
                            for (block, out) in blocks.iter().zip(out.as_chunks_mut::<$len>().0) {
                                $dequantize(block, out);
                            }
                        },
                        pack: |bytes, planes| $pack(bytes.as_chunks::<$bytes>().0, planes),
                        quantize: option!($(|weights, out| {
                            let blocks = weights.as_chunks::<$len>().0;
                            for (weights, out) in blocks.iter().zip(out.as_chunks_mut::<$bytes>().0) {
                                *out = $quantize(weights);
                            }
                        })?),
                        table: option!($($table)?),
                    },)+
                }
            }
        }
    };
}

// Ids and block sizes are those of ggml's `ggml_type` and of the GGUF specification.
table! {
    // type, GGUF name, GGUF id, weights and bytes per block, [plane bytes/groups], shader, functions => lookup table
    F32    "F32"      0   1   4 [128/1]                "f32"     float::f32,          float::copy,  float::to_f32;
    F16    "F16"      1   1   2 [64/1]                 "f16"     float::f16,          float::copy,  float::to_f16;
    BF16   "BF16"    30   1   2 [64/1]                 "bf16"    float::bf16,         float::copy,  float::to_bf16;
    Q4_0   "Q4_0"     2  32  18 [16/1, 2/1]            "q4_0"    q4_0::dequantize,    q4_0::pack,   q4_0::quantize;
    Q4_1   "Q4_1"     3  32  20 [16/1, 4/1]            "q4_1"    q4_1::dequantize,    q4_1::pack,   q4_1::quantize;
    Q5_0   "Q5_0"     6  32  22 [16/1, 4/1, 2/1]       "q5_0"    q5_0::dequantize,    q5_0::pack,   q5_0::quantize;
    Q5_1   "Q5_1"     7  32  24 [16/1, 4/1, 4/1]       "q5_1"    q5_1::dequantize,    q5_1::pack,   q5_1::quantize;
    Q8_0   "Q8_0"     8  32  34 [32/1, 2/1]            "q8_0"    q8_0::dequantize,    q8_0::pack,   q8_0::quantize;
    Q2K    "Q2_K"    10 256  84 [8/1, 16/8, 4/8]       "q2_k"    q2_k::dequantize,    q2_k::pack,   q2_k::quantize;
    Q3K    "Q3_K"    11 256 110 [8/1, 4/1, 16/8]       "q3_k"    q3_k::dequantize,    q3_k::pack,   q3_k::quantize;
    Q4K    "Q4_K"    12 256 144 [16/1, 16/8]           "q4_k"    q4_k::dequantize,    q4_k::pack,   q4_k::quantize;
    Q5K    "Q5_K"    13 256 176 [16/1, 4/1, 16/8]      "q5_k"    q5_k::dequantize,    q5_k::pack,   q5_k::quantize;
    Q6K    "Q6_K"    14 256 210 [16/1, 8/1, 16/8, 2/8] "q6_k"    q6_k::dequantize,    q6_k::pack,   q6_k::quantize;
    IQ1S   "IQ1_S"   19 256  50 [4/1, 2/1, 2/8]        "iq1_s"   iq1_s::dequantize,   iq1_s::pack   => iq1_s::GRID;
    IQ1M   "IQ1_M"   29 256  56 [4/1, 2/1, 8/8]        "iq1_m"   iq1_m::dequantize,   iq1_m::pack   => iq1_s::GRID;
    IQ2XXS "IQ2_XXS" 16 256  66 [8/1, 2/8]             "iq2_xxs" iq2_xxs::dequantize, iq2_xxs::pack => iq2_xxs::GRID;
    IQ2XS  "IQ2_XS"  17 256  74 [8/1, 1/1, 2/8]        "iq2_xs"  iq2_xs::dequantize,  iq2_xs::pack  => iq2_xs::GRID;
    IQ2S   "IQ2_S"   22 256  82 [8/1, 2/1, 2/8]        "iq2_s"   iq2_s::dequantize,   iq2_s::pack   => iq2_s::GRID;
    IQ3XXS "IQ3_XXS" 18 256  98 [8/1, 4/1, 2/8]        "iq3_xxs" iq3_xxs::dequantize, iq3_xxs::pack => iq3_xxs::GRID;
    IQ3S   "IQ3_S"   21 256 110 [8/1, 4/1, 16/8]       "iq3_s"   iq3_s::dequantize,   iq3_s::pack   => iq3_s::GRID;
    IQ4NL  "IQ4_NL"  20  32  18 [16/1, 2/1]            "iq4_nl"  iq4_nl::dequantize,  q4_0::pack,   iq4_nl::quantize;
    IQ4XS  "IQ4_XS"  23 256 136 [16/1, 8/8]            "iq4_xs"  iq4_xs::dequantize,  iq4_xs::pack, iq4_xs::quantize;
    MXFP4  "MXFP4"   39  32  17 [16/1, 1/1]            "mxfp4"   mxfp4::dequantize,   mxfp4::pack,  mxfp4::quantize;
    TQ1_0  "TQ1_0"   34 256  54 [4/1, 2/1, 4/8, 2/8]   "tq1_0"   tq1_0::dequantize,   tq1_0::pack;
    TQ2_0  "TQ2_0"   35 256  66 [8/1, 2/8]             "tq2_0"   tq2_0::dequantize,   tq2_0::pack;
}

/// Types of GGUF files that Firelight cannot read, by id, so that an error can name them.
const UNSUPPORTED: [(u32, &str); 10] = [
    (4, "Q4_2"),
    (5, "Q4_3"),
    (9, "Q8_1"),
    (15, "Q8_K"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (40, "NVFP4"),
];

impl DType {
    /// The GGUF name, such as `Q4_K`.
    pub fn name(self) -> &'static str {
        self.info().name
    }

    /// Looks up a type by its GGUF name, ignoring case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.name().eq_ignore_ascii_case(name))
    }

    /// The id in GGUF files.
    pub fn gguf_id(self) -> u32 {
        self.info().gguf_id
    }

    /// Looks up a type by its id in GGUF files.
    ///
    /// # Errors
    /// [`Error::Unsupported`], which lists the supported types.
    pub fn from_gguf_id(id: u32) -> Result<Self> {
        Self::ALL.into_iter().find(|t| t.gguf_id() == id).ok_or_else(|| {
            let name = UNSUPPORTED.iter().find(|known| known.0 == id).map_or("unknown", |known| known.1);
            let supported = Self::ALL.map(Self::name).join(", ");
            Error::Unsupported(format!(
                "weight type {id} ({name}) is not supported; use a file with only these types: {supported}"
            ))
        })
    }

    /// Weights per block: 1, 32 or 256.
    pub fn block_len(self) -> usize {
        self.info().block_len
    }

    /// Bytes per block.
    pub fn block_bytes(self) -> usize {
        self.info().block_bytes
    }

    /// Size of a row of `cols` weights in a file, in bytes. `None` if `cols` is not a multiple of the block length, or
    /// on overflow.
    pub fn row_bytes(self, cols: u64) -> Option<u64> {
        let len = self.block_len() as u64;
        cols.is_multiple_of(len).then_some(cols / len)?.checked_mul(self.block_bytes() as u64)
    }

    /// Decodes file blocks to f32, with the operations of ggml in the same order.
    ///
    /// # Panics
    /// If `bytes` are not whole blocks, or `out` does not have exactly their number of weights.
    #[track_caller]
    pub fn dequantize(self, bytes: &[u8], out: &mut [f32]) {
        let row = self.info();
        assert!(bytes.len().is_multiple_of(row.block_bytes), "{} bytes are not whole blocks of {self}", bytes.len());
        assert_eq!(out.len(), bytes.len() / row.block_bytes * row.block_len, "weights of {self}");
        (row.dequantize)(bytes, out);
    }

    /// Quantizes weights to file blocks, searching for a nearly minimal squared error. A weight that is not finite
    /// spoils its block.
    ///
    /// # Panics
    /// If the type is read-only (see [`can_quantize`](DType::can_quantize)), `weights` are not whole blocks, or `out`
    /// does not have exactly their size.
    #[track_caller]
    pub fn quantize(self, weights: &[f32], out: &mut [u8]) {
        let row = self.info();
        let Some(quantize) = row.quantize else { panic!("{self} is read-only") };
        assert!(weights.len().is_multiple_of(row.block_len), "{} weights are not whole blocks", weights.len());
        assert_eq!(out.len(), weights.len() / row.block_len * row.block_bytes, "bytes of {self}");
        quantize(weights, out);
    }

    /// Whether weights can be quantized to this type. The IQ1 to IQ3 types are read-only, because quantizing to them
    /// well needs an importance matrix; so are the ternary types, which need a model that was trained for them.
    pub fn can_quantize(self) -> bool {
        self.info().quantize.is_some()
    }

    /// The WGSL file that reads this type's planes, relative to `shaders/` and without extension: `quant/q4_k`.
    pub fn shader(self) -> &'static str {
        self.info().shader
    }

    /// The planes of the GPU layout.
    pub fn planes(self) -> &'static [Plane] {
        self.info().planes
    }

    /// The lookup table that follows the planes of every tensor of this type. Its size is a multiple of 16, 0 for most
    /// types.
    pub fn table(self) -> &'static [u8] {
        self.info().table.unwrap_or_default()
    }

    /// Byte offsets of a tensor's planes in its GPU buffer, followed by that of its [table](DType::table) if it has
    /// one.
    ///
    /// # Panics
    /// If the size overflows; checkpoints refuse such tensors.
    pub fn plane_offsets(self, rows: u32, cols: u32) -> Vec<u64> {
        let mut next = 0;
        let begin = |plane: &Plane| {
            let offset = next;
            next += plane.expect_size(rows, cols);
            offset
        };
        let mut offsets: Vec<u64> = self.planes().iter().map(begin).collect();
        offsets.extend((!self.table().is_empty()).then_some(next));
        offsets
    }

    /// Size of a tensor on the GPU in bytes, including its table.
    ///
    /// # Panics
    /// See [`plane_offsets`](DType::plane_offsets).
    pub fn gpu_bytes(self, rows: u32, cols: u32) -> u64 {
        let planes: u64 = self.planes().iter().map(|plane| plane.expect_size(rows, cols)).sum();
        planes + self.table().len() as u64
    }

    /// Repacks file rows of `cols` weights and appends them to the planes of the GPU layout. A row that ends within a
    /// group of 32 (possible for [`F32`](DType::F32), [`F16`](DType::F16) and [`BF16`](DType::BF16)) is padded with
    /// zeros.
    ///
    /// # Panics
    /// If `rows` are not whole rows, or `planes` does not have the length of [`planes`](DType::planes) with whole
    /// groups in each.
    #[track_caller]
    pub fn pack_rows(self, rows: &[u8], cols: usize, planes: &mut [Vec<u8>]) {
        let row_bytes = self.row_bytes(cols as u64).and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(0);
        assert!(row_bytes > 0, "{cols} weights are not whole blocks of {self}");
        assert!(rows.len().is_multiple_of(row_bytes), "{} bytes are not whole rows of {cols} {self}", rows.len());
        assert_eq!(planes.len(), self.planes().len(), "planes of {self}");
        let groups = rows.len() / row_bytes * cols.div_ceil(GROUP);
        for (out, plane) in planes.iter_mut().zip(self.planes()) {
            out.reserve(groups / plane.groups as usize * plane.bytes as usize);
        }
        for row in rows.chunks_exact(row_bytes) {
            (self.info().pack)(row, planes);
            for (out, plane) in planes.iter_mut().zip(self.planes()) {
                out.resize(out.len().next_multiple_of(plane.bytes as usize), 0);
            }
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
