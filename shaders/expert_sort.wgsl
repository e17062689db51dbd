// Sorts slots by expert (stable), and makes tiles of at most TILE slots of one expert.
//
// One workgroup; a thread takes an expert and walks all slots twice, first to count and then to place. All threads load
// the same address, and there are a few thousand slots at most. Without atomics the result is deterministic.
//#import lib/step
@group(0) @binding(1) var<storage, read> ids: array<vec4<u32>>; // the expert of each slot
@group(0) @binding(2) var<storage, read_write> slots: array<u32>;
@group(0) @binding(3) var<storage, read_write> tiles: array<vec4<u32>>; // {expert, first index into slots, count, 0}

var<workgroup> counts: array<u32, EXPERTS>;

@compute @workgroup_size(WG)
fn main(@builtin(local_invocation_index) lid: u32) {
    let n = sizes.rows * USED;
    let n4 = (n + 3u) / 4u;
    for (var e = lid; e < EXPERTS; e += WG) {
        var count = 0u;
        for (var i = 0u; i < n4; i += 1u) {
            let four = ids[i];
            //#unroll j 4
            count += select(0u, 1u, four[j] == e && i * 4u + j < n);
            //#end
        }
        counts[e] = count;
    }
    workgroupBarrier();

    for (var e = lid; e < EXPERTS; e += WG) {
        var first = 0u;
        var tile = 0u;
        for (var before = 0u; before < e; before += 1u) {
            first += counts[before];
            tile += (counts[before] + TILE - 1u) / TILE;
        }
        let count = counts[e];
        for (var done = 0u; done < count; done += TILE) {
            tiles[tile] = vec4<u32>(e, first + done, min(TILE, count - done), 0u);
            tile += 1u;
        }
        // The last expert's thread clears the tiles that are dispatched but not needed.
        if (e == EXPERTS - 1u) {
            for (; tile < (n + TILE - 1u) / TILE + EXPERTS; tile += 1u) {
                tiles[tile] = vec4<u32>(0u);
            }
        }
        if (count == 0u) {
            continue;
        }
        for (var i = 0u; i < n4; i += 1u) {
            let four = ids[i];
            //#unroll j 4
            if (four[j] == e && i * 4u + j < n) {
                slots[first] = i * 4u + j;
                first += 1u;
            }
            //#end
        }
    }
}
