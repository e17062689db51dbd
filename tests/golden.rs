//! Logits and greedy tokens compared with independent engines: transformers in float32 for every tiny shape and weight
//! type, and the text of a trained model. `golden/README.md` explains the numbers and the tolerances.

mod engine;

use engine::{Answer, Difference, difference, gpu, gpus};
use firelight::checkpoint::{Checkpoint, GgufValue, Metadata, Source};
use firelight::gpu::{Gpu, Tier};
use firelight::model::spec::{ModelSpec, OutputHead};
use firelight::model::{Model, arch};
use firelight::ops::KvType;
use firelight::plan::fuse::Fuse;
use firelight::session::{FinishReason, Request, Session, SessionOptions};
use firelight::synth::{self, Key};
use firelight::tokenizer::Special;
use half::f16;
use pollster::block_on;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

#[derive(Deserialize)]
struct Goldens {
    prompt: Vec<u32>,
    short: usize,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    shape: String,
    types: String,
    vocab: usize,
    short: String,
    long: Option<String>,
    /// Its prompt, if it differs from the common one.
    prompt: Option<Vec<u32>>,
    greedy: Greedy,
}

#[derive(Deserialize)]
struct Greedy {
    start: usize,
    ids: Vec<u32>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn goldens() -> &'static Goldens {
    static GOLDENS: OnceLock<Goldens> = OnceLock::new();
    GOLDENS.get_or_init(|| serde_json::from_slice(&std::fs::read(folder().join("goldens.json")).unwrap()).unwrap())
}

fn case(shape: &str, types: &str) -> &'static Case {
    let found = goldens().cases.iter().find(|c| c.shape == shape && c.types == types);
    found.unwrap_or_else(|| panic!("no golden for {shape} {types}"))
}

impl Case {
    fn prompt(&self) -> &[u32] {
        self.prompt.as_deref().unwrap_or(&goldens().prompt)
    }

    /// Logits after each token of the first part of the prompt.
    fn short(&self) -> Vec<f32> {
        let bytes = std::fs::read(folder().join(&self.short)).unwrap();
        bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }

    /// Logits after each token of the prompt.
    fn long(&self) -> Option<Vec<f32>> {
        let bytes = std::fs::read(folder().join(self.long.as_ref()?)).unwrap();
        Some(bytes.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect())
    }

    /// The case's model, from a GGUF file or a Hugging Face folder.
    fn model(&self, hf: bool) -> Model {
        let dir = tempfile::tempdir().unwrap();
        let path = if hf { dir.path().to_path_buf() } else { dir.path().join("model.gguf") };
        match hf {
            true => synth::write_hf(&self.shape, &self.types, &path).unwrap(),
            false => std::fs::write(&path, engine::file(&self.shape, &self.types)).unwrap(),
        }
        // Sources keep their files open, so the folder may be deleted.
        block_on(Model::open(&path)).unwrap()
    }
}

/// The tolerance of a comparison.
#[derive(Clone, Copy)]
struct Tolerance {
    cosine: f64,
    max: f64,
    rms: f64,
}

const EXACT: Tolerance = Tolerance { cosine: 0.99999, max: 5e-4, rms: 1e-4 };
/// For goldens of the whole prompt, which are stored in f16.
const STORED_F16: Tolerance = Tolerance { cosine: 0.99999, max: 5e-3, rms: 1e-3 };
/// For keys and values in f16.
const KV_F16: Tolerance = Tolerance { cosine: 0.99999, max: 3e-2, rms: 4e-3 };
/// For keys and values in q8_0. The worst position of these random models (up to seven layers) has a cosine of 0.998.
const KV_Q8_0: Tolerance = Tolerance { cosine: 0.997, max: 0.7, rms: 0.12 };

impl Tolerance {
    fn holds(&self, d: &Difference) -> bool {
        d.cosine > self.cosine && d.max <= self.max && d.rms <= self.rms
    }

    #[track_caller]
    fn check(&self, what: &str, got: &[f32], want: &[f32], vocab: usize) {
        let d = difference(got, want, vocab);
        assert!(self.holds(&d), "{what}: {d:?}");
    }
}

