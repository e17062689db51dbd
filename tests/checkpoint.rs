//! Opening GGUF files: real ones, split ones, and invalid ones of every kind.

use firelight::checkpoint::{Checkpoint, GgufArray, GgufValue, GgufWriter, Metadata, ReadFuture, Source};
use firelight::dtype::DType;
use firelight::{Error, Result};
use pollster::block_on;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

fn shared(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("FIRELIGHT_SHARED").map(PathBuf::from);
    let path = root.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared")).join(path);
    if path.exists() {
        return Some(path);
    }
    assert!(std::env::var_os("CI").is_none(), "{} is missing", path.display());
    println!("skipped: {} is missing", path.display());
    None
}

fn open(bytes: Vec<u8>) -> Result<Checkpoint> {
    block_on(Checkpoint::from_sources(vec![Source::bytes("model.gguf", bytes)]))
}

/// Writes a file whose tensor bytes count up.
fn file(metadata: Metadata, tensors: &[(&str, &[u64], DType)]) -> Vec<u8> {
    let mut writer = GgufWriter::new(metadata).unwrap();
    for (name, dims, dtype) in tensors {
        writer.tensor(*name, dims, *dtype).unwrap();
    }
    let mut bytes = Vec::new();
    let mut next = 0u8;
    let mut count = |n: u64| -> Vec<u8> {
        (0..n)
            .map(|_| {
                next = next.wrapping_add(1);
                next
            })
            .collect()
    };
    writer.write(&mut bytes, |tensor, out| out.write_all(&count(tensor.bytes()))).unwrap();
    bytes
}

fn small_metadata() -> Metadata {
    let mut metadata = Metadata::new();
    metadata.insert("general.architecture", "llama");
    metadata.insert("general.alignment", 32u32);
    metadata.insert("k.bool", true);
    metadata.insert("k.list", vec![1i32, -2, 3]);
    metadata.insert("k.text", vec!["one".to_owned(), "two".to_owned()]);
    metadata.insert("k.nest", GgufArray::Array(vec![GgufArray::U8(vec![1, 2]), GgufArray::U8(vec![])]));
    metadata
}

const TENSORS: [(&str, &[u64], DType); 3] =
    [("aaaa", &[4, 2], DType::F32), ("bbbb", &[64, 2], DType::Q8_0), ("cccc", &[256, 1, 2], DType::Q4K)];

fn small() -> Vec<u8> {
    file(small_metadata(), &TENSORS)
}

