//! Answers must not depend on how a model runs: pipeline depth, prefill chunks, concurrent requests and the prefix
//! cache. Also tests how requests end.
//!
//! Models are tiny and random, one of each kind. Logits of different kernels may differ by rounding: the tolerance is
//! 1e-3 of their RMS, and greedy tokens are compared until the best token leads by less than 0.002 (one token in 300).
//! The cache is f32 in these tests: with f16, keys that differ in the last bit may round to different values, which
//! changes logits by 3e-3.

mod engine;

use engine::{Answer, FEW, answer, answers, difference, finish, gpu, greedy, logits, model, prompt, session};
use firelight::Error;
use firelight::checkpoint::{Checkpoint, GgufWriter, Source};
use firelight::gpu::{Caps, Gpu, GpuOptions, Tier, Tuning};
use firelight::memory_plan::plan_memory;
use firelight::model::Model;
use firelight::model::spec::{Ffn, ModelSpec};
use firelight::ops::{KvType, PAGE};
use firelight::sampler::{Sampling, TokenLogprobs};
use firelight::session::{Event, FinishReason, Request, Session, SessionOptions};
use firelight::synth;
use pollster::block_on;
use std::collections::BTreeSet;

/// The tiny shapes: one of each family and of each kind of block, and one with odd sizes.
fn tiny_shapes() -> impl Iterator<Item = &'static str> {
    synth::SHAPES.iter().map(|s| s.name).filter(|name| name.starts_with("tiny"))
}

/// The shapes for tests of sessions, whose failures depend on kernels: a few shapes use all kernels.
fn shapes() -> Vec<&'static str> {
    tiny_shapes().filter(|shape| engine::is_tested(shape)).collect()
}

/// The largest vocabulary of these shapes: this many log-probabilities are all of them.
const ALL: u32 = 272;

fn tiny(shape: &str) -> Model {
    model(engine::file(shape, "F16"))
}

fn open(model: &Model, options: &SessionOptions) -> Session {
    session(gpu(), model, options)
}

/// Options for comparisons that are sensitive to rounding.
fn exact(context: u32) -> SessionOptions {
    SessionOptions::default().context(context).kv(KvType::F32)
}

/// The answer of a session with one sequence and an empty cache.
fn fresh(session: &mut Session, request: &Request) -> Answer {
    logits(session, &[0], true);
    let answer = answer(session, on_cpu(request.clone()));
    assert_eq!(answer.timings.reused_tokens, 0);
    answer
}

/// The request, sampled on the CPU with the log-probabilities of all tokens.
fn on_cpu(mut request: Request) -> Request {
    request.sampling.logprobs = Some(ALL);
    request
}

/// Log-probabilities of each step, by token.
fn rows(answer: &Answer) -> Vec<Vec<f32>> {
    let by_token = |TokenLogprobs { top, .. }: &TokenLogprobs| {
        let mut row = vec![f32::NAN; top.len()];
        top.iter().for_each(|(token, logprob)| row[*token as usize] = *logprob);
        row
    };
    answer.logprobs.iter().map(by_token).collect()
}

/// The lead of each step's best token over the second.
fn margins(answer: &Answer) -> Vec<f32> {
    answer.logprobs.iter().map(|logprobs| logprobs.top[0].1 - logprobs.top[1].1).collect()
}

/// Compares `got` with an `on_cpu` answer to the same request: tokens, and log-probabilities if `got` has them, up to
/// the first token that rounding decides. Returns the number of compared tokens.
#[track_caller]
fn same_answer(what: &str, got: &Answer, want: &Answer) -> usize {
    let margins = margins(want);
    let sure = margins.iter().position(|m| *m <= 2e-3).unwrap_or(margins.len());
    assert_eq!(got.ids[..sure], want.ids[..sure], "{what}");
    assert_eq!(got.ids.len(), want.ids.len(), "{what}");
    if !got.logprobs.is_empty() {
        // The token after the last sure one has the same context, too.
        let end = margins.len().min(sure + 1);
        let (got, want) = (rows(got)[..end].concat(), rows(want)[..end].concat());
        close(what, &got, &want, want.len() / end);
    }
    sure
}

#[track_caller]
fn close(what: &str, got: &[f32], want: &[f32], vocab: usize) {
    let d = difference(got, want, vocab);
    assert!(d.max <= 1e-3 * d.of, "{what}: {d:?}");
}

/// The shader files of a shape's kernels, on an adapter with subgroups.
fn shader_files(shape: &str) -> BTreeSet<&'static str> {
    let caps = Caps::baseline().tier(Tier::Subgroups).subgroup((32, 32));
    let plan = plan_memory(&tiny(shape), &caps, &exact(96)).expect("it fits");
    let sources = plan.dispatch_list.kernels.iter().map(|(_, kernel)| &kernel.source);
    sources.flat_map(|source| source.imports.iter().map(|(_, file)| *file).chain([source.file])).collect()
}

#[test]
fn a_few_shapes_use_every_kernel() {
    let few: BTreeSet<_> = FEW.into_iter().flat_map(shader_files).collect();
    let all: BTreeSet<_> = tiny_shapes().flat_map(shader_files).collect();
    let missing: Vec<_> = all.difference(&few).collect();
    assert!(missing.is_empty(), "no shape of FEW uses {missing:?}");
}

#[test]
fn pipeline_depth_does_not_change_a_bit() {
    for shape in shapes() {
        let model = tiny(shape);
        let mut first = None;
        for run_ahead in [1, 7] {
            let mut session = open(&model, &SessionOptions::default().context(96).run_ahead(run_ahead));
            let drawn = Sampling::default().temperature(1.0).repetition_penalty(1.1).seed(7);
            let prompt = prompt(1, 20);
            let drawn = answer(&mut session, greedy(&prompt, 24).sampling(drawn));
            let best = answer(&mut session, greedy(&prompt, 24));
            // Logits after the answer show the cache that the run left.
            let after = answer(&mut session, on_cpu(greedy(&[prompt, best.ids.clone(), vec![5]].concat(), 1)));
            assert_eq!(after.timings.reused_tokens, 43, "{shape}");
            assert_ne!(drawn.ids, best.ids, "{shape}");
            let result = (drawn.ids, drawn.text, best.ids, best.text, after.logprobs);
            assert_eq!(&result, first.get_or_insert(result.clone()), "{shape}, {run_ahead} ahead");
        }
    }
}

