//! Where bytes come from: a file, memory, or whatever a front end plugs in (HTTP ranges, a browser's `Blob`).
//!
//! A source is a name, a length, and a function that reads a range of bytes. Everything that opens models reads
//! through it, so nothing above it knows about files, and no model is ever held in memory as a whole.

use crate::{Error, Result};
use std::fs::File;
use std::future::Future;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;
use std::pin::Pin;

/// What a reader returns: the bytes, later.
pub type Reading = Pin<Box<dyn Future<Output = Result<Vec<u8>>>>>;

/// Bytes that can be read by range.
pub struct Source {
    name: String,
    len: u64,
    read: Box<dyn Fn(Range<u64>) -> Reading>,
}

impl Source {
    /// `len` bytes behind `read`. The name stands in every error about them; its last component (after `/` or `\`) is
    /// the file's name.
    pub fn new(name: impl Into<String>, len: u64, read: impl Fn(Range<u64>) -> Reading + 'static) -> Self {
        Self { name: name.into(), len, read: Box::new(read) }
    }

    /// A file, kept open and read at need.
    ///
    /// # Errors
    /// If there is no such file, it may not be read, or it is a folder.
    pub fn file(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let failed = |error| Error::io(format!("cannot open {name}"), error);
        let file = File::open(path).map_err(failed)?;
        let facts = file.metadata().map_err(failed)?;
        if !facts.is_file() {
            return Err(Error::Usage(format!("{name} is not a file")));
        }
        let label = name.clone();
        let read = move |range: Range<u64>| -> Reading {
            let bytes = read_at(&file, range).map_err(|error| Error::io(format!("cannot read {label}"), error));
            Box::pin(std::future::ready(bytes))
        };
        Ok(Self::new(name, facts.len(), read))
    }

    /// Bytes already in memory.
    pub fn bytes(name: impl Into<String>, bytes: Vec<u8>) -> Self {
        let len = bytes.len() as u64;
        // `read` below lets only ranges within `len` through.
        let read = move |range: Range<u64>| -> Reading {
            Box::pin(std::future::ready(Ok(bytes[range.start as usize..range.end as usize].to_vec())))
        };
        Self::new(name, len, read)
    }

    /// What errors call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file's own name, without folders.
    pub fn file_name(&self) -> &str {
        self.name.rsplit(['/', '\\']).next().unwrap_or(&self.name)
    }

    /// Its length in bytes.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// The bytes in `range`, all of them.
    ///
    /// # Errors
    /// If the range is not within the source, or the reader fails or returns fewer or more bytes.
    pub async fn read(&self, range: Range<u64>) -> Result<Vec<u8>> {
        if range.start > range.end || range.end > self.len {
            let Range { start, end } = range;
            let (name, len) = (&self.name, self.len);
            return Err(Error::Format(format!("bytes {start}..{end} are not within {name}, which has {len}")));
        }
        let want = range.end - range.start;
        let bytes = (self.read)(range).await?;
        if bytes.len() as u64 != want {
            let (name, got) = (&self.name, bytes.len());
            return Err(Error::Format(format!("{name}: asked for {want} bytes, got {got}; has the file changed?")));
        }
        Ok(bytes)
    }

    /// All bytes of a small file; more than `limit` is an error.
    pub(super) async fn read_all(&self, limit: u64) -> Result<Vec<u8>> {
        if self.len > limit {
            let (name, len) = (&self.name, self.len);
            return Err(Error::Limit(format!("{name} has {len} bytes; more than {limit} cannot be right")));
        }
        self.read(0..self.len).await
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Source({}, {} bytes)", self.name, self.len)
    }
}

fn read_at(mut file: &File, range: Range<u64>) -> std::io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(range.start))?;
    let len = range.end - range.start;
    // Memory that is about to be written whole is not cleared first.
    let mut bytes = Vec::with_capacity(len as usize);
    file.take(len).read_to_end(&mut bytes)?;
    Ok(bytes)
}
