//! Reading the head of a GGUF file: metadata and the tensor table, never the weights.
//!
//! The format is that of the GGUF specification (versions 2 and 3, little-endian). Files come from strangers: every
//! count is held against the bytes that are left before anything is allocated, every sum is checked, and every tensor
//! must lie inside the file, aligned, and alone.

use super::metadata::{Array, Metadata, Value};
use super::{Layout, Source, Span, TensorInfo, check_overlaps, data_bytes};
use crate::dtype::DType;
use crate::{Error, Result};
use indexmap::IndexMap;

pub(super) const MAGIC: &[u8; 4] = b"GGUF";
pub(super) const DEFAULT_ALIGNMENT: u32 = 32;
/// GGUF's numbers for the kinds of values.
pub(super) mod kind {
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

/// The first read; each further one doubles what is there.
const FIRST_READ: u64 = 256 << 10;
/// Real heads are below 32 MB (the vocabulary); a larger one would only fill memory.
const HEAD_LIMIT: u64 = 128 << 20;
/// Real files have tens of keys and at most a few thousand tensors.
const COUNT_LIMIT: u64 = 1 << 16;
/// Arrays of arrays of arrays: none is known to go deeper than two.
const DEPTH_LIMIT: u32 = 4;
/// Bytes of the smallest key (empty name, kind, one byte) and the smallest tensor (empty name, one dimension).
const LEAST_KEY: u64 = 8 + 4 + 1;
const LEAST_TENSOR: u64 = 8 + 4 + 8 + 4 + 8;

/// The head of one file.
pub(super) struct Head {
    pub metadata: Metadata,
    pub tensors: IndexMap<String, TensorInfo>,
}

/// Why parsing stopped: the file's first n bytes are needed, or the file is bad.
enum Stop {
    More(u64),
    Bad(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Stop::Bad(error)
    }
}

/// Reads a head in growing pieces. `index` is the source's place in the checkpoint.
pub(super) async fn read(source: &Source, index: usize) -> Result<Head> {
    let mut bytes = Vec::new();
    let mut want = FIRST_READ.min(source.len());
    loop {
        bytes.extend(source.read(bytes.len() as u64..want).await?);
        match parse(source, index, &bytes) {
            Ok(head) => return Ok(head),
            Err(Stop::Bad(error)) => return Err(error),
            Err(Stop::More(least)) if least > HEAD_LIMIT => {
                let name = source.name();
                return Err(Error::Limit(format!("{name}: metadata of more than {HEAD_LIMIT} bytes cannot be right")));
            }
            Err(Stop::More(least)) => want = least.max(2 * want).min(source.len()),
        }
    }
}

/// Parses a head from the file's first bytes.
fn parse(source: &Source, index: usize, bytes: &[u8]) -> Result<Head, Stop> {
    let mut cursor = Cursor { source, bytes, at: 0, what: "the header".into() };
    cursor.version()?;
    let tensor_count = cursor.count(LEAST_TENSOR, COUNT_LIMIT)?;
    let key_count = cursor.count(LEAST_KEY, COUNT_LIMIT)?;

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
    place(source, cursor.at as u64, alignment, &mut tensors)?;
    Ok(Head { metadata, tensors })
}

fn alignment(cursor: &Cursor, metadata: &Metadata) -> Result<u64, Stop> {
    let alignment = metadata.get_u32("general.alignment").map_err(|error| cursor.bad(error))?;
    let alignment = alignment.unwrap_or(DEFAULT_ALIGNMENT);
    if !alignment.is_power_of_two() {
        return Err(cursor.bad(format!("general.alignment is {alignment}, not a power of two")));
    }
    Ok(alignment.into())
}

/// Turns offsets within the data, which starts at the next multiple of the alignment after the head, into offsets
/// within the file, and checks that each tensor lies there alone.
fn place(source: &Source, head: u64, alignment: u64, tensors: &mut IndexMap<String, TensorInfo>) -> Result<()> {
    let start = head.next_multiple_of(alignment);
    for span in tensors.values_mut().flat_map(|tensor| &mut tensor.parts) {
        span.offset = span.offset.saturating_add(start);
    }
    // The tensor that ends last says how much is missing.
    let end = |tensor: &TensorInfo| tensor.parts[0].offset.saturating_add(tensor.parts[0].bytes);
    if let Some(last) = tensors.values().max_by_key(|tensor| end(tensor))
        && end(last) > source.len()
    {
        let (file, name, end, len) = (source.name(), &last.name, end(last), source.len());
        let message = format!("{file} is truncated: tensor {name} ends at byte {end} of {len}; download it again");
        return Err(Error::Format(message));
    }
    check_overlaps(source.name(), tensors.values().map(|tensor| (tensor.name.as_str(), &tensor.parts[0])))
}

/// A place in the head's bytes; `what` names the thing being read.
struct Cursor<'a> {
    source: &'a Source,
    bytes: &'a [u8],
    at: usize,
    what: String,
}

