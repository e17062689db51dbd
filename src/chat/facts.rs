//! Facts about a model from its header, and whether it fits the device, before any weight is read.

use std::collections::BTreeMap;

pub use super::protocol::Facts;
use super::protocol::{Device, Fit, Place};
use crate::Result;
use crate::checkpoint::{Checkpoint, Source};
use crate::gpu::{AdapterInfo, Caps};
use crate::memory_plan::{self, SessionOptions};
use crate::model::Model;

/// Reads a model's header.
///
/// # Errors
/// If the header cannot be read. A model that does not fit or that Firelight does not support is a fact, not an error.
pub async fn read(place: &Place, sources: Vec<Source>, caps: Option<&Caps>) -> Result<Facts> {
    let checkpoint = Checkpoint::from_sources(sources).await?;
    let mut facts = of(&checkpoint, place);
    match Model::from_checkpoint(checkpoint).await {
        Ok(model) => {
            facts.trained = Some(model.spec.context_length);
            facts.fit = caps.map_or(Fit::Unknown, |caps| fits(&model, caps));
        }
        Err(error) => facts.fit = Fit::No(error.to_string()),
    }
    Ok(facts)
}

fn fits(model: &Model, caps: &Caps) -> Fit {
    let wanted = SessionOptions::default();
    match memory_plan::plan_memory(model, caps, &wanted) {
        Ok(plan) => {
            let bytes = plan.dispatch_list.bytes().total();
            let shorter = plan.notices.iter().find(|n| n.contains("instead of"));
            match shorter {
                Some(why) => Fit::Less(plan.context, why.clone()),
                None => Fit::Fits(plan.context, bytes),
            }
        }
        Err(error) => smaller(model, caps).map_or(Fit::No(error.to_string()), |c| Fit::Less(c, error.to_string())),
    }
}

/// The longest context that fits if the default does not.
fn smaller(model: &Model, caps: &Caps) -> Option<u32> {
    [2048, 1024, 512, 256].into_iter().find(|context| {
        let options = SessionOptions { context: Some(*context), ..SessionOptions::default() };
        *context < model.spec.context_length && memory_plan::plan_memory(model, caps, &options).is_ok()
    })
}

/// Facts from the metadata keys and the tensor table.
pub fn of(checkpoint: &Checkpoint, place: &Place) -> Facts {
    let text = |key: &str| checkpoint.metadata.get_str(key).ok().flatten().map(str::to_string);
    let mut types: BTreeMap<&str, u64> = BTreeMap::new();
    let (mut parameters, mut bytes) = (0u64, 0u64);
    for tensor in checkpoint.tensors.values() {
        *types.entry(tensor.dtype.name()).or_default() += tensor.bytes();
        bytes = bytes.saturating_add(tensor.bytes());
        let weights = tensor.dims.iter().fold(1u64, |n, d| n.saturating_mul(*d));
        parameters = parameters.saturating_add(weights);
    }
    let dtype = types.into_iter().max_by_key(|(_, bytes)| *bytes).map_or("", |(name, _)| name).to_string();
    let title = text("general.name").filter(|name| !name.trim().is_empty());
    let name = match (place, &title) {
        (Place::BuiltIn, Some(title)) => title.clone(),
        _ => place.stem(),
    };
    Facts {
        title: title.filter(|title| *title != name),
        name,
        architecture: text("general.architecture").unwrap_or_default(),
        dtype,
        parameters,
        bytes,
        trained: None,
        licence: text("general.license").or_else(|| text("general.license.name")),
        fit: Fit::Unknown,
    }
}

/// An adapter as the window describes it.
pub fn device(card: &AdapterInfo) -> Device {
    Device {
        name: card.name.clone(),
        backend: card.backend.clone(),
        kind: card.kind.to_string(),
        driver: card.driver.clone(),
        tier: card.caps.tier.to_string(),
        why_not_higher: card.why_not_higher.clone(),
        unusable: card.unusable.clone(),
        software: card.caps.software,
        max_binding: card.caps.max_binding,
    }
}
