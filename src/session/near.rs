//! The pages of a sequence in layers with windows or chunks. They see only the last positions: a page that no query will
//! see again is given back, so that such layers take what their span takes, however long the sequence.
//!
//! Going back has its price: from a shorter beginning a sequence can go on only if the pages are there that it sees.
//! [`MAX_ROLLBACK`] positions are always possible, and the end of a prompt is kept, where the next answer may begin anew.

use super::pages::Pages;
use crate::ops::{MAX_ROLLBACK, PAGE};
use std::ops::Range;

const POSITIONS: usize = PAGE as usize;

/// See the module.
#[derive(Clone, Debug)]
pub struct Near {
    /// Positions that a query sees, its own among them.
    span: usize,
    /// Page numbers, by position / PAGE.
    pages: Vec<Option<u32>>,
    /// A length to which the sequence may want to go back.
    kept: usize,
}

impl Near {
    /// No pages yet.
    pub fn new(span: u32) -> Self {
        Near { span: span as usize, pages: Vec::new(), kept: 0 }
    }

    /// The page of this number, if it is there.
    pub fn page(&self, number: usize) -> Option<u32> {
        self.pages.get(number).copied().flatten()
    }

    /// Numbers of the pages that tokens behind the first `len` see of them.
    fn seen(&self, len: usize) -> Range<usize> {
        (len + 1).saturating_sub(self.span) / POSITIONS..len.div_ceil(POSITIONS)
    }

    /// The longest beginning of at most `len` tokens whose pages are there.
    pub fn usable(&self, mut len: usize) -> usize {
        while let Some(missing) = self.seen(len).rev().find(|number| self.page(*number).is_none()) {
            len = missing * POSITIONS;
        }
        len
    }

    /// Notes that the sequence may want to go on from its first `len` tokens.
    pub fn keep(&mut self, len: usize) {
        self.kept = len;
    }

    /// Forgets what is behind the first `len` tokens.
    pub fn truncate(&mut self, len: usize, pool: &mut Pages) {
        self.pages.drain(len.div_ceil(POSITIONS).min(self.pages.len())..).flatten().for_each(|page| pool.release(page));
        self.kept = self.kept.min(len);
    }

    /// The first `count` pages, as far as what follows sees them, for another sequence.
    pub fn share(&self, count: usize, pool: &mut Pages) -> Self {
        let seen = self.seen(count * POSITIONS);
        let pages: Vec<_> = (0..count).map(|number| self.page(number).filter(|_| seen.contains(&number))).collect();
        pages.iter().flatten().for_each(|page| pool.share(*page));
        Near { span: self.span, pages, kept: count * POSITIONS }
    }

    /// Gives back what a step over `positions` and those after it do not see, and makes room for it. Returns whether
    /// pages were added, or `None` if there are none left.
    pub fn reserve(&mut self, positions: Range<usize>, pool: &mut Pages) -> Option<bool> {
        let kept = self.seen(self.kept);
        let first = self.seen(positions.start.saturating_sub(MAX_ROLLBACK as usize)).start;
        for number in (0..first.min(self.pages.len())).filter(|number| !kept.contains(number)) {
            if let Some(page) = self.pages[number].take() {
                pool.release(page);
            }
        }
        let end = positions.end.div_ceil(POSITIONS);
        self.pages.resize(self.pages.len().max(end), None);
        let mut grown = false;
        let first = self.seen(positions.start).start;
        for page in &mut self.pages[first..end] {
            if page.is_none() {
                (*page, grown) = (Some(pool.take()?), true);
            }
        }
        Some(grown)
    }

    /// The page table; numbers of pages that are not there do not matter.
    pub fn table(&self) -> Vec<u32> {
        self.pages.iter().map(|page| page.unwrap_or(0)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops;

    /// Reads a prompt of `len` tokens by `rows`, keeps its end, and answers with `answer` tokens.
    fn run(near: &mut Near, pool: &mut Pages, len: usize, rows: usize, answer: usize) {
        for start in (0..len).step_by(rows) {
            assert!(near.reserve(start..len.min(start + rows), pool).is_some(), "{start}");
        }
        near.keep(len);
        for position in len..len + answer {
            assert!(near.reserve(position..position + 1, pool).is_some(), "{position}");
        }
    }

    #[test]
    fn a_sequence_of_any_length_has_room_in_the_pages_of_the_formula() {
        for (span, rows) in [(1, 1), (16, 8), (33, 64), (100, 32), (512, 512)] {
            let count = ops::SlidingPages::pages_per_sequence(span, rows);
            let (mut pool, mut near) = (Pages::new(count), Near::new(span));
            run(&mut near, &mut pool, 3001, rows as usize, 2000);
            assert_eq!([4937, 3001, 2900].map(|len| near.usable(len)).map(|len| len >= 2900), [true, true, false]);
        }
    }

    #[test]
    fn going_back_is_possible_to_the_prompts_end_and_a_little_before_the_last() {
        let (mut pool, mut near) = (Pages::new(32), Near::new(64));
        run(&mut near, &mut pool, 300, 100, 500);
        assert_eq!((near.usable(800), near.usable(736), near.usable(300)), (800, 736, 300));
        // What lies between has gaps before it.
        assert_eq!(near.usable(500), 320);
        // The same pages serve a second sequence; the first gives them back, they stay.
        let whole = near.usable(300) / POSITIONS;
        let second = near.share(whole, &mut pool);
        near.truncate(0, &mut pool);
        assert_eq!((near.usable(300), second.usable(300)), (0, whole * POSITIONS));
        assert_eq!(pool.available(), 32 - second.seen(whole * POSITIONS).len());
    }
}
