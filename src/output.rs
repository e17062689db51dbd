//! Output files: written atomically, and never over a file that is being read.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf, is_separator};
use std::sync::Mutex;

use crate::checkpoint::split_name;
use crate::{Error, Result};

/// The partial file, until it is renamed.
static UNFINISHED: Mutex<Option<PathBuf>> = Mutex::new(None);

/// The kind of data that a file will hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// A model, which may replace another one.
    Model,
    /// Anything else. It never replaces a model.
    Other,
}

/// A file that is written next to its path and renamed by [`finish`](Self::finish). If it is dropped before, it is
/// removed and an existing file stays unchanged.
pub struct Output {
    path: PathBuf,
    /// The partial file; `None` for a device or a pipe, which is written directly.
    beside: Option<PathBuf>,
    replaces: bool,
    file: BufWriter<File>,
}

impl Output {
    /// Starts a file at `path`. `model` is the model that is being read: a file, a part of a split one, or a folder.
    ///
    /// # Errors
    /// [`Error::Usage`] if `path` is one of the model's files (by any name or link), a folder, write-protected, or a
    /// model that other content would replace; [`Error::Io`] if it cannot be written.
    pub fn create(path: &Path, content: Content, model: Option<&Path>) -> Result<Self> {
        let shown = path.display();
        let failed = |error| Error::io(format!("cannot write {shown}"), error);
        let refused = |why: &str| Error::Usage(format!("cannot write {shown}: {why}"));
        if let Some(part) = model.and_then(|model| parts(model).into_iter().find(|part| is_same(part, path))) {
            let part = part.display();
            return Err(refused(&format!("it is read ({part}), and would be destroyed; name another file to write")));
        }
        // The target of a link is replaced, not the link.
        let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        let there = fs::metadata(path).ok();
        let is = |test: fn(&Metadata) -> bool| there.as_ref().is_some_and(test);
        if is(Metadata::is_dir) || path.to_string_lossy().ends_with(is_separator) {
            return Err(refused("it is a folder; name a file in it"));
        }
        let is_file = is(Metadata::is_file);
        if is_file && is(|facts| facts.permissions().readonly()) {
            return Err(refused("the file that is there is write-protected"));
        }
        if is_file && content == Content::Other && is_model(path) {
            return Err(refused("it is a model; name another file to write"));
        }
        let (file, beside) = match there.is_some() && !is_file {
            true => (OpenOptions::new().write(true).open(path).map_err(failed)?, None),
            false => {
                let (file, beside) = create_partial(path).map_err(failed)?;
                (file, Some(beside))
            }
        };
        let file = BufWriter::with_capacity(1 << 20, file);
        let output = Output { path: path.clone(), beside, replaces: is_file, file };
        if let Some(facts) = there.filter(Metadata::is_file) {
            output.file.get_ref().set_permissions(facts.permissions()).map_err(failed)?;
        }
        Ok(output)
    }

    /// Whether the output replaces an existing file.
    pub fn replaces(&self) -> bool {
        self.replaces
    }

    /// Completes the file and renames it to its path.
    ///
    /// # Errors
    /// If writing fails; the partial file is removed.
    pub fn finish(mut self) -> Result<()> {
        let failed = |path: &Path, error| Error::io(format!("cannot write {}", path.display()), error);
        self.file.flush().map_err(|e| failed(&self.path, e))?;
        if let Some(beside) = &self.beside {
            self.file.get_ref().sync_all().map_err(|e| failed(&self.path, e))?;
            fs::rename(beside, &self.path).map_err(|e| failed(&self.path, e))?;
            self.beside = None;
            forget();
        }
        Ok(())
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Some(beside) = self.beside.take() {
            forget();
            // The error that led here is the one to report.
            let _ = fs::remove_file(beside);
        }
    }
}

/// Removes the partial file when the program is interrupted.
pub fn discard_unfinished() {
    if let Some(path) = forget() {
        let _ = fs::remove_file(path);
    }
}

fn forget() -> Option<PathBuf> {
    UNFINISHED.lock().ok()?.take()
}

/// Creates a new file next to `path`, never an existing one.
fn create_partial(path: &Path) -> io::Result<(File, PathBuf)> {
    for number in 0.. {
        let beside = match number {
            0 => path.with_added_extension("partial"),
            n => path.with_added_extension(format!("{n}.partial")),
        };
        match OpenOptions::new().write(true).create_new(true).open(&beside) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            file => {
                let file = file?;
                *UNFINISHED.lock().expect("nothing panics with it") = Some(beside.clone());
                return Ok((file, beside));
            }
        }
    }
    unreachable!("some number is free")
}

/// The files of a model: all files in its folder, or all parts of a split one.
fn parts(model: &Path) -> Vec<PathBuf> {
    if model.is_dir() {
        return fs::read_dir(model).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    }
    let name = model.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    match split_name(name) {
        Some((prefix, _, count)) => {
            let part = |number| model.with_file_name(format!("{prefix}-{number:05}-of-{count:05}.gguf"));
            (1..=count).map(part).collect()
        }
        None => vec![model.to_path_buf()],
    }
}

/// Whether two paths refer to the same existing file, through links or on a case-insensitive file system.
fn is_same(a: &Path, b: &Path) -> bool {
    // Comparing opens the files, and opening a pipe would block.
    a.is_file() && b.is_file() && same_file::is_same_file(a, b).unwrap_or(false)
}

/// Whether a file contains model weights.
fn is_model(path: &Path) -> bool {
    let mut magic = [0; 4];
    let gguf = File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && &magic == b"GGUF";
    gguf || path.extension().is_some_and(|end| end.eq_ignore_ascii_case("safetensors"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_split_model_are_inputs() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        for name in ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf", "m-00001-of-00003.gguf"] {
            fs::write(path(name), name).expect("a file");
        }
        fs::hard_link(path("m-00001-of-00002.gguf"), path("link.gguf")).expect("a link");
        let create = |name: &str, model: &str| Output::create(&path(name), Content::Model, Some(&path(model)));
        for name in ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf", "link.gguf"] {
            let error = create(name, "m-00002-of-00002.gguf").err().map(|error| error.to_string());
            assert!(error.is_some_and(|error| error.contains("it is read")), "{name}");
        }
        assert!(create("m-00001-of-00003.gguf", "m-00002-of-00002.gguf").is_ok());
    }

    #[test]
    fn a_file_gets_its_name_when_it_is_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, partial) = (folder.path().join("a.txt"), folder.path().join("a.txt.partial"));
        fs::write(&path, "old").expect("a file");
        fs::write(&partial, "somebody's").expect("a file");
        let read = |path: &Path| fs::read_to_string(path).expect("a file");
        let mut output = Output::create(&path, Content::Other, None).expect("an output");
        output.write_all(b"half").expect("it is written");
        assert!(output.replaces());
        drop(output);
        assert_eq!((read(&path), read(&partial)), ("old".into(), "somebody's".into()));
        assert_eq!(fs::read_dir(folder.path()).expect("it").count(), 2);
        let mut output = Output::create(&path, Content::Other, None).expect("an output");
        output.write_all(b"new").expect("it is written");
        assert_eq!(read(&path), "old");
        output.finish().expect("it is whole");
        assert_eq!((read(&path), read(&partial)), ("new".into(), "somebody's".into()));
        fs::write(&path, "GGUF...").expect("a file");
        let error = Output::create(&path, Content::Other, None).err().map(|error| error.to_string());
        assert!(error.is_some_and(|error| error.contains("it is a model")));
    }
}
