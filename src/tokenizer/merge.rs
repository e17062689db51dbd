//! The merge algorithm of both tokenizer types: merges neighbouring symbols, best pair first.
//!
//! Byte-pair encoding orders pairs by the rank of their merge, SentencePiece by the score of the merged token; both
//! break ties from the left. A heap of candidates with lazy deletion takes O(n log n), so that long runs of one letter
//! cannot be used for denial of service.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// The id of a symbol that is not a token.
pub(super) const NONE: u32 = u32::MAX;

/// A byte range `start..end` of the input and its token (or [`NONE`]).
#[derive(Clone, Copy, Debug)]
pub(super) struct Symbol {
    pub start: usize,
    pub end: usize,
    pub id: u32,
}

/// The result of merging two neighbours. The lowest `order` merges first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Join {
    pub order: u32,
    pub id: u32,
}

/// Merges neighbours until `join` returns `None` for all pairs; returns the remaining symbols in order.
pub(super) fn merge(mut symbols: Vec<Symbol>, join: impl Fn(&Symbol, &Symbol) -> Option<Join>) -> Vec<Symbol> {
    let n = symbols.len();
    // Links to the remaining neighbours; n means "none".
    let mut prev: Vec<usize> = (0..n).map(|i| i.checked_sub(1).unwrap_or(n)).collect();
    let mut next: Vec<usize> = (1..=n).collect();
    let mut queue = BinaryHeap::new();
    let offer = |queue: &mut BinaryHeap<_>, symbols: &[Symbol], left: usize, right: usize| {
        if let Some(found) = join(&symbols[left], &symbols[right]) {
            queue.push(Reverse((found.order, left, right, symbols[right].end, found.id)));
        }
    };
    for right in 1..n {
        offer(&mut queue, &symbols, right - 1, right);
    }
    while let Some(Reverse((_, left, right, end, id))) = queue.pop() {
        // Outdated: a side was swallowed (empty), or has grown since. A left side that grew no longer touches `right`.
        let alive = |i: usize| symbols[i].start < symbols[i].end;
        if !alive(left) || !alive(right) || next[left] != right || symbols[right].end != end {
            continue;
        }
        symbols[left].end = end;
        symbols[left].id = id;
        symbols[right].start = end;
        next[left] = next[right];
        if next[left] < n {
            prev[next[left]] = left;
            offer(&mut queue, &symbols, left, next[left]);
        }
        if prev[left] < n {
            offer(&mut queue, &symbols, prev[left], left);
        }
    }
    symbols.retain(|s| s.start < s.end);
    symbols
}
