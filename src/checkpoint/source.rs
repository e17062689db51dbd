//! Random-access byte sources: a file, memory, or a custom reader (HTTP range requests, a browser's `Blob`).
//!
//! A source is a name, a length, and a function that reads a byte range. All model files are read through it, so no
//! other module depends on the file system, and no model is ever held in memory as a whole.

use crate::send::{BoxFn, BoxFuture, MaybeSend, MaybeSync};
use crate::{Error, Result};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

/// The future that a source's reader returns.
pub type ReadFuture = BoxFuture<'static, Result<Vec<u8>>>;

/// Named bytes that can be read by range.
pub struct Source {
    name: String,
    len: u64,
    read: BoxFn<Range<u64>, ReadFuture>,
}

impl Source {
    /// A source of `len` bytes whose ranges are read by `read`. Errors quote `name`; its last component (after `/` or
    /// `\`) is the file name, which [`Checkpoint::from_sources`](super::Checkpoint::from_sources) goes by.
    pub fn new<F>(name: impl Into<String>, len: u64, read: F) -> Self
    where
        F: Fn(Range<u64>) -> ReadFuture + MaybeSend + MaybeSync + 'static,
    {
        Self { name: name.into(), len, read: Box::new(read) }
    }

    /// A file, which stays open and is read on demand.
    ///
    /// # Errors
    /// If the file does not exist, cannot be read, or is a folder.
    pub fn file(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let failed = |error| Error::io(format!("cannot open {name}"), error);
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(Error::Usage(format!("{name} is not a file")));
        }
        let label = name.clone();
        let read = move |range: Range<u64>| -> ReadFuture {
            let bytes = read_at(&file, range).map_err(|error| Error::io(format!("cannot read {label}"), error));
            Box::pin(std::future::ready(bytes))
        };
        Ok(Self::new(name, metadata.len(), read))
    }

    /// Bytes in memory.
    pub fn bytes(name: impl Into<String>, bytes: Vec<u8>) -> Self {
        let len = bytes.len() as u64;
        // `Source::read` checks that the range is within `len`.
        let read = move |range: Range<u64>| -> ReadFuture {
            Box::pin(std::future::ready(Ok(bytes[range.start as usize..range.end as usize].to_vec())))
        };
        Self::new(name, len, read)
    }

    /// The name that errors quote.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file name, without folders.
    pub fn file_name(&self) -> &str {
        self.name.rsplit(['/', '\\']).next().unwrap_or(&self.name)
    }

    /// Length in bytes.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Reads the bytes of `range`.
    ///
    /// # Errors
    /// If the range is not within the source, or the reader fails or returns another number of bytes.
    pub async fn read(&self, range: Range<u64>) -> Result<Vec<u8>> {
        if range.start > range.end || range.end > self.len {
            let Range { start, end } = range;
            let (name, len) = (&self.name, self.len);
            return Err(Error::format(format!("bytes {start}..{end} are not within {name}, which has {len}")));
        }
        let want = range.end - range.start;
        let bytes = (self.read)(range).await?;
        if bytes.len() as u64 != want {
            let (name, got) = (&self.name, bytes.len());
            return Err(Error::format(format!("{name}: asked for {want} bytes, got {got}; has the file changed?")));
        }
        Ok(bytes)
    }

    /// Reads a whole file of at most `limit` bytes.
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
    // `read_to_end` fills reserved memory without clearing it first.
    let mut bytes = Vec::with_capacity(len as usize);
    file.take(len).read_to_end(&mut bytes)?;
    Ok(bytes)
}
