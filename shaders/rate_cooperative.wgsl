// Multiplies and adds cooperative matrices: the arithmetic rate of `bench --ops` in the cooperative tier. Each of four
// subgroups has four independent sums.
//#enable subgroups
//#enable f16
//#enable wgpu_cooperative_matrix
//#import $cooperative
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

const SIZE = COOP * COOP;
var<workgroup> tile: array<f16, SIZE>;
var<workgroup> leaving: array<f32, 4u * SIZE>;

@compute @workgroup_size(WG)
fn main(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
    @builtin(subgroup_id) subgroup: u32,
) {
    for (var at = lid; at < SIZE; at += WG) {
        tile[at] = f16(x[at / 4u][at % 4u]);
    }
    workgroupBarrier();
    let left = coopLoad<Left>(&tile[0], COOP);
    let right = coopLoad<Right>(&tile[0], COOP);
    var sums: array<Sum, 4>;
    for (var i = 0u; i < ROUNDS; i += 1u) {
        //#unroll n 4
        sums[n] = coopMultiplyAdd(left, right, sums[n]);
        //#end
    }
    var all = vec4<f32>(0.0);
    //#unroll n 4
    coopStore(sums[n], &leaving[subgroup % 4u * SIZE], COOP);
    workgroupBarrier();
    all += leaving[lid % SIZE];
    workgroupBarrier();
    //#end
    y[id.x] = all;
}