#[test]
fn prefill_chunks_do_not_change_logits() {
    let prompt = prompt(2, 75);
    for shape in shapes() {
        let model = tiny(shape);
        let vocab = model.spec.vocab_size as usize;
        let open = |chunk| open(&model, &exact(96).chunk(chunk).logits(chunk));
        let mut by_eight = open(8);
        let want = logits(&mut by_eight, &prompt, true);
        for (chunk, session) in [(512, &mut open(512)), (16, &mut open(16)), (9, &mut open(9)), (8, &mut by_eight)] {
            close(&format!("{shape} by {chunk}"), &logits(session, &prompt, false), &want, vocab);
        }
    }
}

/// Tensors that no block reads are an error, and an unknown architecture's error names unsupported blocks.
#[test]
fn errors_name_unsupported_blocks() {
    let changed = |from: &str, to: &str| {
        let mut file = engine::file("tiny-qwen3", "F16");
        assert_eq!(from.len(), to.len());
        let places: Vec<usize> =
            (0..file.len() - from.len()).filter(|&at| file[at..].starts_with(from.as_bytes())).collect();
        assert!(!places.is_empty(), "{from}");
        places.iter().for_each(|&at| file[at..at + to.len()].copy_from_slice(to.as_bytes()));
        let checkpoint = block_on(Checkpoint::from_sources(vec![Source::bytes("test", file)])).unwrap();
        let model = block_on(Model::from_checkpoint(checkpoint));
        model.and_then(|model| block_on(Session::builder(gpu(), &model).options(&exact(96)).load()).map(drop))
    };
    let said = |from, to| changed(from, to).unwrap_err().to_string();
    let altup = said("blk.1.attn_q_norm.weight", "blk.1.altup_xxxxx.weight");
    assert!(
        altup.contains("not understood: blk.1.altup_xxxxx.weight; Firelight does not have alternating updates (AltUp)"),
        "{altup}"
    );
    // In a file of an unknown architecture, no supported block is called missing.
    for shape in synth::SHAPES.iter().filter(|s| s.name.starts_with("tiny")) {
        let source = Source::bytes(shape.name, engine::file(shape.name, "F16"));
        let mut checkpoint = block_on(Checkpoint::from_sources(vec![source])).unwrap();
        checkpoint.metadata.insert("general.architecture", "unheard-of");
        let error = block_on(ModelSpec::read(&checkpoint)).unwrap_err().to_string();
        assert!(error.contains("not supported yet") && !error.contains("not understood"), "{}: {error}", shape.name);
    }
    // A layer without a post-norm needs its pre-norm.
    let norm = said("blk.1.ffn_norm.weight", "blk.1.ffn_morn.weight");
    assert!(norm.contains("blk.1.") && norm.contains("norm"), "{norm}");
    let arch = said("qwen3", "ssm_9");
    assert!(arch.contains("\"ssm_9\" is not supported yet; supported are llama"), "{arch}");
    assert!(!arch.contains("not understood"), "{arch}");
}

/// The file as early converters wrote it: a fused kv_b, and head sizes under the keys of ordinary attention.
fn older(file: Vec<u8>) -> Vec<u8> {
    let checkpoint = block_on(Checkpoint::from_sources(vec![Source::bytes("test", file)])).unwrap();
    let mut metadata = checkpoint.metadata.clone();
    for kind in ["key", "value"] {
        let value = metadata.remove(&format!("deepseek2.attention.{kind}_length_mla")).unwrap();
        metadata.insert(format!("deepseek2.attention.{kind}_length"), value);
    }
    let numbers = |name: &str| -> Vec<f32> {
        let tensor = checkpoint.tensor(name).unwrap();
        bytemuck::pod_collect_to_vec(&block_on(checkpoint.read(tensor, 0..tensor.bytes())).unwrap())
    };
    // For each head the rows of its keys (columns in newer files), then the rows of its values.
    let joined = |name: &str| -> Vec<f32> {
        let other = name.replace("k_b", "v_b");
        let dims = |name: &str| <[u64; 3]>::try_from(&checkpoint.tensor(name).unwrap().dims[..]).unwrap();
        let ([plain, rank, heads], [_, values, _]) = (dims(name), dims(&other));
        let (k, v) = (numbers(name), numbers(&other));
        let head = |h: u64| {
            let keys = (0..plain).flat_map(|i| (0..rank).map(move |r| ((h * rank + r) * plain + i) as usize));
            let values = (h * values * rank) as usize..((h + 1) * values * rank) as usize;
            [keys.map(|at| k[at]).collect(), v[values].to_vec()].concat()
        };
        (0..heads).flat_map(head).collect()
    };
    let mut writer = GgufWriter::new(metadata).unwrap();
    let mut data = Vec::new();
    for tensor in checkpoint.tensors.values().filter(|t| !t.name.contains("attn_v_b")) {
        match tensor.name.contains("attn_k_b") {
            true => {
                let (numbers, rank) = (joined(&tensor.name), tensor.dims[1]);
                let name = tensor.name.replace("k_b", "kv_b");
                writer.tensor(name, &[rank, numbers.len() as u64 / rank], tensor.dtype).unwrap();
                data.push(numbers);
            }
            false => {
                writer.tensor(&tensor.name, &tensor.dims, tensor.dtype).unwrap();
                data.push(numbers(&tensor.name));
            }
        }
    }
    let (mut out, mut data) = (Vec::new(), data.into_iter());
    writer.write(&mut out, |_, out| out.write_all(bytemuck::cast_slice(&data.next().unwrap()))).unwrap();
    out
}

