//! Models that are split into several GGUF files: `model-00001-of-00003.gguf`.

use super::GgufHeader;
use crate::checkpoint::{Metadata, Source, TensorInfo};
use crate::{Error, Result};
use indexmap::IndexMap;
use std::path::{Path, PathBuf};

/// Joins the headers of all files. The metadata of the first file is the model's.
///
/// # Errors
/// If files are missing, out of order, or hold a tensor twice.
pub(in crate::checkpoint) fn join(
    sources: &[Source],
    headers: Vec<GgufHeader>,
) -> Result<(Metadata, IndexMap<String, TensorInfo>)> {
    check_order(sources, &headers)?;
    let mut headers = headers.into_iter();
    let Some(GgufHeader { metadata, mut tensors }) = headers.next() else {
        return Err(Error::Usage("a model needs at least one file".into()));
    };
    for tensor in headers.flat_map(|header| header.tensors.into_values()) {
        if let Some(twice) = tensors.insert(tensor.name.clone(), tensor) {
            let (first, name) = (sources[twice.parts[0].source].name(), twice.name);
            return Err(Error::format(format!("tensor {name} is in {first} and again in a later file")));
        }
    }
    let expected = metadata.get_u64("split.tensors.count")?.filter(|_| sources.len() > 1);
    if let Some(expected) = expected.filter(|&expected| expected != tensors.len() as u64) {
        let (first, got) = (sources[0].name(), tensors.len());
        return Err(Error::format(format!("{first} promises {expected} tensors, its files hold {got}")));
    }
    Ok((metadata, tensors))
}

/// Checks that the files are all parts of one model, in order.
fn check_order(sources: &[Source], headers: &[GgufHeader]) -> Result<()> {
    for (index, (source, header)) in sources.iter().zip(headers).enumerate() {
        let count = header.metadata.get_u32("split.count")?.unwrap_or(1).max(1);
        let number = header.metadata.get_u32("split.no")?.unwrap_or(0);
        if (count as usize, number as usize) != (sources.len(), index) {
            let (name, part, given, place) = (source.name(), u64::from(number) + 1, sources.len(), index + 1);
            let message = format!("{name} is part {part} of {count}, but was given as part {place} of {given}");
            return Err(Error::Usage(message));
        }
    }
    Ok(())
}

/// The paths of all `count` files of a split model, derived from the path of one of them.
///
/// # Errors
/// If the file's name has no part number, or a file is missing.
pub(in crate::checkpoint) fn siblings(path: &Path, count: u32) -> Result<Vec<PathBuf>> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let (prefix, ..) = split_name(name).filter(|(_, _, of)| *of == count).ok_or_else(|| {
        let path = path.display();
        Error::Usage(format!("{path} is one of {count} files, but its name does not end in -00001-of-{count:05}.gguf"))
    })?;
    let paths = (1..=count).map(|number| path.with_file_name(format!("{prefix}-{number:05}-of-{count:05}.gguf")));
    paths
        .map(|sibling| match sibling.is_file() {
            true => Ok(sibling),
            false => {
                let (path, sibling) = (path.display(), sibling.display());
                let message =
                    format!("{path} is one of {count} files; {sibling} is missing: put it in the same folder");
                Err(Error::Usage(message))
            }
        })
        .collect()
}

/// Parses the name of a split model's file: `model-00002-of-00003.gguf` is `("model", 2, 3)`.
pub fn split_name(name: &str) -> Option<(&str, u32, u32)> {
    let (head, count) = name.strip_suffix(".gguf")?.rsplit_once("-of-")?;
    let (prefix, number) = head.rsplit_once('-')?;
    let five = |text: &str| text.parse().ok().filter(|_| text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit()));
    Some((prefix, five(number)?, five(count)?))
}
