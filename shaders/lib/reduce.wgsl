// Reductions over LANES consecutive threads of a workgroup of WG, through workgroup memory.
// Every thread of the workgroup must call them; every thread gets the result of its own LANES.
var<workgroup> reduce_buf: array<vec4<f32>, WG>;

fn reduce_sum4(v: vec4<f32>, lid: u32) -> vec4<f32> {
    if (LANES == 1u) {
        return v;
    }
    let lane = lid % LANES;
    reduce_buf[lid] = v;
    workgroupBarrier();
    for (var s = LANES / 2u; s > 0u; s >>= 1u) {
        if (lane < s) {
            reduce_buf[lid] += reduce_buf[lid + s];
        }
        workgroupBarrier();
    }
    let result = reduce_buf[lid - lane];
    workgroupBarrier();
    return result;
}

fn reduce_max4(v: vec4<f32>, lid: u32) -> vec4<f32> {
    if (LANES == 1u) {
        return v;
    }
    let lane = lid % LANES;
    reduce_buf[lid] = v;
    workgroupBarrier();
    for (var s = LANES / 2u; s > 0u; s >>= 1u) {
        if (lane < s) {
            reduce_buf[lid] = max(reduce_buf[lid], reduce_buf[lid + s]);
        }
        workgroupBarrier();
    }
    let result = reduce_buf[lid - lane];
    workgroupBarrier();
    return result;
}

fn reduce_sum(v: f32, lid: u32) -> f32 {
    return reduce_sum4(vec4<f32>(v, 0.0, 0.0, 0.0), lid).x;
}

fn reduce_max(v: f32, lid: u32) -> f32 {
    return reduce_max4(vec4<f32>(v), lid).x;
}
