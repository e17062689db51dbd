// Four neighbouring values of the KV cache as halves, two in a word; larger values are clamped to the largest half.
alias Kv4 = vec2<u32>;

fn kv_pack(v: vec4<f32>) -> Kv4 {
    let c = clamp(v, vec4<f32>(-65504.0), vec4<f32>(65504.0));
    return vec2<u32>(pack2x16float(c.xy), pack2x16float(c.zw));
}

fn kv_unpack(b: Kv4) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(b.x), unpack2x16float(b.y));
}
