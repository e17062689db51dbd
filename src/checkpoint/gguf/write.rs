//! Writes GGUF version 3.

use super::{DEFAULT_ALIGNMENT, MAGIC, kind};
use crate::checkpoint::tensor::data_bytes;
use crate::checkpoint::{GgufArray, GgufValue, Metadata, Span, TensorInfo, TensorLayout};
use crate::dtype::DType;
use crate::{Error, Result};
use std::io::{self, Write};

/// Builds a GGUF file from metadata and tensor shapes; the weights are requested while the file is written.
pub struct GgufWriter {
    metadata: Metadata,
    tensors: Vec<TensorInfo>,
    alignment: u64,
    end: u64,
}

impl GgufWriter {
    /// A file with this metadata and no tensors.
    ///
    /// # Errors
    /// If `general.alignment` is set and not a power of two.
    pub fn new(metadata: Metadata) -> Result<Self> {
        let alignment = metadata.get_u32("general.alignment")?.unwrap_or(DEFAULT_ALIGNMENT);
        if !alignment.is_power_of_two() {
            return Err(Error::Usage(format!("general.alignment is {alignment}, not a power of two")));
        }
        Ok(Self { metadata, tensors: Vec::new(), alignment: alignment.into(), end: 0 })
    }

    /// Adds a tensor; `dims[0]` is the row length.
    ///
    /// # Errors
    /// If a tensor of these dimensions cannot be stored in this weight type.
    pub fn tensor(&mut self, name: impl Into<String>, dims: &[u64], dtype: DType) -> Result<()> {
        let name = name.into();
        let bytes = data_bytes(dtype, dims).map_err(|why| Error::Usage(format!("tensor {name}: {why}")))?;
        let offset = self.end.next_multiple_of(self.alignment);
        self.end = offset.checked_add(bytes).ok_or_else(|| Error::Limit("more than 2^64 bytes of weights".into()))?;
        self.tensors.push(TensorInfo {
            name,
            dims: dims.to_vec(),
            dtype,
            parts: vec![Span { source: 0, offset, bytes }],
            layout: TensorLayout::Contiguous,
        });
        Ok(())
    }

    /// Writes the file. `data` is called for each tensor in order and writes its bytes.
    ///
    /// # Errors
    /// If the writer fails, or `data` writes more or fewer bytes than the tensor has.
    pub fn write(
        &self,
        out: impl Write,
        mut data: impl FnMut(&TensorInfo, &mut dyn Write) -> io::Result<()>,
    ) -> Result<()> {
        let mut out = CountingWriter { out, bytes: 0 };
        let failed = |error| Error::io("cannot write the GGUF file", error);
        self.write_header(&mut out).map_err(failed)?;
        pad(&mut out, self.alignment).map_err(failed)?;
        for tensor in &self.tensors {
            let start = out.bytes;
            data(tensor, &mut out).map_err(failed)?;
            let (got, want) = (out.bytes - start, tensor.bytes());
            if got != want {
                let name = &tensor.name;
                return Err(Error::Usage(format!("tensor {name} has {want} bytes, {got} were written")));
            }
            pad(&mut out, self.alignment).map_err(failed)?;
        }
        out.flush().map_err(failed)
    }

    /// The bytes before the weights, and the length of the whole file.
    pub(crate) fn header(&self) -> Result<(Vec<u8>, u64)> {
        let mut out = CountingWriter { out: Vec::new(), bytes: 0 };
        let failed = |error| Error::io("cannot write the header", error);
        self.write_header(&mut out).map_err(failed)?;
        pad(&mut out, self.alignment).map_err(failed)?;
        Ok((out.out, out.bytes + self.end))
    }

    fn write_header(&self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(MAGIC)?;
        out.write_all(&3u32.to_le_bytes())?;
        out.write_all(&(self.tensors.len() as u64).to_le_bytes())?;
        out.write_all(&(self.metadata.len() as u64).to_le_bytes())?;
        for (key, value) in self.metadata.iter() {
            string(out, key)?;
            write_value(out, value)?;
        }
        for tensor in &self.tensors {
            string(out, &tensor.name)?;
            out.write_all(&(tensor.dims.len() as u32).to_le_bytes())?;
            numbers(out, &tensor.dims, u64::to_le_bytes)?;
            out.write_all(&tensor.dtype.gguf_id().to_le_bytes())?;
            out.write_all(&tensor.parts[0].offset.to_le_bytes())?;
        }
        Ok(())
    }
}

