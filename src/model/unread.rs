//! Tensors that no part of a model reads: an error that names them and the missing block; they are never ignored
//! silently, since a model that lacks a part still produces text, but nonsense.

use std::collections::BTreeSet;

use crate::{Error, Result};

/// Beginnings of the last part of a tensor's name, and the block that it belongs to. The first match counts.
const BLOCKS: &[(&str, &str)] = &[
    ("time_mix", "RWKV layers"),
    ("altup", "alternating updates (AltUp)"),
    ("laurel", "learned residuals (LAuReL)"),
    ("nextn", "multi-token prediction"),
    ("position_embd", "learned positions"),
    ("token_types", "an encoder"),
    ("cls", "a classifier"),
    ("attn_norm_2", "parallel blocks with two norms"),
];

/// Refuses a checkpoint of `layers` layers with tensors that are not among those read. Further layers are for
/// multi-token prediction and may be ignored.
///
/// # Errors
/// [`Error::Unsupported`], with the tensors and what they belong to.
pub(super) fn refuse<'a>(names: impl Iterator<Item = &'a str>, read: &BTreeSet<String>, layers: u32) -> Result<()> {
    let is_run = |name: &str| layer(name).is_none_or(|n| n < layers);
    match describe(&names.filter(|name| !read.contains(*name) && is_run(name)).collect::<Vec<_>>()) {
        Some(unread) => Err(Error::Unsupported(format!("this model cannot run: {unread}"))),
        None => Ok(()),
    }
}

/// The known blocks, of those that Firelight does not have, in a checkpoint of an unknown architecture.
pub(super) fn unknown_blocks<'a>(names: impl Iterator<Item = &'a str>) -> Option<String> {
    let names: Vec<&str> = names.collect();
    let foreign: Vec<&str> = names.iter().copied().filter(|name| block(name, &names).is_some()).collect();
    describe(&foreign)
}

/// A clause about tensors that are not understood, if there are any.
fn describe(names: &[&str]) -> Option<String> {
    const SHOWN: usize = 3;
    if names.is_empty() {
        return None;
    }
    let first = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    let more = if names.len() > SHOWN { format!(" and {} more", names.len() - SHOWN) } else { String::new() };
    let missing: BTreeSet<&str> = names.iter().filter_map(|name| block(name, names)).collect();
    let missing = missing.into_iter().collect::<Vec<_>>().join(", ");
    let what = if missing.is_empty() { String::new() } else { format!("; Firelight does not have {missing}") };
    Some(format!("these tensors are not understood: {first}{more}{what}"))
}

/// The block that a tensor belongs to, if it is one that Firelight does not have; `all` are the names around it.
fn block(name: &str, all: &[&str]) -> Option<&'static str> {
    let part = part(name);
    // Mamba, Mamba-2 and delta nets share most names.
    if part.starts_with("ssm_") {
        let has = |wanted: &str| all.iter().any(|name| self::part(name) == wanted);
        return match (has("ssm_x"), has("ssm_d")) {
            (true, _) => Some("Mamba layers"),
            (false, true) => Some("Mamba-2 layers"),
            (false, false) => None,
        };
    }
    BLOCKS.iter().find(|(start, _)| part.starts_with(start)).map(|(_, block)| *block)
}

/// `blk.3.attn_q.weight` -> `attn_q`.
fn part(name: &str) -> &str {
    let name = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')).map_or(name, |(_, part)| part);
    name.split('.').next().unwrap_or(name)
}

/// `blk.3.attn_q.weight` -> 3.
fn layer(name: &str) -> Option<u32> {
    name.strip_prefix("blk.")?.split_once('.')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_are_named_with_what_they_belong_to() {
        assert_eq!(describe(&[]), None);
        let said = describe(&["blk.0.ssm_a", "blk.0.ssm_d.weight", "odd.weight", "blk.1.time_mix_key.weight"]).unwrap();
        let first = "these tensors are not understood: blk.0.ssm_a, blk.0.ssm_d.weight, odd.weight and 1 more; ";
        assert_eq!(said, format!("{first}Firelight does not have Mamba-2 layers, RWKV layers"));
        assert_eq!(describe(&["odd"]).unwrap(), "these tensors are not understood: odd");
        let mamba = ["blk.0.ssm_a", "blk.0.ssm_d", "blk.0.ssm_x.weight"];
        assert!(unknown_blocks(mamba.into_iter()).unwrap().ends_with("does not have Mamba layers"));
        assert_eq!(unknown_blocks(["blk.0.ssm_a", "blk.0.ssm_alpha.weight", "odd"].into_iter()), None);
    }

    #[test]
    fn layers_that_are_not_run_may_be_left_out() {
        let read = BTreeSet::from(["blk.0.attn_q.weight".to_string()]);
        let names = ["blk.0.attn_q.weight", "blk.1.nextn.eh_proj.weight"];
        assert!(refuse(names.into_iter(), &read, 1).is_ok());
        let error = refuse(names.into_iter(), &read, 2).unwrap_err().to_string();
        assert!(
            error.ends_with("blk.1.nextn.eh_proj.weight; Firelight does not have multi-token prediction"),
            "{error}"
        );
    }
}
