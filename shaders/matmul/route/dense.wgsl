// Maps a tile of TILE tokens to rows of x, y and the weight: one dense matrix, rows in order.
fn route_weight_row(tile: u32) -> u32 {
    return 0u;
}

// Tokens of the tile.
fn route_count(tile: u32) -> u32 {
    let tokens = select(sizes.rows, sizes.logits, OVER_LOGITS);
    return min(TILE, tokens - tile * TILE);
}

fn route_x(tile: u32, j: u32) -> u32 {
    return tile * TILE + j;
}

fn route_y(tile: u32, j: u32) -> u32 {
    return tile * TILE + j;
}