/// Options to prefill the whole prompt in three chunks.
fn options(kv: KvType) -> SessionOptions {
    SessionOptions::default().context(320).chunk(128).logits(128).kv(kv)
}

/// Compares a model with its goldens: logits of the prompt in chunks and token by token, and greedy tokens.
fn check(gpu: &Gpu, case: &Case, model: &Model, options: &SessionOptions) {
    let mut session = engine::session(gpu, model, options);
    let what = |how| format!("{} {}, {:?}, tier {}, {how}", case.shape, case.types, options.kv, gpu.caps().tier);
    let (prompt, short) = (case.prompt(), &goldens().short);
    let (exact, stored) = match options.kv.unwrap_or(KvType::F16) {
        KvType::F32 => (EXACT, STORED_F16),
        KvType::F16 => (KV_F16, KV_F16),
        KvType::Q8_0 => (KV_Q8_0, KV_Q8_0),
        new => panic!("{new:?} has no tolerance"),
    };
    let want = case.short();
    exact.check(&what("one chunk"), &engine::logits(&mut session, &prompt[..*short], false), &want, case.vocab);
    exact.check(&what("one by one"), &engine::logits(&mut session, &prompt[..*short], true), &want, case.vocab);
    if let Some(want) = case.long() {
        stored.check(&what("three chunks"), &engine::logits(&mut session, prompt, false), &want, case.vocab);
    }
    let request = engine::greedy(&prompt[..case.greedy.start], case.greedy.ids.len());
    assert_eq!(engine::answer(&mut session, request).ids, case.greedy.ids, "{}", what("greedy"));
}

/// Whether to test properties that depend only on kernels with this case.
fn is_tested(case: &&Case) -> bool {
    engine::is_tested(&case.shape)
}

fn in_f32(case: &&Case) -> bool {
    case.types == "F32"
}

/// Every shape in the highest exact tier, and a set of shapes that uses all kernels in the lower tiers.
#[test]
fn every_shape() {
    for case in goldens().cases.iter().filter(in_f32) {
        let model = case.model(false);
        let lower = if engine::is_tested(&case.shape) { 0 } else { gpus().len() - 1 };
        gpus()[lower..].iter().for_each(|gpu| check(gpu, case, &model, &options(KvType::F32)));
    }
}

#[test]
fn shapes_with_keys_and_values_in_f16() {
    for case in goldens().cases.iter().filter(in_f32).filter(is_tested) {
        check(gpu(), case, &case.model(false), &options(KvType::F16));
    }
}

#[test]
fn shapes_with_keys_and_values_in_q8_0() {
    let mut taken = 0;
    for case in goldens().cases.iter().filter(in_f32) {
        let model = case.model(false);
        // Rounding may decide a near tie of a router differently and select another expert.
        let takes = model.spec.kv_caches().all(|cache| KvType::Q8_0.takes(cache.head_dim));
        if takes && model.spec.moes().next().is_none() && (engine::all() || taken < 4) {
            check(gpu(), case, &model, &options(KvType::Q8_0));
            taken += 1;
        }
    }
    assert!(taken >= 4, "only {taken} shapes have head sizes of whole blocks");
}

/// In the highest exact tier; `ops` tests each type in all tiers.
#[test]
fn every_type() {
    for case in goldens().cases.iter().filter(|c| !in_f32(c)) {
        check(gpu(), case, &case.model(false), &options(KvType::F32));
    }
}

