//! Chat templates, reasoning and end tokens of each model family, from a file to the output of `firelight run`.
//!
//! A family is a row of the table. Its model is a GGUF file with the family's special tokens, all bytes, and the words
//! of one answer; its weights encode which token follows which, so that it gives that answer to every question.

mod table;

use std::collections::BTreeSet;
use std::fs::{File, read_to_string};
use std::path::{Path, PathBuf};
use std::process::Command;

use firelight::checkpoint::{GgufWriter, Metadata};
use firelight::dtype::DType;
use firelight::model::Model;
use firelight::template::TemplateInput;
use firelight::tokenizer::Special;
use pollster::block_on;
use serde_json::{Value, json};
use table::{FAMILIES, Family, Source};
use tempfile::TempDir;

/// GGUF's token types.
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const BYTE: i32 = 6;

/// The character for a space in SentencePiece vocabularies.
const SPACE: &str = "\u{2581}";

/// The hidden size, at least the number of tokens.
const WIDTH: usize = 320;

/// The folder of the published templates, if it exists. In CI it must exist.
fn published() -> Option<PathBuf> {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let folder = std::env::var_os("FIRELIGHT_SHARED").map_or_else(default, PathBuf::from).join("data/templates");
    if folder.is_dir() {
        return Some(folder);
    }
    assert!(std::env::var_os("CI").is_none(), "there is no {}: set FIRELIGHT_SHARED", folder.display());
    eprintln!("skipped: {} is missing", folder.display());
    None
}

