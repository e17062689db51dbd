//! `info`: the contents of a model file and its memory needs on this machine. It describes files that cannot run, too.

use std::collections::BTreeMap;
use std::io::{self, Write};

use firelight::checkpoint::{Checkpoint, GgufArray, GgufValue, Metadata};
use firelight::gpu::Gpu;
use firelight::memory_plan::{self, MemoryPlan};
use firelight::model::Model;
use firelight::model::spec::ModelSpec;
use firelight::template::ChatTemplate;
use firelight::tokenizer::Tokenizer;

use super::args::{DeviceArgs, EngineArgs, ModelArg};
use super::{Result, term};

#[derive(clap::Args)]
pub struct InfoArgs {
    #[command(flatten)]
    model: ModelArg,
    /// Print all metadata keys instead, with long arrays shortened
    #[arg(long)]
    metadata: bool,
    /// Print all tensors instead
    #[arg(long)]
    tensors: bool,
    #[command(flatten)]
    engine: EngineArgs,
    #[command(flatten)]
    device: DeviceArgs,
}

pub async fn run(args: InfoArgs) -> Result {
    let checkpoint = args.model.open_checkpoint().await?;
    let mut out = io::stdout().lock();
    if args.metadata {
        let mut lines = checkpoint.metadata.iter();
        lines.try_for_each(|(key, value)| writeln!(out, "{} = {}", term::printable(key), show(value)))?;
    }
    if args.tensors {
        write!(out, "{}", tensor_table(&checkpoint))?;
    }
    if args.metadata || args.tensors {
        return Ok(());
    }
    let mut facts = Facts(Vec::new());
    facts.add("file", args.model.name.display().to_string());
    facts.general(&checkpoint)?;
    let has_weights = !checkpoint.tensors.is_empty();
    match ModelSpec::read(&checkpoint).await {
        Ok(spec) => facts.sizes(&spec),
        Err(error) if has_weights => facts.add("cannot run", error.to_string()),
        Err(_) => {}
    }
    facts.texts(&checkpoint);
    facts.print(&mut out)?;
    let model = if has_weights { Model::from_checkpoint(checkpoint).await.ok() } else { None };
    if let Some(model) = model {
        match args.device.open().await {
            Ok(gpu) => facts.fit(&gpu, memory_plan::plan_memory(&model, gpu.caps(), &args.engine.options())),
            // A missing GPU is no error here, unless the user named one.
            Err(failure) if args.device.device.is_some() || args.device.tier.is_some() => return Err(failure),
            Err(_) => facts.add("needs", "unknown: no GPU found (see `firelight devices`)".into()),
        }
    }
    Ok(facts.print(&mut out)?)
}

