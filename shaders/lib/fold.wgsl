    // The beginning of a folded kernel's main: computes the workgroup's place in the kernel's grid (ops/grid.rs).
    // Workgroups are numbered, x first; the dispatch may have a few too many. This is not a function because naga
    // treats the results of functions as non-uniform.
    let fold_number = (folded.z * FOLD_HEIGHT + folded.y) * FOLD_WIDTH + folded.x;
    let fold_sizes = array<u32, 6>(1u, sizes.rows, sizes.logits, sizes.splits, sizes.tiles, sizes.segments);
    let fold_x = (fold_sizes[X_SIZE] * X_TIMES + X_PER - 1u) / X_PER + X_PLUS;
    let fold_y = (fold_sizes[Y_SIZE] * Y_TIMES + Y_PER - 1u) / Y_PER + Y_PLUS;
    let fold_z = (fold_sizes[Z_SIZE] * Z_TIMES + Z_PER - 1u) / Z_PER + Z_PLUS;
    let wg = vec3<u32>(fold_number % fold_x, fold_number / fold_x % fold_y, fold_number / fold_x / fold_y);
    if (wg.z >= fold_z) {
        return;
    }