#[test]
fn early_mla_files_give_the_same_logits() {
    let file = engine::file("tiny-deepseek3", "F32");
    let prompt = prompt(57, 20);
    let of = |file| logits(&mut open(&model(file), &exact(64).logits(32)), &prompt, false);
    assert_eq!(of(older(file.clone())), of(file));
}

#[test]
fn long_prompts_cross_kv_splits_and_pages() {
    let prompt = prompt(3, 700);
    for shape in ["tiny-llama3", "tiny-qwen3"] {
        let model = tiny(shape);
        let vocab = model.spec.vocab_size as usize;
        let open = |chunk, kv| open(&model, &exact(720).chunk(chunk).logits(chunk).kv(kv));
        let mut whole = open(512, KvType::F32);
        let want = logits(&mut whole, &prompt, true);
        for (how, got) in [
            ("in two", logits(&mut whole, &prompt, false)),
            ("in seven", logits(&mut open(100, KvType::F32), &prompt, false)),
        ] {
            close(&format!("{shape} {how}"), &got, &want, vocab);
        }
        let d = difference(&logits(&mut open(512, KvType::F16), &prompt, false), &want, vocab);
        assert!(d.cosine > 0.99999 && d.max < 5e-2 && d.rms < 5e-3, "{shape}, cache in f16: {d:?}");
        // The same with requests: a prompt in chunks, then decoded tokens.
        let mut chunks = open(64, KvType::F32);
        for len in [680, 250] {
            let request = greedy(&prompt[..len], 12);
            let sure = same_answer(shape, &answer(&mut whole, request.clone()), &fresh(&mut chunks, &request));
            assert!(sure > 6, "{shape}: only {sure} tokens were compared");
        }
    }
}

#[test]
fn batch_invariance() {
    for shape in shapes() {
        let model = tiny(shape);
        let requests: Vec<Request> = (0..8).map(|i| greedy(&prompt(10 + i, 3 + 8 * i as usize), 20)).collect();
        let mut alone = open(&model, &exact(96));
        let mut together = open(&model, &exact(96).sequences(8));
        let want: Vec<Answer> = requests.iter().map(|r| fresh(&mut alone, r)).collect();
        let mut sure = 0;
        // Alternating between the CPU and the GPU, all on the CPU, and all on the GPU.
        let samplers = [(2, 0), (2, 1), (1, 0), (9, 8)];
        let samplers = if engine::few() { &samplers[..1] } else { &samplers };
        for &(every, offset) in samplers {
            let by_cpu = |i: usize| i % every == offset;
            let asked = requests.iter().enumerate().map(|(i, r)| if by_cpu(i) { on_cpu(r.clone()) } else { r.clone() });
            let got = answers(&mut together, asked.collect());
            for (i, (got, want)) in got.iter().zip(&want).enumerate() {
                assert_eq!(got.logprobs.len(), if by_cpu(i) { 20 } else { 0 });
                sure +=
                    same_answer(&format!("{shape}, request {i}, every {every}th from {offset} on the CPU"), got, want);
            }
        }
        assert!(sure > samplers.len() * 8 * 15, "{shape}: only {sure} tokens were compared");
    }
}

/// Steps only replay: they create no GPU resources.
#[test]
fn steps_create_no_resources() {
    // A separate device, on which no other test creates resources.
    let gpu = block_on(Gpu::open(&GpuOptions::default().tuning(Tuning::Off))).expect("an adapter");
    for shape in FEW {
        let model = tiny(shape);
        let mut session = session(&gpu, &model, &exact(96).sequences(2));
        let made = gpu.resources_created();
        assert!(made > 100, "{shape}: {made} are fewer than its dispatches");
        answers(&mut session, (0..2).map(|i| greedy(&prompt(60 + i, 40), 24)).collect());
        assert_eq!(gpu.resources_created(), made, "{shape}");
    }
}

#[test]
fn requests_beyond_the_sequences_wait() {
    let model = tiny("tiny-qwen2");
    let requests: Vec<Request> = (0..7).map(|i| greedy(&prompt(30 + i, 12), 4 + 3 * i as usize)).collect();
    let got = answers(&mut open(&model, &exact(64).sequences(3)), requests.clone());
    let mut alone = open(&model, &exact(64));
    for (got, request) in got.iter().zip(requests) {
        assert_eq!(got.ids.len(), request.max_tokens.unwrap());
        same_answer("after waiting", got, &fresh(&mut alone, &request));
    }
}

#[test]
fn greedy_answers_are_deterministic() {
    for shape in shapes() {
        let model = tiny(shape);
        let mut session = open(&model, &SessionOptions::default().context(96));
        let request = on_cpu(greedy(&prompt(4, 50), 16));
        let first = answer(&mut session, request.clone());
        answer(&mut session, greedy(&prompt(5, 70), 16));
        let second = answer(&mut session, request.clone());
        assert_eq!((second.timings.reused_tokens, &second.logprobs), (0, &first.logprobs), "{shape}");
        let third = answer(&mut open(&model, &SessionOptions::default().context(96)), request);
        assert_eq!((third.ids, third.text, third.logprobs), (first.ids, first.text, first.logprobs), "{shape}");
    }
}

#[test]
fn a_prefix_is_reused() {
    for shape in ["tiny-llama3", "tiny-qwen3moe"] {
        let model = tiny(shape);
        let (mut session, mut alone) = (open(&model, &exact(200)), open(&model, &exact(200)));
        let mut reuse = |what: &str, tokens: &[u32], reused: usize| {
            let got = answer(&mut session, greedy(tokens, 12));
            assert_eq!(got.timings.reused_tokens, reused, "{shape}, {what}");
            assert_eq!(got.timings.prompt_tokens, tokens.len(), "{shape}, {what}");
            same_answer(&format!("{shape}, {what}"), &got, &fresh(&mut alone, &greedy(tokens, 12)));
            got
        };
        let start = prompt(6, 70);
        let first = reuse("empty cache", &start, 0);
        // The last token of an answer is not in the cache.
        let turn = [start.clone(), first.ids, prompt(7, 9)].concat();
        reuse("a second turn", &turn, 70 + 11);
        reuse("another second turn", &[&start[..], &prompt(8, 30)].concat(), 70);
        reuse("the same again", &[&start[..], &prompt(8, 30)].concat(), 99);
        reuse("another end", &[&start[..41], &prompt(9, 30)].concat(), 41);
        reuse("something else", &prompt(10, 50), 0);
    }
}

