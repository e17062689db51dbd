// Four neighbouring values of the KV cache as they are; for tests.
alias Kv4 = vec4<u32>;

fn kv_pack(v: vec4<f32>) -> Kv4 {
    return bitcast<vec4<u32>>(v);
}

fn kv_unpack(b: Kv4) -> vec4<f32> {
    return bitcast<vec4<f32>>(b);
}
