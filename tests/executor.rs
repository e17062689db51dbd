//! Steps of rows: rows given as embeddings, several output rows of one sequence, plans without an output head.

mod engine;

use engine::{difference, gpu, model, prompt, session};
use firelight::executor::{Executor, Row, RowInput, StepOutput};
use firelight::model::Model;
use firelight::ops::KvType;
use firelight::sampler::{IN_PROMPT, Sampling, sample};
use firelight::{Error, SessionOptions};
use pollster::block_on;

fn open(model: &Model, options: &SessionOptions) -> Executor {
    block_on(Executor::load(gpu(), model, options, |_| {})).expect("it fits")
}

fn options() -> SessionOptions {
    SessionOptions::default().context(96).kv(KvType::F32)
}

fn token_rows(tokens: &[u32]) -> Vec<Row> {
    (0..).zip(tokens).map(|(position, token)| Row::new(RowInput::Token(*token), position, 0)).collect()
}

/// The input of the first layer for a token.
fn embedding(model: &Model, token: u32) -> Vec<f32> {
    let (tensor, size) = (&model.checkpoint.tensors["token_embd.weight"], model.spec.hidden_size as usize);
    let bytes = block_on(model.checkpoint.read(tensor, 0..tensor.bytes())).expect("the table");
    let table: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes);
    table[token as usize * size..][..size].iter().map(|w| w * model.spec.embedding.scale).collect()
}

#[test]
fn embeddings_of_tokens_give_the_tokens_logits() {
    // Gemma scales the embeddings of tokens.
    for shape in ["tiny-llama3", "tiny-gemma3"] {
        let model = model(engine::file(shape, "F32"));
        let tokens = prompt(70, 20);
        let mut executor = open(&model, &options().logits(20).input_embeddings(tokens.len() as u32));
        for (slot, token) in (0..).zip(&tokens) {
            executor.set_embedding(slot, &embedding(&model, *token));
        }
        let mut logits = |input: fn((u32, u32)) -> RowInput| {
            executor.cache.clear(0);
            let rows = token_rows(&tokens).into_iter().zip(&tokens).enumerate();
            let rows: Vec<Row> =
                rows.map(|(i, (row, token))| Row { input: input((i as u32, *token)), ..row }.with_output(0)).collect();
            block_on(executor.run(&rows, StepOutput::Logits)).expect("logits").logits
        };
        let want = logits(|(_, token)| RowInput::Token(token));
        let mixed = logits(|(i, token)| if i % 3 == 0 { RowInput::Token(token) } else { RowInput::Embedding(i) });
        assert!(logits(|(i, _)| RowInput::Embedding(i)) == want && mixed == want, "{shape}");
        assert_ne!(logits(|(i, _)| RowInput::Embedding(19 - i)), want, "{shape}");
    }
}

#[test]
fn output_rows_of_one_sequence_have_separate_sampling_parameters() {
    for shape in ["tiny-llama3", "tiny-gemma3"] {
        let model = model(engine::file(shape, "F16"));
        let vocab = model.spec.vocab_size as usize;
        let tokens = prompt(71, 30);
        let (before, drafts) = tokens.split_at(25);
        let samplings: Vec<Sampling> = (0..5)
            .map(|i| {
                Sampling::default()
                    .temperature([0.0, 1.0, 1.0, 0.8, 2.0][i])
                    .top_k([40, 0, 5, 40, 0][i])
                    .repetition_penalty([1.0, 1.3, 1.0, 1.2, 1.0][i])
                    .frequency_penalty([0.0, 0.0, 0.5, 0.0, 0.0][i])
                    .seed(i as u64)
            })
            .collect();
        // Each row's penalties count the drafts before it as generated.
        let counts = |generated: &[u32]| {
            let mut counts = vec![0; vocab];
            before.iter().for_each(|token| counts[*token as usize] |= IN_PROMPT);
            generated.iter().for_each(|token| counts[*token as usize] += 1);
            counts
        };
        let options = options().sequences(2).outputs(7);
        let mut executor = open(&model, &options);
        let prefill = |executor: &mut Executor| {
            executor.cache.clear(0);
            block_on(executor.run(&token_rows(before), StepOutput::Tokens)).expect("a prefill")
        };
        let row = |i: usize, slot: usize| {
            Row::new(RowInput::Token(drafts[i]), (before.len() + i) as u32, 0).with_output(slot as u32)
        };
        // All in one step, each in a separate slot.
        assert!(prefill(&mut executor).tokens.is_empty());
        for (i, sampling) in samplings.iter().enumerate() {
            executor.set_sampling(2 + i, sampling, &counts(&drafts[..=i]));
        }
        let rows: Vec<Row> = (0..5).map(|i| row(i, 2 + i)).collect();
        let together = block_on(executor.run(&rows, StepOutput::TokensAndLogits)).expect("a step");
        // One by one, in the same slot.
        prefill(&mut executor);
        let mut equal = 0;
        for (i, sampling) in samplings.iter().enumerate() {
            executor.set_sampling(1, sampling, &counts(&drafts[..=i]));
            let alone = block_on(executor.run(&[row(i, 1)], StepOutput::TokensAndLogits)).expect("a step");
            let logits = &together.logits[i * vocab..][..vocab];
            let d = difference(logits, &alone.logits, vocab);
            assert!(d.max <= 1e-3 * d.of, "{shape}, row {i}: {d:?}");
            let position = (before.len() + i) as u32;
            let [want, want_alone] =
                [logits, &alone.logits].map(|row| sample(sampling, row, &counts(&drafts[..=i]), position).token);
            assert_eq!((together.tokens[i], alone.tokens[0]), (want, want_alone), "{shape}, row {i}");
            equal += usize::from(want == want_alone);
        }
        assert!(equal >= 4, "{shape}: {equal} of 5 tokens are equal");
        // Other settings would have sampled other tokens.
        let swapped = (0..5).filter(|i| {
            let position = (before.len() + i) as u32;
            let logits = &together.logits[i * vocab..][..vocab];
            sample(&samplings[(i + 1) % 5], logits, &counts(&drafts[..=*i]), position).token != together.tokens[*i]
        });
        assert!(swapped.count() >= 2, "{shape}");
    }
}

#[test]
fn a_plan_without_an_output_head_embeds_texts() {
    for shape in ["tiny-odd", "tiny-qwen3moe"] {
        let model = model(engine::file(shape, "F16"));
        let whole = options().logits(8);
        let headless = whole.clone().output_head(false);
        let (mut whole, mut headless) = (session(gpu(), &model, &whole), session(gpu(), &model, &headless));
        let bytes = |session: &firelight::Session| session.plan().dispatch_list().bytes().total();
        assert!(bytes(&headless) < bytes(&whole), "{shape}");
        let text = prompt(72, 30);
        assert_eq!(block_on(headless.embed(&text)).unwrap(), block_on(whole.embed(&text)).unwrap(), "{shape}");
        let error = headless.submit(engine::greedy(&text, 5)).unwrap_err();
        assert!(matches!(error, Error::Usage(_)) && error.to_string().contains("output head"), "{error}");
        assert!(block_on(headless.prefill_logits(&text, |_, _| ())).is_err());
    }
}