/// A recurrent state cannot be truncated: a request resumes from the checkpoint near the end of the earlier prompt.
#[test]
fn states_resume_from_their_checkpoint() {
    let model = tiny("tiny-qwen35");
    let mut alone = open(&model, &exact(300));
    for run_ahead in [1, 8] {
        let mut session = open(&model, &exact(300).run_ahead(run_ahead).sequences(2).chunk(48));
        let mut asked = |what: &str, tokens: &[u32], stop: &[String], reused: usize| {
            let request = greedy(tokens, 12).stop(stop.to_vec());
            let got = answer(&mut session, request.clone());
            assert_eq!(got.timings.reused_tokens, reused, "{what}, {run_ahead} ahead");
            same_answer(&format!("{what}, {run_ahead} ahead"), &got, &fresh(&mut alone, &request));
            got
        };
        let start = prompt(6, 75);
        let first = asked("empty cache", &start, &[], 0);
        // The state after an answer of maximum length is kept.
        let turn = [start.clone(), first.ids, prompt(7, 40)].concat();
        let second = asked("a second turn", &turn, &[], 75 + 11);
        // After a stop string, the state is beyond the answer's end.
        let end = second.text.chars().nth(4).expect("a text").to_string();
        asked("another second turn", &[&turn[..], &prompt(8, 3)].concat(), &[end], 96);
        asked("a third turn", &[&turn[..], &prompt(8, 3), &prompt(9, 30)].concat(), &[], 96);
        asked("the first again", &start, &[], 0);
        asked("another end", &[&start[..70], &prompt(9, 30)].concat(), &[], 64);
        asked("something short", &prompt(10, 20), &[], 0);
    }
}

/// Sliding-window and chunked layers free the pages outside their window. Answers equal those with all pages kept, and
/// resident prefixes are reused, by the same sequence and by others.
#[test]
fn sliding_windows_free_pages() {
    for shape in ["tiny-window", "tiny-gemma3", "tiny-llama4", "tiny-gpt-oss"] {
        let model = tiny(shape);
        let few = exact(640).chunk(32).sequences(2);
        let mut session = open(&model, &few);
        let capacity = session.plan().dispatch_list().capacity;
        assert!(capacity.sliding.is_some_and(|near| near.pages * 2 < capacity.pages), "{shape}: {capacity:?}");
        let mut alone = open(&model, &exact(640).chunk(640));
        assert_eq!(alone.plan().dispatch_list().capacity.sliding, None, "{shape}");
        let mut asked = |what: &str, tokens: &[u32], most: usize, reused: usize| {
            let got = answer(&mut session, greedy(tokens, most));
            assert_eq!(got.timings.reused_tokens, reused, "{shape}, {what}");
            same_answer(&format!("{shape}, {what}"), &got, &fresh(&mut alone, &greedy(tokens, most)));
            got
        };
        let start = prompt(6, 400);
        let first = asked("empty cache", &start, 40, 0);
        let turn = [start.clone(), first.ids, prompt(7, 60)].concat();
        asked("a second turn", &turn, 10, 439);
        asked("the same again", &turn, 140, 499);
        asked("the same after a long answer", &turn, 10, 480);
        asked("back to what is gone", &[&start[..390], &prompt(8, 5)].concat(), 10, 0);
        asked("from its end", &[&start[..390], &prompt(8, 5), &prompt(9, 50)].concat(), 10, 395);
        let requests = [greedy(&start, 100), greedy(&[&start[..390], &prompt(10, 20)].concat(), 20)];
        let ids: Vec<_> = requests.iter().map(|request| session.submit(on_cpu(request.clone())).unwrap()).collect();
        let got = finish(&mut session);
        for (id, request) in ids.iter().zip(&requests) {
            same_answer(&format!("{shape}, two at once"), &got[id], &fresh(&mut alone, request));
        }
        let shared = answer(&mut session, on_cpu(greedy(&[&start[..400], &prompt(11, 20)].concat(), 20)));
        assert!(shared.timings.reused_tokens >= 384, "{shape}: {:?}", shared.timings);
        same_answer(shape, &shared, &fresh(&mut alone, &greedy(&[&start[..400], &prompt(11, 20)].concat(), 20)));
    }
}

/// With slots for one layer's experts, for some more, or for all but a few, answers are bit for bit those with all
/// experts resident.
#[test]
fn expert_offload_does_not_change_a_bit() {
    for shape in ["tiny-qwen3moe", "tiny-llama4", "tiny-gpt-oss", "tiny-qwen35moe"] {
        let model = tiny(shape);
        let all = exact(200).logits(16);
        let mut whole = open(&model, &all);
        assert_eq!(whole.expert_reads(), None, "{shape}");
        let needed = whole.plan().dispatch_list().bytes().total();
        let fits = |memory| plan_memory(&model, gpu().caps(), &all.clone().memory(memory));
        let (mut least, mut below) = (needed, 0);
        while below + 1 < least {
            let middle = below.midpoint(least);
            if fits(middle).is_ok() { least = middle } else { below = middle }
        }
        let prompt = prompt(20, 90);
        let want = (logits(&mut whole, &prompt, false), answer(&mut whole, on_cpu(greedy(&prompt, 30))));
        let mut read = Vec::new();
        for memory in [needed - 1, needed.midpoint(least), least] {
            let mut session = open(&model, &all.clone().memory(memory));
            assert!(session.plan().dispatch_list().bytes().total() <= memory, "{shape}");
            assert!(session.notices().iter().any(|notice| notice.contains("experts fit")), "{:?}", session.notices());
            assert_eq!(logits(&mut session, &prompt, false), want.0, "{shape} in {memory} bytes");
            let got = answer(&mut session, on_cpu(greedy(&prompt, 30)));
            assert_eq!((got.ids, got.logprobs), (want.1.ids.clone(), want.1.logprobs.clone()), "{shape}");
            read.push(session.expert_reads().expect("offloaded experts").read);
        }
        println!("{shape}: {needed} bytes or at least {least}, {read:?} experts read");
        assert!(read.is_sorted() && read[0] < read[2], "{shape}: {read:?}");
    }
}