/// The offset of `text` in the file.
fn find(bytes: &[u8], text: &str) -> usize {
    bytes.windows(text.len()).position(|window| window == text.as_bytes()).unwrap()
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// Overwrites bytes at a distance from the end of the first occurrence of `text`.
fn put_after(bytes: &mut [u8], text: &str, distance: isize, value: &[u8]) {
    let at = (find(bytes, text) + text.len()).strict_add_signed(distance);
    put(bytes, at, value);
}

/// A tensor's fields after its name (all test tensors but `cccc` have two dimensions).
const RANK: isize = 0;
const DIM0: isize = 4;
const DIM1: isize = 12;
const TYPE: isize = 20;
const OFFSET: isize = 24;

type Row = (&'static str, fn(&mut Vec<u8>), &'static str);

/// Changes to a valid file, and a part of the expected error.
const HOSTILE: &[Row] = &[
    ("empty", |b| b.clear(), "the file is empty"),
    ("one byte", |b| b.truncate(1), "not a GGUF file"),
    ("magic only", |b| b.truncate(4), "truncated: the header does not end"),
    ("other magic", |b| put(b, 0, b"GGUX"), "does not begin with \"GGUF\""),
    ("web page", |b| put(b, 0, b"<!DOCTYPE html>"), "a web page; download it again"),
    ("LFS pointer", |b| put(b, 0, b"version https://"), "Git LFS pointer"),
    ("zip", |b| put(b, 0, b"PK\x03\x04"), "zip archive"),
    ("safetensors", |b| put(b, 0, b"\x10\0\0\0\0\0\0\0{\"a\":"), "name the folder that contains it"),
    ("version 1", |b| put(b, 4, &1u32.to_le_bytes()), "GGUF version 1; convert the model again"),
    ("version 4", |b| put(b, 4, &4u32.to_le_bytes()), "GGUF version 4; versions 2 and 3 are read"),
    ("big-endian", |b| put(b, 4, &3u32.to_be_bytes()), "big-endian GGUF"),
    ("header cut", |b| b.truncate(20), "a count of 3 cannot fit in the 4 bytes left: the file is truncated"),
    ("metadata cut", |b| b.truncate(60), "cannot fit in the 44 bytes left"),
    ("tensor table cut", |b| b.truncate(find(b, "cccc") + 10), "truncated: tensor cccc does not end"),
    ("one byte of data cut", |b| b.truncate(b.len() - 1), "truncated: tensor cccc ends at byte"),
    ("data cut", |b| b.truncate(b.len() - 300), "download it again"),
    ("all data cut", |b| b.truncate(find(b, "cccc") + 50), "truncated: tensor cccc ends at byte"),
    ("tensor count", |b| put(b, 8, &u64::MAX.to_le_bytes()), "a count of 18446744073709551615 cannot fit"),
    ("tensor count, one more", |b| put(b, 8, &4u64.to_le_bytes()), "tensor 3"),
    ("key count", |b| put(b, 16, &(u64::MAX / 13).to_le_bytes()), "cannot fit"),
    ("key count, one more", |b| put(b, 16, &7u64.to_le_bytes()), "is truncated: tensor 0 does not end"),
    ("key length", |b| put_after(b, "k.bool", -14, &u64::MAX.to_le_bytes()), "metadata key 2"),
    ("text length", |b| put_after(b, "llama", -13, &u64::MAX.to_le_bytes()), "does not end within"),
    ("array count", |b| put_after(b, "k.list", 8, &u64::MAX.to_le_bytes()), "the metadata key k.list: a count of"),
    ("array count times size overflows", |b| put_after(b, "k.list", 8, &(1u64 << 62).to_le_bytes()), "cannot fit"),
    ("text array count", |b| put_after(b, "k.text", 8, &(1u64 << 60).to_le_bytes()), "k.text: a count of"),
    ("nested array count", |b| put_after(b, "k.nest", 8, &(1u64 << 61).to_le_bytes()), "k.nest: a count of"),
    ("nested text length", |b| put_after(b, "k.text", 16, &(1u64 << 63).to_le_bytes()), "does not end within"),
    ("unknown kind", |b| put_after(b, "k.bool", 0, &13u32.to_le_bytes()), "its kind 13 is unknown"),
    ("unknown kind in an array", |b| put_after(b, "k.list", 4, &99u32.to_le_bytes()), "its kind 99 is unknown"),
    ("neither true nor false", |b| put_after(b, "k.bool", 4, &[2]), "2 is neither true (1) nor false (0)"),
    ("key is not UTF-8", |b| put_after(b, "k.bo", 0, b"\xFF"), "is not UTF-8"),
    ("tensor name is not UTF-8", |b| put_after(b, "aaa", 0, b"\xFF"), "is not UTF-8"),
    ("key twice", |b| put_after(b, "k.", 0, b"list"), "the metadata key k.list: occurs twice"),
    ("tensor twice", |b| put_after(b, "bbbb", -4, b"aaaa"), "tensor aaaa: occurs twice"),
    ("no dimensions", |b| put_after(b, "aaaa", RANK, &0u32.to_le_bytes()), "it has 0 dimensions"),
    ("five dimensions", |b| put_after(b, "aaaa", RANK, &5u32.to_le_bytes()), "it has 5 dimensions, not 1 to 4"),
    ("4 billion dimensions", |b| put_after(b, "aaaa", RANK, &u32::MAX.to_le_bytes()), "not 1 to 4"),
    ("zero row", |b| put_after(b, "aaaa", DIM0, &0u64.to_le_bytes()), "tensor aaaa: its shape [0, 2] has a zero"),
    ("no rows", |b| put_after(b, "aaaa", DIM1, &0u64.to_le_bytes()), "its shape [4, 0] has a zero"),
    ("row overflows", |b| put_after(b, "aaaa", DIM0, &(1u64 << 62).to_le_bytes()), "is larger than any file"),
    ("shape overflows", |b| put_after(b, "aaaa", DIM1, &u64::MAX.to_le_bytes()), "is larger than any file"),
    ("shape is large", |b| put_after(b, "aaaa", DIM1, &(1u64 << 50).to_le_bytes()), "truncated: tensor aaaa ends"),
    (
        "row is no whole blocks",
        |b| put_after(b, "bbbb", DIM0, &63u64.to_le_bytes()),
        "rows of 63 are not whole Q8_0 blocks",
    ),
    (
        "row is no whole superblocks",
        |b| put_after(b, "aaaa", TYPE, &18u32.to_le_bytes()),
        "rows of 4 are not whole IQ3_XXS blocks",
    ),
    ("type without kernels", |b| put_after(b, "aaaa", TYPE, &40u32.to_le_bytes()), "tensor aaaa has weight type 40"),
    ("no such type", |b| put_after(b, "bbbb", TYPE, &9999u32.to_le_bytes()), "tensor bbbb has weight type 9999"),
    ("misaligned", |b| put_after(b, "bbbb", OFFSET, &33u64.to_le_bytes()), "33 is not a multiple of the alignment 32"),
    ("overlap", |b| put_after(b, "bbbb", OFFSET, &0u64.to_le_bytes()), "overlap; the file is damaged"),
    ("outside", |b| put_after(b, "bbbb", OFFSET, &(1u64 << 40).to_le_bytes()), "truncated: tensor bbbb ends at byte"),
    ("far outside", |b| put_after(b, "bbbb", OFFSET, &(u64::MAX - 31).to_le_bytes()), "tensor bbbb ends at byte"),
    (
        "alignment 0",
        |b| put_after(b, "general.alignment", 4, &0u32.to_le_bytes()),
        "alignment is 0, not a power of two",
    ),
    ("alignment 24", |b| put_after(b, "general.alignment", 4, &24u32.to_le_bytes()), "24, not a power of two"),
    (
        "alignment is no integer",
        |b| put_after(b, "general.alignment", 0, &6u32.to_le_bytes()),
        "a whole number below 2^32",
    ),
    ("alignment 2^31", |b| put_after(b, "general.alignment", 4, &(1u32 << 31).to_le_bytes()), "alignment 2147483648"),
];

#[test]
fn hostile_files_are_refused_with_a_reason() {
    assert!(open(small()).is_ok());
    let mut wrong = Vec::new();
    for (name, damage, expected) in HOSTILE {
        let mut bytes = small();
        damage(&mut bytes);
        let message = open(bytes).map_or_else(|error| error.to_string(), |_| "it was opened".into());
        if !message.contains(expected) || !message.starts_with("model.gguf") {
            wrong.push(format!("{name}: expected {expected:?}, got {message:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn deeply_nested_arrays_are_refused() {
    let mut deep = GgufArray::U8(vec![7]);
    for depth in 1..=5 {
        deep = GgufArray::Array(vec![deep]);
        let mut metadata = Metadata::new();
        metadata.insert("deep", deep.clone());
        let opened = open(file(metadata, &[]));
        match depth {
            1..=3 => assert_eq!(opened.unwrap().metadata.get("deep"), Some(&GgufValue::Array(deep.clone()))),
            _ => assert!(opened.unwrap_err().to_string().contains("nested deeper than 4")),
        }
    }
}

/// A small generator of numbers (xorshift): the same files every time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

/// Opens a damaged file; if that works, reads the first and the last row of every tensor.
fn exercise(bytes: Vec<u8>) -> bool {
    let Ok(model) = open(bytes) else { return false };
    for tensor in model.tensors.values() {
        let (row, all) = (tensor.row_bytes(), tensor.bytes());
        assert_eq!(block_on(model.read(tensor, 0..row)).unwrap().len() as u64, row);
        assert_eq!(block_on(model.read(tensor, all - row..all)).unwrap().len() as u64, row);
    }
    true
}

#[test]
fn random_damage_never_panics() {
    let mut dice = Dice(0x5EED);
    let mut files = vec![(small(), 40_000)];
    if let Some(path) = shared("data/models/stories260K.gguf") {
        files.push((std::fs::read(path).unwrap(), 300));
    }
    for (good, rounds) in files {
        let head = good.len().min(14_304);
        let mut opened = 0;
        for round in 0..rounds {
            let mut bytes = good.clone();
            for _ in 0..=dice.below(4) {
                let at = dice.below(head - 8);
                match dice.below(4) {
                    0 => bytes[at] ^= 1 << dice.below(8),
                    1 => bytes[at] = dice.below(256) as u8,
                    2 => put(&mut bytes, at, &(u64::MAX >> dice.below(64)).to_le_bytes()),
                    _ => bytes.copy_within(at..at + 8, dice.below(head - 8)),
                }
            }
            if round % 4 == 0 {
                bytes.truncate(dice.below(good.len()));
            }
            opened += usize::from(exercise(bytes));
        }
        assert!(opened > 0 && opened < rounds, "{opened} of {rounds} files were opened");
    }
}

#[test]
fn every_truncation_is_an_error() {
    let good = small();
    let model = open(good.clone()).unwrap();
    let end = model.tensors.values().map(|tensor| tensor.parts[0].offset + tensor.parts[0].bytes).max().unwrap();
    for len in 0..end as usize {
        assert!(open(good[..len].to_vec()).is_err(), "{len} of {end} bytes were enough");
    }
    assert!(open(good[..end as usize].to_vec()).is_ok(), "padding after the last tensor is not data");
}

#[test]
fn written_files_are_read_back() {
    let mut metadata = small_metadata();
    metadata.insert("general.alignment", 128u32);
    let scalars: [GgufValue; 11] = [
        200u8.into(),
        (-100i8).into(),
        60_000u16.into(),
        (-30_000i16).into(),
        4_000_000_000u32.into(),
        (-2_000_000_000i32).into(),
        1.5f32.into(),
        false.into(),
        u64::MAX.into(),
        i64::MIN.into(),
        1e300f64.into(),
    ];
    for (number, value) in scalars.into_iter().enumerate() {
        metadata.insert(format!("scalar.{number}"), value);
    }
    let arrays: [GgufValue; 12] = [
        vec![1u8, 255].into(),
        vec![-1i8].into(),
        vec![65_535u16].into(),
        vec![-32_768i16].into(),
        vec![u32::MAX].into(),
        vec![i32::MIN].into(),
        vec![0.25f32, -0.0].into(),
        vec![true, false].into(),
        vec!["ä\n".to_owned()].into(),
        vec![u64::MAX].into(),
        vec![i64::MIN].into(),
        Vec::<f64>::new().into(),
    ];
    for (number, value) in arrays.into_iter().enumerate() {
        metadata.insert(format!("array.{number}"), value);
    }
    let bytes = file(metadata.clone(), &TENSORS);
    let model = open(bytes.clone()).unwrap();
    assert_eq!(model.metadata, metadata);
    assert_eq!(model.metadata.iter().map(|(key, _)| key).next(), Some("general.architecture"), "order is kept");

    let mut next = 0u8;
    for (tensor, (name, dims, dtype)) in model.tensors.values().zip(TENSORS) {
        assert_eq!((tensor.name.as_str(), tensor.dims.as_slice(), tensor.dtype), (name, dims, dtype));
        assert_eq!(tensor.parts[0].offset % 128, 0);
        assert_eq!(tensor.rows() * tensor.row_bytes(), tensor.bytes());
        for byte in block_on(model.read(tensor, 0..tensor.bytes())).unwrap() {
            next = next.wrapping_add(1);
            assert_eq!(byte, next, "tensor {name}");
        }
    }
    // Versions 2 and 3 are the same for little-endian files.
    let mut second = bytes;
    put(&mut second, 4, &2u32.to_le_bytes());
    assert_eq!(open(second).unwrap().metadata, metadata);
}

#[test]
fn the_writer_checks_its_input() {
    let mut metadata = Metadata::new();
    metadata.insert("general.alignment", 33u32);
    assert!(GgufWriter::new(metadata).is_err());
    let mut writer = GgufWriter::new(Metadata::new()).unwrap();
    assert!(writer.tensor("t", &[31], DType::Q8_0).is_err());
    assert!(writer.tensor("t", &[], DType::F32).is_err());
    writer.tensor("t", &[8], DType::F32).unwrap();
    let error = writer.write(Vec::new(), |_, out| out.write_all(&[0; 31])).unwrap_err();
    assert_eq!(error.to_string(), "tensor t has 32 bytes, 31 were written");
}

#[test]
fn getters_accept_any_width_and_refuse_other_types() {
    let mut metadata = Metadata::new();
    for (key, value) in [
        ("u8", GgufValue::U8(7)),
        ("i64", GgufValue::I64(7)),
        ("minus", GgufValue::I32(-7)),
        ("big", GgufValue::U64(1 << 32)),
        ("f64", GgufValue::F64(0.5)),
        ("text", "seven".into()),
        ("yes", true.into()),
        ("list", vec![1u16, 2].into()),
        ("mixed", vec![1i64, -1].into()),
        ("floats", vec![1.5f32].into()),
    ] {
        metadata.insert(key, value);
    }
    for key in ["u8", "i64"] {
        assert_eq!(metadata.get_u32(key).unwrap(), Some(7));
        assert_eq!(metadata.get_u64(key).unwrap(), Some(7));
        assert_eq!(metadata.get_i32(key).unwrap(), Some(7));
        assert_eq!(metadata.get_f32(key).unwrap(), Some(7.0));
        assert_eq!(metadata.get_u32s(key).unwrap(), Some(vec![7]));
    }
    assert_eq!(metadata.get_f32("f64").unwrap(), Some(0.5));
    assert_eq!(metadata.get_u32s("list").unwrap(), Some(vec![1, 2]));
    assert_eq!(metadata.get_i32s("mixed").unwrap(), Some(vec![1, -1]));
    assert_eq!(metadata.get_f32s("floats").unwrap(), Some(vec![1.5]));
    assert_eq!(metadata.get_f32s("list").unwrap(), Some(vec![1.0, 2.0]));
    assert_eq!(metadata.get_bools("yes").unwrap(), Some(vec![true]));
    assert_eq!(metadata.get_u32("absent").unwrap(), None);
    assert_eq!(metadata.get_strings("absent").unwrap(), None);

    let refusals = [
        (metadata.get_u32("minus").map(drop), "minus is -7; it must be a whole number below 2^32"),
        (metadata.get_u32("big").map(drop), "big is 4294967296"),
        (metadata.get_u32("f64").map(drop), "f64 is 0.5"),
        (metadata.get_u32("list").map(drop), "list is an array of 2"),
        (metadata.get_str("u8").map(drop), "u8 is 7; it must be a text"),
        (metadata.get_bool("text").map(drop), "text is the text \"seven\"; it must be true or false"),
        (metadata.get_f32("text").map(drop), "it must be a number"),
        (metadata.get_u32s("mixed").map(drop), "mixed is an array of 2"),
        (metadata.get_strings("list").map(drop), "it must be an array of texts"),
    ];
    for (result, expected) in refusals {
        let message = result.unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
}

/// A source of a virtual file of `len` bytes, zero after `head`, that counts the bytes it returns.
fn counting(head: Vec<u8>, len: u64) -> (Source, Arc<AtomicU64>) {
    let count = Arc::new(AtomicU64::new(0));
    let counter = count.clone();
    let read = move |range: Range<u64>| -> ReadFuture {
        counter.fetch_add(range.end - range.start, Ordering::Relaxed);
        let bytes = range.map(|at| head.get(at as usize).copied().unwrap_or(0)).collect();
        Box::pin(std::future::ready(Ok(bytes)))
    };
    (Source::new("virtual.gguf", len, read), count)
}

fn head_of(bytes: &[u8], first: &str) -> Vec<u8> {
    bytes[..open(bytes.to_vec()).unwrap().tensor(first).unwrap().parts[0].offset as usize].to_vec()
}

#[test]
fn opening_reads_only_the_head() {
    let (source, read) = counting(head_of(&small(), "aaaa"), 40 << 30);
    let model = block_on(Checkpoint::from_sources(vec![source])).unwrap();
    assert_eq!(model.tensors.len(), 3);
    assert_eq!(read.load(Ordering::Relaxed), 256 << 10);

    let mut metadata = small_metadata();
    let tokens: Vec<String> = (0..100_000).map(|token| format!("token {token}")).collect();
    metadata.insert("tokenizer.ggml.tokens", tokens.clone());
    let head = head_of(&file(metadata, &TENSORS), "aaaa");
    let (size, (source, read)) = (head.len() as u64, counting(head, 40 << 30));
    let model = block_on(Checkpoint::from_sources(vec![source])).unwrap();
    assert_eq!(model.metadata.get_strings("tokenizer.ggml.tokens").unwrap(), Some(tokens.as_slice()));
    assert!(
        read.load(Ordering::Relaxed) < 2 * size + (256 << 10),
        "read {} for a head of {size}",
        read.load(Ordering::Relaxed)
    );

    let mut bytes = small();
    put_after(&mut bytes, "llama", -13, &(1u64 << 30).to_le_bytes());
    let (source, read) = counting(bytes, 40 << 30);
    let message = block_on(Checkpoint::from_sources(vec![source])).unwrap_err().to_string();
    assert!(message.contains("cannot be right"), "{message}");
    assert_eq!(read.load(Ordering::Relaxed), 256 << 10, "a text of 1 GiB must be refused without reading it");
}

#[test]
fn reads_are_checked() {
    let model = open(small()).unwrap();
    let tensor = model.tensor("bbbb").unwrap();
    assert_eq!(tensor.bytes(), 4 * 34);
    for (range, expected) in [
        (0..137, "0..137 are not within tensor bbbb, which has 136"),
        (Range { start: 9, end: 8 }, "9..8 are not within"),
    ] {
        let message = block_on(model.read(tensor, range)).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
    assert!(block_on(model.read(tensor, 136..136)).unwrap().is_empty());
    let message = model.tensor("blk.0.attn_q.weight").unwrap_err().to_string();
    assert!(message.contains("model.gguf has no tensor blk.0.attn_q.weight"), "{message}");

    let short = Source::new("short", 100, |_| Box::pin(std::future::ready(Ok(vec![0; 3]))));
    let message = block_on(short.read(0..4)).unwrap_err().to_string();
    assert_eq!(message, "short: asked for 4 bytes, got 3; has the file changed?");
    let broken = Source::new("broken", 100, |_| Box::pin(std::future::ready(Err(Error::Gpu("gone".into())))));
    assert_eq!(block_on(Checkpoint::from_sources(vec![broken])).unwrap_err().to_string(), "gone");
    assert!(block_on(Checkpoint::from_sources(vec![])).is_err());
}

#[test]
fn bytes_that_are_not_text_are_replaced_in_values_only() {
    let mut bytes = small();
    put_after(&mut bytes, "k.text", 24, b"\xE2\x82");
    let model = open(bytes).unwrap();
    assert_eq!(model.metadata.get_strings("k.text").unwrap().unwrap(), ["\u{FFFD}e", "two"]);
}

/// Part `number` of `count`, with `tensors` as the number of tensors in all parts.
fn part(number: u16, count: u16, tensors: i32, name: &str) -> Vec<u8> {
    let mut metadata = if number == 0 { small_metadata() } else { Metadata::new() };
    metadata.insert("split.no", number);
    metadata.insert("split.count", count);
    metadata.insert("split.tensors.count", tensors);
    file(metadata, &[(name, &[4, 2], DType::F32)])
}

#[test]
fn split_files_are_one_model() {
    let folder = tempfile::tempdir().unwrap();
    let path = |number: u32| folder.path().join(format!("tiny-{number:05}-of-00003.gguf"));
    for (number, name) in (0u16..).zip(["x", "y", "z"]) {
        std::fs::write(path(u32::from(number) + 1), part(number, 3, 3, name)).unwrap();
    }
    for number in 1..=3 {
        let model = block_on(Checkpoint::open(&path(number))).unwrap();
        assert_eq!(model.tensors.keys().collect::<Vec<_>>(), ["x", "y", "z"]);
        assert_eq!(model.metadata.get_str("general.architecture").unwrap(), Some("llama"));
        let z = model.tensor("z").unwrap();
        assert_eq!(z.parts[0].source, 2);
        assert_eq!(block_on(model.read(z, 0..3)).unwrap(), [1, 2, 3]);
    }
    let renamed = folder.path().join("renamed.gguf");
    std::fs::copy(path(1), &renamed).unwrap();
    let failures = |path: PathBuf| block_on(Checkpoint::open(&path)).unwrap_err().to_string();
    assert!(failures(renamed).contains("its name does not end in -00001-of-00003.gguf"));
    std::fs::remove_file(path(2)).unwrap();
    let message = failures(path(1));
    assert!(message.contains("tiny-00002-of-00003.gguf is missing: put it in the same folder"), "{message}");
}

#[test]
fn wrong_sets_of_parts_are_refused() {
    let cases: [(&str, Vec<Vec<u8>>, &str); 6] = [
        ("one alone", vec![part(0, 2, 2, "x")], "part 1 of 2, but was given as part 1 of 1"),
        ("order", vec![part(1, 2, 2, "y"), part(0, 2, 2, "x")], "part 2 of 2, but was given as part 1 of 2"),
        ("strangers", vec![small(), small()], "part 1 of 1, but was given as part 1 of 2"),
        ("too few tensors", vec![part(0, 2, 3, "x"), part(1, 2, 3, "y")], "promises 3 tensors, its files hold 2"),
        ("tensor twice", vec![part(0, 2, 2, "x"), part(1, 2, 2, "x")], "tensor x is in 0.gguf and again in a later"),
        ("second is cut", vec![part(0, 2, 2, "x"), part(1, 2, 2, "y")[..99].to_vec()], "1.gguf"),
    ];
    for (name, parts, expected) in cases {
        let sources =
            parts.into_iter().enumerate().map(|(n, bytes)| Source::bytes(format!("{n}.gguf"), bytes)).collect();
        let message = block_on(Checkpoint::from_sources(sources)).unwrap_err().to_string();
        assert!(message.contains(expected), "{name}: {message}");
    }
}

#[test]
fn paths_without_a_model_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let failure = |path: PathBuf| block_on(Checkpoint::open(&path)).unwrap_err().to_string();
    assert!(failure(folder.path().join("absent.gguf")).contains("cannot open"));
    assert!(
        failure(folder.path().into())
            .contains("is not a model folder: it has no config.json; give a GGUF file or a Hugging Face folder")
    );
    std::fs::write(folder.path().join("tiny.gguf"), small()).unwrap();
    assert!(failure(folder.path().into()).contains("tiny.gguf"));
    assert!(Source::file(folder.path()).is_err());
    assert_eq!(block_on(Checkpoint::open(&folder.path().join("tiny.gguf"))).unwrap().tensors.len(), 3);
}

#[test]
fn a_real_model() {
    let Some(path) = shared("data/models/stories260K.gguf") else { return };
    let model = block_on(Checkpoint::open(&path)).unwrap();
    assert_eq!((model.metadata.len(), model.tensors.len()), (24, 47));
    for (key, expected) in [("block_count", 5), ("embedding_length", 64), ("attention.head_count_kv", 4)] {
        assert_eq!(model.metadata.get_u32(&format!("llama.{key}")).unwrap(), Some(expected), "{key}");
    }
    assert_eq!(model.metadata.get_f32("llama.attention.layer_norm_rms_epsilon").unwrap(), Some(1e-5));
    assert_eq!(
        model.metadata.get_strings("tokenizer.ggml.tokens").unwrap().unwrap()[..4],
        ["<unk>", "<s>", "</s>", "<0x00>"]
    );
    let down = model.tensor("blk.4.ffn_down.weight").unwrap();
    assert_eq!(
        (down.dims.as_slice(), down.dtype, down.bytes(), down.row_bytes()),
        (&[172, 64][..], DType::F32, 44_032, 688)
    );
    let last = model.tensor("blk.4.ffn_norm.weight").unwrap();
    let whole = std::fs::read(&path).unwrap();
    assert_eq!(block_on(model.read(last, 0..256)).unwrap(), whole[whole.len() - 256..]);
}

/// Vocabulary-only files: keys, architecture, tokens, merges.
#[test]
fn real_vocabularies() {
    for (name, keys, architecture, tokens, merges) in [
        ("deepseek-llm", 23, "llama", 102_400, Some(99_757)),
        ("falcon", 18, "falcon", 65_024, Some(64_784)),
        ("gpt-2", 16, "gpt2", 50_257, Some(50_000)),
        ("llama-bpe", 20, "llama", 128_256, Some(280_147)),
        ("llama-spm", 22, "llama", 32_000, None),
        ("phi-3", 26, "phi3", 32_064, None),
        ("qwen2", 20, "qwen2", 151_936, Some(151_387)),
        ("starcoder", 19, "starcoder2", 49_152, Some(48_872)),
    ] {
        let Some(path) = shared(&format!("data/tokenizers/ggml-vocab-{name}.gguf")) else { return };
        let model = block_on(Checkpoint::open(&path)).unwrap();
        let count = |key: &str| model.metadata.get_strings(key).unwrap().map(<[String]>::len);
        assert_eq!((model.metadata.len(), model.tensors.len()), (keys, 0), "{name}");
        assert_eq!(model.metadata.get_str("general.architecture").unwrap(), Some(architecture), "{name}");
        assert_eq!(count("tokenizer.ggml.tokens"), Some(tokens), "{name}");
        assert_eq!(count("tokenizer.ggml.merges"), merges, "{name}");
    }
}
