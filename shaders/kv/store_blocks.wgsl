// Stores four values of a head, from turned_s, in their block of the cache (kv/q8_0). The scale is the block's largest
// magnitude over 127, as f16; quants are rounded with the scale that will be read back.
fn block_scale(first: u32) -> f32 {
    var top = vec4<f32>(0.0);
    for (var d = first; d < min(first + 8u, HEAD_DIM4); d += 1u) {
        top = max(top, abs(turned_s[d]));
    }
    return min(max(max(top.x, top.y), max(top.z, top.w)) / 127.0, 65504.0);
}

fn store(page: u32, head: u32, slot: u32, d: u32) {
    let at = place(page, head, slot);
    let scales = pack2x16float(vec2<f32>(block_scale(d & ~15u), block_scale((d & ~15u) + 8u)));
    let pair = unpack2x16float(scales);
    let scale = select(pair.x, pair.y, (d & 8u) != 0u);
    let inverse = select(1.0 / scale, 0.0, scale == 0.0);
    cache[at.x + d] = pack4xI8(vec4<i32>(clamp(round(turned_s[d] * inverse), vec4<f32>(-127.0), vec4<f32>(127.0))));
    if (d % 16u == 0u) {
        cache[scales_at(at, d)] = scales;
    }
}
