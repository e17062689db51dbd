//! The GGUF format: reads the header of a file (metadata and the tensor table) and writes files.
//!
//! Follows the GGUF specification, versions 2 and 3, little-endian. Files are untrusted: every count is checked against
//! the remaining bytes before anything is allocated, every sum is checked for overflow, and every tensor must be
//! aligned, inside the file, and must not overlap another one.

mod split;
mod write;

pub use split::split_name;
pub(super) use split::{join, siblings};
pub use write::GgufWriter;

use super::tensor::{check_overlaps, data_bytes};
use super::{GgufArray, GgufValue, Metadata, Source, Span, TensorInfo, TensorLayout};
use crate::dtype::DType;
use crate::{Error, Result};
use indexmap::IndexMap;

const MAGIC: &[u8; 4] = b"GGUF";
const DEFAULT_ALIGNMENT: u32 = 32;
/// The specification's ids of value types.
mod kind {
    pub const U8: u32 = 0;
    pub const I8: u32 = 1;
    pub const U16: u32 = 2;
    pub const I16: u32 = 3;
    pub const U32: u32 = 4;
    pub const I32: u32 = 5;
    pub const F32: u32 = 6;
    pub const BOOL: u32 = 7;
    pub const STRING: u32 = 8;
    pub const ARRAY: u32 = 9;
    pub const U64: u32 = 10;
    pub const I64: u32 = 11;
    pub const F64: u32 = 12;
}

/// Size of the first read; each further read doubles the bytes at hand.
const FIRST_READ: u64 = 256 << 10;
/// Real headers are below 32 MB (most of it vocabulary); a larger one would only fill memory.
const HEADER_LIMIT: u64 = 128 << 20;
/// Real files have tens of keys and at most a few thousand tensors.
const COUNT_LIMIT: u64 = 1 << 16;
/// Nesting of arrays; no known file goes deeper than two.
const DEPTH_LIMIT: u32 = 4;
/// Size of the smallest key (empty name, type, one byte) and of the smallest tensor entry (empty name, one dimension).
const MIN_KEY_BYTES: u64 = 8 + 4 + 1;
const MIN_TENSOR_BYTES: u64 = 8 + 4 + 8 + 4 + 8;

/// The header of one file.
pub(super) struct GgufHeader {
    pub metadata: Metadata,
    pub tensors: IndexMap<String, TensorInfo>,
}

/// Why parsing stopped: it needs the first `n` bytes of the file, or the file is damaged.
enum ParseStop {
    NeedBytes(u64),
    Failed(Error),
}

impl From<Error> for ParseStop {
    fn from(error: Error) -> Self {
        ParseStop::Failed(error)
    }
}

/// Reads a header in growing pieces. `index` is the source's index in the checkpoint.
pub(super) async fn read(source: &Source, index: usize) -> Result<GgufHeader> {
    let mut bytes = Vec::new();
    let mut want = FIRST_READ.min(source.len());
    loop {
        bytes.extend(source.read(bytes.len() as u64..want).await?);
        match parse(source, index, &bytes) {
            Ok(header) => return Ok(header),
            Err(ParseStop::Failed(error)) => return Err(error),
            Err(ParseStop::NeedBytes(least)) if least > HEADER_LIMIT => {
                let name = source.name();
                return Err(Error::Limit(format!(
                    "{name}: metadata of more than {HEADER_LIMIT} bytes cannot be right"
                )));
            }
            Err(ParseStop::NeedBytes(least)) => want = least.max(2 * want).min(source.len()),
        }
    }
}

