//! A device that is lost during answers: the engine opens it again, and the answers continue with the same tokens.

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use firelight::conversation::{AnswerEvent, Conversation, Prompt, ResponseFormat, ToolChoice};
use firelight::engine::{AnswerId, AnswerJob, Engine, EngineHandle, EngineOptions, Status};
use firelight::session::{FinishReason, SessionOptions};
use firelight::{Error, Gpu, GpuOptions, Model, Sampling, demo};
use pollster::block_on;
use serde_json::json;

type Warnings = Arc<Mutex<Vec<String>>>;

fn engine() -> (Engine, Warnings) {
    let model = Arc::new(block_on(Model::from_sources(vec![demo::source()])).expect("the built-in model"));
    let session = SessionOptions::default().context(512).sequences(3);
    let gpu = block_on(Gpu::open(&GpuOptions::default())).expect("a device");
    let warnings = Warnings::default();
    let heard = warnings.clone();
    let report = Box::new(move |status| {
        if let Status::Warning(warning) = status {
            heard.lock().expect("it").push(warning);
        }
    });
    let options = EngineOptions::default().session(session);
    (block_on(Engine::load(gpu, model, options, report)).expect("an engine"), warnings)
}

/// A text completion, a tool call, and JSON of a schema, each with a different seed.
fn submit(engine: &mut Engine) -> Vec<AnswerId> {
    let messages = vec![json!({ "role": "user", "content": "What can you do?" })];
    let parameters = json!({ "type": "object", "properties": { "n": { "type": "integer", "maximum": 99999999 } },
        "required": ["n"], "additionalProperties": false });
    let tools = vec![json!({ "type": "function", "function": { "name": "count", "parameters": parameters } })];
    let called = Conversation::new(messages).tools(tools).tool_choice(ToolChoice::Required);
    let list = json!({ "type": "array", "items": { "type": "string", "maxLength": 4 }, "minItems": 5, "maxItems": 6 });
    let schema = ResponseFormat::JsonSchema("format".into(), list);
    let jobs = [
        (Prompt::Text("Once upon a time".into()), ResponseFormat::Text, true),
        (Prompt::Conversation(called), ResponseFormat::Text, false),
        (Prompt::Text("A list:".into()), schema, false),
    ];
    let model = engine.model().clone();
    jobs.into_iter()
        .enumerate()
        .map(|(i, (prompt, format, ignore_end))| {
            let prompt = prompt.prepare(&model, &format, |_| Ok::<_, Error>(())).expect("a prompt");
            let grammar = prompt.rules.as_ref().map(|rules| engine.compile(rules).expect("a grammar"));
            let sampling = Sampling::default().seed(i as u64).repetition_penalty(1.1);
            let (stop, max_tokens) = (vec!["never\u{7f}".to_string()], Some(60));
            engine
                .submit(
                    AnswerJob::new(prompt)
                        .sampling(sampling)
                        .stop(stop)
                        .max_tokens(max_tokens)
                        .ignore_end(ignore_end)
                        .grammar(grammar),
                )
                .expect("it fits")
        })
        .collect()
}

/// The events of each answer, as text; the device is lost after `lose_after` tokens.
fn answers(engine: &mut Engine, lose_after: Option<usize>) -> Vec<String> {
    let (ids, control, mut tokens) = (submit(engine), engine.control(), 0);
    let mut said = vec![String::new(); ids.len()];
    loop {
        while let Some((id, event)) = engine.try_next() {
            let said = &mut said[ids.iter().position(|other| *other == id).expect("one of ours")];
            match event.expect("no failure") {
                AnswerEvent::Started { .. } => said.push_str("started: "),
                AnswerEvent::Content(text) | AnswerEvent::Arguments(text) | AnswerEvent::Reasoning(text) => {
                    said.push_str(&text);
                }
                AnswerEvent::ToolCall { id, name } => said.push_str(&format!("call {id} of {name}: ")),
                AnswerEvent::ToolCallEnd { complete } => said.push_str(&format!(" complete {complete}")),
                AnswerEvent::Token { .. } => {
                    tokens += 1;
                    if Some(tokens) == lose_after {
                        control.lose_device();
                    }
                }
                AnswerEvent::Finished(end) => {
                    let generated = end.timings.generated_tokens;
                    said.push_str(&format!(" finished: {:?} after {generated} tokens", end.reason));
                }
                event => panic!("unexpected: {event:?}"),
            }
        }
        if !block_on(engine.step()).expect("the device is replaced") {
            return said;
        }
    }
}

#[test]
fn answers_continue_after_a_lost_device() {
    let (mut engine, warnings) = engine();
    let undisturbed = answers(&mut engine, None);
    assert!(warnings.lock().expect("it").is_empty());
    assert!(undisturbed[0].contains("after 60 tokens") && undisturbed[1].contains("call "), "{undisturbed:#?}");
    let disturbed = answers(&mut engine, Some(40));
    assert_eq!(disturbed, undisturbed);
    let warnings = warnings.lock().expect("it");
    assert!(warnings.len() == 1 && warnings[0].contains("lost"), "{warnings:?}");
}

