// Gives every lane the values that each of the SUBGROUP lanes has fetched.
//#enable subgroups
fn broadcast(fetched: vec4<f32>) -> array<vec4<f32>, SUBGROUP> {
    var all: array<vec4<f32>, SUBGROUP>;
    //#unroll s SUBGROUP
    all[s] = subgroupBroadcast(fetched, s);
    //#end
    return all;
}
