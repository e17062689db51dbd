//! The ops and their operands, by name: plain data. What an op computes, and with which kernels, is in `ops`.

use super::TensorId;
use super::attention::{Attention, AttentionOperands, KvWrite, KvWriteOperands};
use super::elementwise::{Add, AddOperands, Glu, GluOperands, LogitScale, LogitScaleOperands};
use super::heads::{HeadConcat, HeadConcatOperands, HeadLinear, HeadLinearOperands, HeadSlice, HeadSliceOperands};
use super::linear::{Linear, LinearGlu, LinearGluOperands, LinearOperands, Qkv, QkvOperands};
use super::moe::{ExpertLinear, ExpertLinearOperands, ExpertSort, ExpertSortOperands, ExpertSum, ExpertSumOperands};
use super::moe::{Router, RouterOperands};
use super::norm::{LayerNorm, LayerNormOperands, NormAdd, NormAddOperands, RmsNorm, RmsNormOperands};
use super::recurrent::{DeltaNet, DeltaNetOperands, ShortConv, ShortConvOperands};
use super::rope::{Rope, RopeKv, RopeKvOperands, RopeOperands};
use super::rows::{Embed, EmbedOperands, Gather, GatherOperands, Sample, SampleOperands};

/// Calls a macro with every op: its variant (which is the type of its parameters), the type of its operands, and its
/// name in plans and profiles (which is its module in `ops`).
macro_rules! op_table {
    ($use:ident) => {
        $use! {
            /// Token ids to vectors.
            Embed, EmbedOperands, embed;
            /// Root-mean-square norm.
            RmsNorm, RmsNormOperands, rms_norm;
            /// Layer norm.
            LayerNorm, LayerNormOperands, layer_norm;
            /// Rows times a matrix.
            Linear, LinearOperands, linear;
            /// Rows times two matrices, gated.
            LinearGlu, LinearGluOperands, linear_glu;
            /// Rows times the matrices of queries, keys and values.
            Qkv, QkvOperands, qkv;
            /// Rotary position embedding.
            Rope, RopeOperands, rope;
            /// Keys and values into the cache.
            KvWrite, KvWriteOperands, kv_write;
            /// Head norms, rotation, keys and values into the cache.
            RopeKv, RopeKvOperands, rope_kv;
            /// Attention over the cache, or over the rows of the step.
            Attention, AttentionOperands, attention;
            /// A slice of each head.
            HeadSlice, HeadSliceOperands, head_slice;
            /// Two tensors concatenated head by head.
            HeadConcat, HeadConcatOperands, head_concat;
            /// Each head times its own matrix.
            HeadLinear, HeadLinearOperands, head_linear;
            /// A short convolution along a sequence.
            ShortConv, ShortConvOperands, short_conv;
            /// The gated delta rule over a state.
            DeltaNet, DeltaNetOperands, delta_net;
            /// Gated activation of two tensors.
            Glu, GluOperands, glu;
            /// Sum of two tensors.
            Add, AddOperands, add;
            /// A post-norm, the residual sum, and the next norm.
            NormAdd, NormAddOperands, norm_add;
            /// The rows that have logits.
            Gather, GatherOperands, gather;
            /// The experts of each row.
            Router, RouterOperands, router;
            /// (row, expert) pairs sorted by expert, in tiles.
            ExpertSort, ExpertSortOperands, expert_sort;
            /// Rows times the matrices of their experts.
            ExpertLinear, ExpertLinearOperands, expert_linear;
            /// Weighted sum over a row's experts.
            ExpertSum, ExpertSumOperands, expert_sum;
            /// Logits scaled and softcapped.
            LogitScale, LogitScaleOperands, logit_scale;
            /// Logits to tokens.
            Sample, SampleOperands, sample;
        }
    };
}
pub(crate) use op_table;

macro_rules! define_op {
    ($($(#[$doc:meta])* $op:ident, $operands:ident, $name:ident;)*) => {
        /// Everything a graph can compute: an op's parameters, and the tensors that it reads and writes.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Op {
            $($(#[$doc])* $op($op, $operands),)*
        }

        impl Op {
            /// The name in plans and profiles.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Op::$op(..) => stringify!($name),)*
                }
            }

            /// Calls `f` with each operand, in the order of their declaration.
            pub fn visit(&self, f: &mut dyn FnMut(TensorId, Access)) {
                match self {
                    $(Op::$op(_, operands) => operands.visit(Access::Read, f),)*
                }
            }
        }
    };
}
op_table!(define_op);

impl Op {
    fn all(&self, access: Access) -> Vec<TensorId> {
        let mut out = Vec::new();
        self.visit(&mut |id, of| out.extend((of == access).then_some(id)));
        out
    }

    fn has(&self, id: TensorId, access: Access) -> bool {
        let mut found = false;
        self.visit(&mut |other, of| found |= (other, of) == (id, access));
        found
    }

    /// The tensors that it reads.
    pub fn inputs(&self) -> Vec<TensorId> {
        self.all(Access::Read)
    }

    /// The tensors that it writes; the first is the one that it is for.
    pub fn outputs(&self) -> Vec<TensorId> {
        self.all(Access::Write)
    }

    /// Whether it reads a tensor.
    pub fn reads(&self, id: TensorId) -> bool {
        self.has(id, Access::Read)
    }

    /// Whether it writes a tensor.
    pub fn writes(&self, id: TensorId) -> bool {
        self.has(id, Access::Write)
    }
}

/// How an op uses an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reads it.
    Read,
    /// Writes it, or reads and writes it.
    Write,
}

/// An operand, or several: a tensor, one that may be missing, an array of them, or a struct made by `operands!`.
pub(super) trait Operand {
    /// Calls `f` with each tensor. `access` is that of the field; a struct knows its own.
    fn visit(&self, access: Access, f: &mut dyn FnMut(TensorId, Access));
}

impl Operand for TensorId {
    fn visit(&self, access: Access, f: &mut dyn FnMut(TensorId, Access)) {
        f(*self, access);
    }
}

impl<T: Operand> Operand for Option<T> {
    fn visit(&self, access: Access, f: &mut dyn FnMut(TensorId, Access)) {
        self.iter().for_each(|operand| operand.visit(access, f));
    }
}

impl<T: Operand, const N: usize> Operand for [T; N] {
    fn visit(&self, access: Access, f: &mut dyn FnMut(TensorId, Access)) {
        self.iter().for_each(|operand| operand.visit(access, f));
    }
}

/// Declares the operands of an op. Fields after `read` are only read, those after `write` are written.
macro_rules! operands {
    ($(#[$doc:meta])* $name:ident {
        read { $($(#[$read_doc:meta])* $read:ident: $read_type:ty,)* }
        write { $($(#[$write_doc:meta])* $write:ident: $write_type:ty,)* }
    }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            $($(#[$read_doc])* pub $read: $read_type,)*
            $($(#[$write_doc])* pub $write: $write_type,)*
        }

        impl $crate::graph::op::Operand for $name {
            fn visit(
                &self,
                _: $crate::graph::op::Access,
                f: &mut dyn FnMut($crate::graph::TensorId, $crate::graph::op::Access),
            ) {
                use $crate::graph::op::Access;
                $(self.$read.visit(Access::Read, f);)*
                $(self.$write.visit(Access::Write, f);)*
            }
        }
    };
}
pub(super) use operands;