/// Offloaded experts are read from the file that their spec names, and from no other.
#[test]
fn offloaded_experts_are_read_from_their_own_file() {
    let mut model = tiny("tiny-qwen3moe");
    for layer in &mut model.spec.layers {
        let Some(Ffn::Moe(moe)) = &mut layer.ffn else { panic!("every layer has experts") };
        moe.stacks.iter_mut().for_each(|stack| stack.tensor.source = 1);
    }
    let options = exact(64);
    let needed = plan_memory(&model, gpu().caps(), &options).unwrap().dispatch_list.bytes().total();
    let mut session = open(&model, &options.memory(needed - 1));
    let error = block_on(session.prefill_logits(&prompt(21, 5), |_, _| ())).unwrap_err().to_string();
    assert!(error.contains("_exps.weight is not open"), "{error}");
}

#[test]
fn running_sequences_share_their_prefix() {
    for shape in ["tiny-llama3", "tiny-mixtral"] {
        let model = tiny(shape);
        let mut session = open(&model, &exact(200).sequences(3));
        let mut alone = open(&model, &exact(200));
        let start = prompt(11, 80);
        let requests = [
            greedy(&[&start[..], &prompt(12, 20)].concat(), 60),
            greedy(&[&start[..], &prompt(13, 3)].concat(), 10),
            greedy(&[&start[..70], &prompt(14, 40)].concat(), 10),
        ];
        let mut ids = vec![session.submit(requests[0].clone()).unwrap()];
        let mut begun = Answer::default();
        while begun.ids.len() < 5 {
            match block_on(session.next()).unwrap() {
                Some((_, Event::Token { id, .. })) => begun.ids.push(id),
                Some((_, Event::Text(text))) => begun.text += &text,
                Some((_, Event::Begun { .. })) => {}
                other => panic!("{other:?}"),
            }
        }
        ids.extend(requests[1..].iter().map(|r| session.submit(r.clone()).unwrap()));
        let mut got = finish(&mut session);
        let rest = got.get_mut(&ids[0]).unwrap();
        rest.ids.splice(0..0, begun.ids);
        let whole_pages = [0, 80, 70].map(|n| n / PAGE as usize * PAGE as usize);
        for ((id, request), reused) in ids.iter().zip(&requests).zip(whole_pages) {
            let what = format!("{shape}, request {id}");
            assert_eq!(got[id].timings.reused_tokens, reused, "{what}");
            same_answer(&what, &got[id], &fresh(&mut alone, request));
        }
        // Later requests reuse their pages, and no request has written into shared pages.
        for request in &requests {
            let again = answer(&mut session, on_cpu(request.clone()));
            assert!(again.timings.reused_tokens >= 64, "{shape}: {:?}", again.timings);
            same_answer(shape, &again, &fresh(&mut alone, request));
        }
    }
}

#[test]
fn cancelled_requests_do_not_affect_others() {
    let model = tiny("tiny-llama3");
    let mut session = open(&model, &exact(200).sequences(2));
    let want = fresh(&mut open(&model, &exact(200)), &greedy(&prompt(20, 40), 20));
    let other = session.submit(greedy(&prompt(20, 40), 20)).unwrap();
    let id = session.submit(greedy(&prompt(21, 40), 100)).unwrap();
    let waiting = session.submit(greedy(&prompt(22, 40), 100)).unwrap();
    let mut before = Answer::default();
    for _ in 0..12 {
        if let Some((from, Event::Token { id: token, .. })) = block_on(session.next()).unwrap() {
            before.ids.extend((from == other).then_some(token));
        }
    }
    session.cancel(id);
    session.cancel(waiting);
    session.cancel(999);
    let mut rest = finish(&mut session);
    assert_eq!(rest[&id].reason, Some(FinishReason::Cancelled));
    assert!(rest[&id].timings.generated_tokens < 100, "{:?}", rest[&id].timings);
    assert_eq!(
        (rest[&waiting].reason.clone(), rest[&waiting].timings.generated_tokens),
        (Some(FinishReason::Cancelled), 0)
    );
    let rest = rest.get_mut(&other).unwrap();
    rest.ids.splice(0..0, before.ids);
    same_answer("the other one", rest, &want);
    // A dropped generation is cancelled, too, and has no further events.
    let mut dropped = session.generate(greedy(&prompt(23, 40), 100)).unwrap();
    for _ in 0..3 {
        block_on(dropped.next()).unwrap().unwrap();
    }
    drop(dropped);
    assert_eq!(block_on(session.next()).unwrap(), None);
    let request = greedy(&prompt(20, 40), 20);
    let mut answer = session.generate(request).unwrap();
    let mut ids = Vec::new();
    while let Some(event) = block_on(answer.next()).unwrap() {
        ids.extend(if let Event::Token { id, .. } = event { Some(id) } else { None });
    }
    assert_eq!(ids, want.ids);
}

/// A request's events without times and cached token counts.
fn untimed(events: impl IntoIterator<Item = Event>) -> Vec<Event> {
    let without_times = |event| match event {
        Event::Finished { reason, .. } => Event::Finished { reason, timings: Default::default() },
        Event::Begun { .. } => Event::Begun { reused_tokens: 0 },
        other => other,
    };
    events.into_iter().map(without_times).collect()
}

