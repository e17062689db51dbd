// Maps a tile to rows of x, y and the weight: a stack of experts, slots sorted by expert.
// Slot s of a row has the number row * USED + s. The bound shard holds EXPERTS matrices from EXPERT0 on.
//#import $expert_slot
@group(0) @binding(4) var<storage, read> tiles: array<vec4<u32>>; // {expert, first index into slots, count, 0}
@group(0) @binding(5) var<storage, read> slots: array<u32>;

// The matrix of the tile's expert.
fn route_weight_row(tile: u32) -> u32 {
    return (expert_slot(tiles[tile].x) - EXPERT0) * ROWS;
}

// No work if the expert's matrix is in another shard; below EXPERT0 the difference wraps around.
fn route_count(tile: u32) -> u32 {
    return select(0u, tiles[tile].z, expert_slot(tiles[tile].x) - EXPERT0 < EXPERTS);
}

fn route_x(tile: u32, j: u32) -> u32 {
    let slot = slots[tiles[tile].y + j];
    return select(slot / USED, slot, FROM_SLOTS);
}

fn route_y(tile: u32, j: u32) -> u32 {
    return slots[tiles[tile].y + j];
}