/// The character that GPT-2's vocabularies use for a byte.
fn letter(byte: u8) -> char {
    let printed = |b: &u8| matches!(b, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    if printed(&byte) {
        return byte.into();
    }
    let before = (0..byte).filter(|b| !printed(b)).count();
    char::from_u32(0x100 + before as u32).expect("a letter")
}

impl Family {
    fn specials(&self) -> impl Iterator<Item = (&'static str, i32)> {
        let of = |list: &'static str, kind| list.split_whitespace().map(move |token| (token, kind));
        of(self.control, CONTROL).chain(of(self.user_defined, USER_DEFINED))
    }

    /// All tokens in the file's spelling, and their types.
    fn tokens(&self) -> Vec<(String, i32)> {
        let specials: Vec<_> = self.specials().map(|(token, kind)| (token.to_string(), kind)).collect();
        let letters = self.kind == "gpt2";
        let byte = |b| if letters { (letter(b).into(), NORMAL) } else { (format!("<0x{b:02X}>"), BYTE) };
        let mut words: Vec<String> = if letters { vec![] } else { vec![SPACE.into()] };
        for word in self.answer.iter().filter(|word| specials.iter().all(|(token, _)| token != *word)) {
            words.push(self.spelled(word));
        }
        specials.iter().cloned().chain((0..=255).map(byte)).chain(words.into_iter().map(|w| (w, NORMAL))).collect()
    }

    /// A word in the file's spelling.
    fn spelled(&self, word: &str) -> String {
        if self.kind == "gpt2" { word.bytes().map(letter).collect() } else { word.replace(' ', SPACE) }
    }

    fn metadata(&self, folder: &Path) -> Metadata {
        let mut m = Metadata::new();
        let (tokens, kinds): (Vec<_>, Vec<_>) = self.tokens().into_iter().unzip();
        assert!(tokens.len() <= WIDTH, "{}: {} tokens", self.name, tokens.len());
        m.insert("general.architecture", "llama");
        m.insert("general.name", self.name);
        for (key, n) in [
            ("block_count", 1),
            ("context_length", 8192),
            ("embedding_length", WIDTH as u32),
            ("feed_forward_length", 32),
            ("attention.head_count", 5),
            ("attention.head_count_kv", 1),
            ("rope.dimension_count", 64),
        ] {
            m.insert(format!("llama.{key}"), n);
        }
        m.insert("llama.attention.layer_norm_rms_epsilon", 1e-6f32);
        m.insert("tokenizer.ggml.model", self.kind);
        m.insert("tokenizer.ggml.pre", "gpt-2");
        m.insert("tokenizer.ggml.merges", Vec::<String>::new());
        m.insert("tokenizer.ggml.scores", vec![0f32; tokens.len()]);
        m.insert("tokenizer.ggml.add_space_prefix", false);
        for (key, token) in self.keys {
            let id = tokens.iter().position(|t| t == token).expect("a token");
            m.insert(format!("tokenizer.ggml.{key}_token_id"), id as u32);
        }
        m.insert("tokenizer.ggml.tokens", tokens);
        m.insert("tokenizer.ggml.token_type", kinds);
        let template = match self.template {
            Source::Published(name) => {
                let file = read_to_string(folder.join(format!("{name}.json"))).expect("a published template");
                let file: Value = serde_json::from_str(&file).expect("JSON");
                file["template"].as_str().expect("a template").to_string()
            }
            Source::Short(text) => text.to_string(),
            Source::Own | Source::None => return m,
        };
        m.insert("tokenizer.chat_template", template);
        m
    }

    /// Writes a model in which the second token of each pair in `follows` follows the first: layers add zero,
    /// embeddings are one-hot, and the second token's output row is one at the index of the first.
    fn write(&self, folder: &Path, follows: &[(u32, u32)], path: &Path) {
        let vocab = self.tokens().len();
        let (wide, row) = ([WIDTH as u64, vocab as u64], WIDTH as u64);
        let mut writer = GgufWriter::new(self.metadata(folder)).expect("metadata");
        let mut tensor = |name: &str, dims: &[u64]| writer.tensor(name, dims, DType::F32).expect("a tensor");
        tensor("token_embd.weight", &wide);
        tensor("output.weight", &wide);
        tensor("output_norm.weight", &[row]);
        for (part, dims) in [
            ("attn_norm", &[row][..]),
            ("attn_q", &[row, row]),
            ("attn_k", &[row, 64]),
            ("attn_v", &[row, 64]),
            ("attn_output", &[row, row]),
            ("ffn_norm", &[row]),
            ("ffn_gate", &[row, 32]),
            ("ffn_up", &[row, 32]),
            ("ffn_down", &[32, row]),
        ] {
            tensor(&format!("blk.0.{part}.weight"), dims);
        }
        let file = File::create(path).expect("a file");
        let written = writer.write(std::io::BufWriter::new(file), |info, out| {
            let mut values = vec![0f32; info.bytes() as usize / 4];
            match info.name.as_str() {
                "token_embd.weight" => (0..vocab).for_each(|t| values[t * WIDTH + t] = 1.0),
                "output.weight" => follows.iter().for_each(|(a, b)| values[*b as usize * WIDTH + *a as usize] = 1.0),
                name if name.ends_with("norm.weight") => values.fill(1.0),
                _ => {}
            }
            out.write_all(&values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>())
        });
        written.expect("a file");
    }

    /// Writes the model with its answer to `path` and opens it.
    fn open(&self, folder: &Path, path: &Path) -> Model {
        let open = || block_on(Model::open(path)).unwrap_or_else(|e| panic!("{}: {e}", self.name));
        self.write(folder, &[], path);
        let model = open();
        let asked = if matches!(self.template, Source::None) {
            model.tokenizer.encode("Hi", Special::ALL).expect("tokens")
        } else {
            model.encode_chat(self.input(&["Hi"])).expect("a prompt")
        };
        let last = *asked.last().expect("a token");
        let answer = self.answer(&model);
        let follows: Vec<_> = [last].iter().chain(&answer).copied().zip(answer.iter().copied()).collect();
        self.write(folder, &follows, path);
        open()
    }

    /// The answer's tokens.
    fn answer(&self, model: &Model) -> Vec<u32> {
        let id = |word: &&str| model.tokenizer.id(word).or_else(|| model.tokenizer.id(&self.spelled(word)));
        self.answer.iter().map(|word| id(word).unwrap_or_else(|| panic!("{}: {word:?}", self.name))).collect()
    }

    /// Alternating messages of user and assistant.
    fn input(&self, said: &[&str]) -> TemplateInput {
        let role = |i: usize| if i.is_multiple_of(2) { "user" } else { "assistant" };
        let message = |(i, text): (usize, &&str)| json!({ "role": role(i), "content": text });
        let messages = said.iter().enumerate().map(message).collect();
        let date = Some("2026-11-22".to_string());
        let mut input = TemplateInput::new(messages).date(date);
        if let Some(think) = self.think {
            input.set_reasoning(think);
        }
        input
    }
}

/// Calls `check` with each family and its model, and reports all failures.
fn each(check: impl Fn(&Family, &Model, &Path) -> Result<(), String>) {
    let Some(folder) = published() else { return };
    let dir = TempDir::new().expect("a folder");
    let path = dir.path().join("family.gguf");
    let wrong = |family: &Family| {
        let model = family.open(&folder, &path);
        check(family, &model, &path).err().map(|error| format!("{}: {error}", family.name))
    };
    let wrong: Vec<String> = FAMILIES.iter().filter_map(wrong).collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// An error unless both are equal.
fn same<T: PartialEq + std::fmt::Debug>(what: &str, got: T, want: T) -> Result<(), String> {
    if got == want { Ok(()) } else { Err(format!("{what}: {got:?}, not {want:?}")) }
}

#[test]
fn every_published_template_has_a_family() {
    let Some(folder) = published() else { return };
    let files = folder.read_dir().expect("a folder").map(|file| file.expect("a file").path());
    let files: BTreeSet<String> =
        files.map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned()).collect();
    let name = |family: &Family| match family.template {
        Source::Published(name) => Some(name.to_string()),
        _ => None,
    };
    assert_eq!(FAMILIES.iter().filter_map(name).collect::<BTreeSet<_>>(), files);
}

/// Special tokens in the template's text become single tokens; those in the users' text do not.
#[test]
fn prompts_have_the_templates_special_tokens_and_no_others() {
    each(|family, model, _| {
        if matches!(family.template, Source::None) {
            return Ok(());
        }
        let encode = |said: &[&str]| model.encode_chat(family.input(said)).expect("a prompt");
        // Control tokens, and user-defined ones with bars.
        let controls: Vec<u32> = family
            .specials()
            .filter(|(token, kind)| *kind == CONTROL || token.starts_with("<|") || token.starts_with("<｜"))
            .map(|(token, _)| model.tokenizer.id(token).expect("a token"))
            .collect();
        let controls = |ids: &[u32]| ids.iter().copied().filter(|id| controls.contains(id)).collect::<Vec<_>>();
        let typed: Vec<&str> = family.specials().map(|(token, _)| token).collect();
        let typed = format!("Hi {}!", typed.concat());
        for said in [&["Hi"][..], &["Hi", "Yes.", "Hi"]] {
            let ids = encode(said);
            let text = model.render_chat(family.input(said)).expect("a prompt");
            for (token, _) in family.specials() {
                let id = model.tokenizer.id(token).expect("a token");
                let count = ids.iter().filter(|i| **i == id).count();
                same(token, count, text.matches(token).count())?;
            }
            same("first token", model.tokenizer.piece(ids[0]), Some(family.begins))?;
            let bos = model.tokenizer.bos().filter(|bos| ids[0] == *bos && model.tokenizer.eos() != Some(*bos));
            if let Some(bos) = bos.filter(|_| said.len() == 1) {
                same("number of BOS tokens", ids.iter().filter(|id| **id == bos).count(), 1)?;
            }
            let mut hostile = said.to_vec();
            *hostile.last_mut().expect("a message") = &typed;
            let hostile = encode(&hostile);
            same("typed tokens", controls(&hostile), controls(&ids))?;
            let shown = model.tokenizer.decode_with_special(&hostile);
            if !shown.contains(&typed) {
                return Err(format!("{typed:?} is not in {shown:?}"));
            }
        }
        Ok(())
    });
}

#[test]
fn answers_end_only_at_end_tokens_and_hide_them() {
    each(|family, model, _| {
        let ends: Vec<&str> = model.tokenizer.end_ids().iter().filter_map(|id| model.tokenizer.piece(*id)).collect();
        same("end tokens", ends.join(" "), family.ends.split_whitespace().collect::<Vec<_>>().join(" "))?;
        let answer = family.answer(model);
        let (end, said) = answer.split_last().expect("an end");
        same("the last token is an end", model.tokenizer.is_end(*end), true)?;
        same("an end before the last token", said.iter().any(|id| model.tokenizer.is_end(*id)), false)?;
        for end in model.tokenizer.end_ids() {
            let shown = model.tokenizer.decode(&[said, &[*end]].concat());
            if !family.shown.ends_with(&shown) {
                return Err(format!("{shown:?} is not the end of {:?}", family.shown));
            }
        }
        Ok(())
    });
}

#[test]
fn templates_keep_or_drop_earlier_reasoning() {
    each(|family, model, _| {
        if matches!(family.template, Source::None) || !family.shown.contains("Hm.") {
            return Ok(());
        }
        let text = model.render_chat(family.input(&["Hi", family.shown, "And?"])).expect("a prompt");
        same("drops reasoning", !text.contains("Hm."), family.drops_reasoning)?;
        same("contains the answer", text.contains("Yes."), true)
    });
}

/// The command that runs a family's model.
fn run(model: &Path, family: &Family) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_firelight"));
    command.arg("run").arg(model).args(["--greedy", "--context", "4096", "--max-tokens", "40"]);
    match family.think {
        Some(think) => command.args(["--think", if think { "on" } else { "off" }]),
        None if matches!(family.template, Source::None) => command.arg("--raw"),
        None => &mut command,
    };
    command
}