/// A generation consumes only its own events: those of other requests stay queued, complete and in order, however the
/// generation ends.
#[test]
fn generations_keep_the_events_of_other_requests() {
    let model = tiny("tiny-llama3");
    let [long, short] = [greedy(&prompt(61, 30), 40), greedy(&prompt(62, 20), 6)];
    for sequences in [1, 2] {
        let mut session = open(&model, &exact(200).sequences(sequences));
        let mut alone = |request: &Request| {
            session.submit(request.clone()).unwrap();
            untimed(std::iter::from_fn(|| block_on(session.next()).unwrap()).map(|(_, event)| event))
        };
        let want = [alone(&long), alone(&short)];
        assert!(want.iter().all(|events| events.len() > 6 && matches!(events.last(), Some(Event::Finished { .. }))));
        for (other, mine) in [(0, 1), (1, 0)] {
            for end in ["finished", "cancelled", "dropped"] {
                let what = format!("{sequences} sequences, answer {mine} is {end}");
                let requests = [&long, &short];
                let before = session.submit(requests[other].clone()).unwrap();
                // A request that ends at once.
                let none = session.submit(short.clone().max_tokens(0)).unwrap();
                let mut answer = session.generate(requests[mine].clone()).unwrap();
                let mut got = Vec::new();
                while let Some(event) = block_on(answer.next()).unwrap() {
                    got.push(event);
                    match end {
                        "cancelled" if got.len() == 3 => answer.cancel(),
                        "dropped" if got.len() == 3 => break,
                        _ => {}
                    }
                }
                drop(answer);
                let mut rest: std::collections::BTreeMap<_, Vec<Event>> = Default::default();
                while let Some((id, event)) = block_on(session.next()).unwrap() {
                    rest.entry(id).or_default().push(event);
                }
                let got = untimed(got);
                match end {
                    "finished" => assert_eq!(got, want[mine], "{what}"),
                    "cancelled" => {
                        let cancelled =
                            Event::Finished { reason: FinishReason::Cancelled, timings: Default::default() };
                        assert_eq!(got.last(), Some(&cancelled), "{what}");
                    }
                    _ => assert_eq!(got, want[mine][..3], "{what}"),
                }
                let nothing = [
                    Event::Begun { reused_tokens: 0 },
                    Event::Finished { reason: FinishReason::MaxTokens, timings: Default::default() },
                ];
                assert_eq!(rest.keys().copied().collect::<Vec<_>>(), [before, none], "{what}");
                assert_eq!(untimed(rest.remove(&none).unwrap()), nothing, "{what}");
                assert_eq!(untimed(rest.remove(&before).unwrap()), want[other], "{what}");
            }
        }
    }
}

#[test]
fn stop_strings_end_an_answer() {
    let model = tiny("tiny-qwen2");
    let mut session = open(&model, &SessionOptions::default().context(200));
    // Warm enough that texts do not repeat.
    let sampling = Sampling::default().temperature(1.0).seed(3);
    let request = greedy(&prompt(24, 10), 80).sampling(sampling);
    let whole = answer(&mut session, request.clone());
    assert_eq!(whole.reason, Some(FinishReason::MaxTokens));
    // Tokens have at most a few letters, so three letters may span several tokens.
    let letters: Vec<char> = whole.text.chars().collect();
    for at in [0, 11, 30, 50] {
        let stop: String = letters[at..at + 3].iter().collect();
        let (before, _) = whole.text.split_once(&stop).unwrap();
        let stops = vec!["not in it".to_string(), stop.clone(), String::new()];
        let got = answer(&mut session, request.clone().stop(stops));
        assert_eq!((got.text.as_str(), got.reason), (before, Some(FinishReason::StopString(stop.clone()))), "{stop:?}");
        assert!(got.ids.len() > 1 && whole.ids.starts_with(&got.ids) && got.ids.len() < 80, "{stop:?}");
        assert_eq!(got.timings.generated_tokens, got.ids.len());
    }
    // The text ends with the beginning of a stop string: no text is lost.
    let almost: String = letters[letters.len() - 2..].iter().chain(&['!', '?', '!']).collect();
    let got = answer(&mut session, request.stop(vec![almost]));
    assert_eq!((got.text, got.reason), (whole.text, Some(FinishReason::MaxTokens)));
}

#[test]
fn an_end_token_ends_an_answer() {
    let model = tiny("tiny-llama3");
    let mut session = open(&model, &SessionOptions::default().context(64));
    let end = model.tokenizer.eos().unwrap();
    let mut request = greedy(&prompt(25, 10), 20);
    request.sampling.logit_bias = vec![(end, 1e6)];
    let got = answer(&mut session, request.clone());
    assert_eq!((got.ids, got.reason), (vec![end; 20], Some(FinishReason::MaxTokens)), "the end is ignored");
    let got = answer(&mut session, request.ignore_end(false));
    assert_eq!((got.ids, got.text.as_str(), got.reason), (vec![], "", Some(FinishReason::End)));
    assert_eq!(got.timings.generated_tokens, 1);
}

#[test]
fn answers_resume_in_another_session() {
    let model = tiny("tiny-llama3");
    let open = || open(&model, &exact(64));
    let penalties = Sampling::greedy().repetition_penalty(1.3).frequency_penalty(0.2);
    let request = on_cpu(greedy(&prompt(30, 10), 30).sampling(penalties));
    let whole = answer(&mut open(), request.clone());
    // Tokens are bytes here, so some answers are interrupted within a character.
    for answered in [1, 7, 18, 29] {
        let tokens = [&request.tokens[..], &whole.ids[..answered]].concat();
        let rest = answer(&mut open(), request.clone().tokens(tokens).answered(answered));
        assert_eq!((rest.ids.len(), &rest.reason), (30 - answered, &whole.reason));
        let want =
            Answer { ids: whole.ids[answered..].into(), logprobs: whole.logprobs[answered..].into(), ..whole.clone() };
        assert!(same_answer("the rest", &rest, &want) > 0);
        assert_eq!((rest.timings.prompt_tokens, rest.timings.generated_tokens), (10, 30));
        assert!(whole.text.ends_with(&rest.text), "{:?} ends with {:?}", whole.text, rest.text);
    }
    let answered = request.tokens.len();
    let all = request.answered(answered);
    assert!(open().submit(all).unwrap_err().to_string().contains("cannot be the answer already"));
}

