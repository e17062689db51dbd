//! Eviction from the KV cache: the rest of a sequence when a request replaces it or an answer is rolled back. Pages
//! outside a sliding window are evicted as a sequence advances (`sliding`).

use super::pages::PagePools;
use super::{CachedSequence, KvCache};
use crate::ops::PAGE;

impl KvCache {
    /// Evicts the idle sequence with the fewest cached positions, and starts it with `tokens`. Returns the sequence, or
    /// `None` if none is idle.
    pub fn evict_idle(&mut self, idle: &[usize], tokens: Vec<u32>) -> Option<usize> {
        let sequence = idle.iter().copied().min_by_key(|sequence| self.len(*sequence))?;
        self.clear(sequence);
        self.sequences[sequence].tokens = tokens;
        Some(sequence)
    }

    /// Evicts all that is cached of a sequence.
    pub fn clear(&mut self, sequence: usize) {
        self.truncate(sequence, 0);
        self.sequences[sequence].checkpoint = 0;
    }

    /// Rolls a sequence back to its known and cached tokens, without the last one. Positions that steps in flight write
    /// later are overwritten by the steps that follow.
    pub fn roll_back(&mut self, sequence: usize) {
        let s = &self.sequences[sequence];
        self.truncate(sequence, s.tokens.len().saturating_sub(1).min(s.len));
    }

    /// Evicts the positions of a sequence from `len` on.
    pub(super) fn truncate(&mut self, sequence: usize, len: usize) {
        self.sequences[sequence].truncate(len, &mut self.pools);
    }
}

impl CachedSequence {
    /// Keeps the first `len` tokens, or the longest prefix of them from which the sequence can continue. Releases the
    /// pages of the rest, and a page that other sequences read and this one would have to write.
    pub fn truncate(&mut self, len: usize, pools: &mut PagePools) {
        let page = PAGE as usize;
        let mut len = self.resumable(len);
        if !len.is_multiple_of(page) && self.is_shared(len / page, pools) {
            len = self.resumable(len / page * page);
        }
        if let Some(states) = &mut self.states {
            states.truncate(len);
        }
        if let Some(sliding) = &mut self.sliding {
            sliding.truncate(len, &mut pools.sliding);
        }
        for page in self.pages.drain(len.div_ceil(page)..) {
            pools.full.release(page);
        }
        self.len = len;
        self.tokens.truncate(len);
    }

    /// Whether other sequences read its page of this number.
    fn is_shared(&self, number: usize, pools: &PagePools) -> bool {
        let sliding = self.sliding.as_ref().and_then(|sliding| sliding.page(number));
        self.pages.get(number).is_some_and(|page| pools.full.is_shared(*page))
            || sliding.is_some_and(|page| pools.sliding.is_shared(page))
    }
}

#[cfg(test)]
mod tests {
    use super::super::pages::PagePool;
    use super::*;

    #[test]
    fn truncating_releases_pages_and_never_keeps_a_shared_one_to_write() {
        let mut pools = PagePools { full: PagePool::new(4), sliding: PagePool::new(0) };
        let mut a = CachedSequence { tokens: vec![7; 70], len: 70, ..Default::default() };
        assert!(a.reserve(0..70, &mut pools).is_some() && a.stale);
        pools.full.share(a.pages[1]);
        a.truncate(40, &mut pools);
        assert_eq!((a.len, a.pages.len(), pools.full.available()), (32, 1, 2));
    }
}