/// Logits of a reduced-precision tier for each quantized shape: in nine of ten positions, the cosine is above `least`.
/// Rounding may decide a near tie of a router differently in the others.
fn changes_little(tier: Tier, least: f64) {
    if let Some(why) = gpu().caps().lacks(tier) {
        assert!(std::env::var_os("FIRELIGHT_COOPERATIVE").is_none(), "{why}");
        return eprintln!("skipped: {why}");
    }
    let rounding = gpu().clone().in_tier(tier);
    let quantized = |case: &&Case| !["F32", "F16", "BF16"].contains(&&case.types[..]);
    let mut shapes: Vec<&Case> = goldens().cases.iter().filter(quantized).filter(is_tested).collect();
    shapes.sort_by_key(|case| &case.shape);
    shapes.dedup_by_key(|case| &case.shape);
    assert!(shapes.len() > if engine::all() { 15 } else { 6 }, "{} shapes", shapes.len());
    for case in shapes {
        let (want, prompt) = (case.short(), &case.prompt()[..goldens().short]);
        let mut session = engine::session(&rounding, &case.model(false), &options(KvType::F32));
        // Only the int8 tier rounds in decode; the f16 and cooperative tiers round only in prefill.
        for one_by_one in if tier == Tier::Int8 { vec![false, true] } else { vec![false] } {
            let got = engine::logits(&mut session, prompt, one_by_one);
            let positions = got.chunks(case.vocab).zip(want.chunks(case.vocab));
            let mut cosines: Vec<f64> = positions.map(|(got, want)| difference(got, want, case.vocab).cosine).collect();
            cosines.sort_by(f64::total_cmp);
            let tenth = cosines[cosines.len() / 10];
            let what = format!("{tier}, {} {}, one by one {one_by_one}", case.shape, case.types);
            println!("{what}: {} .. {tenth}", cosines[0]);
            assert!(tenth > least, "{what}: {tenth}");
            let rms = difference(&got, &want, case.vocab).rms;
            assert!(rms > 2.0 * EXACT.rms, "{what}: nothing was rounded, {rms}");
        }
    }
}

#[test]
fn int8_changes_little() {
    changes_little(Tier::Int8, 0.99);
}

#[test]
fn f16_changes_little() {
    changes_little(Tier::F16, 0.9999);
}

#[test]
fn cooperative_matrices_change_little() {
    changes_little(Tier::Cooperative, 0.9999);
}

#[test]
fn hugging_face_folders() {
    let as_folder = |c: &&Case| match &c.types[..] {
        "F32" | "F16" | "BF16" => !synth::find(&c.shape).unwrap().hf_class.is_empty(),
        types => (&c.shape[..], types) == ("tiny-gpt-oss", "MXFP4"),
    };
    for case in goldens().cases.iter().filter(as_folder) {
        check(gpu(), case, &case.model(true), &options(KvType::F32));
    }
}

#[test]
fn without_fusion() {
    for (shape, types) in [("tiny-qwen2", "F32"), ("tiny-llama", "Q4_K_M"), ("tiny-qwen3moe", "Q4_K_M")] {
        let case = case(shape, types);
        check(gpu(), case, &case.model(false), &options(KvType::F32).fuse(Fuse::NONE));
    }
}

/// The offset of an f32 metadata value in a GGUF file.
fn place_of(file: &[u8], key: &str) -> usize {
    // The length before the key excludes other keys with the same beginning.
    let key = [&(key.len() as u64).to_le_bytes(), key.as_bytes()].concat();
    let at = file.windows(key.len()).position(|w| w == key).expect("the key");
    at + key.len() + 4
}

/// The offset of a tensor's first weight.
fn place_of_tensor(file: &[u8], name: &str) -> usize {
    let source = Source::bytes("test", file.to_vec());
    let checkpoint = block_on(Checkpoint::from_sources(vec![source])).unwrap();
    checkpoint.tensor(name).unwrap().parts[0].offset as usize
}

/// The tolerances are tight: slightly wrong models exceed them.
#[test]
fn small_faults_are_detected() {
    let file = engine::file("tiny-llama3", "F32");
    let case = case("tiny-llama3", "F32");
    let weight = place_of_tensor(&file, "blk.1.ffn_down.weight");
    let epsilon = place_of(&file, "llama.attention.layer_norm_rms_epsilon");
    let theta = place_of(&file, "llama.rope.freq_base");
    // The changed value's offset and the added number.
    let faults = [
        ("nothing", weight, 0.0, EXACT),
        ("one weight", weight, 0.01, EXACT),
        ("epsilon", epsilon, 1e-6 - 1e-3, KV_F16),
        ("theta", theta, 5e4, KV_F16),
    ];
    for (fault, at, added, tolerance) in faults {
        let mut file = file.clone();
        let value: &mut [u8; 4] = (&mut file[at..at + 4]).try_into().unwrap();
        *value = (f32::from_le_bytes(*value) + added).to_le_bytes();
        let mut session = engine::session(gpu(), &engine::model(file), &options(KvType::F32));
        let got = engine::logits(&mut session, &goldens().prompt[..goldens().short], false);
        let d = difference(&got, &case.short(), case.vocab);
        assert_eq!(tolerance.holds(&d), fault == "nothing", "{fault}: {d:?}");
    }
}

