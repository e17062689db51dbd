// Quantizes x to int8 in groups of 32.
struct QuantizedGroup {
    words: array<u32, 8>,
    step: vec3<f32>, // the scale; the scale times the sum of each 16-value sub-block
}

// Group g of a row.
fn quantize_group(row: u32, g: u32) -> QuantizedGroup {
    var v: array<vec4<f32>, 8>;
    var most = vec4<f32>(0.0);
    //#unroll i 8
    v[i] = x_at(row, g * 8u + i);
    most = max(most, abs(v[i]));
    //#end
    let largest = max(max(most.x, most.y), max(most.z, most.w));
    let times = select(0.0, 127.0 / largest, largest > 0.0);
    var rounded: QuantizedGroup;
    var sums = vec2<i32>(0);
    //#unroll i 8
    {
        let q = vec4<i32>(round(v[i] * times));
        rounded.words[i] = pack4xI8(q);
        sums[i / 4u] += q.x + q.y + q.z + q.w;
    }
    //#end
    let step = largest / 127.0;
    rounded.step = vec3<f32>(step, step * vec2<f32>(sums));
    return rounded;
}