/// A writer that counts the bytes written.
struct CountingWriter<W> {
    out: W,
    bytes: u64,
}

impl<W: Write> Write for CountingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn pad<W: Write>(out: &mut CountingWriter<W>, alignment: u64) -> io::Result<()> {
    let zeros = out.bytes.next_multiple_of(alignment) - out.bytes;
    io::copy(&mut io::Read::take(io::repeat(0), zeros), out).map(|_| ())
}

fn string(out: &mut impl Write, text: &str) -> io::Result<()> {
    out.write_all(&(text.len() as u64).to_le_bytes())?;
    out.write_all(text.as_bytes())
}

fn numbers<T: Copy, const N: usize>(out: &mut impl Write, values: &[T], bytes: fn(T) -> [u8; N]) -> io::Result<()> {
    values.iter().try_for_each(|&value| out.write_all(&bytes(value)))
}

/// Writes the type id, then the value.
fn write_value(out: &mut impl Write, value: &GgufValue) -> io::Result<()> {
    let mut tagged = |kind: u32, bytes: &[u8]| {
        out.write_all(&kind.to_le_bytes())?;
        out.write_all(bytes)
    };
    match value {
        GgufValue::U8(n) => tagged(kind::U8, &n.to_le_bytes()),
        GgufValue::I8(n) => tagged(kind::I8, &n.to_le_bytes()),
        GgufValue::U16(n) => tagged(kind::U16, &n.to_le_bytes()),
        GgufValue::I16(n) => tagged(kind::I16, &n.to_le_bytes()),
        GgufValue::U32(n) => tagged(kind::U32, &n.to_le_bytes()),
        GgufValue::I32(n) => tagged(kind::I32, &n.to_le_bytes()),
        GgufValue::F32(n) => tagged(kind::F32, &n.to_le_bytes()),
        GgufValue::Bool(b) => tagged(kind::BOOL, &[u8::from(*b)]),
        GgufValue::U64(n) => tagged(kind::U64, &n.to_le_bytes()),
        GgufValue::I64(n) => tagged(kind::I64, &n.to_le_bytes()),
        GgufValue::F64(n) => tagged(kind::F64, &n.to_le_bytes()),
        GgufValue::String(text) => {
            tagged(kind::STRING, &[])?;
            string(out, text)
        }
        GgufValue::Array(array) => {
            tagged(kind::ARRAY, &[])?;
            write_array(out, array)
        }
    }
}

/// Writes the type id of the elements, their count, then the elements.
fn write_array(out: &mut dyn Write, array: &GgufArray) -> io::Result<()> {
    let kind = match array {
        GgufArray::U8(_) => kind::U8,
        GgufArray::I8(_) => kind::I8,
        GgufArray::U16(_) => kind::U16,
        GgufArray::I16(_) => kind::I16,
        GgufArray::U32(_) => kind::U32,
        GgufArray::I32(_) => kind::I32,
        GgufArray::F32(_) => kind::F32,
        GgufArray::Bool(_) => kind::BOOL,
        GgufArray::String(_) => kind::STRING,
        GgufArray::Array(_) => kind::ARRAY,
        GgufArray::U64(_) => kind::U64,
        GgufArray::I64(_) => kind::I64,
        GgufArray::F64(_) => kind::F64,
    };
    let out = &mut { out };
    out.write_all(&kind.to_le_bytes())?;
    out.write_all(&(array.len() as u64).to_le_bytes())?;
    match array {
        GgufArray::U8(v) => out.write_all(v),
        GgufArray::I8(v) => numbers(out, v, i8::to_le_bytes),
        GgufArray::U16(v) => numbers(out, v, u16::to_le_bytes),
        GgufArray::I16(v) => numbers(out, v, i16::to_le_bytes),
        GgufArray::U32(v) => numbers(out, v, u32::to_le_bytes),
        GgufArray::I32(v) => numbers(out, v, i32::to_le_bytes),
        GgufArray::F32(v) => numbers(out, v, f32::to_le_bytes),
        GgufArray::Bool(v) => numbers(out, v, |b| [u8::from(b)]),
        GgufArray::String(v) => v.iter().try_for_each(|text| string(out, text)),
        GgufArray::Array(v) => v.iter().try_for_each(|inner| write_array(out, inner)),
        GgufArray::U64(v) => numbers(out, v, u64::to_le_bytes),
        GgufArray::I64(v) => numbers(out, v, i64::to_le_bytes),
        GgufArray::F64(v) => numbers(out, v, f64::to_le_bytes),
    }
}