#[test]
fn answers_end_at_their_limits() {
    let model = tiny("tiny-odd");
    for run_ahead in [1, 4, 8] {
        let mut session = open(&model, &SessionOptions::default().context(50).run_ahead(run_ahead));
        for max in [0, 1, 2, 7] {
            for len in [1, 2, 30] {
                let got = answer(&mut session, greedy(&prompt(26, len), max));
                assert_eq!((got.ids.len(), got.reason), (max, Some(FinishReason::MaxTokens)));
            }
        }
        // The token at the last position is run, and the token sampled from it is the answer's last.
        for len in [1, 30, 48, 49] {
            let request = greedy(&prompt(27, len), 0).max_tokens(None);
            let got = answer(&mut session, request.clone());
            assert_eq!((got.ids.len(), got.reason), (50 + 1 - len, Some(FinishReason::ContextFull)), "{len}");
            let got = answer(&mut session, on_cpu(request));
            assert_eq!((got.ids.len(), got.reason), (50 + 1 - len, Some(FinishReason::ContextFull)), "{len}");
        }
        let got = answer(&mut session, greedy(&prompt(26, 20), 5));
        assert_eq!(got.ids.len(), 5, "after a full context");
    }
}

#[test]
fn invalid_requests_are_refused_without_side_effects() {
    let model = tiny("tiny-odd");
    let mut session = open(&model, &SessionOptions::default().context(50));
    assert_eq!(session.context(), 50);
    let refuse = |session: &mut Session, request: Request, says: &str| {
        let error = session.submit(request).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
        error
    };
    let error = refuse(&mut session, greedy(&prompt(28, 50), 5), "50 tokens");
    assert!(matches!(error, Error::ContextFull { tokens: 50, context: 50 }), "{error:?}");
    for (tokens, says) in [(vec![], "empty"), (vec![1, 263, 2], "263"), (vec![u32::MAX], "4294967295")] {
        let error = refuse(&mut session, greedy(&tokens, 5), says);
        assert!(matches!(error, Error::Usage(_)), "{error:?}");
        assert!(block_on(session.prefill_logits(&tokens, |_, _| ())).is_err());
    }
    let sampling = Sampling::default().temperature(-1.0);
    refuse(&mut session, greedy(&[1], 5).sampling(sampling), "temperature");
    let error = block_on(session.prefill_logits(&prompt(28, 51), |_, _| ())).unwrap_err();
    assert!(matches!(error, Error::ContextFull { tokens: 51, context: 50 }), "{error:?}");
    assert_eq!(logits(&mut session, &prompt(28, 50), false).len(), 50 * 263);
    let id = session.submit(greedy(&prompt(29, 10), 5)).unwrap();
    assert!(matches!(block_on(session.next()).unwrap(), Some((first, _)) if first == id));
    let busy = block_on(session.prefill_logits(&[1], |_, _| ())).unwrap_err();
    assert!(busy.to_string().contains("busy"), "{busy}");
    assert_eq!(finish(&mut session)[&id].reason, Some(FinishReason::MaxTokens));
    assert_eq!(block_on(session.next()).unwrap(), None);
}

#[test]
fn prefill_and_decode_steps_alternate() {
    let model = tiny("tiny-llama3");
    let mut session = open(&model, &exact(400).sequences(3).chunk(16));
    let mut alone = open(&model, &exact(400));
    let [short, long, third] = [(50, 10, 40), (51, 320, 4), (52, 20, 4)].map(|(s, n, max)| greedy(&prompt(s, n), max));
    let first = session.submit(short.clone()).unwrap();
    for _ in 0..4 {
        block_on(session.next()).unwrap().unwrap();
    }
    // 320 positions are 20 chunks; meanwhile the first gets about one token per chunk, and the third does not wait.
    let (second, last) = (session.submit(long.clone()).unwrap(), session.submit(third.clone()).unwrap());
    let mut order = Vec::new();
    let mut got: std::collections::BTreeMap<_, Answer> = Default::default();
    while let Some((id, event)) = block_on(session.next()).unwrap() {
        if let Event::Token { id: token, .. } = event {
            order.push(id);
            got.entry(id).or_default().ids.push(token);
        }
    }
    let begins = |id| order.iter().position(|o| *o == id).unwrap();
    let before = order[..begins(second)].iter().filter(|id| **id == first).count();
    assert!(before >= 15, "{before} tokens of the first during the second's prefill: {order:?}");
    assert!(begins(last) < begins(second), "{order:?}");
    // Alternating does not change the answers.
    for (id, request) in [(second, long), (last, third)] {
        let want = fresh(&mut alone, &request);
        let sure = margins(&want).iter().position(|m| *m <= 2e-3).unwrap_or(want.ids.len());
        assert_eq!(got[&id].ids[..sure], want.ids[..sure]);
    }
}

#[test]
fn constraints_apply_to_every_token() {
    let model = tiny("tiny-llama3");
    let mut session = open(&model, &exact(100));
    // Allows the tokens 40 to 49 in increasing order; after the fifth, none.
    let allowed = |answer: &[u32]| {
        let least = answer.last().map_or(40, |last| last + 1);
        let mut mask = vec![0u32; 2];
        let end = if answer.len() < 5 { 46 + answer.len() as u32 } else { 0 };
        (least..end).for_each(|t| mask[t as usize / 32] |= 1 << (t % 32));
        mask
    };
    for temperature in [0.0, 1.0, 5.0] {
        let sampling = Sampling::default().temperature(temperature).logprobs(ALL);
        let request = greedy(&prompt(53, 12), 20).sampling(sampling);
        let mut within = |max_tokens| {
            let request = request.clone().max_tokens(max_tokens);
            let id = session.submit_constrained(request, Some(Box::new(allowed))).unwrap();
            finish(&mut session).remove(&id).unwrap()
        };
        let got = within(20);
        assert_eq!((got.ids.len(), got.reason), (5, Some(FinishReason::End)), "{:?}", got.ids);
        // An answer that is complete with its last allowed token is not truncated.
        assert_eq!(within(5).reason, Some(FinishReason::End));
        assert_eq!(within(4).reason, Some(FinishReason::MaxTokens));
        assert!(
            got.ids.windows(2).all(|w| w[0] < w[1]) && got.ids.iter().all(|t| (40..51).contains(t)),
            "{:?}",
            got.ids
        );
        // Log-probabilities are those of the unconstrained model.
        let free = answer(&mut session, on_cpu(greedy(&prompt(53, 12), 1)));
        let of = |logprobs: &[(u32, f32)], token| logprobs.iter().find(|(t, _)| *t == token).unwrap().1;
        assert!((got.logprobs[0].logprob - of(&free.logprobs[0].top, got.ids[0])).abs() < 1e-3);
    }
}

