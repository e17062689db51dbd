//! Untrusted chat templates: rendering returns an error or a prompt, in bounded time and memory, and never panics.

#![no_main]

use firelight::template::{ChatTemplate, TemplateInput};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

fuzz_target!(|source: &str| {
    let Ok(template) = ChatTemplate::new(source) else { return };
    let input: TemplateInput = serde_json::from_value(json!({
        "messages": [
            {"role": "user", "content": "hé"},
            {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {"x": [1, 2.5]}}}]},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
        "add_generation_prompt": true, "bos_token": "<s>", "eos_token": "</s>", "date": "2026-11-22",
    }))
    .unwrap_or_default();
    let _ = template.render(&input);
});
