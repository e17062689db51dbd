// Limits a row to the experts of the GROUPS_USED best of GROUPS groups. A group ranks by its best expert, or by the sum
// of its best two (TOP2_SUM). Experts of other groups get the lowest key.
var<workgroup> group_keys: array<u32, GROUPS>;

const GROUP = EXPERTS / GROUPS;

// The float of an ordered integer.
fn float_of(key: u32) -> f32 {
    return bitcast<f32>(key ^ select(0xffffffffu, 0x80000000u, (key >> 31u) == 1u));
}

fn limit(lid: u32) {
    for (var g = lid; g < GROUPS; g += WG) {
        var first = 0u;
        var second = 0u;
        for (var i = 0u; i < GROUP; i += 1u) {
            let key = keys[g * GROUP + i];
            second = max(second, min(first, key));
            first = max(first, key);
        }
        group_keys[g] = select(first, ordered(bitcast<u32>(float_of(first) + float_of(second))), TOP2_SUM);
    }
    workgroupBarrier();
    for (var e = lid; e < EXPERTS; e += WG) {
        let own = e / GROUP;
        var rank = 0u;
        for (var g = 0u; g < GROUPS; g += 1u) {
            let better = group_keys[g] > group_keys[own] || (group_keys[g] == group_keys[own] && g < own);
            rank += select(0u, 1u, better);
        }
        if (rank >= GROUPS_USED) {
            keys[e] = 0u;
        }
    }
    workgroupBarrier();
}
