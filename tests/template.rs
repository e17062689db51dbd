//! Published chat templates compared with Hugging Face's `transformers`; hostile templates.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use firelight::Error;
use firelight::checkpoint::Checkpoint;
use firelight::template::{ChatTemplate, TemplateInput};
use firelight::tokenizer::Tokenizer;
use serde_json::{Value, json};

/// The shared test data, or `None` (with a note; a failure in CI) where it is missing.
fn shared() -> Option<PathBuf> {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let root = std::env::var_os("FIRELIGHT_SHARED").map_or_else(default, PathBuf::from);
    if root.join("data").is_dir() {
        return Some(root.join("data"));
    }
    assert!(std::env::var_os("CI").is_none(), "no test data in {}: set FIRELIGHT_SHARED", root.display());
    eprintln!("skipped: no test data in {}", root.display());
    None
}

/// Renders a case; an error describes the difference.
fn check(template: &ChatTemplate, case: &Value) -> Result<(), String> {
    let mut case = case.clone();
    let object = case.as_object_mut().unwrap();
    let rendered = object.remove("rendered");
    let error = object.remove("error");
    object.remove("case");
    let input: TemplateInput = serde_json::from_value(case).unwrap();
    let got = template.render(&input);
    match (&rendered, &error, &got) {
        (Some(Value::String(want)), _, Ok(text)) if want == text => Ok(()),
        (Some(_), ..) => Err(format!("want {rendered:?}\n got {got:?}")),
        (None, Some(Value::String(error)), _) => match error.strip_prefix("TemplateError: ") {
            Some(want) => match got {
                Err(Error::Text { message, .. }) if message.ends_with(want) => Ok(()),
                _ => Err(format!("want the refusal {want:?}\n got {got:?}")),
            },
            // Python raised a type error: rendering something is acceptable.
            None => Ok(()),
        },
        _ => Err("the case has neither a rendered text nor an error".to_owned()),
    }
}

