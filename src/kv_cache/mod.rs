//! The KV cache: where the keys and values of each sequence's positions are, which prefixes are reused, and what is
//! evicted. The bytes belong to the plan; this is bookkeeping over page and slot numbers, without a GPU.
//!
//! * `pages`: pages of [`PAGE`] positions, with a reference count each; sequences with a common prefix share pages.
//! * `sliding`: pages of layers with sliding windows or chunks, and the eviction of those outside the window.
//! * `states`: the slots of recurrent layers' states, and the checkpoint that a prompt leaves.
//! * `prefix`: how much of a prompt is in the cache, and taking it over from another sequence.
//! * `eviction`: which sequence's cache a request replaces, and rolling back to a prefix.

mod eviction;
mod pages;
mod prefix;
mod sliding;
mod states;

use std::ops::Range;

use crate::ops::{Capacity, PAGE};
use crate::{Error, Result};
use pages::{PagePool, PagePools};
use sliding::SlidingTable;
use states::StateSlots;
pub use states::StateStep;

/// The cache of all sequences. See the module.
pub struct KvCache {
    sequences: Vec<CachedSequence>,
    pools: PagePools,
}

/// The cache of one sequence.
#[derive(Default)]
struct CachedSequence {
    /// The sequence's tokens, which prefixes are compared with. The last may not be cached yet; those of steps in
    /// flight are not known yet.
    tokens: Vec<u32>,
    /// Positions that are cached, or will be once the steps in flight have run.
    len: usize,
    /// The pages of positions, in order.
    pages: Vec<u32>,
    /// The pages of layers with sliding windows, if the model keeps them apart.
    sliding: Option<SlidingTable>,
    /// The state slots, if the model is recurrent.
    states: Option<StateSlots>,
    /// Where the prompt's state and window are kept for later requests; 0: nowhere.
    checkpoint: usize,
    /// Whether the GPU's page tables are outdated.
    stale: bool,
}

impl KvCache {
    /// An empty cache for the sequences and pages of `capacity`.
    pub fn new(capacity: &Capacity, sliding: bool, recurrent: bool) -> Self {
        let sliding = capacity.sliding.filter(|_| sliding);
        let sequence = || CachedSequence {
            sliding: sliding.map(|pages| SlidingTable::new(pages.window)),
            states: recurrent.then(StateSlots::default),
            ..Default::default()
        };
        KvCache {
            sequences: (0..capacity.sequences).map(|_| sequence()).collect(),
            pools: PagePools {
                full: PagePool::new(capacity.pages),
                sliding: PagePool::new(sliding.map_or(0, |pages| pages.pages)),
            },
        }
    }

    /// The tokens of a sequence, as far as they are known.
    pub fn tokens(&self, sequence: usize) -> &[u32] {
        &self.sequences[sequence].tokens
    }

    /// Positions of a sequence that are cached, or will be once the steps in flight have run.
    pub fn len(&self, sequence: usize) -> usize {
        self.sequences[sequence].len
    }

    /// Appends a generated token to a sequence.
    pub fn push_token(&mut self, sequence: usize, token: u32) {
        self.sequences[sequence].tokens.push(token);
    }

    /// The positions of the next prefill step of a sequence: at most `rows`, and no further than the checkpoint of a
    /// recurrent model, whose state is kept as it is after a step.
    pub fn prefill_range(&self, sequence: usize, rows: usize) -> Range<usize> {
        let s = &self.sequences[sequence];
        let end = s.tokens.len().min(s.len + rows);
        let pauses = s.states.is_some() && (s.len + 1..=end).contains(&s.checkpoint);
        s.len..if pauses { s.checkpoint } else { end }
    }

    /// Makes room for a step of a sequence over `positions`, which then count as cached, and evicts what its layers no
    /// longer see. Returns the state slots that the step reads and writes, if the model is recurrent.
    ///
    /// # Errors
    /// [`Error::Limit`] if no page is free.
    pub fn advance(&mut self, sequence: usize, positions: Range<usize>) -> Result<Option<StateStep>> {
        let s = &mut self.sequences[sequence];
        let reserved = s.reserve(positions.clone(), &mut self.pools);
        reserved.ok_or_else(|| Error::Limit("the KV cache has no free page; use fewer sequences at once".into()))?;
        let step = s.states.as_mut().map(|states| states.step(positions.start, positions.end));
        s.len = positions.end;
        if (positions.start + 1..=positions.end).contains(&s.checkpoint) {
            s.keep_checkpoint();
        }
        Ok(step)
    }

    /// The page tables of a sequence, of all layers and of those with sliding windows, if they changed since the last
    /// call.
    pub fn changed_tables(&mut self, sequence: usize) -> Option<(&[u32], Option<Vec<u32>>)> {
        let s = &mut self.sequences[sequence];
        std::mem::take(&mut s.stale).then(|| (s.pages.as_slice(), s.sliding.as_ref().map(SlidingTable::table)))
    }
}

impl CachedSequence {
    /// Takes pages for a step over `positions`; `None` if too few are free.
    fn reserve(&mut self, positions: Range<usize>, pools: &mut PagePools) -> Option<()> {
        while self.pages.len() < positions.end.div_ceil(PAGE as usize) {
            self.pages.push(pools.full.take()?);
            self.stale = true;
        }
        if let Some(sliding) = &mut self.sliding {
            self.stale |= sliding.reserve(positions, &mut pools.sliding)?;
        }
        Some(())
    }

    /// Keeps the state and the window of the checkpoint, from which later requests can continue.
    fn keep_checkpoint(&mut self) {
        if let Some(states) = &mut self.states {
            states.keep();
        }
        if let Some(sliding) = &mut self.sliding {
            sliding.keep(self.checkpoint);
        }
    }
}
