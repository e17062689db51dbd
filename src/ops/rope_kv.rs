//! Everything between the projections and attention, in one kernel.

use super::{GridDim, Kernel, KernelContext, KvType, PAGE, StepSize};
use crate::graph::{RopeKv, RopeKvOperands, RopeStyle};

pub(super) fn kernels(op: &RopeKv, io: &RopeKvOperands, cx: &KernelContext) -> Vec<Kernel> {
    let (head_dim, kv) = (op.rope.head_dim, cx.capacity.kv);
    let wg = cx.lanes(head_dim / 4);
    let heads = GridDim::fixed(op.heads + 2 * op.kv_heads);
    let kernel = Kernel::new("rope_kv", [heads, GridDim::each(StepSize::Rows), GridDim::fixed(1)]);
    let kernel = cx
        .reduce(kernel, wg, wg)
        .import("kv", kv.shader())
        .import("kv_store", if kv == KvType::Q8_0 { "kv/store_blocks" } else { "kv/store_cells" })
        .set("HEADS", op.heads)
        .set("KV_HEADS", op.kv_heads)
        .set("HEAD_DIM", head_dim)
        .set("ROT", op.rope.rotated)
        .set("NORM_VALUES", op.norm_values)
        .set("NEOX", op.rope.style == RopeStyle::Neox)
        .set("PAGE", PAGE)
        .set("PAGES_PER_SEQUENCE", cx.capacity.pages_per_sequence)
        .reads([io.rows, io.pages, io.angles, io.qkv])
        .write(io.q)
        .write(io.keys)
        .write(io.values);
    vec![match &io.head_norm {
        Some(norm) => kernel.import("head_norm", "norm/head/rms").set("EPS", norm.eps).read(norm.weights),
        None => kernel,
    }]
}