/// The lines to print.
struct Facts(Vec<(&'static str, String)>);

impl Facts {
    fn add(&mut self, name: &'static str, value: String) {
        self.0.push((name, value));
    }

    /// Prints the lines that are not printed yet.
    fn print(&mut self, out: &mut impl Write) -> io::Result<()> {
        // Names in files may contain line breaks.
        let line = |value: String| term::printable(&value).replace('\n', "\\n");
        self.0.drain(..).try_for_each(|(name, value)| writeln!(out, "{name:<15} {}", line(value)))
    }

    fn general(&mut self, checkpoint: &Checkpoint) -> Result {
        let metadata = &checkpoint.metadata;
        for (name, key) in [("name", "general.name"), ("architecture", "general.architecture")] {
            self.add(name, metadata.get_str(key)?.unwrap_or("not stated").to_string());
        }
        self.add("licence", licence(metadata).unwrap_or_else(|| "not stated".into()));
        if checkpoint.tensors.is_empty() {
            self.add("weights", "none (a vocabulary only): `tokenize` and `template` work, `run` does not".into());
            return Ok(());
        }
        let mut types: BTreeMap<&str, (usize, u64)> = BTreeMap::new();
        let (mut parameters, mut bytes) = (0u64, 0u64);
        for tensor in checkpoint.tensors.values() {
            let entry = types.entry(tensor.dtype.name()).or_default();
            (entry.0, entry.1) = (entry.0 + 1, entry.1 + tensor.bytes());
            parameters += tensor.dims.iter().product::<u64>();
            bytes += tensor.bytes();
        }
        let bits = bytes as f64 * 8.0 / parameters as f64;
        self.add("parameters", format!("{} ({parameters})", term::count(parameters)));
        self.add(
            "weights",
            format!("{} in {} tensors, {bits:.2} bits per weight", term::bytes(bytes), checkpoint.tensors.len()),
        );
        let mut types: Vec<_> = types.into_iter().collect();
        types.sort_by_key(|(_, (_, bytes))| std::cmp::Reverse(*bytes));
        for (name, (count, bytes)) in types {
            self.add("", format!("{name:<7} {count:>5} tensors  {:>10}", term::bytes(bytes)));
        }
        Ok(())
    }

    fn sizes(&mut self, c: &ModelSpec) {
        self.add("layers", format!("{} of hidden size {}", c.layers.len(), c.hidden_size));
        c.layer_kinds().into_iter().for_each(|(layers, kind)| self.add("", format!("{layers}: {kind}")));
        self.add("context", format!("{} positions in training", c.context_length));
        self.add("output", format!("{} logits", c.vocab_size));
    }

    fn texts(&mut self, checkpoint: &Checkpoint) {
        let tokenizer = match Tokenizer::from_checkpoint(checkpoint) {
            Ok(tokenizer) => tokenizer,
            Err(error) => return self.add("tokenizer", format!("not usable: {error}")),
        };
        let kind = match checkpoint.tokenizer_json {
            Some(_) => "tokenizer.json".to_string(),
            None => {
                let key = |key| checkpoint.metadata.get_str(key).ok().flatten();
                let pre = key("tokenizer.ggml.pre").map(|pre| format!(", {pre}")).unwrap_or_default();
                key("tokenizer.ggml.model").unwrap_or_default().to_string() + &pre
            }
        };
        self.add("tokenizer", format!("{} tokens ({kind})", tokenizer.vocab_size()));
        let named = |id: u32| format!("{id} {:?}", tokenizer.piece(id).unwrap_or_default());
        let list = |ids: &mut dyn Iterator<Item = u32>| match ids.map(named).collect::<Vec<_>>().join(", ") {
            none if none.is_empty() => "none".to_string(),
            some => some,
        };
        self.add("BOS token", list(&mut tokenizer.bos().into_iter()));
        self.add("end tokens", list(&mut tokenizer.end_ids().iter().copied()));
        checkpoint.notices.iter().chain(tokenizer.notices()).for_each(|notice| self.add("", notice.clone()));
        let template = match ChatTemplate::for_checkpoint(&checkpoint.metadata, &tokenizer) {
            Ok((_, None)) => "in the file".to_string(),
            Ok((_, Some(notice))) => notice,
            Err(error) => format!("not usable: {error}"),
        };
        self.add("chat template", template);
    }

    fn fit(&mut self, gpu: &Gpu, plan: firelight::Result<MemoryPlan>) {
        self.add("on", format!("{}, {} tier", gpu.adapter().name, gpu.caps().tier));
        let plan = match plan {
            Ok(plan) => plan,
            Err(error) => return self.add("does not fit", error.to_string()),
        };
        let bytes = plan.dispatch_list.bytes();
        self.add("needs", format!("{} with a context of {}", term::bytes(bytes.total()), plan.context));
        let parts =
            [("weights", bytes.weights), ("KV cache", bytes.kv), ("activations", bytes.slots), ("other", bytes.other)];
        for (name, bytes) in parts {
            self.add("", format!("{name:<12} {:>10}", term::bytes(bytes)));
        }
        plan.notices.into_iter().for_each(|notice| self.add("", notice));
    }
}

/// The metadata of a model file, as lines.
pub fn general(checkpoint: &Checkpoint) -> Result<String> {
    let (mut facts, mut lines) = (Facts(Vec::new()), Vec::new());
    facts.general(checkpoint)?;
    facts.print(&mut lines)?;
    Ok(String::from_utf8_lossy(&lines).into_owned())
}

pub fn licence(metadata: &Metadata) -> Option<String> {
    let key = |key| metadata.get_str(key).ok().flatten().map(str::to_string);
    let name = key("general.license").or_else(|| key("general.license.name"))?;
    Some(key("general.license.link").map_or(name.clone(), |link| format!("{name}, {link}")))
}

fn tensor_table(checkpoint: &Checkpoint) -> String {
    let row = |t: &firelight::checkpoint::TensorInfo| {
        let dims: Vec<String> = t.dims.iter().map(u64::to_string).collect();
        vec![term::printable(&t.name), t.dtype.name().to_string(), dims.join(" x "), t.bytes().to_string()]
    };
    let rows: Vec<_> = checkpoint.tensors.values().map(row).collect();
    term::table(&["<tensor", "<type", "<shape", "bytes"], &rows)
}

/// A value on one line; long values are shortened.
fn show(value: &GgufValue) -> String {
    match value {
        GgufValue::String(text) => quote(text),
        GgufValue::Array(array) => show_array(array),
        GgufValue::U8(n) => n.to_string(),
        GgufValue::I8(n) => n.to_string(),
        GgufValue::U16(n) => n.to_string(),
        GgufValue::I16(n) => n.to_string(),
        GgufValue::U32(n) => n.to_string(),
        GgufValue::I32(n) => n.to_string(),
        GgufValue::U64(n) => n.to_string(),
        GgufValue::I64(n) => n.to_string(),
        GgufValue::F32(x) => x.to_string(),
        GgufValue::F64(x) => x.to_string(),
        GgufValue::Bool(b) => b.to_string(),
    }
}

/// Limits of what is shown of a string and of an array.
const MAX_CHARS: usize = 200;
const MAX_VALUES: usize = 8;

fn quote(text: &str) -> String {
    let length = text.chars().count();
    let start: String = text.chars().take(MAX_CHARS).collect();
    if length > MAX_CHARS { format!("{start:?}... ({length} characters)") } else { format!("{start:?}") }
}

fn show_array(array: &GgufArray) -> String {
    fn list<T>(values: &[T], show: impl Fn(&T) -> String) -> String {
        let first: Vec<String> = values.iter().take(MAX_VALUES).map(show).collect();
        let more = if values.len() > MAX_VALUES { format!(", ... ({} values)", values.len()) } else { String::new() };
        format!("[{}{more}]", first.join(", "))
    }
    match array {
        GgufArray::U8(v) => list(v, u8::to_string),
        GgufArray::I8(v) => list(v, i8::to_string),
        GgufArray::U16(v) => list(v, u16::to_string),
        GgufArray::I16(v) => list(v, i16::to_string),
        GgufArray::U32(v) => list(v, u32::to_string),
        GgufArray::I32(v) => list(v, i32::to_string),
        GgufArray::U64(v) => list(v, u64::to_string),
        GgufArray::I64(v) => list(v, i64::to_string),
        GgufArray::F32(v) => list(v, f32::to_string),
        GgufArray::F64(v) => list(v, f64::to_string),
        GgufArray::Bool(v) => list(v, bool::to_string),
        GgufArray::String(v) => list(v, |s| quote(s)),
        GgufArray::Array(v) => list(v, show_array),
    }
}
