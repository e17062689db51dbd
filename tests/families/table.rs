//! The model families, one row each: values from their published files, and one answer.
//!
//! A row adds a family: the template, the special tokens by type (those for turns, reasoning and tools suffice), the
//! keys of its files, the tokens that end an answer, and an answer with its visible text.

/// The source of a family's template.
#[derive(Clone, Copy)]
pub enum Source {
    /// A file of the published templates.
    Published(&'static str),
    /// Firelight's template for files without one.
    Own,
    /// A shortened version of the published one.
    Short(&'static str),
    /// No template: such models continue texts.
    None,
}

/// A row.
#[derive(Clone, Copy)]
pub struct Family {
    pub name: &'static str,
    pub template: Source,
    /// `tokenizer.ggml.model`
    pub kind: &'static str,
    /// Control tokens, separated by white space.
    pub control: &'static str,
    /// User-defined tokens, separated by white space.
    pub user_defined: &'static str,
    /// Keys of special ids (`bos`: `tokenizer.ggml.bos_token_id`) and their tokens.
    pub keys: &'static [(&'static str, &'static str)],
    /// The first token of a prompt.
    pub begins: &'static str,
    /// All tokens that end an answer, in the order of their ids: control tokens first, each as listed above.
    pub ends: &'static str,
    /// The value of `--think`.
    pub think: Option<bool>,
    /// Whether the template drops the reasoning of earlier turns.
    pub drops_reasoning: bool,
    /// The tokens of an answer; those that are not special tokens become words of the vocabulary.
    pub answer: &'static [&'static str],
    /// The text that `run` prints for it.
    pub shown: &'static str,
}

const ROW: Family = Family {
    name: "",
    template: Source::Own,
    kind: "gpt2",
    control: "",
    user_defined: "",
    keys: &[],
    begins: "",
    ends: "",
    think: None,
    drops_reasoning: false,
    answer: &[],
    shown: "Yes.",
};

/// The printed text of an answer after reasoning.
const THOUGHT: &str = "<think>\nHm.\n</think>\n\nYes.";

const LLAMA2: Family = Family {
    name: "Llama 2",
    kind: "llama",
    control: "<unk> <s> </s>",
    keys: &[("bos", "<s>"), ("eos", "</s>")],
    begins: "<s>",
    ends: "</s>",
    answer: &["Yes.", "</s>"],
    ..ROW
};

const LLAMA3: Family = Family {
    name: "Llama 3.1",
    template: Source::Published("meta-llama-Llama-3.1-8B-Instruct"),
    control: "<|begin_of_text|> <|end_of_text|> <|start_header_id|> <|end_header_id|> <|eom_id|> <|eot_id|> <|python_tag|>",
    keys: &[("bos", "<|begin_of_text|>"), ("eos", "<|eot_id|>")],
    begins: "<|begin_of_text|>",
    ends: "<|end_of_text|> <|eom_id|> <|eot_id|>",
    answer: &["Yes.", "<|eot_id|>"],
    ..ROW
};

const QWEN2: Family = Family {
    name: "Qwen 2.5",
    template: Source::Published("Qwen-Qwen2.5-7B-Instruct"),
    control: "<|endoftext|> <|im_start|> <|im_end|> <|vision_start|> <|fim_prefix|> <|fim_pad|> <|repo_name|> <|file_sep|>",
    user_defined: "<tool_call> </tool_call>",
    keys: &[("bos", "<|endoftext|>"), ("eos", "<|im_end|>")],
    begins: "<|im_start|>",
    ends: "<|endoftext|> <|im_end|> <|fim_pad|> <|repo_name|> <|file_sep|>",
    answer: &["Yes.", "<|im_end|>"],
    ..ROW
};

const QWEN3: Family = Family {
    name: "Qwen 3, thinking",
    template: Source::Published("Qwen-Qwen3-0.6B"),
    user_defined: "<tool_call> </tool_call> <tool_response> </tool_response> <think> </think>",
    drops_reasoning: true,
    answer: &["<think>", "\nHm.\n", "</think>", "\n\nYes.", "<|im_end|>"],
    shown: THOUGHT,
    ..QWEN2
};

const MISTRAL: Family = Family {
    name: "Mistral Nemo",
    template: Source::Published("mistralai-Mistral-Nemo-Instruct-2407"),
    control: "<unk> <s> </s> [INST] [/INST] [AVAILABLE_TOOLS] [/AVAILABLE_TOOLS] [TOOL_RESULTS] [/TOOL_RESULTS] \
              [TOOL_CALLS] [SYSTEM_PROMPT] [/SYSTEM_PROMPT]",
    kind: "gpt2",
    ..LLAMA2
};

/// The token types of a Hugging Face folder; in GGUF files, tokens with bars are control tokens.
const DEEPSEEK: Family = Family {
    name: "DeepSeek V3.1",
    template: Source::Published("deepseek-ai-DeepSeek-V3.1"),
    control: "<｜begin▁of▁sentence｜> <｜end▁of▁sentence｜>",
    user_defined: "<｜User｜> <｜Assistant｜> <｜tool▁calls▁begin｜> <｜tool▁sep｜> <think> </think>",
    keys: &[("bos", "<｜begin▁of▁sentence｜>"), ("eos", "<｜end▁of▁sentence｜>")],
    begins: "<｜begin▁of▁sentence｜>",
    ends: "<｜end▁of▁sentence｜>",
    drops_reasoning: true,
    answer: &["Yes.", "<｜end▁of▁sentence｜>"],
    ..ROW
};

const GLM: Family = Family {
    name: "GLM-4.7-Flash, thinking",
    template: Source::Published("GLM-4.7-Flash"),
    control: "<|endoftext|> [gMASK] <sop> <|system|> <|user|> <|assistant|> <|observation|>",
    user_defined: "<think> </think> <tool_call> </tool_call> <arg_key> </arg_key>",
    keys: &[("bos", "[gMASK]"), ("eos", "<|endoftext|>"), ("eot", "<|user|>"), ("eom", "<|observation|>")],
    begins: "[gMASK]",
    ends: "<|endoftext|> <|user|> <|observation|>",
    drops_reasoning: true,
    answer: &["Hm.", "</think>", "Yes.", "<|user|>"],
    shown: "<think>Hm.</think>Yes.",
    ..ROW
};

const GEMMA2: Family = Family {
    name: "Gemma 2",
    template: Source::Published("google-gemma-2-2b-it"),
    kind: "llama",
    control: "<pad> <eos> <bos> <unk> <mask> <start_of_turn> <end_of_turn>",
    user_defined: "<table> <b>",
    keys: &[("bos", "<bos>"), ("eos", "<eos>"), ("eot", "<end_of_turn>")],
    begins: "<bos>",
    ends: "<eos> <end_of_turn>",
    answer: &["Yes.", "<end_of_turn>"],
    ..ROW
};

const GEMMA4: Family = Family {
    name: "Gemma 4, thinking",
    template: Source::Published("google-gemma-4-31B-it"),
    kind: "gemma4",
    control: "<pad> <eos> <bos> <unk> <|turn> <turn|> <|channel> <channel|> <|think|> <|tool> <tool|> <|tool_call> <tool_call|> \
              <|tool_response> <tool_response|> <|image|>",
    user_defined: "",
    keys: &[("bos", "<bos>"), ("eos", "<eos>")],
    ends: "<eos> <turn|> <|tool_response>",
    think: Some(true),
    answer: &["<|channel>", "thought\n", "Hm.", "<channel|>", "Yes.", "<turn|>"],
    shown: THOUGHT,
    ..GEMMA2
};

const GPT_OSS: Family = Family {
    name: "gpt-oss",
    template: Source::Published("openai-gpt-oss-120b"),
    control: "<|startoftext|> <|endoftext|> <|return|> <|constrain|> <|channel|> <|start|> <|end|> <|message|> <|call|>",
    keys: &[("bos", "<|startoftext|>"), ("eos", "<|return|>")],
    begins: "<|start|>",
    ends: "<|endoftext|> <|return|> <|call|>",
    answer: &["<|channel|>", "analysis", "<|message|>", "Hm.", "<|end|>", "Yes.", "<|return|>"],
    shown: THOUGHT,
    ..ROW
};

const PHI3: Family = Family {
    name: "Phi-3.5",
    template: Source::Published("microsoft-Phi-3.5-mini-instruct"),
    control: "<unk> <s> </s> <|endoftext|> <|assistant|> <|system|> <|end|> <|user|>",
    keys: &[("bos", "<s>"), ("eos", "<|endoftext|>")],
    begins: "<|user|>",
    ends: "</s> <|endoftext|> <|end|>",
    answer: &["Yes.", "<|end|>"],
    ..LLAMA2
};

pub const FAMILIES: &[Family] = &[
    LLAMA2,
    LLAMA3,
    Family {
        name: "Llama 3.2, a tool call",
        template: Source::Published("meta-llama-Llama-3.2-3B-Instruct"),
        answer: &["Yes.", "<|eom_id|>"],
        ..LLAMA3
    },
    Family { name: "Functionary", template: Source::Published("meetkai-functionary-medium-v3.1"), ..LLAMA3 },
    Family {
        name: "Hermes 3",
        template: Source::Published("NousResearch-Hermes-3-Llama-3.1-8B-tool_use"),
        control: "<|begin_of_text|> <|end_of_text|> <|im_start|> <|im_end|>",
        user_defined: "<tool_call> </tool_call>",
        keys: &[("bos", "<|begin_of_text|>"), ("eos", "<|im_end|>")],
        ends: "<|end_of_text|> <|im_end|>",
        answer: &["Yes.", "<|im_end|>"],
        ..LLAMA3
    },
    Family {
        name: "Llama 4",
        template: Source::Short(
            "{{ bos_token }}{% for m in messages %}{{ '<|header_start|>' + m.role + '<|header_end|>\\n\\n' + m.content + '<|eot|>' }}\
             {% endfor %}{{ '<|header_start|>assistant<|header_end|>\\n\\n' }}",
        ),
        control: "<|begin_of_text|> <|end_of_text|> <|header_start|> <|header_end|> <|eom|> <|eot|> <|python_start|>",
        keys: &[("bos", "<|begin_of_text|>"), ("eos", "<|eot|>")],
        ends: "<|end_of_text|> <|eom|> <|eot|>",
        answer: &["Yes.", "<|eot|>"],
        ..LLAMA3
    },
    QWEN2,
    QWEN3,
    Family {
        name: "Qwen 3, not thinking",
        think: Some(false),
        answer: &["Yes.", "<|im_end|>"],
        shown: "Yes.",
        ..QWEN3
    },
    Family {
        name: "Qwen 3.5, Qwen3-Next; thinking, begun by the template",
        template: Source::Published("Qwen3.5-4B"),
        answer: &["Hm.\n", "</think>", "\n\nYes.", "<|im_end|>"],
        ..QWEN3
    },
    Family {
        name: "Qwen 3.5, Qwen3-Next; not thinking",
        template: Source::Published("Qwen3.5-4B"),
        think: Some(false),
        answer: &["Yes.", "<|im_end|>"],
        shown: "Yes.",
        ..QWEN3
    },
    Family { name: "Mistral v1", ..LLAMA2 },
    Family { name: "Mistral v3", template: Source::Own, kind: "llama", ..MISTRAL },
    MISTRAL,
    Family {
        name: "Mistral Small 3",
        template: Source::Short(
            "{{ bos_token }}{{ '[SYSTEM_PROMPT]Be brief.[/SYSTEM_PROMPT]' }}{% for m in messages %}\
             {{ '[INST]' + m.content + '[/INST]' if m.role == 'user' else m.content + eos_token }}{% endfor %}",
        ),
        ..MISTRAL
    },
    Family {
        name: "Ministral 3",
        template: Source::Published("mistralai-Ministral-3-14B-Reasoning-2512"),
        control: "<unk> <s> </s> [INST] [/INST] [TOOL_CALLS] [SYSTEM_PROMPT] [/SYSTEM_PROMPT] [THINK] [/THINK]",
        answer: &["[THINK]", "Hm.", "[/THINK]", "Yes.", "</s>"],
        shown: THOUGHT,
        ..MISTRAL
    },
    Family {
        name: "DeepSeek V2",
        template: Source::Short(
            "{{ bos_token }}{% for m in messages %}{{ 'User: ' + m.content + '\\n\\n' if m.role == 'user' else \
             'Assistant: ' + m.content + eos_token }}{% endfor %}{{ 'Assistant:' }}",
        ),
        user_defined: "",
        drops_reasoning: false,
        ..DEEPSEEK
    },
    DEEPSEEK,
    Family {
        name: "DeepSeek V3.1, thinking",
        think: Some(true),
        answer: &["Hm.", "</think>", "Yes.", "<｜end▁of▁sentence｜>"],
        shown: "<think>Hm.</think>Yes.",
        ..DEEPSEEK
    },
    Family {
        name: "DeepSeek R1 and distills",
        template: Source::Published("deepseek-ai-DeepSeek-R1-Distill-Llama-8B"),
        answer: &["Hm.\n", "</think>", "\n\nYes.", "<｜end▁of▁sentence｜>"],
        shown: THOUGHT,
        ..DEEPSEEK
    },
    Family {
        name: "DeepSeek R1, asked not to think",
        template: Source::Published("deepseek-ai-DeepSeek-R1-Distill-Llama-8B"),
        think: Some(false),
        ..DEEPSEEK
    },
    GLM,
    Family {
        name: "GLM-4.7-Flash, not thinking, a tool call",
        think: Some(false),
        answer: &["Yes.", "<|observation|>"],
        shown: "Yes.",
        ..GLM
    },
    GEMMA2,
    Family { name: "Gemma 3", template: Source::Own, ..GEMMA2 },
    GEMMA4,
    Family { name: "Gemma 4", think: None, answer: &["Yes.", "<turn|>"], shown: "Yes.", ..GEMMA4 },
    GPT_OSS,
    Family {
        name: "gpt-oss, with a final channel",
        answer: &[
            "<|channel|>",
            "analysis",
            "<|message|>",
            "Hm.",
            "<|end|>",
            "<|start|>",
            "assistant",
            "<|channel|>",
            "final",
            "<|message|>",
            "Yes.",
            "<|return|>",
        ],
        ..GPT_OSS
    },
    PHI3,
    Family {
        name: "Phi-4",
        template: Source::Short(
            "{% for m in messages %}{{ '<|im_start|>' + m.role + '<|im_sep|>' + m.content + '<|im_end|>' }}{% endfor %}\
             {{ '<|im_start|>assistant<|im_sep|>' }}",
        ),
        control: "<|endoftext|> <|im_start|> <|im_sep|> <|im_end|>",
        user_defined: "",
        ends: "<|endoftext|> <|im_end|>",
        ..QWEN2
    },
    Family {
        name: "SmolLM3",
        template: Source::Published("HuggingFaceTB-SmolLM3-3B"),
        control: "<|begin_of_text|> <|end_of_text|> <|eom_id|> <|eot_id|> <|python_tag|> <|im_start|> <|im_end|>",
        keys: &[("bos", "<|begin_of_text|>"), ("eos", "<|im_end|>")],
        ends: "<|end_of_text|> <|eom_id|> <|eot_id|> <|im_end|>",
        drops_reasoning: false,
        ..QWEN3
    },
    Family {
        name: "Granite 4",
        template: Source::Published("ibm-granite-granite-4.0"),
        control: "<|end_of_text|> <|fim_prefix|> <|fim_pad|> <|start_of_role|> <|end_of_role|>",
        user_defined: "<tool_call> </tool_call>",
        keys: &[("bos", "<|end_of_text|>"), ("eos", "<|end_of_text|>")],
        begins: "<|start_of_role|>",
        ends: "<|end_of_text|> <|fim_pad|>",
        answer: &["Yes.", "<|end_of_text|>"],
        ..ROW
    },
    Family {
        name: "Granite 3",
        template: Source::Short(
            "{% for m in messages %}{{ '<|start_of_role|>' + m.role + '<|end_of_role|>' + m.content + '<|end_of_text|>\\n' }}\
             {% endfor %}{{ '<|start_of_role|>assistant<|end_of_role|>' }}",
        ),
        control: "<|end_of_text|> <fim_prefix> <fim_pad> <reponame> <|start_of_role|> <|end_of_role|>",
        keys: &[("bos", "<|end_of_text|>"), ("eos", "<|end_of_text|>")],
        begins: "<|start_of_role|>",
        ends: "<|end_of_text|> <fim_pad> <reponame>",
        answer: &["Yes.", "<|end_of_text|>"],
        ..ROW
    },
    Family {
        name: "LFM2.5",
        template: Source::Published("LFM2.5-Instruct"),
        control: "<|startoftext|> <|endoftext|> <|im_start|> <|im_end|> <|tool_call_start|> <|tool_call_end|>",
        user_defined: "<think> </think>",
        keys: &[("bos", "<|startoftext|>"), ("eos", "<|im_end|>")],
        begins: "<|startoftext|>",
        ends: "<|endoftext|> <|im_end|>",
        drops_reasoning: false,
        ..QWEN3
    },
    Family {
        name: "OLMo 2",
        template: Source::Short(
            "{{ bos_token }}{% for m in messages %}{{ '<|' + m.role + '|>\\n' + m.content + (eos_token if m.role == 'assistant' \
             else '') + '\\n' }}{% endfor %}{{ '<|assistant|>\\n' }}",
        ),
        control: "<|endoftext|>",
        keys: &[("bos", "<|endoftext|>"), ("eos", "<|endoftext|>")],
        begins: "<|endoftext|>",
        ends: "<|endoftext|>",
        answer: &["Yes.", "<|endoftext|>"],
        ..ROW
    },
    Family {
        name: "StarCoder2",
        template: Source::None,
        control: "<|endoftext|> <fim_prefix> <fim_suffix> <fim_middle> <fim_pad> <repo_name> <file_sep>",
        keys: &[("bos", "<|endoftext|>"), ("eos", "<|endoftext|>")],
        ends: "<|endoftext|> <fim_pad>",
        answer: &["Yes.", "<|endoftext|>"],
        ..ROW
    },
    Family {
        name: "a file with reasoning markers as control tokens and end-of-turn tokens as user-defined ones",
        template: Source::Published("Qwen-Qwen3-0.6B"),
        control: "<|endoftext|> <|im_start|> <think> </think>",
        user_defined: "<|im_end|>",
        keys: &[("eos", "<|endoftext|>")],
        ends: "<|endoftext|> <|im_end|>",
        ..QWEN3
    },
];
