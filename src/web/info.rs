//! What JavaScript is told about a loaded model.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{Gpu, Model, Session};

/// Name, sizes and licence of the model, the device and its tier, bytes on the GPU, and all notices so far.
pub fn info(model: &Model, gpu: &Gpu, session: &Session) -> Value {
    let metadata = &model.checkpoint.metadata;
    let text = |key: &str| metadata.get_str(key).ok().flatten();
    let mut types: BTreeMap<&str, u64> = BTreeMap::new();
    let (mut parameters, mut bytes) = (0u64, 0u64);
    for tensor in model.checkpoint.tensors.values() {
        *types.entry(tensor.dtype.name()).or_default() += tensor.bytes();
        parameters += tensor.dims.iter().product::<u64>();
        bytes += tensor.bytes();
    }
    let main = types.into_iter().max_by_key(|(_, bytes)| *bytes).map(|(name, _)| name);
    let notices: Vec<&String> = model.notices.iter().chain(session.notices()).collect();
    json!({
        "name": text("general.name"),
        "architecture": text("general.architecture"),
        "type": main,
        "parameters": parameters,
        "bytes": bytes,
        "context": session.context(),
        "trainedContext": model.config.context,
        "vocab": model.config.vocab,
        "license": text("general.license"),
        "adapter": gpu.card().name,
        "tier": gpu.caps().tier.name(),
        "gpuBytes": session.plan().listing().bytes().total(),
        "notices": notices,
    })
}
