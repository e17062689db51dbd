//! Picks a repository's default model: the largest that fits in memory, judged by its header.

use super::files::{Offer, RepoFiles, meant};
use super::{Hub, offers};
use crate::gpu::Caps;
use crate::memory_plan::{self, SessionOptions};
use crate::model::Model;
use crate::{Error, Result};

/// The picked model, and why.
#[non_exhaustive]
pub struct PickedModel {
    /// The model.
    pub offer: Offer,
    /// The reason, for the user.
    pub why: String,
}

/// Picks one of a repository's GGUF models. `wanted` is that of [`Name`](super::Name).
///
/// # Errors
/// [`Error::Usage`] if no model or several match, with a list; [`Error::DoesNotFit`] if none fits, for the smallest
/// one.
pub async fn pick(
    hub: &Hub,
    repo: &str,
    listing: &RepoFiles,
    wanted: Option<&str>,
    caps: Option<&Caps>,
) -> Result<PickedModel> {
    let mut all = offers(&listing.siblings);
    if all.is_empty() {
        let message = format!("{repo} has no GGUF file; search the hub for the model's name followed by GGUF");
        return Err(Error::Usage(message));
    }
    if let Some(wanted) = wanted {
        let mut found = meant(all.clone(), |offer| &offer.name, wanted);
        match found.len() {
            0 => return Err(Error::Usage(format!("{repo} has no model {wanted:?}; there are {}", names(&all)))),
            1 => return Ok(PickedModel { offer: found.remove(0), why: "as asked".into() }),
            // Pick among the models of a folder.
            _ if wanted.ends_with('/') => all = found,
            _ => {
                let files: Vec<&str> = found.iter().map(|offer| offer.name.as_str()).collect();
                let message = format!("{repo} has several models {wanted:?}: {}; name one file", files.join(", "));
                return Err(Error::Usage(message));
            }
        }
    }
    let memory = caps.and_then(|caps| caps.memory.map(|memory| (caps, memory)));
    let Some((caps, memory)) = memory else { return Ok(middle(all)) };
    let smallest = all.iter().map(Offer::bytes).min().unwrap_or(0);
    let mut last = None;
    for offer in all {
        // A file larger than memory cannot fit, whatever its header says.
        if offer.bytes() > memory {
            continue;
        }
        let sources = offer.files.iter().map(|file| hub.source(repo, listing, file)).collect();
        let plan = async {
            let model = Model::from_sources(sources).await?;
            let usable = model.spec.context_length.min(memory_plan::USABLE_CONTEXT);
            Ok((memory_plan::plan_memory(&model, caps, &SessionOptions::default())?, usable))
        };
        match plan.await {
            Ok((plan, usable)) if plan.context >= usable => {
                let gib = |bytes: u64| bytes as f64 / (1u64 << 30) as f64;
                let why = format!(
                    "the largest that fits: {:.1} of {:.1} GiB, with {} positions of context",
                    gib(plan.dispatch_list.bytes().total()),
                    gib(memory),
                    plan.context
                );
                return Ok(PickedModel { offer, why });
            }
            Ok(_) => {}
            // A smaller one may have a supported weight type.
            Err(error @ (Error::DoesNotFit { .. } | Error::Unsupported(_))) => last = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(last.unwrap_or_else(|| Error::DoesNotFit {
        message: format!("no model of {repo} fits this GPU's memory; use a smaller one"),
        needed: smallest,
        available: memory,
    }))
}

/// The default if the memory size is unknown.
fn middle(all: Vec<Offer>) -> PickedModel {
    const USUAL: [&str; 6] = ["Q4_K_M", "Q4_K_S", "Q4_0", "IQ4_XS", "Q5_K_M", "Q8_0"];
    let usual = USUAL.iter().find_map(|quant| all.iter().find(|offer| offer.quant == *quant));
    let offer = usual.or(all.last()).expect("a repository that offers something").clone();
    PickedModel { offer, why: "the usual choice; this GPU does not report its memory size".into() }
}

fn names(all: &[Offer]) -> String {
    let unique = |quant: &str| all.iter().filter(|offer| offer.quant == quant).count() == 1;
    let name = |offer: &Offer| if unique(&offer.quant) { offer.quant.clone() } else { offer.name.clone() };
    all.iter().map(name).collect::<Vec<_>>().join(", ")
}