/// Keys without effect, because tensors imply their values.
const IMPLIED_BY_TENSORS: [&str; 4] = [
    "interleave_moe_layer_step",
    "leading_dense_block_count",
    "expert_shared_feed_forward_length",
    "shortconv.l_cache",
];

/// Every key that is specific to a family changes the logits.
#[test]
fn every_key_of_a_family_has_an_effect() {
    let mut changed = 0;
    for shape in synth::SHAPES.iter().filter(|s| s.name.starts_with("tiny") && !s.keys.is_empty()) {
        let (file, case) = (engine::file(shape.name, "F32"), case(shape.name, "F32"));
        let want = case.long().expect("logits of the whole prompt");
        for (key, value) in shape.keys {
            let mut file = file.clone();
            let at = place_of(&file, &format!("{}.{key}", shape.arch));
            let other = match value {
                _ if IMPLIED_BY_TENSORS.contains(key) => continue,
                Key::U32(n) if *key == "rope.dimension_count" => (n - 4).to_le_bytes(),
                // LongRoPE only compares the context with it.
                Key::U32(n) if key.ends_with("original_context_length") => (n * 100).to_le_bytes(),
                Key::U32(n) => (n - 1).to_le_bytes(),
                // YaRN rounds its bounds to whole pairs.
                Key::F32(x) if key.contains("yarn_beta") => (x / 8.0).to_le_bytes(),
                Key::F32(x) => (x * 1.1).to_le_bytes(),
                Key::Str(_) => continue,
            };
            file[at..at + 4].copy_from_slice(&other);
            let model = match block_on(Model::from_sources(vec![Source::bytes("changed", file)])) {
                Ok(model) => model,
                // LongRoPE has one factor per rotated pair.
                Err(error) => {
                    assert_eq!(*key, "rope.dimension_count", "{}: {error}", shape.name);
                    continue;
                }
            };
            let got = engine::logits(&mut engine::session(gpu(), &model, &options(KvType::F32)), case.prompt(), false);
            let d = difference(&got, &want, case.vocab);
            assert!(!STORED_F16.holds(&d), "{}: {key} has no effect: {d:?}", shape.name);
            changed += 1;
        }
    }
    assert!(changed > 20, "only {changed} keys were changed");
}

#[derive(Deserialize)]
struct ConvertedFiles {
    cases: Vec<ConvertedFile>,
}

/// A file of llama.cpp's converter, and transformers' logits of the same model.
#[derive(Deserialize)]
struct ConvertedFile {
    name: String,
    arch: String,
    file: String,
    prompt: Vec<u32>,
    greedy: Greedy,
}

impl ConvertedFile {
    /// Compares logits of the prompt, in one chunk and token by token, and greedy tokens.
    fn check(&self) -> Result<(), String> {
        let folder = folder().join("converted");
        let model = block_on(Model::open(&folder.join(&self.file))).map_err(|error| error.to_string())?;
        let bytes = std::fs::read(folder.join(format!("{}.f32", self.name))).unwrap();
        let want: Vec<f32> = bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        // Exactly the prompt and the answer, because LongRoPE depends on the context size.
        let context = Some((self.prompt.len() + self.greedy.ids.len()) as u32);
        let options = options(KvType::F32).context(context);
        let session = block_on(Session::builder(gpu(), &model).options(&options).load());
        let mut session = session.map_err(|error| error.to_string())?;
        for (how, one_by_one) in [("one chunk", false), ("one by one", true)] {
            let got = engine::logits(&mut session, &self.prompt, one_by_one);
            let d = difference(&got, &want, model.spec.vocab_size as usize);
            println!("{:18} {how}: cosine {:.7}, max {:.1e}", self.name, d.cosine, d.max);
            if !EXACT.holds(&d) {
                return Err(format!("{how}: {d:?}"));
            }
        }
        let request = engine::greedy(&self.prompt[..self.greedy.start], self.greedy.ids.len());
        let ids = engine::answer(&mut session, request).ids;
        if ids == self.greedy.ids { Ok(()) } else { Err(format!("greedy {ids:?}, not {:?}", self.greedy.ids)) }
    }
}