/// Parses a header from the first bytes of the file.
fn parse(source: &Source, index: usize, bytes: &[u8]) -> Result<GgufHeader, ParseStop> {
    let mut cursor = HeaderCursor { source, bytes, at: 0, what: "the header".into() };
    cursor.version()?;
    let tensor_count = cursor.count(MIN_TENSOR_BYTES, COUNT_LIMIT)?;
    let key_count = cursor.count(MIN_KEY_BYTES, COUNT_LIMIT)?;

    let mut metadata = Metadata::new();
    for number in 0..key_count {
        cursor.what = format!("metadata key {number}");
        let key = cursor.name()?;
        cursor.what = format!("the metadata key {key}");
        let value = cursor.value()?;
        if metadata.insert(key, value).is_some() {
            return Err(cursor.bad("occurs twice"));
        }
    }
    let alignment = alignment(&cursor, &metadata)?;

    let mut tensors = IndexMap::new();
    for number in 0..tensor_count {
        cursor.what = format!("tensor {number}");
        let tensor = cursor.tensor(index, alignment)?;
        if tensors.insert(tensor.name.clone(), tensor).is_some() {
            return Err(cursor.bad("occurs twice"));
        }
    }
    locate(source, cursor.at as u64, alignment, &mut tensors)?;
    Ok(GgufHeader { metadata, tensors })
}

fn alignment(cursor: &HeaderCursor, metadata: &Metadata) -> Result<u64, ParseStop> {
    let alignment = metadata.get_u32("general.alignment").map_err(|error| cursor.bad(error))?;
    let alignment = alignment.unwrap_or(DEFAULT_ALIGNMENT);
    if !alignment.is_power_of_two() {
        return Err(cursor.bad(format!("general.alignment is {alignment}, not a power of two")));
    }
    Ok(alignment.into())
}

/// Converts offsets within the data section, which starts at the next aligned byte after the header, to offsets within
/// the file. Checks that every tensor is inside the file and overlaps no other.
fn locate(source: &Source, header: u64, alignment: u64, tensors: &mut IndexMap<String, TensorInfo>) -> Result<()> {
    let start = header.next_multiple_of(alignment);
    for span in tensors.values_mut().flat_map(|tensor| &mut tensor.parts) {
        span.offset = span.offset.saturating_add(start);
    }
    // The tensor with the largest end determines how many bytes are missing.
    let end = |tensor: &TensorInfo| tensor.parts[0].offset.saturating_add(tensor.parts[0].bytes);
    if let Some(last) = tensors.values().max_by_key(|tensor| end(tensor))
        && end(last) > source.len()
    {
        let (file, name, end, len) = (source.name(), &last.name, end(last), source.len());
        let message = format!("{file} is truncated: tensor {name} ends at byte {end} of {len}; download it again");
        return Err(Error::format(message));
    }
    check_overlaps(source.name(), tensors.values().map(|tensor| (tensor.name.as_str(), &tensor.parts[0])))
}

/// A position in the header's bytes; `what` names the item being read, for errors.
struct HeaderCursor<'a> {
    source: &'a Source,
    bytes: &'a [u8],
    at: usize,
    what: String,
}

impl<'a> HeaderCursor<'a> {
    fn bad(&self, why: impl std::fmt::Display) -> ParseStop {
        ParseStop::Failed(Error::format(format!("{}: {}: {why}", self.source.name(), self.what)))
    }

    fn left(&self) -> u64 {
        self.source.len() - self.at as u64
    }

