//! Answers, embeddings and counts of tokens for HTTP: each request waits for its model (`residency`), is prepared
//! (`prepare`), and then goes through the model's [`EngineHandle`](firelight::engine::EngineHandle).
//!
//! A request is a task of the HTTP thread. When its client disconnects, the task is dropped, and with it the streams of
//! its answers, which the engine cancels before its next step.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use firelight::conversation::{AnswerEnd, AnswerEvent, Prompt, ResponseFormat};
use firelight::engine::AnswerJob;
use futures_util::future::{join, join_all, select};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

use super::embeddings::{Embedded, Texts};
use super::http_error::HttpError;
use super::metrics::{Metrics, Ticket, add};
use super::prepare::{Group, LoadedModel};
use super::protocol::{AnswerHead, AnswerMessage, AnswerReceiver, AnswerSender, channel, stopped};
use super::registry::Registry;
use super::request::AnswerRequest;
use super::residency::{Lease, Residency, Resident, Setup, blocking};

/// Answers requests of all APIs. Clones share the engine.
#[derive(Clone)]
pub struct ServerEngine {
    residency: Arc<Residency>,
    metrics: Arc<Metrics>,
    /// The most requests at once.
    room: usize,
}

impl ServerEngine {
    /// Must be called in a runtime.
    pub fn new(registry: Registry, setup: Setup, metrics: Arc<Metrics>) -> Self {
        let room = setup.session.sequences as usize + setup.queue;
        let residency = Residency::new(registry, setup, metrics.clone());
        tokio::spawn(residency.clone().unload_idle());
        ServerEngine { residency, metrics, room }
    }

    fn admit(&self) -> Result<Ticket, HttpError> {
        let (ticket, pending) = Ticket::take(&self.metrics);
        if pending < self.room {
            return Ok(ticket);
        }
        ticket.finish();
        let message = format!("{pending} requests are being answered or wait already; try again later");
        let failure = HttpError::new(StatusCode::TOO_MANY_REQUESTS, "queue_full", message);
        Err(HttpError { retry_after: Some(1), ..failure })
    }

    /// Requests answers.
    pub fn answer(&self, request: AnswerRequest) -> Result<AnswerReceiver, HttpError> {
        request.check()?;
        let ticket = self.admit()?;
        let ((reply, receiver), this) = (channel(), self.clone());
        tokio::spawn(async move {
            let disconnected = reply.disconnected();
            let answered = async {
                this.generate(request, reply).await;
                ticket.finish();
            };
            select(pin!(answered), pin!(disconnected)).await;
        });
        Ok(receiver)
    }

    async fn generate(&self, request: AnswerRequest, reply: AnswerSender) {
        match self.prepare(request).await {
            Err(failure) => reply.refuse(failure),
            Ok((model, head, groups)) => {
                let events = reply.start(head);
                join_all(groups.into_iter().map(|group| self.group(&model, group, &events))).await;
            }
        }
    }

    async fn prepare(&self, request: AnswerRequest) -> Result<(Lease, AnswerHead, Vec<Group>), HttpError> {
        let model = self.residency.lease(&request.model).await?;
        model.keep(request.keep_alive);
        blocking(move || {
            let (head, groups) = model.answers(&request, model.load_seconds)?;
            Ok((model, head, groups))
        })
        .await?
    }

    /// Generates all answers to a prompt. The others start after the prefill of the first, and share its prefix cache.
    async fn group(&self, model: &LoadedModel, group: Group, events: &UnboundedSender<AnswerMessage>) {
        let mut answers = group.into_iter();
        let Some((choice, first)) = answers.next() else { return };
        let (tell, prompt_read) = oneshot::channel();
        let others = async {
            // An answer without a token drops the sender, too.
            let _ = prompt_read.await;
            join_all(answers.map(|(choice, job)| self.forward(model, choice, job, None, events))).await;
        };
        join(self.forward(model, choice, first, Some(tell), events), others).await;
    }

    /// Forwards the events of one answer; drops `prompt_read` after the first token.
    async fn forward(
        &self,
        model: &LoadedModel,
        choice: usize,
        job: AnswerJob,
        mut prompt_read: Option<oneshot::Sender<()>>,
        events: &UnboundedSender<AnswerMessage>,
    ) {
        let logprobs = job.sampling.logprobs.is_some();
        let _running = self.metrics.run();
        let mut answer = model.engine.answer(job);
        while let Some(event) = answer.next().await {
            let (mut forwarded, mut over) = (true, false);
            match &event {
                Ok(AnswerEvent::Token { .. }) => {
                    drop(prompt_read.take());
                    forwarded = logprobs;
                }
                Ok(AnswerEvent::Finished(end)) => {
                    count(end, &self.metrics);
                    over = true;
                }
                Err(_) => over = true,
                _ => {}
            }
            if forwarded {
                // `answer` checks whether the client has disconnected.
                let _ = events.send(event.map(|event| (choice, event)).map_err(HttpError::from));
            }
            if over {
                return;
            }
        }
        let _ = events.send(Err(stopped()));
    }

    /// Embeds texts in at most half of the engine's sequences, so that a new answer finds an idle one and conversations
    /// keep their cache.
    pub async fn embed(&self, model: &str, texts: Texts) -> Result<Embedded, HttpError> {
        let ticket = self.admit()?;
        let embedded = async {
            let model = self.residency.lease(model).await?;
            model.keep(texts.keep_alive);
            let (model, tokens) = blocking(move || model.texts(&texts).map(|tokens| (model, tokens))).await??;
            let count = tokens.iter().map(Vec::len).sum();
            let embed = |tokens| model.engine.embed(tokens);
            let most = (self.residency.setup().session.sequences as usize / 2).max(1);
            let vectors = stream::iter(tokens).map(embed).buffered(most).try_collect().await?;
            add(&self.metrics.prompt_tokens, count as u64);
            Ok(Embedded { vectors, tokens: count, load_seconds: model.load_seconds })
        };
        let embedded = embedded.await;
        ticket.finish();
        embedded
    }

    /// Counts the tokens of a prompt.
    pub async fn count(&self, model: &str, prompt: Prompt) -> Result<usize, HttpError> {
        let ticket = self.admit()?;
        let counted = async {
            let model = self.residency.lease(model).await?;
            let prepared = blocking(move || model.prompt(&prompt, &ResponseFormat::Text)).await??;
            Ok(prepared.tokens.len())
        };
        let counted = counted.await;
        ticket.finish();
        counted
    }

    /// Loads a model and keeps it for `time`, or unloads it if that is zero.
    pub async fn keep(&self, model: &str, time: Option<Duration>) -> Result<(), HttpError> {
        let ticket = self.admit()?;
        let kept = match time {
            Some(Duration::ZERO) => self.residency.unload(model).await,
            _ => self.residency.lease(model).await.map(|model| model.keep(time)),
        };
        ticket.finish();
        kept
    }

    #[cfg(test)]
    pub fn lose_device(&self) {
        self.residency.lose_device();
    }

    /// The model that is loaded.
    pub fn resident(&self) -> Option<Resident> {
        self.residency.resident()
    }
}

fn count(end: &AnswerEnd, metrics: &Metrics) {
    let timings = &end.timings;
    add(&metrics.prompt_tokens, timings.prompt_tokens as u64);
    add(&metrics.reused_tokens, timings.reused_tokens as u64);
    add(&metrics.generated_tokens, timings.generated_tokens as u64);
    add(&metrics.prompt_microseconds, (timings.prompt_seconds * 1e6) as u64);
    add(&metrics.decode_microseconds, (timings.decode_seconds * 1e6) as u64);
}
