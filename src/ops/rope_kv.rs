//! What lies between the projections and attention, in one kernel: norms of the heads, rotation, keys and values into
//! the cache. Takes what [`qkv`](super::qkv) makes.

use super::rope::{Rope, RopeStyle};
use super::{Binding, GridDim, Kernel, KernelContext, KvType, PAGE, StepSize};
use crate::shader::{Const, ShaderSource};

/// Inputs: row table, page tables, angles, queries, keys and values side by side, the norms' weights joined if any.
/// Outputs: the queries (rows, heads * head_dim), the cache of keys, that of values.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeKv {
    /// Query heads.
    pub heads: u32,
    /// Heads of keys and values.
    pub kv_heads: u32,
    /// How queries and keys are rotated.
    pub rope: Rope,
    /// The epsilon of the norms of queries' and keys' heads, if they have one.
    pub head_norm: Option<f32>,
    /// Heads of values are normed alike, without a weight.
    pub norm_values: bool,
}

impl RopeKv {
    pub(super) fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        let head_dim = self.rope.head_dim;
        let wg = cx.lanes(head_dim / 4);
        let mut consts = cx.reduce_consts(wg, wg);
        consts.extend([
            ("HEADS", Const::U32(self.heads)),
            ("KV_HEADS", Const::U32(self.kv_heads)),
            ("HEAD_DIM", Const::U32(head_dim)),
            ("ROT", Const::U32(self.rope.rotated)),
            ("NORM_VALUES", Const::Bool(self.norm_values)),
            ("NEOX", Const::Bool(self.rope.style == RopeStyle::Neox)),
            ("PAGE", Const::U32(PAGE)),
            ("PAGES_PER_SEQUENCE", Const::U32(cx.capacity.pages_per_sequence)),
        ]);
        let mut bindings: Vec<_> = (0..4).map(|i| Binding::read(cx.input(i))).collect();
        bindings.extend((0..3).map(|i| Binding::write(cx.output(i))));
        let mut head_norm = "norm/head/none";
        if let Some(eps) = self.head_norm {
            head_norm = "norm/head/rms";
            consts.push(("EPS", Const::F32(eps)));
            bindings.push(Binding::read(cx.input(4)));
        }
        let kv = cx.capacity.kv;
        let store = if kv == KvType::Q8_0 { "kv/store/q8_0" } else { "kv/store/plain" };
        let imports = vec![cx.reduce(), ("head_norm", head_norm), ("kv", kv.shader()), ("kv_store", store)];
        let source = ShaderSource { file: "rope_kv", imports, consts };
        let heads = GridDim::fixed(self.heads + 2 * self.kv_heads);
        vec![Kernel::new(source, bindings, [heads, GridDim::each(StepSize::Rows), GridDim::fixed(1)])]
    }
}
