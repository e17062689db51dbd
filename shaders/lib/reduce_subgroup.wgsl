// Reductions over LANES consecutive threads of a workgroup of WG, by subgroup operations; the same functions as
// lib/reduce. LANES is one, or a multiple of every possible subgroup size. ONE_SUBGROUP: the subgroup size is known to
// be LANES.
//#enable subgroups
var<workgroup> reduce_buf: array<vec4<f32>, WG>;

fn reduce_sum4(v: vec4<f32>, lid: u32) -> vec4<f32> {
    if (LANES == 1u) {
        return v;
    }
    let part = subgroupAdd(v);
    if (ONE_SUBGROUP) {
        return part;
    }
    let size = subgroupAdd(1u);
    if (lid % size == 0u) {
        reduce_buf[lid / size] = part;
    }
    workgroupBarrier();
    let first = lid / LANES * LANES / size;
    var total = reduce_buf[first];
    for (var i = 1u; i < LANES / size; i += 1u) {
        total += reduce_buf[first + i];
    }
    workgroupBarrier();
    return total;
}

fn reduce_max4(v: vec4<f32>, lid: u32) -> vec4<f32> {
    if (LANES == 1u) {
        return v;
    }
    let part = subgroupMax(v);
    if (ONE_SUBGROUP) {
        return part;
    }
    let size = subgroupAdd(1u);
    if (lid % size == 0u) {
        reduce_buf[lid / size] = part;
    }
    workgroupBarrier();
    let first = lid / LANES * LANES / size;
    var total = reduce_buf[first];
    for (var i = 1u; i < LANES / size; i += 1u) {
        total = max(total, reduce_buf[first + i]);
    }
    workgroupBarrier();
    return total;
}

fn reduce_sum(v: f32, lid: u32) -> f32 {
    return reduce_sum4(vec4<f32>(v, 0.0, 0.0, 0.0), lid).x;
}

fn reduce_max(v: f32, lid: u32) -> f32 {
    return reduce_max4(vec4<f32>(v), lid).x;
}
