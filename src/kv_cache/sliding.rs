//! The sliding-window cache: pages of a sequence in layers with sliding windows or chunks. A page that no later query
//! sees is evicted, so that such layers take as many pages as their window, however long the sequence.
//!
//! Rolling back is limited: a prefix can be resumed only if the pages inside its window are still there. Rolling back
//! by [`MAX_ROLLBACK`] positions is always possible, and the window at a prompt's checkpoint is kept for the next
//! request.

use super::pages::PagePool;
use crate::ops::{MAX_ROLLBACK, PAGE};
use std::ops::Range;

const POSITIONS: usize = PAGE as usize;

/// The page table of a sequence. See the module.
#[derive(Clone, Debug)]
pub struct SlidingTable {
    /// Positions that a query sees, including its own.
    window: usize,
    /// Pages, by position / PAGE.
    pages: Vec<Option<u32>>,
    /// The window before this length is not evicted.
    kept: usize,
}

impl SlidingTable {
    /// No pages yet.
    pub fn new(window: u32) -> Self {
        SlidingTable { window: window as usize, pages: Vec::new(), kept: 0 }
    }

    /// The page of this number, unless it was evicted.
    pub fn page(&self, number: usize) -> Option<u32> {
        self.pages.get(number).copied().flatten()
    }

    /// Numbers of the pages before `len` that the position `len` sees.
    fn in_window(&self, len: usize) -> Range<usize> {
        (len + 1).saturating_sub(self.window) / POSITIONS..len.div_ceil(POSITIONS)
    }

    /// The longest prefix of at most `len` tokens whose window is there.
    pub fn resumable(&self, mut len: usize) -> usize {
        while let Some(missing) = self.in_window(len).rev().find(|number| self.page(*number).is_none()) {
            len = missing * POSITIONS;
        }
        len
    }

    /// Keeps the window of the first `len` tokens.
    pub fn keep(&mut self, len: usize) {
        self.kept = len;
    }

    /// Releases the pages from `len` on.
    pub fn truncate(&mut self, len: usize, pool: &mut PagePool) {
        self.pages.drain(len.div_ceil(POSITIONS).min(self.pages.len())..).flatten().for_each(|page| pool.release(page));
        self.kept = self.kept.min(len);
    }

    /// A table for another sequence that continues after the first `count` pages, with those inside its window.
    pub fn share(&self, count: usize, pool: &mut PagePool) -> Self {
        let window = self.in_window(count * POSITIONS);
        let pages: Vec<_> = (0..count).map(|number| self.page(number).filter(|_| window.contains(&number))).collect();
        pages.iter().flatten().for_each(|page| pool.share(*page));
        SlidingTable { window: self.window, pages, kept: count * POSITIONS }
    }

    /// Evicts the pages outside the window of a step over `positions`, and takes those that the step writes. Returns
    /// whether pages were taken, or `None` if too few are free.
    pub fn reserve(&mut self, positions: Range<usize>, pool: &mut PagePool) -> Option<bool> {
        self.evict_outside_window(positions.start, pool);
        let end = positions.end.div_ceil(POSITIONS);
        self.pages.resize(self.pages.len().max(end), None);
        let mut taken = false;
        let first = self.in_window(positions.start).start;
        for page in &mut self.pages[first..end] {
            if page.is_none() {
                (*page, taken) = (Some(pool.take()?), true);
            }
        }
        Some(taken)
    }

    /// Releases the pages that neither position `start`, rolled back as far as possible, nor the kept prefix sees.
    fn evict_outside_window(&mut self, start: usize, pool: &mut PagePool) {
        let kept = self.in_window(self.kept);
        let first = self.in_window(start.saturating_sub(MAX_ROLLBACK as usize)).start;
        for number in (0..first.min(self.pages.len())).filter(|number| !kept.contains(number)) {
            if let Some(page) = self.pages[number].take() {
                pool.release(page);
            }
        }
    }

    /// The page table for the GPU. Evicted pages are never read, so their numbers do not matter.
    pub fn table(&self) -> Vec<u32> {
        self.pages.iter().map(|page| page.unwrap_or(0)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops;

    /// Prefills `len` tokens in steps of `rows`, keeps the end, and decodes `answer` tokens.
    fn run(table: &mut SlidingTable, pool: &mut PagePool, len: usize, rows: usize, answer: usize) {
        for start in (0..len).step_by(rows) {
            assert!(table.reserve(start..len.min(start + rows), pool).is_some(), "{start}");
        }
        table.keep(len);
        for position in len..len + answer {
            assert!(table.reserve(position..position + 1, pool).is_some(), "{position}");
        }
    }

    #[test]
    fn a_sequence_of_any_length_has_room_in_the_pages_of_the_formula() {
        for (window, rows) in [(1, 1), (16, 8), (33, 64), (100, 32), (512, 512)] {
            let count = ops::SlidingPages::pages_per_sequence(window, rows);
            let (mut pool, mut table) = (PagePool::new(count), SlidingTable::new(window));
            run(&mut table, &mut pool, 3001, rows as usize, 2000);
            assert_eq!([4937, 3001, 2900].map(|len| table.resumable(len)).map(|len| len >= 2900), [true, true, false]);
        }
    }

    #[test]
    fn going_back_is_possible_to_the_prompts_end_and_a_little_before_the_last() {
        let (mut pool, mut table) = (PagePool::new(32), SlidingTable::new(64));
        run(&mut table, &mut pool, 300, 100, 500);
        assert_eq!((table.resumable(800), table.resumable(736), table.resumable(300)), (800, 736, 300));
        // Some pages before position 500 are gone.
        assert_eq!(table.resumable(500), 320);
        // The same pages serve a second sequence; the first gives them back, they stay.
        let whole = table.resumable(300) / POSITIONS;
        let second = table.share(whole, &mut pool);
        table.truncate(0, &mut pool);
        assert_eq!((table.resumable(300), second.resumable(300)), (0, whole * POSITIONS));
        assert_eq!(pool.available(), 32 - second.in_window(whole * POSITIONS).len());
    }
}
