//! Fields that ask for something unsupported. A request with one is refused: an answer that ignored it would look right
//! and be wrong. Fields in no table (`user`, `cache_prompt`, `num_gpu` ...) change nothing in an answer and are
//! ignored.

use serde_json::Value;

use super::http_error::HttpError;

/// A field, a number with which it asks for nothing (in addition to the values of [`asks_nothing`]), and what to do
/// instead.
type Demand = (&'static str, Option<f64>, &'static str);

/// Fields of the body, in any dialect: a client that knows one server's field sends it to another path as well.
const BODY: &[Demand] = &[
    // OpenAI
    ("functions", None, "send tools"),
    ("function_call", None, "send tool_choice"),
    ("n", Some(1.0), "send the request several times"),
    ("best_of", Some(1.0), "send n to /v1/completions"),
    ("logprobs", None, "/v1/chat/completions, /v1/completions and Ollama's API have them"),
    ("top_logprobs", None, "/v1/chat/completions and Ollama's API have them"),
    ("stop", None, "Anthropic's API calls it stop_sequences, Ollama's options.stop"),
    ("logit_bias", None, "Ollama's API has it in options"),
    ("audio", None, "answers are text"),
    ("web_search_options", None, "nothing is searched"),
    ("conversation", None, "nothing is kept between requests; send the whole conversation as input"),
    ("previous_response_id", None, "nothing is kept between requests; send the whole conversation as input"),
    ("background", None, "nothing is kept between requests"),
    ("prompt_logprobs", None, "only answers have log-probabilities"),
    ("suffix", None, "a text is only continued at its end"),
    ("echo", None, "put the prompt before the answer yourself"),
    // Anthropic
    ("container", None, "no code is run here"),
    ("mcp_servers", None, "no server is asked; send tools"),
    // Ollama
    ("images", None, "only text is read"),
    ("context", None, "send the conversation to /api/chat"),
    ("template", None, "the model's own template is used; send the whole prompt with raw"),
    ("chat_template", None, "the model's own template is used; send the whole prompt to /v1/completions"),
    ("debug_render_only", None, "prompts are not shown"),
    ("width", None, "answers are text"),
    ("height", None, "answers are text"),
    ("steps", None, "answers are text"),
    // llama.cpp and vLLM
    ("use_beam_search", None, "answers are sampled"),
    ("length_penalty", Some(1.0), "answers are sampled"),
    ("stop_token_ids", None, "send stop"),
    ("include_stop_str_in_output", None, "add it yourself"),
    ("min_tokens", None, "an answer ends when the model ends it"),
    ("ignore_eos", None, "an answer ends when the model ends it"),
    ("skip_special_tokens", Some(1.0), "control tokens are not text"),
    ("allowed_token_ids", None, "send logit_bias"),
    ("bad_words", None, "send logit_bias"),
    ("logits_processors", None, "send logit_bias"),
    ("return_tokens_as_token_ids", None, "tokens are returned as text"),
    ("truncate_prompt_tokens", None, "a prompt is never cut in silence"),
    ("documents", None, "write them into a message"),
    ("lora", None, "no adapter is loaded"),
    ("t_max_predict_ms", None, "send max_tokens"),
    ("image_data", None, "only text is read"),
    ("multimodal_data", None, "only text is read"),
];

/// Unsupported sampling parameters, in the body or in `options`.
const SAMPLING: &[Demand] = &[
    ("mirostat", None, "send temperature, top_k, top_p, min_p"),
    ("mirostat_mode", None, "send temperature, top_k, top_p, min_p"),
    ("typical_p", Some(1.0), "send top_p or min_p"),
    ("tfs_z", Some(1.0), "send top_p or min_p"),
    ("top_a", None, "send top_p or min_p"),
    ("top_n_sigma", Some(-1.0), "send top_p or min_p"),
    ("xtc_probability", None, "send top_p or min_p"),
    ("dry_multiplier", None, "send repeat_penalty"),
    ("dynatemp_range", None, "send temperature"),
    ("smoothing_factor", None, "send temperature"),
    ("epsilon_cutoff", None, "send min_p"),
    ("eta_cutoff", None, "send min_p"),
    ("penalty_alpha", None, "send repeat_penalty"),
    ("no_repeat_ngram_size", None, "send repeat_penalty"),
    ("guidance_scale", Some(1.0), "one prompt is read"),
    ("cfg_scale", Some(1.0), "one prompt is read"),
    ("negative_prompt", None, "one prompt is read"),
];

/// Refuses a field that has not been read, if it asks for something unsupported.
pub fn check(prefix: &str, name: &str, value: &Value) -> Result<(), HttpError> {
    let body = if prefix.is_empty() { BODY } else { &[] };
    match body.iter().chain(SAMPLING).find(|(known, ..)| *known == name) {
        Some((_, neutral, instead)) if !asks_nothing(value, *neutral) => {
            Err(HttpError::field(format!("{prefix}{name}"), format!("it is not supported; {instead}")))
        }
        _ => Ok(()),
    }
}

/// Whether a value means the same as an absent field.
fn asks_nothing(value: &Value, neutral: Option<f64>) -> bool {
    match value {
        Value::Null | Value::Bool(false) => neutral != Some(1.0) || value.is_null(),
        Value::Bool(true) => neutral == Some(1.0),
        Value::Number(n) => n.as_f64().is_some_and(|n| n == 0.0 && neutral != Some(1.0) || Some(n) == neutral),
        Value::String(text) => text.is_empty() || text == "none",
        Value::Array(list) => list.is_empty(),
        Value::Object(object) => object.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_asks_for_nothing_passes_and_what_asks_is_refused_by_name() {
        for (name, value) in [
            ("user", json!("me")),
            ("never_heard_of", json!({ "a": 1 })),
            ("functions", json!([])),
            ("function_call", json!("none")),
            ("echo", json!(false)),
            ("suffix", json!("")),
            ("mirostat", json!(0)),
            ("typical_p", json!(1.0)),
            ("length_penalty", json!(1)),
            ("skip_special_tokens", json!(true)),
            ("min_tokens", json!(0)),
            ("template", Value::Null),
        ] {
            assert!(check("", name, &value).is_ok(), "{name} {value}");
        }
        for (name, value) in [
            ("functions", json!([{ "name": "f" }])),
            ("function_call", json!({ "name": "f" })),
            ("context", json!([1, 2])),
            ("mirostat", json!(2)),
            ("typical_p", json!(0.5)),
            ("tfs_z", json!(0)),
            ("skip_special_tokens", json!(false)),
            ("length_penalty", json!(0.5)),
            ("ignore_eos", json!(true)),
        ] {
            let failure = check("", name, &value).unwrap_err();
            assert!(failure.message.starts_with(&format!("{name}: ")), "{}", failure.message);
            assert_eq!(failure.param.as_deref(), Some(name));
        }
        let failure = check("options.", "mirostat", &json!(1)).unwrap_err();
        assert!(failure.message.starts_with("options.mirostat: "), "{}", failure.message);
        assert!(check("options.", "suffix", &json!("x")).is_ok());
    }
}
