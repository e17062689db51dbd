// Values have a separate cache.
@group(0) @binding(5) var<storage, read> v: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> v_cache: array<v_Cell>;
//#import $kv as v_

fn value(i: u32) -> vec4<f32> {
    return v[i];
}

fn keep(at: u32, cell: v_Cell) {
    v_cache[at] = cell;
}
