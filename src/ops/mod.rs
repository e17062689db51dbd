//! The ops: what each computes, on the CPU (`reference`) and on the GPU (`kernels`).
//!
//! The parameters and operands of an op are in [`graph`](crate::graph); here are a Rust file and a WGSL file of its
//! name. Choosing a kernel yields plain data ([`Kernel`]), so that `plan` can list, dedupe, print and test it without a
//! GPU. No wgpu here.

pub mod add;
pub mod attention;
pub mod catalog;
mod context;
pub mod delta_net;
pub mod embed;
mod epilogue;
pub mod expert_linear;
pub mod expert_sort;
pub mod expert_sum;
mod fused_norm;
pub mod gather;
pub mod glu;
pub mod grid;
pub mod head_concat;
pub mod head_linear;
pub mod head_slice;
mod kernel;
mod kv;
pub mod kv_write;
pub mod layer_norm;
pub mod linear;
pub mod linear_glu;
pub mod logit_scale;
mod matmul;
mod matvec;
pub mod norm_add;
pub mod qkv;
pub mod rms_norm;
pub mod rope;
pub mod rope_kv;
pub mod router;
pub mod sample;
mod shard;
pub mod short_conv;

use crate::graph::{Op, op_table};
pub use context::KernelContext;
pub use grid::{GridDim, GridFold, StepSize, StepSizes};
pub use kernel::{Binding, DispatchPredicate, Kernel};
pub use kv::{Capacity, DECODE_ROWS, KvType, MAX_ROLLBACK, PAGE, SlidingPages};
pub use matmul::MATMUL_TILE;
pub(crate) use matmul::cooperative_shader;
pub use shard::{SHARD_UNIT, Shard, shard_rows, shard_unit, shards, weight_shards};

/// The kernels that compute a node, in order.
pub fn kernels(op: &Op, cx: &KernelContext) -> Vec<Kernel> {
    let fold = |kernel: Kernel| kernel.folded(cx.capacity, cx.caps.max_workgroups);
    unfolded_kernels(op, cx).into_iter().map(fold).collect()
}

macro_rules! define_kernels {
    ($($(#[$doc:meta])* $op:ident, $operands:ident, $name:ident;)*) => {
        fn unfolded_kernels(op: &Op, cx: &KernelContext) -> Vec<Kernel> {
            match op {
                $(Op::$op(op, operands) => $name::kernels(op, operands, cx),)*
            }
        }
    };
}
op_table!(define_kernels);
