//! Token ids compared with llama.cpp's, for every vocabulary file; streaming, speed, and invalid metadata.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use firelight::checkpoint::{Checkpoint, Metadata};
use firelight::tokenizer::{Special, Tokenizer};
use proptest::prelude::*;

/// The shared test data, or `None` (with a note; a failure in CI) where it is missing.
fn shared() -> Option<PathBuf> {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let root = std::env::var_os("FIRELIGHT_SHARED").map_or_else(default, PathBuf::from);
    if root.join("data").is_dir() {
        return Some(root.join("data"));
    }
    assert!(std::env::var_os("CI").is_none(), "no test data in {}: set FIRELIGHT_SHARED", root.display());
    eprintln!("skipped: no test data in {}", root.display());
    None
}

fn open(path: &Path) -> Tokenizer {
    let checkpoint = pollster::block_on(Checkpoint::open(path)).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    Tokenizer::from_checkpoint(&checkpoint).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn vocabulary(name: &str) -> Option<Tokenizer> {
    Some(open(&shared()?.join(format!("tokenizers/ggml-vocab-{name}.gguf"))))
}

const SEPARATOR: &str = "\n__ggml_vocab_test__\n";

/// The vocabulary's `.inp` texts and `.out` ids.
fn cases(name: &str) -> Vec<(String, Vec<u32>)> {
    let Some(data) = shared() else { return Vec::new() };
    let read = |ending: &str| {
        std::fs::read_to_string(data.join(format!("tokenizers/ggml-vocab-{name}.gguf.{ending}"))).unwrap()
    };
    let ids = |line: &str| line.split_whitespace().map(|id| id.parse().unwrap()).collect();
    let (texts, lines) = (read("inp"), read("out"));
    let texts: Vec<&str> = texts.strip_suffix(SEPARATOR).unwrap_or(&texts).split(SEPARATOR).collect();
    let lines: Vec<Vec<u32>> = lines.lines().map(ids).collect();
    assert_eq!(texts.len(), lines.len(), "{name}");
    texts.into_iter().map(str::to_owned).zip(lines).collect()
}

fn check(name: &str) {
    let Some(tokenizer) = vocabulary(name) else { return };
    let cases = cases(name);
    assert!(cases.len() > 40, "{name}");
    assert_eq!(tokenizer.notices(), [""; 0], "{name}");
    for (text, want) in cases {
        let ids = tokenizer.encode(&text, Special::NONE).unwrap();
        assert_eq!(ids, want, "{name}: {text:?}");
        assert_eq!(tokenizer.decode(&ids), text, "{name}");
    }
}

#[test]
fn llama_spm() {
    check("llama-spm");
}

#[test]
fn llama_bpe() {
    check("llama-bpe");
}

#[test]
fn qwen2() {
    check("qwen2");
}

#[test]
fn gpt_2() {
    check("gpt-2");
}

#[test]
fn phi_3() {
    check("phi-3");
}

#[test]
fn falcon() {
    check("falcon");
}

#[test]
fn starcoder() {
    check("starcoder");
}

#[test]
fn deepseek_llm() {
    check("deepseek-llm");
}

#[test]
fn stories260k_prompts() {
    let Some(data) = shared() else { return };
    let tokenizer = open(&data.join("models/stories260K.gguf"));
    let text = std::fs::read_to_string(data.join("models/stories260K.greedy.json")).unwrap();
    let file: serde_json::Value = serde_json::from_str(&text).unwrap();
    let ids = |value: &serde_json::Value| -> Vec<u32> { serde_json::from_value(value.clone()).unwrap() };
    let cases = file["prompts"].as_array().unwrap();
    assert!(!cases.is_empty());
    for case in cases {
        let prompt = case["prompt"].as_str().unwrap();
        assert_eq!(tokenizer.encode(prompt, Special::ADD).unwrap(), ids(&case["prompt_ids"]), "{prompt:?}");
    }
    assert_eq!((tokenizer.bos(), tokenizer.end_ids()), (Some(1), &[2][..]));
}

#[test]
fn special_tokens() {
    let Some(llama) = vocabulary("llama-bpe") else { return };
    let text = "<|eot_id|>hi";
    assert_eq!(llama.encode(text, Special::PARSE).unwrap(), [128009, 6151]);
    assert_eq!(llama.encode(text, Special::ALL).unwrap(), [128000, 128009, 6151]);
    let plain = llama.encode(text, Special::NONE).unwrap();
    assert!(plain.len() > 4 && !plain.contains(&128009));
    assert_eq!(llama.decode(&plain), text);
    assert_eq!(llama.decode(&[128009, 6151]), "hi");
    assert_eq!(llama.decode_with_special(&[128009, 6151]), text);
    assert_eq!(llama.end_ids(), [128001, 128009]);
    assert!(llama.is_end(128009) && !llama.is_end(128000));
    assert_eq!((llama.id("<|eot_id|>"), llama.piece(6151)), (Some(128009), Some("hi")));
    assert_eq!(llama.piece(u32::MAX), None);

    // Escaped special tokens stay text, whatever surrounds them.
    let typed = llama.escape_special("hi<|eot_<|eot_id|>id|>");
    let ids = llama.encode(&(typed + "<|eot_id|>"), Special::PARSE).unwrap();
    let (last, rest) = ids.split_last().unwrap();
    assert!(*last == 128009 && !rest.contains(&128009));
    assert_eq!(rest, llama.encode("hi<|eot_<|eot_id|>id|>", Special::NONE).unwrap());

    // Phi-3 drops white space after its turn markers, and adds a space after each.
    let phi = vocabulary("phi-3").unwrap();
    let turns = phi.encode("<|user|>\n Hi<|end|>\n<s> Hi", Special::PARSE).unwrap();
    assert_eq!(turns, [32010, 6324, 32007, 1, 29871, 6324]);
    assert_eq!(phi.encode("Hi", Special::ADD).unwrap(), [1, 6324]);
    assert!(phi.is_end(32007) && phi.is_end(32000) && !phi.is_end(32010));

    let qwen = vocabulary("qwen2").unwrap();
    assert_eq!(qwen.encode("<|im_start|>", Special::ALL).unwrap(), [151644]);
    assert_eq!(qwen.end_ids(), [151643, 151645]);
}

#[test]
fn sentencepiece_leading_space() {
    let Some(llama) = vocabulary("llama-spm") else { return };
    let ids = llama.encode("Hello world", Special::NONE).unwrap();
    assert_eq!(ids, [15043, 3186]);
    let read =
        |mut stream: firelight::tokenizer::TokenStream| ids.iter().map(|&id| stream.push(id)).collect::<Vec<_>>();
    assert_eq!(read(llama.stream()), ["Hello", " world"]);
    assert_eq!(read(llama.stream().continuing()), [" Hello", " world"]);
    assert_eq!(llama.decode(&llama.encode("  two", Special::NONE).unwrap()), "  two");
}

#[test]
fn a_stream_never_emits_half_a_character() {
    for name in ["llama-spm", "gpt-2"] {
        let Some(tokenizer) = vocabulary(name) else { return };
        // A character that no vocabulary has: one token per byte.
        let ids = tokenizer.encode("\u{1FAE8}", Special::NONE).unwrap();
        assert!(ids.len() > 2, "{name}");
        let mut stream = tokenizer.stream();
        let pieces: Vec<String> = ids.iter().map(|&id| stream.push(id)).collect();
        assert_eq!(pieces.last().map(String::as_str), Some("\u{1FAE8}"), "{name}");
        assert!(pieces[..pieces.len() - 1].iter().all(String::is_empty), "{name}");
        // If it is truncated, only the end is lost.
        let cut = &ids[..ids.len() - 1];
        assert!(tokenizer.decode(cut).ends_with('\u{FFFD}'), "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn streams_join_to_the_decoded_text(text in "([a-zA-Z0-9 ,.'\n]|\\PC|🦙|👩‍👩‍👧|你好|[\u{4E00}-\u{4E20}]){0,40}", cut in 0usize..60, ids in prop::collection::vec(0u32..33_000, 0..40)) {
        static TOKENIZERS: std::sync::LazyLock<Vec<Tokenizer>> =
            std::sync::LazyLock::new(|| ["llama-spm", "starcoder", "deepseek-llm"].into_iter().filter_map(vocabulary).collect());
        for tokenizer in TOKENIZERS.iter() {
            let spoken = tokenizer.encode(&text, Special::NONE).unwrap();
            prop_assert_eq!(&tokenizer.decode(&spoken), &text);
            for ids in [&spoken[..cut.min(spoken.len())], &ids] {
                let mut stream = tokenizer.stream();
                let mut joined: String = ids.iter().map(|&id| stream.push(id)).collect();
                joined.push_str(&stream.finish());
                prop_assert_eq!(joined, tokenizer.decode(ids));
            }
        }
    }
}

#[test]
fn long_texts_do_not_take_quadratic_time() {
    for name in ["llama-spm", "llama-bpe", "qwen2", "deepseek-llm", "falcon", "phi-3"] {
        let Some(tokenizer) = vocabulary(name) else { return };
        let mixed = "Words, 12345 and 🦙s;\n\t你好世界  <|im_start|> don't [PAD] ".repeat(4000);
        for text in ["a".repeat(200_000), " ".repeat(200_000), "\n ".repeat(100_000), "[".repeat(200_000), mixed] {
            let start = Instant::now();
            let ids = tokenizer.encode(&text, Special::PARSE).unwrap();
            let took = start.elapsed();
            assert!(took < Duration::from_secs(4), "{name}: {:?}... took {took:?}", &text[..4]);
            assert_eq!(tokenizer.decode_with_special(&ids).len(), text.len(), "{name}");
        }
    }
}

/// A vocabulary of all bytes and the word "ab".
fn small(model: &str) -> Metadata {
    let mut metadata = Metadata::new();
    let byte = |b: u8| if model == "gpt2" { char::from(b).to_string() } else { format!("<0x{b:02X}>") };
    let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>", "a", "b", "ab"].map(str::to_owned).into();
    tokens.extend((b'!'..=b'~').map(byte));
    let mut types = vec![1i32; tokens.len()];
    types[..3].copy_from_slice(&[2, 3, 3]);
    metadata.insert("tokenizer.ggml.model", model);
    metadata.insert("tokenizer.ggml.pre", "gpt-2");
    metadata.insert("tokenizer.ggml.scores", vec![0f32; tokens.len()]);
    metadata.insert("tokenizer.ggml.token_type", types);
    metadata.insert("tokenizer.ggml.tokens", tokens);
    metadata.insert("tokenizer.ggml.merges", vec!["a b".to_owned()]);
    metadata.insert("tokenizer.ggml.bos_token_id", 1u32);
    metadata.insert("tokenizer.ggml.eos_token_id", 2u32);
    metadata
}

#[test]
fn every_end_token_of_a_file_ends_answers() {
    let mut metadata = small("gpt2");
    metadata.insert("tokenizer.ggml.eos_token_ids", vec![2u32, 4, 9000]);
    metadata.insert("tokenizer.ggml.eot_token_id", 7u32);
    metadata.insert("tokenizer.ggml.eom_token_id", 8u32);
    metadata.insert("tokenizer.ggml.fim_sep_token_id", 9u32);
    assert_eq!(Tokenizer::from_metadata(&metadata).unwrap().end_ids(), [2, 4, 7, 8, 9]);
}

#[test]
fn broken_metadata_is_an_error() {
    for model in ["llama", "gpt2", "gemma4"] {
        let mut metadata = small(model);
        metadata.insert("tokenizer.ggml.add_space_prefix", false);
        let tokenizer = Tokenizer::from_metadata(&metadata).unwrap();
        let bos = if model == "gpt2" { vec![] } else { vec![1] };
        assert_eq!(tokenizer.encode("abab", Special::ADD).unwrap(), [bos, vec![5, 5]].concat(), "{model}");
    }
    let strings = |texts: &[&str]| texts.iter().map(|t| t.to_string()).collect::<Vec<_>>();
    let check = |model: &str, part: &str, change: &dyn Fn(&mut Metadata)| {
        let mut metadata = small(model);
        change(&mut metadata);
        match Tokenizer::from_metadata(&metadata) {
            Ok(_) => panic!("{model}: no error about {part:?}"),
            Err(e) => assert!(e.to_string().contains(part), "{part}: {e}"),
        }
    };
    check("llama", "scores", &|m| drop(m.insert("tokenizer.ggml.scores", vec![0f32; 3])));
    check("llama", "token types", &|m| drop(m.insert("tokenizer.ggml.token_type", vec![1i32; 3])));
    check("llama", "0 tokens", &|m| drop(m.insert("tokenizer.ggml.tokens", Vec::<String>::new())));
    check("llama", "bos_token_id is 900", &|m| drop(m.insert("tokenizer.ggml.bos_token_id", 900u32)));
    check("llama", "eot_token_id", &|m| drop(m.insert("tokenizer.ggml.eot_token_id", u32::MAX)));
    check("llama", "tokenizer.ggml.tokens", &|m| drop(m.insert("tokenizer.ggml.tokens", vec![1u32])));
    check("t5", "not supported", &|_| ());
    for line in ["a", "a ", " ", "", "a c", "a zz", "b a", "a b c"] {
        check("gpt2", "merges", &|m| drop(m.insert("tokenizer.ggml.merges", strings(&[line]))));
    }
    assert!(Tokenizer::from_metadata(&Metadata::new()).is_err());
    assert!(Tokenizer::from_json(b"{}", &Metadata::new()).is_err());

    let mut unknown = small("gpt2");
    unknown.insert("tokenizer.ggml.pre", "never-heard-of");
    let tokenizer = Tokenizer::from_metadata(&unknown).unwrap();
    assert!(tokenizer.notices()[0].contains("never-heard-of"));
    // No token for a space, and none for the unknown.
    assert!(tokenizer.encode("a b", Special::NONE).is_err());
    unknown.insert("tokenizer.ggml.unknown_token_id", 0u32);
    assert_eq!(Tokenizer::from_metadata(&unknown).unwrap().encode("a b", Special::NONE).unwrap(), [3, 0, 4]);
}

/// The same vocabulary and merges as a `tokenizer.json`.
#[test]
fn tokenizer_json() {
    let json = r#"{
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
        "added_tokens": [{"id": 6, "content": "<|im_end|>", "special": true, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false}],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "post_processor": {"type": "TemplateProcessing", "pair": [],
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}},
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "vocab": {"<s>": 0, "a": 1, "b": 2, "ab": 3, "Ġ": 4, "<": 5, "<|im_end|>": 6, "|": 7, "i": 8, "m": 9,
            "_": 10, "e": 11, "n": 12, "d": 13, ">": 14}, "merges": ["a b"]}
    }"#;
    let tokenizer = Tokenizer::from_json(json.as_bytes(), &Metadata::new()).unwrap();
    assert_eq!(tokenizer.encode("ab b<|im_end|>", Special::ALL).unwrap(), [0, 3, 4, 2, 6]);
    assert_eq!(tokenizer.encode("ab<|im_end|>", Special::PARSE).unwrap(), [3, 6]);
    assert_eq!(tokenizer.encode("<|im_end|>", Special::NONE).unwrap(), [5, 7, 8, 9, 10, 11, 12, 13, 7, 14]);
    assert_eq!(tokenizer.decode(&[3, 4, 2, 6]), "ab b");
    let typed = tokenizer.escape_special("ab<|im_end|>") + "<|im_end|>";
    assert_eq!(tokenizer.encode(&typed, Special::PARSE).unwrap(), [3, 5, 7, 8, 9, 10, 11, 12, 13, 7, 14, 6]);
    assert_eq!((tokenizer.bos(), tokenizer.end_ids(), tokenizer.vocab_size()), (Some(0), &[6][..], 15));
}
