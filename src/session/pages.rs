//! Pages of the KV cache: which are free, and how many sequences read each.

/// The pages of all layers, and those of the layers that see only what is near.
#[derive(Clone, Debug)]
pub struct Pools {
    /// For the layers that see everything.
    pub all: Pages,
    /// For those that do not; see [`crate::ops::SlidingPages`].
    pub near: Pages,
}

/// Hands out pages and counts their readers.
#[derive(Clone, Debug)]
pub struct Pages {
    readers: Vec<u32>,
    free: Vec<u32>,
}

impl Pages {
    /// `count` free pages.
    pub fn new(count: u32) -> Self {
        Pages { readers: vec![0; count as usize], free: (0..count).rev().collect() }
    }

    /// A page nobody reads.
    pub fn take(&mut self) -> Option<u32> {
        let page = self.free.pop()?;
        self.readers[page as usize] = 1;
        Some(page)
    }

    /// One more sequence reads the page.
    pub fn share(&mut self, page: u32) {
        self.readers[page as usize] += 1;
    }

    /// Whether several sequences read the page, so that none may write it.
    pub fn shared(&self, page: u32) -> bool {
        self.readers[page as usize] > 1
    }

    /// One sequence fewer reads the page.
    pub fn release(&mut self, page: u32) {
        let readers = &mut self.readers[page as usize];
        *readers -= 1;
        if *readers == 0 {
            self.free.push(page);
        }
    }

    /// Pages that nobody reads.
    #[cfg(test)]
    pub fn available(&self) -> usize {
        self.free.len()
    }
}
