// What each of SUBGROUP lanes has fetched, for all of them.
//#enable subgroups
fn broadcast(fetched: vec4<f32>) -> array<vec4<f32>, SUBGROUP> {
    var all: array<vec4<f32>, SUBGROUP>;
    //#unroll s SUBGROUP
    all[s] = subgroupBroadcast(fetched, s);
    //#end
    return all;
}
