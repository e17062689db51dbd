// Maps a tile to rows of x, y and the weight: a stack of experts, one slot per tile.
// Slot s of a row has the number row * USED + s. The bound shard holds EXPERTS matrices from EXPERT0 on.
//#import $expert_slot
@group(0) @binding(4) var<storage, read> ids: array<u32>; // the expert of each slot

// The matrix of the slot's expert.
fn route_weight_row(tile: u32) -> u32 {
    return (expert_slot(ids[tile]) - EXPERT0) * ROWS;
}

// No work if the expert's matrix is in another shard; below EXPERT0 the difference wraps around.
fn route_count(tile: u32) -> u32 {
    return select(0u, 1u, expert_slot(ids[tile]) - EXPERT0 < EXPERTS);
}

fn route_x(tile: u32, j: u32) -> u32 {
    return select(tile / USED, tile, FROM_SLOTS);
}

fn route_y(tile: u32, j: u32) -> u32 {
    return tile;
}
