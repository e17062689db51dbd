// Keys and values are in the pages of the cache.
@group(0) @binding(PAGES_AT) var<storage, read> pages: array<u32>;

// The page of a sequence that begins at position `start`.
fn page_at(sequence: u32, start: u32, tile: vec4<u32>) -> u32 {
    return pages[sequence * PAGES_PER_SEQUENCE + start / PAGE];
}

// The last position with keys for a tile whose last row is at `own`.
fn end_of(own: u32, tile: vec4<u32>) -> u32 {
    return own;
}