impl<'a> Cursor<'a> {
    fn bad(&self, why: impl std::fmt::Display) -> Stop {
        Stop::Bad(Error::Format(format!("{}: {}: {why}", self.source.name(), self.what)))
    }

    fn left(&self) -> u64 {
        self.source.len() - self.at as u64
    }

    fn take(&mut self, count: u64) -> Result<&'a [u8], Stop> {
        if count > self.left() {
            let (name, what, len) = (self.source.name(), &self.what, self.source.len());
            let message = format!("{name} is truncated: {what} does not end within its {len} bytes; download it again");
            return Err(Stop::Bad(Error::Format(message)));
        }
        let end = self.at as u64 + count;
        if end > self.bytes.len() as u64 {
            return Err(Stop::More(end));
        }
        let taken = &self.bytes[self.at..end as usize];
        self.at = end as usize;
        Ok(taken)
    }

    fn array_of<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N as u64)?);
        Ok(array)
    }

    fn u32(&mut self) -> Result<u32, Stop> {
        Ok(u32::from_le_bytes(self.array_of()?))
    }

    fn u64(&mut self) -> Result<u64, Stop> {
        Ok(u64::from_le_bytes(self.array_of()?))
    }

    /// A count of things that take at least `least` bytes each.
    fn count(&mut self, least: u64, limit: u64) -> Result<u64, Stop> {
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

    fn version(&mut self) -> Result<(), Stop> {
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
            1 => Err(Stop::Bad(self.unsupported("GGUF version 1; convert the model again"))),
            version if version.swap_bytes() <= 0xFFFF => {
                Err(Stop::Bad(self.unsupported("big-endian GGUF; take a little-endian file")))
            }
            version => Err(Stop::Bad(self.unsupported(&format!("GGUF version {version}; versions 2 and 3 are read")))),
        }
    }

    fn unsupported(&self, what: &str) -> Error {
        Error::Unsupported(format!("{}: {what}", self.source.name()))
    }

    fn text(&mut self) -> Result<&'a [u8], Stop> {
        let len = self.u64()?;
        self.take(len)
    }

    /// A string value. Vocabularies hold tokens that are not UTF-8 by themselves, so such bytes are replaced.
    fn string(&mut self) -> Result<String, Stop> {
        Ok(String::from_utf8_lossy(self.text()?).into_owned())
    }

    /// A key or a tensor's name, which must be exact.
    fn name(&mut self) -> Result<String, Stop> {
        let bytes = self.text()?;
        match std::str::from_utf8(bytes) {
            Ok(name) => Ok(name.to_owned()),
            Err(_) => Err(self.bad(format!("its name {:?} is not UTF-8", String::from_utf8_lossy(bytes)))),
        }
    }

    fn bool(&self, byte: u8) -> Result<bool, Stop> {
        match byte {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(self.bad(format!("{other} is neither true (1) nor false (0)"))),
        }
    }

    fn value(&mut self) -> Result<Value, Stop> {
        Ok(match self.u32()? {
            kind::U8 => Value::U8(u8::from_le_bytes(self.array_of()?)),
            kind::I8 => Value::I8(i8::from_le_bytes(self.array_of()?)),
            kind::U16 => Value::U16(u16::from_le_bytes(self.array_of()?)),
            kind::I16 => Value::I16(i16::from_le_bytes(self.array_of()?)),
            kind::U32 => Value::U32(self.u32()?),
            kind::I32 => Value::I32(i32::from_le_bytes(self.array_of()?)),
            kind::F32 => Value::F32(f32::from_le_bytes(self.array_of()?)),
            kind::BOOL => {
                let [byte] = self.array_of()?;
                Value::Bool(self.bool(byte)?)
            }
            kind::STRING => Value::String(self.string()?),
            kind::ARRAY => Value::Array(self.array(DEPTH_LIMIT)?),
            kind::U64 => Value::U64(self.u64()?),
            kind::I64 => Value::I64(i64::from_le_bytes(self.array_of()?)),
            kind::F64 => Value::F64(f64::from_le_bytes(self.array_of()?)),
            other => return Err(self.unknown_kind(other)),
        })
    }

    fn array(&mut self, depth: u32) -> Result<Array, Stop> {
        if depth == 0 {
            return Err(self.bad(format!("arrays are nested deeper than {DEPTH_LIMIT}")));
        }
        Ok(match self.u32()? {
            kind::U8 => Array::U8(self.run(u8::from_le_bytes)?),
            kind::I8 => Array::I8(self.run(i8::from_le_bytes)?),
            kind::U16 => Array::U16(self.run(u16::from_le_bytes)?),
            kind::I16 => Array::I16(self.run(i16::from_le_bytes)?),
            kind::U32 => Array::U32(self.run(u32::from_le_bytes)?),
            kind::I32 => Array::I32(self.run(i32::from_le_bytes)?),
            kind::F32 => Array::F32(self.run(f32::from_le_bytes)?),
            kind::BOOL => {
                let bytes = self.run(u8::from_le_bytes)?;
                Array::Bool(bytes.into_iter().map(|byte| self.bool(byte)).collect::<Result<_, _>>()?)
            }
            kind::STRING => {
                let count = self.count(8, u64::MAX)?;
                Array::String((0..count).map(|_| self.string()).collect::<Result<_, _>>()?)
            }
            kind::ARRAY => {
                let count = self.count(4 + 8, u64::MAX)?;
                Array::Array((0..count).map(|_| self.array(depth - 1)).collect::<Result<_, _>>()?)
            }
            kind::U64 => Array::U64(self.run(u64::from_le_bytes)?),
            kind::I64 => Array::I64(self.run(i64::from_le_bytes)?),
            kind::F64 => Array::F64(self.run(f64::from_le_bytes)?),
            other => return Err(self.unknown_kind(other)),
        })
    }

    fn unknown_kind(&self, kind: u32) -> Stop {
        self.bad(format!(
            "its kind {kind} is unknown (0 to 12 are known); the file is damaged or newer than this program"
        ))
    }

    /// A count, then that many numbers of `N` bytes.
    fn run<const N: usize, T>(&mut self, number: fn([u8; N]) -> T) -> Result<Vec<T>, Stop> {
        let count = self.count(N as u64, u64::MAX)?;
        let (numbers, _) = self.take(count * N as u64)?.as_chunks::<N>();
        Ok(numbers.iter().map(|bytes| number(*bytes)).collect())
    }

    /// A tensor; its span's offset still counts from the start of the data.
    fn tensor(&mut self, source: usize, alignment: u64) -> Result<TensorInfo, Stop> {
        let name = self.name()?;
        self.what = format!("tensor {name}");
        let rank = self.u32()?;
        if !(1..=4).contains(&rank) {
            return Err(self.bad(format!("it has {rank} dimensions, not 1 to 4")));
        }
        let dims = (0..rank).map(|_| self.u64()).collect::<Result<Vec<u64>, Stop>>()?;
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
        Ok(TensorInfo { name, dims, dtype, parts: vec![Span { source, offset, bytes }], layout: Layout::Rows })
    }
}

/// What a file that is not GGUF may be.
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
        None if start.get(8) == Some(&b'{') => ", but safetensors; name the folder it lies in",
        None => " (it does not begin with \"GGUF\")",
    }
}