    fn take(&mut self, count: u64) -> Result<&'a [u8], ParseStop> {
        if count > self.left() {
            let (name, what, len) = (self.source.name(), &self.what, self.source.len());
            let message = format!("{name} is truncated: {what} does not end within its {len} bytes; download it again");
            return Err(ParseStop::Failed(Error::format(message)));
        }
        let end = self.at as u64 + count;
        if end > self.bytes.len() as u64 {
            return Err(ParseStop::NeedBytes(end));
        }
        let taken = &self.bytes[self.at..end as usize];
        self.at = end as usize;
        Ok(taken)
    }

    fn array_of<const N: usize>(&mut self) -> Result<[u8; N], ParseStop> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N as u64)?);
        Ok(array)
    }

    fn u32(&mut self) -> Result<u32, ParseStop> {
        Ok(u32::from_le_bytes(self.array_of()?))
    }

    fn u64(&mut self) -> Result<u64, ParseStop> {
        Ok(u64::from_le_bytes(self.array_of()?))
    }

    /// A count of items of at least `least` bytes each.
    fn count(&mut self, least: u64, limit: u64) -> Result<u64, ParseStop> {
        let count = self.u64()?;
        if count > self.left() / least {
            let left = self.left();
            let message = format!("a count of {count} cannot fit in the {left} bytes left");
            return Err(self.bad(format!("{message}: the file is truncated or damaged; download it again")));
        }
        if count > limit {
            return Err(self.bad(format!("a count of {count} cannot be right (at most {limit})")));
        }
        Ok(count)
    }

    fn version(&mut self) -> Result<(), ParseStop> {
        if self.source.len() == 0 {
            return Err(self.bad("the file is empty; download it again"));
        }
        let start = &self.bytes[..self.bytes.len().min(16)];
        if !start.starts_with(MAGIC) {
            return Err(self.bad(format!("this is not a GGUF file{}", guess(start))));
        }
        self.take(4)?;
        match self.u32()? {
            2 | 3 => Ok(()),
            1 => Err(ParseStop::Failed(self.unsupported("GGUF version 1; convert the model again"))),
            version if version.swap_bytes() <= 0xFFFF => {
                Err(ParseStop::Failed(self.unsupported("big-endian GGUF; use a little-endian file")))
            }
            version => {
                Err(ParseStop::Failed(self.unsupported(&format!("GGUF version {version}; versions 2 and 3 are read"))))
            }
        }
    }

    fn unsupported(&self, what: &str) -> Error {
        Error::Unsupported(format!("{}: {what}", self.source.name()))
    }

    fn text(&mut self) -> Result<&'a [u8], ParseStop> {
        let len = self.u64()?;
        self.take(len)
    }

    /// A string value. Single tokens of a vocabulary need not be valid UTF-8, so invalid bytes are replaced.
    fn string(&mut self) -> Result<String, ParseStop> {
        Ok(String::from_utf8_lossy(self.text()?).into_owned())
    }

    /// A key or the name of a tensor, which must be valid UTF-8.
    fn name(&mut self) -> Result<String, ParseStop> {
        let bytes = self.text()?;
        match std::str::from_utf8(bytes) {
            Ok(name) => Ok(name.to_owned()),
            Err(_) => Err(self.bad(format!("its name {:?} is not UTF-8", String::from_utf8_lossy(bytes)))),
        }
    }

    fn bool(&self, byte: u8) -> Result<bool, ParseStop> {
        match byte {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(self.bad(format!("{other} is neither true (1) nor false (0)"))),
        }
    }

    fn value(&mut self) -> Result<GgufValue, ParseStop> {
        Ok(match self.u32()? {
            kind::U8 => GgufValue::U8(u8::from_le_bytes(self.array_of()?)),
            kind::I8 => GgufValue::I8(i8::from_le_bytes(self.array_of()?)),
            kind::U16 => GgufValue::U16(u16::from_le_bytes(self.array_of()?)),
            kind::I16 => GgufValue::I16(i16::from_le_bytes(self.array_of()?)),
            kind::U32 => GgufValue::U32(self.u32()?),
            kind::I32 => GgufValue::I32(i32::from_le_bytes(self.array_of()?)),
            kind::F32 => GgufValue::F32(f32::from_le_bytes(self.array_of()?)),
            kind::BOOL => {
                let [byte] = self.array_of()?;
                GgufValue::Bool(self.bool(byte)?)
            }
            kind::STRING => GgufValue::String(self.string()?),
            kind::ARRAY => GgufValue::Array(self.array(DEPTH_LIMIT)?),
            kind::U64 => GgufValue::U64(self.u64()?),
            kind::I64 => GgufValue::I64(i64::from_le_bytes(self.array_of()?)),
            kind::F64 => GgufValue::F64(f64::from_le_bytes(self.array_of()?)),
            other => return Err(self.unknown_kind(other)),
        })
    }

    fn array(&mut self, depth: u32) -> Result<GgufArray, ParseStop> {
        if depth == 0 {
            return Err(self.bad(format!("arrays are nested deeper than {DEPTH_LIMIT}")));
        }
        Ok(match self.u32()? {
            kind::U8 => GgufArray::U8(self.numbers(u8::from_le_bytes)?),
            kind::I8 => GgufArray::I8(self.numbers(i8::from_le_bytes)?),
            kind::U16 => GgufArray::U16(self.numbers(u16::from_le_bytes)?),
            kind::I16 => GgufArray::I16(self.numbers(i16::from_le_bytes)?),
            kind::U32 => GgufArray::U32(self.numbers(u32::from_le_bytes)?),
            kind::I32 => GgufArray::I32(self.numbers(i32::from_le_bytes)?),
            kind::F32 => GgufArray::F32(self.numbers(f32::from_le_bytes)?),
            kind::BOOL => {
                let bytes = self.numbers(u8::from_le_bytes)?;
                GgufArray::Bool(bytes.into_iter().map(|byte| self.bool(byte)).collect::<Result<_, _>>()?)
            }
            kind::STRING => {
                let count = self.count(8, u64::MAX)?;
                GgufArray::String((0..count).map(|_| self.string()).collect::<Result<_, _>>()?)
            }
            kind::ARRAY => {
                let count = self.count(4 + 8, u64::MAX)?;
                GgufArray::Array((0..count).map(|_| self.array(depth - 1)).collect::<Result<_, _>>()?)
            }
            kind::U64 => GgufArray::U64(self.numbers(u64::from_le_bytes)?),
            kind::I64 => GgufArray::I64(self.numbers(i64::from_le_bytes)?),
            kind::F64 => GgufArray::F64(self.numbers(f64::from_le_bytes)?),
            other => return Err(self.unknown_kind(other)),
        })
    }

    fn unknown_kind(&self, kind: u32) -> ParseStop {
        self.bad(format!(
            "its kind {kind} is unknown (0 to 12 are known); the file is damaged or newer than this program"
        ))
    }

    /// A count, then that many numbers of `N` bytes.
    fn numbers<const N: usize, T>(&mut self, number: fn([u8; N]) -> T) -> Result<Vec<T>, ParseStop> {
        let count = self.count(N as u64, u64::MAX)?;
        let (numbers, _) = self.take(count * N as u64)?.as_chunks::<N>();
        Ok(numbers.iter().map(|bytes| number(*bytes)).collect())
    }

    /// A tensor entry. The offset of its span is still relative to the data section.
    fn tensor(&mut self, source: usize, alignment: u64) -> Result<TensorInfo, ParseStop> {
        let name = self.name()?;
        self.what = format!("tensor {name}");
        let rank = self.u32()?;
        if !(1..=4).contains(&rank) {
            return Err(self.bad(format!("it has {rank} dimensions, not 1 to 4")));
        }
        let dims = (0..rank).map(|_| self.u64()).collect::<Result<Vec<u64>, ParseStop>>()?;
        let id = self.u32()?;
        let dtype = DType::from_gguf_id(id).map_err(|error| {
            let (file, what) = (self.source.name(), &self.what);
            Error::Unsupported(format!("{file}: {what} has weight type {id}: {error}"))
        })?;
        let offset = self.u64()?;
        if offset % alignment != 0 {
            return Err(self.bad(format!("its offset {offset} is not a multiple of the alignment {alignment}")));
        }
        let bytes = data_bytes(dtype, &dims).map_err(|why| self.bad(why))?;
        Ok(TensorInfo {
            name,
            dims,
            dtype,
            parts: vec![Span { source, offset, bytes }],
            layout: TensorLayout::Contiguous,
        })
    }
}

/// Recognizes other formats by their first bytes, to say what the file may be.
fn guess(start: &[u8]) -> &'static str {
    let known: [(&[u8], &str); 6] = [
        (b"version https", ", but a Git LFS pointer; fetch the real file (git lfs pull)"),
        (b"<", ", but a web page; download it again"),
        (b"PK", ", but a zip archive (a PyTorch checkpoint?); convert it to GGUF"),
        (b"lmgg", ", but a GGML file from before GGUF; convert the model again"),
        (b"tjgg", ", but a GGJT file from before GGUF; convert the model again"),
        (b"fmgg", ", but a GGMF file from before GGUF; convert the model again"),
    ];
    match known.iter().find(|(magic, _)| start.starts_with(magic)) {
        Some((_, what)) => what,
        None if start.get(8) == Some(&b'{') => ", but safetensors; name the folder that contains it",
        None => " (it does not begin with \"GGUF\")",
    }
}