#[test]
fn control_tokens_are_printed_on_request() {
    let model = tiny("tiny-llama3");
    let mut session = open(&model, &exact(64));
    let bos = model.tokenizer.bos().unwrap();
    let mut request = greedy(&prompt(54, 10), 2);
    request.sampling.logit_bias = vec![(bos, 1e6)];
    assert_eq!(answer(&mut session, request.clone()).text, "");
    let name = model.tokenizer.piece(bos).unwrap().repeat(2);
    assert_eq!(answer(&mut session, request.special(true)).text, name);
}

#[test]
fn embeddings_pool_the_hidden_states_of_logits() {
    let bytes = engine::file("tiny-odd", "F32");
    let model = model(bytes.clone());
    let head = &model.checkpoint.tensors["output.weight"];
    let (at, width, vocab) = (head.parts[0].offset as usize, 180, 263);
    let weights: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes[at..at + width * vocab * 4]);
    let mut session = open(&model, &exact(64).logits(8));
    // For one token, the embedding has the hidden state's direction: times the head, it has the direction of the
    // logits.
    let one = prompt(55, 1);
    let vector = block_on(session.embed(&one)).unwrap();
    assert_eq!(vector.len(), width);
    let got: Vec<f32> = weights.chunks(width).map(|row| row.iter().zip(&vector).map(|(w, x)| w * x).sum()).collect();
    let d = difference(&got, &logits(&mut session, &one, true), vocab);
    assert!(d.cosine > 0.999_999, "{d:?}");
    // For several tokens it is their mean, for every chunk size.
    let text = prompt(56, 30);
    let [a, b] = [1, 8].map(|chunk| {
        let mut session = open(&model, &exact(64).logits(chunk));
        block_on(session.embed(&text)).unwrap()
    });
    assert!(difference(&a, &b, width).max < 1e-4);
    assert!(difference(&a, &vector, width).cosine < 0.99);
    assert!((a.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-5);
}

#[test]
fn last_token_pooling_follows_the_model() {
    let bytes = engine::file("tiny-odd", "F32");
    let mut model = model(bytes.clone());
    let head = &model.checkpoint.tensors["output.weight"];
    let (at, width, vocab) = (head.parts[0].offset as usize, 180, 263);
    let weights: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes[at..at + width * vocab * 4]);
    let architecture = model.checkpoint.metadata.get_str("general.architecture").unwrap().unwrap().to_string();
    let checkpoint = std::sync::Arc::get_mut(&mut model.checkpoint).expect("the only reference");
    checkpoint.metadata.insert(format!("{architecture}.pooling_type"), firelight::checkpoint::GgufValue::U32(3));
    let mut session = open(&model, &exact(64).logits(8));
    let text = prompt(57, 20);
    let vector = block_on(session.embed(&text)).unwrap();
    let got: Vec<f32> = weights.chunks(width).map(|row| row.iter().zip(&vector).map(|(w, x)| w * x).sum()).collect();
    let last = logits(&mut session, &text, true).split_off(19 * vocab);
    let d = difference(&got, &last, vocab);
    assert!(d.cosine > 0.999_999, "{d:?}");
}

#[test]
fn embeddings_run_concurrently_with_answers_and_are_cancelled() {
    // Full attention; sliding windows; recurrent states.
    for shape in ["tiny-llama3", "tiny-gemma3", "tiny-qwen3next"] {
        let model = tiny(shape);
        let options = exact(128).logits(8);
        let mut session = open(&model, &options.clone().sequences(3));
        let mut alone = open(&model, &options);
        let request = greedy(&prompt(60, 20), 12);
        let texts: Vec<Vec<u32>> = [7, 40, 16, 1, 25].into_iter().map(|len| prompt(61, len)).collect();
        let want = fresh(&mut alone, &request);
        let first = session.submit(request).unwrap();
        let ids: Vec<u64> = texts.iter().map(|text| session.submit_embedding(text.clone()).unwrap()).collect();
        assert!(block_on(session.step()).unwrap());
        session.cancel(ids[1]);
        session.cancel(ids[4]);
        let (mut tokens, mut vectors) = (Vec::new(), std::collections::BTreeMap::new());
        while let Some((id, event)) = block_on(session.next()).unwrap() {
            match event {
                Event::Token { id: token, .. } if id == first => tokens.push(token),
                Event::Embedding(vector) => assert!(vectors.insert(id, vector).is_none(), "{shape}"),
                _ => {}
            }
        }
        let sure = margins(&want).iter().position(|m| *m <= 2e-3).unwrap_or(want.ids.len());
        assert_eq!(tokens[..sure], want.ids[..sure], "{shape}");
        assert_eq!(vectors.keys().copied().collect::<Vec<_>>(), [ids[0], ids[2], ids[3]], "{shape}");
        for i in [0, 2, 3] {
            let vector = block_on(alone.embed(&texts[i])).unwrap();
            assert!(difference(&vectors[&ids[i]], &vector, vector.len()).max < 1e-3, "{shape}: text {i}");
        }
        assert!(session.submit_embedding(vec![]).is_err() && session.submit_embedding(prompt(62, 129)).is_err());
    }
}
