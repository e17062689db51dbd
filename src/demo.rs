//! The model in the box: a small guide to Firelight, trained from scratch by `assets/demo/train`. Feature `demo`.

use crate::checkpoint::{ReadFuture, Source};

/// Its name, wherever a model is named.
pub const NAME: &str = "demo";

/// The whole file.
static FILE: &[u8] = include_bytes!("../assets/demo/demo.gguf");

/// The file's bytes, for [`Model::from_sources`](crate::Model::from_sources).
pub fn source() -> Source {
    // `Source` lets only ranges within the length through.
    let read = |range: std::ops::Range<u64>| -> ReadFuture {
        Box::pin(std::future::ready(Ok(FILE[range.start as usize..range.end as usize].to_vec())))
    };
    Source::new("demo.gguf", FILE.len() as u64, read)
}
