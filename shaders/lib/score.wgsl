// The inputs of the kernels that read logits, and the count of a token so far.
//#import lib/sampling
@group(0) @binding(1) var<storage, read> logit_rows: array<u32>;
@group(0) @binding(2) var<storage, read> rows: array<vec4<u32>>; // input, position, sequence, output slot
@group(0) @binding(3) var<storage, read> sampling: array<Params>; // one for each output slot
@group(0) @binding(4) var<storage, read> counts: array<u32>; // (output slot, VOCAB)
@group(0) @binding(5) var<storage, read> logits: array<u32>; // (logit row, VOCAB), the bits of floats

fn seen(p: Params, slot: u32, token: u32) -> u32 {
    if ((p.flags & PENALTIES) == 0u) {
        return 0u;
    }
    return counts[slot * VOCAB + token];
}
