//! Pages of the KV cache: which are free, and how many sequences read each.

/// The pages of layers with full attention, and those of layers with sliding windows.
#[derive(Clone, Debug)]
pub struct PagePools {
    /// For layers that attend to all positions.
    pub full: PagePool,
    /// For the others; see [`crate::ops::SlidingPages`].
    pub sliding: PagePool,
}

/// Hands out pages and counts their readers.
#[derive(Clone, Debug)]
pub struct PagePool {
    readers: Vec<u32>,
    free: Vec<u32>,
}

impl PagePool {
    /// `count` free pages.
    pub fn new(count: u32) -> Self {
        PagePool { readers: vec![0; count as usize], free: (0..count).rev().collect() }
    }

    /// A free page, which then has one reader.
    pub fn take(&mut self) -> Option<u32> {
        let page = self.free.pop()?;
        self.readers[page as usize] = 1;
        Some(page)
    }

    /// Adds a reader.
    pub fn share(&mut self, page: u32) {
        self.readers[page as usize] += 1;
    }

    /// Whether several sequences read the page, so that none may write it.
    pub fn is_shared(&self, page: u32) -> bool {
        self.readers[page as usize] > 1
    }

    /// Removes a reader; the page of the last one is free.
    pub fn release(&mut self, page: u32) {
        let readers = &mut self.readers[page as usize];
        *readers -= 1;
        if *readers == 0 {
            self.free.push(page);
        }
    }

    /// Free pages.
    #[cfg(test)]
    pub fn available(&self) -> usize {
        self.free.len()
    }
}
