//! Where the states of a sequence's layers lie ([`crate::graph::TensorKind::State`]): in which of its two slots, and how many
//! tokens each has seen. The bytes are the GPU's; nothing is copied here.

use crate::ops::PAGE;

/// Which of a sequence's two state slots holds what. A state cannot be cut back to fewer tokens as keys and values can:
/// so the one behind most of a prompt is kept, and steps go on from it into the other slot.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct State {
    /// The slot that steps write, 0 or 1.
    live: usize,
    /// How many tokens it has seen, if it is worth anything.
    live_at: Option<usize>,
    /// How many tokens the other has seen.
    kept_at: Option<usize>,
}

/// Tokens at a prompt's end that the next prompt may well not have: what a template puts behind the last message.
const TAIL: usize = 8;

impl State {
    /// Where a prompt of `len` tokens is to be interrupted to keep the state, if anywhere.
    pub fn stop(len: usize) -> usize {
        len.saturating_sub(1 + TAIL) / PAGE as usize * PAGE as usize
    }

    /// The longest beginning of at most `len` tokens whose state is there.
    pub fn usable(&self, len: usize) -> usize {
        [self.live_at, self.kept_at].into_iter().flatten().filter(|at| *at <= len).max().unwrap_or(0)
    }

    /// Forgets what has seen more than `len` tokens.
    pub fn truncate(&mut self, len: usize) {
        for at in [&mut self.live_at, &mut self.kept_at] {
            *at = at.filter(|at| *at <= len);
        }
    }

    /// The slot that a step over the positions from `start` to `end` reads, if it does not begin, and the one it writes.
    pub fn step(&mut self, start: usize, end: usize) -> (Option<usize>, usize) {
        let kept = self.kept_at == Some(start) && self.live_at != Some(start);
        let reads = if kept { 1 - self.live } else { self.live };
        self.live_at = Some(end);
        ((start > 0).then_some(reads), self.live)
    }

    /// Keeps what the last step left behind.
    pub fn keep(&mut self) {
        (self.live, self.kept_at, self.live_at) = (1 - self.live, self.live_at, None);
    }
}

#[cfg(test)]
mod tests {
    use super::super::pages::{Pages, Pools};
    use super::super::sequence::Sequence;
    use super::*;

    #[test]
    fn a_state_is_gone_on_from_where_it_was_kept() {
        let mut sequence = Sequence { state: Some(State::default()), ..Default::default() };
        let step = |s: &mut Sequence, start, end| s.state.as_mut().map(|state| state.step(start, end));
        assert_eq!([10, 41, 42, 73, 74].map(State::stop), [0, 32, 32, 64, 64]);
        let mut pools = Pools { all: Pages::new(4), near: Pages::new(0) };
        assert_eq!(sequence.reserve(0..62, &mut pools), Some(true));
        // A prompt of 42 tokens and an answer of 20.
        assert_eq!(step(&mut sequence, 0, 32), Some((None, 0)));
        sequence.state.as_mut().expect("a state").keep();
        assert_eq!(step(&mut sequence, 32, 42), Some((Some(0), 1)));
        assert_eq!(step(&mut sequence, 42, 62), Some((Some(1), 1)));
        (sequence.tokens, sequence.cached) = (vec![7; 62], 62);
        // The next prompt begins with all of it, with less, with too little.
        assert_eq!([62, 61, 32, 31].map(|n| sequence.common(&[7; 62][..n])), [62, 32, 32, 0]);
        sequence.truncate(50, &mut pools);
        assert_eq!((sequence.cached, sequence.tokens.len()), (32, 32));
        // Gone on from twice, the kept state stays as it is.
        assert_eq!(step(&mut sequence, 32, 40), Some((Some(0), 1)));
        (sequence.tokens, sequence.cached) = (vec![7; 40], 40);
        sequence.truncate(39, &mut pools);
        assert_eq!(step(&mut sequence, 32, 64), Some((Some(0), 1)));
        sequence.state.as_mut().expect("a state").keep();
        assert_eq!(step(&mut sequence, 64, 65), Some((Some(1), 0)));
    }
}
