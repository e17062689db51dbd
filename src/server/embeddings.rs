//! Embeddings of texts, for OpenAI's and Ollama's APIs.

use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::response::Response;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};

use super::Server;
use super::fields::Fields;
use super::http_error::{HttpError, json_response};
use super::ollama;
use super::openai::{MISSING, prompts};
use firelight::conversation::Prompt;

/// A request to embed texts.
#[derive(Debug)]
pub struct Texts {
    pub prompts: Vec<Prompt>,
    /// Whether texts that exceed the context are truncated.
    pub truncate: bool,
    /// How long the model stays loaded afterwards; by default the server's setting.
    pub keep_alive: Option<Duration>,
}

/// A vector for each text: the mean of its last hidden states, normalized.
#[derive(Debug)]
pub struct Embedded {
    pub vectors: Vec<Vec<f32>>,
    /// Tokens of all texts.
    pub tokens: usize,
    pub load_seconds: f64,
}

/// A request of either API.
struct Asked {
    model: String,
    prompts: Vec<Prompt>,
    /// The requested dimensions, if not all.
    dimensions: Option<usize>,
    keep_alive: Option<Duration>,
    /// Whether texts that are too long are cut.
    truncate: bool,
}

/// The vectors of a response, with their counts.
struct Vectors {
    vectors: Vec<Vec<f32>>,
    tokens: usize,
    load_seconds: f64,
    model: String,
}

async fn vectors(server: &Server, asked: Asked) -> Result<Vectors, HttpError> {
    let entry = &server.registry.entries()[server.registry.find(&asked.model)?];
    let (width, wanted) = (entry.width, asked.dimensions.unwrap_or(entry.width));
    if wanted != width && !(entry.matryoshka && (1..width).contains(&wanted)) {
        let message = match entry.matryoshka {
            true => format!("{} makes vectors of 1 to {width} numbers, not of {wanted}", entry.name),
            false => format!("{} makes vectors of {width} numbers, not of {wanted}", entry.name),
        };
        return Err(HttpError::field("dimensions", message));
    }
    let texts = Texts { prompts: asked.prompts, truncate: asked.truncate, keep_alive: asked.keep_alive };
    let embedded = server.engine.embed(&asked.model, texts).await?;
    let vectors = embedded.vectors.into_iter().map(|vector| shorten(vector, wanted)).collect();
    Ok(Vectors { vectors, tokens: embedded.tokens, load_seconds: embedded.load_seconds, model: entry.name.clone() })
}

/// Truncates a vector to `len` dimensions and normalizes it.
fn shorten(mut vector: Vec<f32>, len: usize) -> Vec<f32> {
    if len < vector.len() {
        vector.truncate(len);
        let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
        vector.iter_mut().for_each(|x| *x /= length);
    }
    vector
}

/// `POST /v1/embeddings`
pub async fn openai(State(server): State<Server>, request: Request) -> Result<Response, HttpError> {
    let mut fields = Fields::of(request).await?;
    let base64 = match fields.text("encoding_format")?.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(other) => return Err(fields.wrong("encoding_format", format!("{other:?} is neither float nor base64"))),
    };
    let input = fields.value("input").ok_or_else(|| fields.wrong("input", MISSING))?;
    let asked = Asked {
        model: fields.text("model")?.unwrap_or_default(),
        prompts: prompts(&input).map_err(|e| fields.wrong("input", e))?,
        dimensions: fields.count("dimensions")?,
        keep_alive: None,
        truncate: false,
    };
    fields.done()?;
    let Vectors { vectors, tokens, model, .. } = vectors(&server, asked).await?;
    let write = |vector: &Vec<f32>| match base64 {
        true => Value::from(BASE64_STANDARD.encode(bytemuck::cast_slice::<f32, u8>(vector))),
        false => Value::from(vector.as_slice()),
    };
    let row =
        |(i, vector): (usize, &Vec<f32>)| json!({ "object": "embedding", "index": i, "embedding": write(vector) });
    Ok(json_response(&json!({
        "object": "list",
        "data": vectors.iter().enumerate().map(row).collect::<Vec<_>>(),
        "model": model,
        "usage": { "prompt_tokens": tokens, "total_tokens": tokens },
    })))
}

/// Reads a request of Ollama's, whose texts are in the field `name`.
async fn read_ollama(request: Request, name: &str) -> Result<Asked, HttpError> {
    let mut fields = Fields::of(request).await?;
    let texts = fields.texts(name)?.ok_or_else(|| fields.wrong(name, MISSING))?;
    let asked = Asked {
        model: fields.text("model")?.unwrap_or_default(),
        prompts: texts.into_iter().map(Prompt::Text).collect(),
        dimensions: fields.count("dimensions")?.filter(|n| *n > 0),
        keep_alive: ollama::keep_alive(&mut fields)?,
        truncate: fields.flag("truncate")?.unwrap_or(true),
    };
    fields.object("options")?;
    fields.done()?;
    Ok(asked)
}

/// `POST /api/embed`
pub async fn ollama_embed(State(server): State<Server>, request: Request) -> Result<Response, HttpError> {
    let begun = Instant::now();
    let mut asked = read_ollama(request, "input").await?;
    // As in Ollama, one empty text counts as no input.
    if matches!(&asked.prompts[..], [Prompt::Text(text)] if text.is_empty()) {
        asked.prompts.clear();
    }
    let Vectors { vectors, tokens, load_seconds, model } = vectors(&server, asked).await?;
    Ok(json_response(&json!({
        "model": model,
        "embeddings": vectors,
        "total_duration": begun.elapsed().as_nanos() as u64,
        "load_duration": (load_seconds * 1e9) as u64,
        "prompt_eval_count": tokens,
    })))
}

/// `POST /api/embeddings`, the older one of a single vector.
pub async fn ollama_embeddings(State(server): State<Server>, request: Request) -> Result<Response, HttpError> {
    let mut asked = read_ollama(request, "prompt").await?;
    asked.prompts.retain(|prompt| !matches!(prompt, Prompt::Text(text) if text.is_empty()));
    let mut vectors = vectors(&server, asked).await?.vectors;
    Ok(json_response(&json!({ "embedding": vectors.pop().unwrap_or_default() })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shorter_vectors_are_normed_again() {
        let vector = vec![0.6, 0.0, 0.8];
        assert_eq!(shorten(vector.clone(), 3), vector);
        assert_eq!(shorten(vector.clone(), 2), [1.0, 0.0]);
        assert_eq!(shorten(vec![0.0, 1.0], 1), [0.0]);
    }
}