#[test]
fn run_prints_reasoning_and_answers() {
    each(|family, _, path| {
        // Each token has one successor, so the model cannot give answers that repeat a token.
        if family.answer.iter().collect::<BTreeSet<_>>().len() < family.answer.len() {
            return Ok(());
        }
        let output = run(path, family).arg("Hi").output().expect("the program runs");
        let line = if matches!(family.template, Source::None) { "" } else { "\n" };
        let errors = String::from_utf8_lossy(&output.stderr);
        same(&errors, String::from_utf8_lossy(&output.stdout).as_ref(), &format!("{}{line}", family.shown))?;
        same(&errors, output.status.success(), true)
    });
}

/// A chat on a terminal, which util-linux's `script` provides: reasoning is dim, and is not part of later prompts.
#[cfg(target_os = "linux")]
#[test]
fn a_chat_dims_reasoning_and_does_not_send_it_again() {
    use std::io::{Read, Write};
    use std::process::Stdio;

    let Some(folder) = published() else { return };
    let dir = TempDir::new().expect("a folder");
    let (path, saved) = (dir.path().join("family.gguf"), dir.path().join("chat.json"));
    for family in FAMILIES.iter().filter(|f| ["GLM-4.7-Flash, thinking", "gpt-oss"].contains(&f.name)) {
        family.open(&folder, &path);
        let program = env!("CARGO_BIN_EXE_firelight");
        let line = format!("exec {program} run {} --greedy --context 2048 --max-tokens 40", path.display());
        let mut script = Command::new("timeout");
        script.args(["60", "script", "-qec", &line, "/dev/null"]).env("TERM", "xterm").env_remove("NO_COLOR");
        script.env("XDG_DATA_HOME", dir.path()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut chat = script.spawn().expect("it runs");
        let mut keys = chat.stdin.take().expect("a pipe");
        let keyed = ["Hi\r", "And?\r", &format!("/save {}\r", saved.display()), "/quit\r"].concat();
        keys.write_all(keyed.as_bytes()).expect("it reads");
        let mut screen = String::new();
        chat.stdout.take().expect("a pipe").read_to_string(&mut screen).expect("a screen");
        assert!(chat.wait().expect("it ends").success(), "{}: {screen}", family.name);
        let plain = screen.replace("\u{1b}[2m", "").replace("\u{1b}[0m", "");
        let shown = family.shown.replace('\n', "\r\n");
        for (text, screen) in [("\u{1b}[2m<think>", &screen), ("</think>\u{1b}[0m", &screen), (&shown, &plain)] {
            assert_eq!(screen.matches(text).count(), 2, "{}: {text:?} is not twice in {screen:?}", family.name);
        }
        let saved: Value = serde_json::from_str(&read_to_string(&saved).expect("a file")).expect("JSON");
        assert_eq!(saved["messages"][1], json!({ "role": "assistant", "content": "Yes." }), "{}", family.name);
    }
}
