//! The prefix cache: a request continues from the longest prefix of its prompt that some sequence has cached.

use super::pages::PagePools;
use super::states;
use super::{CachedSequence, KvCache};
use crate::ops::PAGE;

impl KvCache {
    /// Gives a prompt to the idle sequence that has most of it cached; whole pages that another sequence has more of
    /// are shared. What else the sequence had is evicted. Returns the sequence and how many tokens are reused, or
    /// `None` if no sequence is idle.
    pub fn start(&mut self, idle: &[usize], tokens: Vec<u32>) -> Option<(usize, usize)> {
        // At least one token has to run, for logits to continue from.
        let prefix = &tokens[..tokens.len().saturating_sub(1)];
        let matched = |sequence: &usize| self.sequences[*sequence].match_prefix(prefix);
        let sequence = idle.iter().copied().max_by_key(matched)?;
        // Sequences share pages, but no states.
        let recurrent = self.sequences[sequence].states.is_some();
        let donor = (0..self.sequences.len()).filter(|_| !recurrent).max_by_key(matched).unwrap_or(sequence);
        let (own, others) = (matched(&sequence), matched(&donor));
        self.truncate(sequence, own);
        let page = PAGE as usize;
        let whole = self.sequences[donor].resumable(others / page * page) / page;
        if let Ok([mine, others]) = self.sequences.get_disjoint_mut([sequence, donor])
            && whole * page > mine.len
        {
            mine.share(others, whole, &mut self.pools);
        }
        let s = &mut self.sequences[sequence];
        (s.checkpoint, s.tokens, s.stale) = (states::checkpoint(tokens.len()), tokens, true);
        Some((sequence, s.len))
    }
}

impl CachedSequence {
    /// Tokens that this sequence and `tokens` have in common from the beginning, as far as it can continue from there.
    pub fn match_prefix(&self, tokens: &[u32]) -> usize {
        let cached = &self.tokens[..self.len.min(self.tokens.len())];
        let common = cached.iter().zip(tokens).take_while(|(a, b)| a == b).count();
        self.resumable(common)
    }

    /// The longest prefix of at most `len` tokens from which the sequence can continue: its pages, window and state are
    /// there.
    pub fn resumable(&self, mut len: usize) -> usize {
        loop {
            let by_state = self.states.map_or(len, |states| states.resumable(len));
            let by_window = self.sliding.as_ref().map_or(by_state, |sliding| sliding.resumable(by_state));
            if by_window == len {
                return len;
            }
            len = by_window;
        }
    }

    /// Begins with the first `count` pages of `donor`, from which it must be able to continue.
    fn share(&mut self, donor: &CachedSequence, count: usize, pools: &mut PagePools) {
        self.truncate(0, pools);
        self.pages = donor.pages[..count].to_vec();
        self.pages.iter().for_each(|page| pools.full.share(*page));
        self.sliding = donor.sliding.as_ref().map(|sliding| sliding.share(count, &mut pools.sliding));
        self.len = count * PAGE as usize;
    }
}