#[test]
fn a_second_loss_without_progress_is_an_error() {
    let (mut engine, _) = engine();
    answers(&mut engine, Some(10));
    let ids = submit(&mut engine);
    engine.control().lose_device();
    let error = loop {
        match block_on(engine.step()) {
            Ok(more) => assert!(more, "the device is lost"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Gpu(_)), "{error}");
    assert!(engine.session().is_err() && engine.control().is_lost());
    ids.into_iter().for_each(|id| engine.cancel(id));
    assert!(block_on(engine.step()).is_err());
}

#[test]
fn a_closed_engine_ends_without_events() {
    let (mut engine, warnings) = engine();
    submit(&mut engine);
    engine.control().close();
    assert!(!block_on(engine.step()).expect("no failure"));
    assert!(warnings.lock().expect("it").is_empty());
}

#[test]
fn cancelled_answers_finish_as_cancelled() {
    let (mut engine, _) = engine();
    let ids = submit(&mut engine);
    ids.iter().for_each(|id| engine.cancel(*id));
    let ends = std::iter::from_fn(|| engine.try_next()).filter_map(|(_, event)| match event {
        Ok(AnswerEvent::Finished(end)) => Some(end.reason),
        _ => None,
    });
    assert_eq!(ends.collect::<Vec<_>>(), [FinishReason::Cancelled, FinishReason::Cancelled, FinishReason::Cancelled]);
    assert!(!engine.is_busy());
}

/// A text that goes on for 40 tokens.
fn story(model: &Model) -> AnswerJob {
    let prompt = Prompt::Text("Once upon a time".into());
    let prompt = prompt.prepare(model, &ResponseFormat::Text, |_| Ok::<_, Error>(())).expect("a prompt");
    AnswerJob::new(prompt).max_tokens(40).ignore_end(true)
}

/// A handle of an engine whose loop runs on a thread.
fn spawn() -> (EngineHandle, JoinHandle<firelight::Result<()>>, Warnings) {
    let (engine, warnings) = engine();
    let (handle, engine_loop) = engine.into_loop().expect("an engine");
    (handle, std::thread::spawn(move || block_on(engine_loop.run())), warnings)
}

/// The text of an answer; the device is lost after `lose_after` tokens.
fn text_of(handle: &EngineHandle, lose_after: Option<usize>) -> Result<String, Error> {
    let (mut answer, mut text, mut tokens) = (handle.answer(story(handle.model())), String::new(), 0);
    while let Some(event) = block_on(answer.next()) {
        match event? {
            AnswerEvent::Content(more) => text += &more,
            AnswerEvent::Token { .. } => {
                tokens += 1;
                if Some(tokens) == lose_after {
                    handle.control().lose_device();
                }
            }
            AnswerEvent::Finished(end) => assert_eq!(end.reason, FinishReason::MaxTokens),
            _ => {}
        }
    }
    Ok(text)
}

#[test]
fn answers_of_a_handle_go_on_after_a_lost_device() {
    let (handle, thread, warnings) = spawn();
    let undisturbed = text_of(&handle, None).expect("no failure");
    let vector = block_on(handle.embed(vec![1, 2, 3])).expect("no failure");
    assert_eq!(text_of(&handle, Some(15)).expect("the device is replaced"), undisturbed);
    assert_eq!(warnings.lock().expect("it").len(), 1);
    assert_eq!(block_on(handle.embed(vec![1, 2, 3])).expect("no failure"), vector);
    // The device is lost again at once: waiting callers get the error, and later ones, too.
    let error = text_of(&handle, Some(15)).unwrap_err();
    assert!(matches!(error, Error::Gpu(_)), "{error}");
    assert!(thread.join().expect("no panic").is_err() && handle.has_ended());
    assert!(block_on(handle.embed(vec![1, 2, 3])).is_err());
    assert!(block_on(handle.answer(story(handle.model())).next()).is_none());
}

#[test]
fn threads_share_an_engine_until_the_last_handle_is_dropped() {
    let (handle, thread, _) = spawn();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| assert!(text_of(&handle, None).expect("no failure").len() > 40));
            scope.spawn(|| assert!(!block_on(handle.embed(vec![1, 2, 3])).expect("no failure").is_empty()));
        }
    });
    // Refused, cancelled and dropped requests end, too.
    let mut empty = story(handle.model());
    empty.prompt.tokens.clear();
    assert!(matches!(block_on(handle.answer(empty).next()), Some(Err(Error::Usage(_)))));
    let mut cancelled = handle.answer(story(handle.model()).max_tokens(None));
    assert!(matches!(block_on(cancelled.next()), Some(Ok(AnswerEvent::Started { .. }))));
    cancelled.cancel();
    let last = std::iter::from_fn(|| block_on(cancelled.next())).last().expect("an end").expect("no failure");
    assert!(matches!(last, AnswerEvent::Finished(end) if end.reason == FinishReason::Cancelled));
    let dropped = handle.answer(story(handle.model()).max_tokens(None));
    drop((handle, dropped));
    thread.join().expect("no panic").expect("no failure");
}
