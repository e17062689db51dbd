//! Arbitrary bytes as a checkpoint: opening them, and reading the first and last row of every tensor, must never panic.
//! Run: `cargo +nightly fuzz run gguf -- -rss_limit_mb=512`
#![no_main]

use firelight::checkpoint::{Checkpoint, Source};
use libfuzzer_sys::fuzz_target;
use pollster::block_on;

fuzz_target!(|bytes: &[u8]| {
    let Ok(model) = block_on(Checkpoint::from_sources(vec![Source::bytes("fuzz.gguf", bytes.to_vec())])) else { return };
    for tensor in model.tensors.values() {
        let (row, all) = (tensor.row_bytes(), tensor.bytes());
        assert_eq!(block_on(model.read(tensor, 0..row)).unwrap().len() as u64, row);
        assert_eq!(block_on(model.read(tensor, all - row..all)).unwrap().len() as u64, row);
    }
});
