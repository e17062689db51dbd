//! Built-in templates for files without one: the prompt formats of well-known model families, without tools.

use crate::tokenizer::Tokenizer;
use crate::{Error, Result};

/// Name and Jinja text.
const TEMPLATES: &[(&str, &str)] = &[
    ("chatml", CHATML),
    ("llama2", LLAMA2),
    ("llama3", LLAMA3),
    ("mistral", MISTRAL),
    ("gemma", GEMMA),
    ("phi3", PHI3),
    ("zephyr", ZEPHYR),
    ("deepseek", DEEPSEEK),
    ("vicuna", VICUNA),
    ("alpaca", ALPACA),
];

/// Special tokens that identify a template; the first row whose tokens all exist applies.
const TOKENS_OF_TEMPLATES: &[(&[&str], &str)] = &[
    (&["<|im_start|>", "<|im_end|>"], "chatml"),
    (&["<|start_header_id|>", "<|eot_id|>"], "llama3"),
    (&["<start_of_turn>", "<end_of_turn>"], "gemma"),
    (&["<｜User｜>", "<｜Assistant｜>"], "deepseek"),
    (&["<|user|>", "<|assistant|>", "<|end|>"], "phi3"),
    (&["[INST]", "[/INST]"], "mistral"),
    (&["<|user|>", "<|assistant|>"], "zephyr"),
];

/// Looks up a template by name.
pub(super) fn source(name: &str) -> Result<&'static str> {
    let known = || TEMPLATES.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let found = TEMPLATES.iter().find(|(known, _)| *known == name).map(|(_, text)| *text);
    found.ok_or_else(|| Error::Usage(format!("there is no chat template {name:?}; the built-in ones are {}", known())))
}

/// The name of the template that matches the vocabulary.
pub(super) fn guess(architecture: &str, tokenizer: &Tokenizer) -> &'static str {
    let fits = |tokens: &[&str]| tokens.iter().all(|token| tokenizer.id(token).is_some());
    match TOKENS_OF_TEMPLATES.iter().find(|(tokens, _)| fits(tokens)) {
        Some((_, name)) => name,
        // The first LLaMA models write their turns in plain text.
        None if architecture == "llama" && tokenizer.id("<0x0A>").is_some() => "llama2",
        None => "chatml",
    }
}

const CHATML: &str = "\
{%- for message in messages -%}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}";

const LLAMA2: &str = "\
{%- set ns = namespace(system='') -%}
{%- for message in messages -%}
{%- if message.role == 'system' -%}
{%- set ns.system = '<<SYS>>\\n' + message.content + '\\n<</SYS>>\\n\\n' -%}
{%- elif message.role == 'user' -%}
{{- bos_token + '[INST] ' + ns.system + message.content + ' [/INST]' -}}
{%- set ns.system = '' -%}
{%- else -%}
{{- ' ' + message.content + ' ' + eos_token -}}
{%- endif -%}
{%- endfor -%}";

const LLAMA3: &str = "\
{{- bos_token -}}
{%- for message in messages -%}
{{- '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' + message.content | trim + '<|eot_id|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}{%- endif -%}";

const MISTRAL: &str = "\
{{- bos_token -}}
{%- set ns = namespace(system='') -%}
{%- for message in messages -%}
{%- if message.role == 'system' -%}
{%- set ns.system = message.content + '\\n\\n' -%}
{%- elif message.role == 'user' -%}
{{- '[INST] ' + ns.system + message.content + ' [/INST]' -}}
{%- set ns.system = '' -%}
{%- else -%}
{{- ' ' + message.content + eos_token -}}
{%- endif -%}
{%- endfor -%}";

const GEMMA: &str = "\
{{- bos_token -}}
{%- set ns = namespace(system='') -%}
{%- for message in messages -%}
{%- if message.role == 'system' -%}
{%- set ns.system = message.content | trim + '\\n\\n' -%}
{%- else -%}
{%- set role = 'model' if message.role == 'assistant' else message.role -%}
{{- '<start_of_turn>' + role + '\\n' + ns.system + message.content | trim + '<end_of_turn>\\n' -}}
{%- set ns.system = '' -%}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<start_of_turn>model\\n' -}}{%- endif -%}";

const PHI3: &str = "\
{%- for message in messages -%}
{{- '<|' + message.role + '|>\\n' + message.content + '<|end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>\\n' -}}{%- endif -%}";

const ZEPHYR: &str = "\
{%- for message in messages -%}
{{- '<|' + message.role + '|>\\n' + message.content + eos_token + '\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>\\n' -}}{%- endif -%}";

const DEEPSEEK: &str = "\
{{- bos_token -}}
{%- for message in messages -%}
{%- if message.role == 'user' -%}
{{- '<｜User｜>' + message.content -}}
{%- elif message.role == 'assistant' -%}
{{- '<｜Assistant｜>' + message.content + eos_token -}}
{%- else -%}
{{- message.content -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<｜Assistant｜>' -}}{%- endif -%}";

const VICUNA: &str = "\
{{- bos_token -}}
{%- for message in messages -%}
{%- if message.role == 'user' -%}
{{- 'USER: ' + message.content + '\\n' -}}
{%- elif message.role == 'assistant' -%}
{{- 'ASSISTANT: ' + message.content + eos_token + '\\n' -}}
{%- else -%}
{{- message.content + '\\n\\n' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- 'ASSISTANT:' -}}{%- endif -%}";

const ALPACA: &str = "\
{{- bos_token -}}
{%- for message in messages -%}
{%- if message.role == 'user' -%}
{{- '### Instruction:\\n' + message.content + '\\n\\n' -}}
{%- elif message.role == 'assistant' -%}
{{- '### Response:\\n' + message.content + eos_token + '\\n\\n' -}}
{%- else -%}
{{- message.content + '\\n\\n' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '### Response:\\n' -}}{%- endif -%}";
