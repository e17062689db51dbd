// The default of each role, for kernels that import no file for it. Most defaults do nothing. README.md documents the
// contract of each role.

//#role epilogue
// Sums are written unchanged.
fn epilogue(v: f32, row: u32, col: u32) -> f32 {
    return v;
}

//#role sum_squares
// No norm follows.
fn square_of(v: f32, row: u32, col: u32) -> f32 {
    return 0.0;
}

fn write_sum_squares(sum: f32, row: u32, part: u32, lid: u32, valid: bool) {}

//#role norm_scale
// x needs no norm factor.
fn norm_scale(row: u32, lane: u32, lid: u32) -> f32 {
    return 1.0;
}

//#role quantize_x
// x is not quantized.
fn quantize_x(row: u32, lid: u32) {}

//#role broadcast
// Each thread loads only its own values: SUBGROUP is 1.
fn broadcast(loaded: vec4<f32>) -> array<vec4<f32>, SUBGROUP> {
    return array(loaded);
}

//#role expert_slot
// The stack has the matrices of all experts, in order.
fn expert_slot(expert: u32) -> u32 {
    return expert;
}

//#role softcap
// No softcap.
fn softcap(score: f32) -> f32 {
    return score;
}

//#role temperature
// Scores do not depend on the query's position.
fn temperature(position: u32) -> f32 {
    return 1.0;
}

//#role sink
// No sink: the weight of this score underflows to zero.
fn sink(head: u32) -> f32 {
    return -1e30;
}

//#role values
// Values are part of the keys and stored with them (MLA).
fn value(i: u32) -> vec4<f32> {
    return vec4<f32>(0.0);
}

fn keep(at: u32, cell: k_Cell) {}

//#role head_norm
// Heads are not normed.
fn head_scale(squares: f32, lid: u32) -> f32 {
    return 1.0;
}

fn head_normed(v: vec4<f32>, scale: f32, head: u32, d: u32) -> vec4<f32> {
    return v;
}

//#role next_norm
// No norm follows.
fn next_norm(base: u32, squares: f32, lid: u32) {}

//#role expert_scale
// Experts have no multipliers.
fn expert_scale(expert: u32) -> f32 {
    return 1.0;
}

//#role groups
// A row may use any expert.
fn limit(lid: u32) {}
