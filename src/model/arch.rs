//! The architectures that run, as data: one row each. What a file says itself (sizes, biases, norms of q and k, tied
//! output, experts) is read from its keys and tensors, never from the architecture's name.

use crate::ops::rope::Pairing;
use crate::{Error, Result};

/// What the name `general.architecture` implies and no key says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Arch {
    /// The name in the file.
    pub name: &'static str,
    /// Which values of a head rotate together.
    pub pairing: Pairing,
}

const LLAMA: Arch = Arch { name: "llama", pairing: Pairing::Neighbours };

/// Every architecture.
pub const ALL: &[Arch] = &[
    LLAMA,
    Arch { name: "qwen2", pairing: Pairing::Halves },
    Arch { name: "qwen3", pairing: Pairing::Halves },
    Arch { name: "qwen3moe", pairing: Pairing::Halves },
];

impl Arch {
    /// The row of this name.
    ///
    /// # Errors
    /// [`Error::Unsupported`] with the names that are supported.
    pub fn find(name: &str) -> Result<&'static Arch> {
        ALL.iter().find(|a| a.name == name).ok_or_else(|| {
            let names: Vec<_> = ALL.iter().map(|a| a.name).collect();
            Error::Unsupported(format!(
                "the architecture {name:?} is not supported yet; supported are {}",
                names.join(", ")
            ))
        })
    }
}