/// Files of llama.cpp's converter for every supported architecture.
#[test]
fn converter_files() {
    let json = std::fs::read(folder().join("converted/converted.json")).unwrap();
    let ConvertedFiles { cases } = serde_json::from_slice(&json).unwrap();
    for arch in arch::ALL {
        assert!(cases.iter().any(|case| case.arch == arch.name), "no converted file of {}", arch.name);
    }
    let wrong = cases.iter().filter_map(|case| case.check().err().map(|error| format!("{}: {error}", case.name)));
    let wrong: Vec<String> = wrong.collect();
    assert!(wrong.is_empty(), "{} of {} are wrong:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// A converted file's spec, with changed metadata.
fn sizes(name: &str, change: impl Fn(&mut Metadata)) -> firelight::Result<ModelSpec> {
    let path = folder().join(format!("converted/{name}.gguf"));
    let mut checkpoint = block_on(Checkpoint::open(&path)).unwrap();
    change(&mut checkpoint.metadata);
    block_on(ModelSpec::read(&checkpoint))
}

/// Keys with a default may be absent, and values may have another type or one value per layer.
#[test]
fn keys_may_be_absent_or_have_another_type() {
    type Change<'a> = (&'a str, &'a str, Option<GgufValue>);
    let same: &[Change] = &[
        ("llama2", "llama.rope.freq_base", None),
        ("llama2", "llama.rope.dimension_count", None),
        ("llama2", "llama.attention.head_count_kv", None),
        ("llama2", "llama.attention.key_length", None),
        ("llama2", "llama.attention.head_count", Some(vec![4u32, 4].into())),
        ("llama2", "llama.attention.head_count_kv", Some(vec![4i32, 4].into())),
        ("llama2", "llama.block_count", Some(2u64.into())),
        ("llama2", "llama.attention.layer_norm_rms_epsilon", Some(vec![1e-3f32, 1e-3].into())),
        ("llama2", "llama.attention.layer_norm_epsilon", Some(1e-9f32.into())),
        ("llama2", "llama.rope.scaling.factor", Some(0.0f32.into())),
        ("llama2", "llama.rope.scaling.attn_factor", Some(0.0f32.into())),
        ("llama2", "llama.rope.scaling.finetuned", Some(false.into())),
        ("llama2", "llama.expert_count", Some(0u32.into())),
        ("llama-linear", "llama.rope.scaling.type", None),
        ("starcoder2", "starcoder2.attention.layer_norm_rms_epsilon", Some(1e-9f32.into())),
        ("deepseek3", "deepseek2.expert_used_count", Some(vec![0u32, 2].into())),
        ("glm4-flash", "deepseek2.expert_gating_func", Some(0u32.into())),
        ("gemma2", "gemma2.attention.sliding_window_pattern", Some(2u32.into())),
        ("gemma3", "gemma3.rope.freq_base_swa", None),
        ("gemma3", "gemma3.attention.sliding_window_pattern", Some(6u32.into())),
        ("gemma3", "gemma3.attention.sliding_window_pattern", Some(vec![1u32, 1, 1, 1, 1, 0, 1].into())),
        // The pattern may include MTP layers.
        ("olmo3", "olmo2.attention.sliding_window_pattern", Some(vec![true, true, true, false, false].into())),
        ("olmo3", "olmo2.attention.sliding_window_pattern", None),
        ("olmo3", "olmo2.rope.scaling.yarn_attn_factor", None),
        ("gpt-oss", "gpt-oss.attention.sliding_window_pattern", Some(vec![true, false].into())),
        ("phi3-long", "phi3.rope.scaling.type", Some("longrope".into())),
        ("phi3-long", "phi3.rope.scaling.attn_factor", None),
        ("granite4", "granite.rope.scaling.finetuned", None),
        ("granite4", "granite.attention.head_count_kv", Some(2u32.into())),
        ("granite4", "granite.ssm.state_size", None),
    ];
    for (name, key, value) in same {
        let (had, has) = (sizes(name, |_| ()).unwrap(), sizes(name, |metadata| set(metadata, key, value.clone())));
        let has = has.unwrap_or_else(|error| panic!("{name}, {key} = {value:?}: {error}"));
        assert_eq!(had, has, "{name}, {key} = {value:?}");
    }
    let caps = |attention: Option<GgufValue>, logits: Option<GgufValue>| {
        let scales = sizes("gemma2", |metadata| {
            set(metadata, "gemma2.attn_logit_softcapping", attention.clone());
            set(metadata, "gemma2.final_logit_softcapping", logits.clone());
        });
        let spec = scales.unwrap();
        let OutputHead::Logits { scale, .. } = &spec.head else { panic!("no logits") };
        (spec.attentions().next().unwrap().scores.softcap, scale.softcap)
    };
    assert_eq!(caps(None, None), (Some(50.0), Some(30.0)), "the defaults of Gemma 2");
    let zero = || Some(GgufValue::F32(0.0));
    assert_eq!(caps(zero(), zero()), (None, None));
    let unrotated = sizes("granite4", |metadata| set(metadata, "granite.rope.scaling.finetuned", Some(false.into())));
    assert!(unrotated.unwrap().attentions().all(|attention| attention.scores.rope.is_none()));
    let scaled = |kind: &str| {
        let factor = |metadata: &mut Metadata| set(metadata, "llama.rope.scaling.factor", Some(8.0f32.into()));
        let both = |metadata: &mut Metadata| {
            factor(metadata);
            set(metadata, "llama.rope.scaling.type", Some(kind.into()));
        };
        sizes("llama2", both).unwrap().ropes
    };
    assert_eq!(scaled("none"), sizes("llama2", |_| ()).unwrap().ropes);
    assert_ne!(scaled("linear"), scaled("none"));
    for (key, value) in [("attention.head_count", vec![4u32, 8]), ("attention.sliding_window", vec![3, 4])] {
        let error = sizes("llama2", |metadata| set(metadata, &format!("llama.{key}"), Some(value.clone().into())));
        let error = error.unwrap_err().to_string();
        assert!(error.contains(&format!("llama.{key} is {} in one layer and {} in", value[0], value[1])), "{error}");
    }
}

/// Sets or removes a key.
fn set(metadata: &mut Metadata, key: &str, value: Option<GgufValue>) {
    match value {
        Some(value) => metadata.insert(key, value),
        None => metadata.remove(key),
    };
}

#[derive(Deserialize)]
struct Stories {
    prompts: Vec<Story>,
}

#[derive(Deserialize)]
struct Story {
    prompt: String,
    prompt_ids: Vec<u32>,
    greedy_ids: Vec<u32>,
    greedy_text: String,
}

/// A trained model, alone and batched: its tokens and its text.
#[test]
fn stories() {
    let Some(path) = engine::shared("data/models/stories260K.gguf") else { return };
    let stories = std::fs::read(path.with_extension("greedy.json")).unwrap();
    let Stories { prompts } = serde_json::from_slice(&stories).unwrap();
    assert_eq!(prompts.len(), 4);
    let model = block_on(Model::open(&path)).unwrap();
    let request = |story: &Story| {
        let tokens = model.tokenizer.encode(&story.prompt, Special::ALL).unwrap();
        assert_eq!(tokens, story.prompt_ids, "{:?}", story.prompt);
        engine::greedy(&tokens, story.greedy_ids.len())
    };
    let on_cpu = |mut request: Request| {
        request.sampling.logprobs = Some(0);
        request
    };
    let check = |what: &str, answers: Vec<Answer>| {
        for (story, answer) in prompts.iter().zip(answers) {
            assert_eq!(answer.ids, story.greedy_ids, "{what}: {:?}", story.prompt);
            assert_eq!(answer.text, story.greedy_text, "{what}: {:?}", story.prompt);
            assert_eq!(answer.reason, Some(FinishReason::MaxTokens));
        }
    };
    for gpu in gpus() {
        let mut session = engine::session(gpu, &model, &SessionOptions::default().sequences(4));
        let requests = || prompts.iter().map(request);
        check("chosen by the CPU", engine::answers(&mut session, requests().map(on_cpu).collect()));
        check("at once", engine::answers(&mut session, requests().collect()));
        check("one after another", requests().map(|r| engine::answer(&mut session, r)).collect());
    }
}
