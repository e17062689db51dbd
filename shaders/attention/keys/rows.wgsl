// Keys and values are rows of the step, which contains whole sequences: a tile has the rows of its sequence (kv/rows).

// The row of position `start` of the tile's sequence.
fn page_at(sequence: u32, start: u32, tile: vec4<u32>) -> u32 {
    return tile.z + start;
}

// The last position of the tile's sequence.
fn end_of(own: u32, tile: vec4<u32>) -> u32 {
    return tile.w - 1u;
}