#[test]
fn published_templates() {
    let Some(data) = shared() else { return };
    let mut files: Vec<_> = std::fs::read_dir(data.join("templates")).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    let (mut failures, mut count) = (Vec::new(), 0);
    for path in files {
        let file: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let cases = file["cases"].as_array().unwrap();
        let template = match ChatTemplate::new(file["template"].as_str().unwrap()) {
            Ok(template) => template,
            Err(e) => {
                failures.push(format!("{name}: {e}"));
                continue;
            }
        };
        let wrong: Vec<_> = cases
            .iter()
            .filter_map(|case| Some(format!("{name}, {}: {}", case["case"], check(&template, case).err()?)))
            .collect();
        println!("{:3} of {:3}  {name}", cases.len() - wrong.len(), cases.len());
        count += cases.len();
        failures.extend(wrong);
    }
    assert!(count >= 190, "only {count} cases");
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

fn render(source: &str, input: Value) -> Result<String, String> {
    let input: TemplateInput = serde_json::from_value(input).unwrap();
    ChatTemplate::new(source).and_then(|template| template.render(&input)).map_err(|e| e.to_string())
}

#[test]
fn python_and_jinja() {
    let input = json!({
        "messages": [{"role": "user", "content": "Hé <b>&'"}], "add_generation_prompt": true, "date": "2026-11-02",
        "list": [1, 2.0, "it's", null, true, {"a": "b\n"}], "map": {"z": 1, "a": [1.5e-7]}, "word": "abcabc",
    });
    for (source, want) in [
        ("{{ list }}", r#"[1, 2.0, "it's", None, True, {'a': 'b\n'}]"#),
        ("{{ list|string + '!' }}", r#"[1, 2.0, "it's", None, True, {'a': 'b\n'}]!"#),
        ("{{ map|tojson }}", r#"{"z": 1, "a": [1.5e-07]}"#),
        ("{{ map|tojson(indent=2) }}", "{\n  \"z\": 1,\n  \"a\": [\n    1.5e-07\n  ]\n}"),
        ("{{ [{}, []]|tojson(indent=1) }}", "[\n {},\n []\n]"),
        ("{{ messages|tojson }}", r#"[{"role": "user", "content": "Hé <b>&'"}]"#),
        ("{{ messages[0].content|tojson(ensure_ascii=true) }}", r#""H\u00e9 <b>&'""#),
        ("{{ map|tojson(sort_keys=true, separators=(',', ':')) }}", r#"{"a":[1.5e-07],"z":1}"#),
        ("{{ true }} {{ none }} {{ 1.0 }} {{ 7 // 2 }} {{ -7 % 3 }} {{ 2 ** 3 }}", "True None 1.0 3 2 8"),
        ("{{ word.split('b')[1] }} {{ word[::-1] }} {{ word[-2:] }} {{ 'a' in word }}", "ca cbacba bc True"),
        ("{{ word.removeprefix('abc') }} {{ word.removesuffix('x') }} {{ word.rsplit('b', 1)[0] }}", "abc abcabc abca"),
        ("{{ word.partition('b')[2] }} {{ ' x '.strip() }} {{ word.find('c') }} {{ word.upper() }}", "cabc x 2 ABCABC"),
        ("{% for k, v in map.items() %}{{ k }}{{ v }},{% endfor %}", "z1,a[1.5e-07],"),
        ("{{ (list + [3])|length }} {{ map.get('q', 'none') }} {{ map['q'] is defined }}", "7 none False"),
        (
            "{{ 'x' is sequence }} {{ none is iterable }} {{ map is mapping }} {{ 'x' is iterable }}",
            "True False True True",
        ),
        ("{% set ns = namespace(n=0) %}{% for x in list %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}", "6"),
        ("{% for x in list %}{% if loop.index > 2 %}{% break %}{% endif %}{{ x }};{% endfor %}", "1;2.0;"),
        ("{% for m in messages %}{% generation %}{{ m.role }}{% endgeneration %}{% endfor %}", "user"),
        ("{{ strftime_now('%d %b %Y') }}", "02 Nov 2026"),
        ("{{ '<'|safe + '<' + '\"'|safe }} {{ '<' + '<' }}", "<&lt;\" <<"),
        ("a\n  {% if true %}\n  b\n  {% endif %}\nc\n", "a\n  b\nc"),
        ("{% macro f(x, y=2) %}{{ x }}{{ y }}{% endmacro %}{{ f(1) + f('a', y='b') }}", "12ab"),
        ("{{ unknown }}|{{ unknown is defined }}|{{ tools is none }}", "|False|True"),
        ("{{ '%s'|format('a') }} {{ '{}-{}'.format(1, 'b') }}", "a 1-b"),
    ] {
        assert_eq!(render(source, input.clone()).as_deref(), Ok(want), "{source}");
    }
}

#[test]
fn errors_have_a_reason() {
    for (source, part) in [
        ("{{ raise_exception('no system role') }}", "refuses: no system role"),
        ("{% macro f() %}{{ raise_exception('deep') }}{% endmacro %}{% if f() %}{% endif %}", "refuses: deep"),
        ("{% for %}", "does not compile"),
        ("{{ messages[0].content.nothing.at_all }}", "failed"),
        ("{{ strftime_now('%Y') }}", "failed"),
        ("{{ f|tojson }}", "no JSON form"),
        ("{{ messages|no_such_filter }}", "no_such_filter"),
    ] {
        let error = render(source, json!({})).unwrap_err();
        assert!(error.contains(part), "{source}: {error}");
    }
    assert!(matches!(ChatTemplate::builtin("nonsense"), Err(Error::Usage(message)) if message.contains("chatml")));
}

/// Without limits, each of these would run forever, exhaust memory, or overflow the stack.
#[test]
fn hostile_templates_end() {
    let nested_text = |n: usize| format!("{{{{ {}1{} }}}}", "[".repeat(n), "]".repeat(n));
    let many = |part: &str, n: usize| part.repeat(n);
    for source in [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}x{% endfor %}{% endfor %}{% endfor %}".to_owned(),
        "{{ range(100000000000000)|list|length }}".to_owned(),
        "{{ 'aaaaaaaaaa' * 100000000000 }}".to_owned(),
        "{% set ns = namespace(s='aaaaaaaa') %}{% for i in range(99999) %}{% set ns.s = ns.s + ns.s %}{% endfor %}".to_owned(),
        "{% set ns = namespace(s=[1]) %}{% for i in range(99999) %}{% set ns.s = ns.s + ns.s %}{% endfor %}".to_owned(),
        "{% set ns = namespace(s=[]) %}{% for i in range(99999) %}{% set ns.s = [ns.s] %}{% endfor %}".to_owned(),
        "{% set ns = namespace(s={}) %}{% for i in range(99999) %}{% set ns.s = {'a': ns.s} %}{% endfor %}".to_owned(),
        "{% set ns = namespace(s=1) %}{% for i in range(99999) %}{% set ns.s = namespace(s=ns.s) %}{% endfor %}".to_owned(),
        "{% set ns = namespace() %}{% set ns.me = ns %}{{ ns }}{{ ns|tojson }}{{ ns ~ '' }}".to_owned(),
        "{% macro f(x) %}{{ f([x]) }}{% endmacro %}{{ f(1) }}".to_owned(),
        "{% for x in [[1]] recursive %}{{ loop([x]) }}{% endfor %}".to_owned(),
        "{% set x = [] %}".to_owned() + &many("{% set x = [x] %}", 40_000),
        "{% set x, y = [], [] %}".to_owned() + &many("{% set x, y = [y], [x] %}", 30_000),
        nested_text(100_000),
        many("{% if true %}", 50_000),
        "{{ ".to_owned() + &many("not ", 50_000) + "x",
        "{{ ".to_owned() + &many("not ", 50_000) + "x }}",
        "{{ 1".to_owned() + &many(" if 1 else 1", 50_000) + "}}",
        "{{ {}".to_owned() + &many("['}}']", 50_000) + "}}",
        "{% if a %}".to_owned() + &many("{% elif a %}", 50_000) + "{% endif %}{{ a.b.c }}",
        many("{% for x in y %}", 50_000),
        many("{% macro f() %}", 50_000),
        "{{ 1".to_owned() + &many("+1", 399) + "+ '' }}",
        "{{ ".to_owned() + &many("-", 399) + "'' }}",
        "{{ ".to_owned() + &many("not ", 399) + "a.b.c }}",
        "{{ a".to_owned() + &many(".b", 399) + " }}",
        "{{ ".to_owned() + &many("(", 399) + "1" + &many(")", 399) + " }}",
        "{{ ".to_owned() + &many("-", 100_000) + "1 }}",
        "{{ 1".to_owned() + &many("|abs", 100_000) + " }}",
        "{{ 1".to_owned() + &many("+1", 200_000) + "+ '' }}",
        "{{ '".to_owned() + &many("a", 2_000_000) + "' }}",
        "{{ '%999999999999d'|format(1) }}".to_owned(),
        "{{ '{:>99999999999}'.format(1) }}".to_owned(),
        "{% set s = 'a' * 1000000 %}{{ s.replace('a', s) }}".to_owned(),
        "{% set s = 'a' * 1000000 %}{{ s.replace('', s)|length }}".to_owned(),
        "{% set s = 'a' * 1000000 %}{{ s|replace('a', s) }}".to_owned(),
        "{% set s = 'a' * 1000000 %}{{ s.join(s) }}".to_owned(),
        "{% set s = 'a' * 1000000 %}{{ s|join(s) }}".to_owned(),
        "{% set s = ['a' * 1000000] * 90000 %}{{ ''.join(s)|length }}".to_owned(),
        "{% set s = ['a' * 1000000] * 90000 %}{{ s|join|length }}".to_owned(),
        "{% set s = ['a' * 1000000] * 90000 %}{{ s|tojson|length }}{{ s|string|length }}{{ s }}".to_owned(),
        "{% set s = ['a' * 1000000] * 90000 %}{{ (s ~ '')|length }}{{ s|upper }}".to_owned(),
        "{% set s = ['a'] %}".to_owned() + &many("{% set s = [s, s] %}", 90) + "{{ s|length }}",
        "{% set s = ['a'] * 90000 %}{% set s = [s] * 90000 %}{% set s = [s] * 90000 %}{{ s }}".to_owned(),
        "{{ messages|tojson(indent=999999999) }}".to_owned(),
        "{{ 'x'|indent(9999999999999) }}".to_owned(),
        "{{ 9 ** 9 ** 9 ** 9 }}".to_owned(),
    ] {
        let start = Instant::now();
        let result = render(&source, json!({"messages": [{"role": "user", "content": "x"}]}));
        let head = source.chars().take(120).collect::<String>();
        assert!(result.is_err(), "{head} gave {:?}", result.map(|text| text.len()));
        assert!(start.elapsed() < Duration::from_secs(10), "{head} took {:?}", start.elapsed());
    }
}

/// Chains of slices and copies are harmless if they do not nest.
#[test]
fn long_chains_of_views_end() {
    let start = "{% set x = [1, 2, 3] %}".to_owned();
    for step in ["{% set x = x[0:] %}", "{% set x = x|list %}", "{% set x = x|reverse %}", "{% set x = x + [] %}"] {
        let source = start.clone() + &step.repeat(20_000) + "{{ x|length }}";
        assert_eq!(render(&source, json!({})).as_deref(), Ok("3"), "{step}");
    }
}

#[test]
fn long_conversations_stay_within_the_fuel_limit() {
    let Some(data) = shared() else { return };
    let role = |i: usize| if i.is_multiple_of(2) { "user" } else { "assistant" };
    let turn = |i: usize| json!({"role": role(i), "content": "word ".repeat(40)});
    let messages: Vec<Value> = (0..801).map(turn).collect();
    for name in ["Qwen-Qwen3-0.6B", "openai-gpt-oss-120b", "google-gemma-4-31B-it", "meta-llama-Llama-3.1-8B-Instruct"]
    {
        let text = std::fs::read_to_string(data.join(format!("templates/{name}.json"))).unwrap();
        let file: Value = serde_json::from_str(&text).unwrap();
        let input = json!({"messages": messages, "add_generation_prompt": true, "date": "2026-11-22"});
        let text = render(file["template"].as_str().unwrap(), input).unwrap();
        assert!(text.len() > 801 * 200, "{name}");
    }
}

#[test]
fn builtin_templates() {
    let input = json!({
        "messages": [
            {"role": "system", "content": "S"}, {"role": "user", "content": "U"}, {"role": "assistant", "content": "A"},
            {"role": "user", "content": "V"},
        ],
        "add_generation_prompt": true, "bos_token": "<s>", "eos_token": "</s>",
    });
    for (name, want) in [
        (
            "chatml",
            "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n\
          <|im_start|>user\nV<|im_end|>\n<|im_start|>assistant\n",
        ),
        ("llama2", "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\nU [/INST] A </s><s>[INST] V [/INST]"),
        (
            "llama3",
            "<s><|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n\
          U<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nA<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n\
          V<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        ),
        ("mistral", "<s>[INST] S\n\nU [/INST] A</s>[INST] V [/INST]"),
        (
            "gemma",
            "<s><start_of_turn>user\nS\n\nU<end_of_turn>\n<start_of_turn>model\nA<end_of_turn>\n\
          <start_of_turn>user\nV<end_of_turn>\n<start_of_turn>model\n",
        ),
        (
            "phi3",
            "<|system|>\nS<|end|>\n<|user|>\nU<|end|>\n<|assistant|>\nA<|end|>\n<|user|>\nV<|end|>\n<|assistant|>\n",
        ),
        ("zephyr", "<|system|>\nS</s>\n<|user|>\nU</s>\n<|assistant|>\nA</s>\n<|user|>\nV</s>\n<|assistant|>\n"),
        ("deepseek", "<s>S<｜User｜>U<｜Assistant｜>A</s><｜User｜>V<｜Assistant｜>"),
        ("vicuna", "<s>S\n\nUSER: U\nASSISTANT: A</s>\nUSER: V\nASSISTANT:"),
        ("alpaca", "<s>S\n\n### Instruction:\nU\n\n### Response:\nA</s>\n\n### Instruction:\nV\n\n### Response:\n"),
    ] {
        let input: TemplateInput = serde_json::from_value(input.clone()).unwrap();
        assert_eq!(ChatTemplate::builtin(name).unwrap().render(&input).unwrap(), want, "{name}");
    }
}

/// The template for a file without one depends on its vocabulary.
#[test]
fn chosen_for_the_vocabulary() {
    let Some(data) = shared() else { return };
    for (name, drop, want) in [
        ("llama-bpe", false, Some("llama3")),
        ("llama-spm", false, Some("llama2")),
        ("qwen2", false, None),
        ("qwen2", true, Some("chatml")),
        ("phi-3", true, Some("phi3")),
        ("gpt-2", false, Some("chatml")),
    ] {
        let path = data.join(format!("tokenizers/ggml-vocab-{name}.gguf"));
        let mut checkpoint = pollster::block_on(Checkpoint::open(&path)).unwrap();
        if drop {
            checkpoint.metadata.insert("tokenizer.chat_template", "");
        }
        let tokenizer = Tokenizer::from_checkpoint(&checkpoint).unwrap();
        let (_, notice) = ChatTemplate::for_checkpoint(&checkpoint.metadata, &tokenizer).unwrap();
        match want {
            Some(want) => assert!(notice.unwrap().contains(&format!("{want:?}")), "{name}"),
            None => assert_eq!(notice, None, "{name}"),
        }
    }
}
