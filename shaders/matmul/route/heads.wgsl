// Maps a tile to rows of x, y and the weight: a stack with a matrix for each head, and tiles of TILE rows of one head.
// x and y are (row, HEADS, values); the bound shard holds SHARD_HEADS heads from HEAD0 on.
fn route_weight_row(tile: u32) -> u32 {
    return tile % SHARD_HEADS * ROWS;
}

fn route_first(tile: u32) -> u32 {
    return tile / SHARD_HEADS * TILE;
}

// Rows of the tile; none after the last row.
fn route_count(tile: u32) -> u32 {
    return min(TILE, sizes.rows - min(route_first(tile), sizes.rows));
}

fn route_x(tile: u32, j: u32) -> u32 {
    return (route_first(tile) + j) * HEADS + HEAD0 + tile % SHARD_HEADS;
}

fn route_y(tile: u32, j: u32) -> u32 {
    return route_x(tile, j);
}
