//! Describes a loaded model to JavaScript.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::Result;
use crate::engine::Engine;

/// Name, sizes and licence of the model, whose files have `bytes` bytes; the device and its tier, bytes on the GPU, and
/// all warnings so far.
///
/// # Errors
/// If the engine has failed.
pub fn info(engine: &Engine, bytes: u64) -> Result<Value> {
    let (model, gpu, session) = (engine.model(), engine.gpu(), engine.session()?);
    let metadata = &model.checkpoint.metadata;
    let text = |key: &str| metadata.get_str(key).ok().flatten();
    let mut types: BTreeMap<&str, u64> = BTreeMap::new();
    let mut parameters = 0u64;
    for tensor in model.checkpoint.tensors.values() {
        *types.entry(tensor.dtype.name()).or_default() += tensor.bytes();
        parameters += tensor.dims.iter().product::<u64>();
    }
    let main = types.into_iter().max_by_key(|(_, bytes)| *bytes).map(|(name, _)| name);
    let notices: Vec<&String> = model.notices.iter().chain(session.notices()).collect();
    let mut info = json!({
        "name": text("general.name").unwrap_or("a model without a name"),
        "architecture": text("general.architecture"),
        "type": main,
        "parameters": parameters,
        "bytes": bytes,
        "context": session.context(),
        "vocab": model.spec.vocab_size,
        "adapter": gpu.adapter().name,
        "tier": gpu.caps().tier.name(),
        "measured": gpu.caps().tuned.is_some(),
        "gpuBytes": session.plan().dispatch_list().bytes().total(),
        "notices": notices,
    });
    if let Some(license) = text("general.license") {
        info["license"] = license.into();
    }
    Ok(info)
}
