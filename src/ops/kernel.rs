//! Kernels as plain data: which shader variant, which tensors it binds, how many workgroups, and when it runs.

use super::grid::{GridDim, GridFold, StepSize};
use crate::graph::TensorId;
use crate::shader::{Const, ShaderSource};

/// A tensor that a kernel binds. Binding 0 is the `Step` uniform; these follow from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The tensor.
    pub tensor: TensorId,
    /// The shard of a weight.
    pub shard: usize,
    /// Bound `read_write`.
    pub write: bool,
}

/// A kernel runs only in steps in which a size is within bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DispatchPredicate {
    /// The size.
    pub size: StepSize,
    /// Smallest value.
    pub min: u32,
    /// Largest value.
    pub max: u32,
}

/// One dispatch of a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Kernel {
    /// The shader variant.
    pub source: ShaderSource,
    /// Storage bindings from 1 on.
    pub bindings: Vec<Binding>,
    /// Workgroups.
    pub grid: [GridDim; 3],
    /// The shape in which they are dispatched, if they may exceed what an adapter allows in a dimension.
    pub fold: Option<GridFold>,
    /// All must hold.
    pub when: Vec<DispatchPredicate>,
    /// How much of a bound expert stack is read, for byte counts: (experts of the stack, experts of a row).
    pub experts_read: Option<(u32, u32)>,
}

impl Kernel {
    /// A kernel of `shaders/<file>.wgsl` that binds nothing yet and always runs.
    pub fn new(file: &'static str, grid: [GridDim; 3]) -> Self {
        let source = ShaderSource { file, ..Default::default() };
        Kernel { source, bindings: Vec::new(), grid, fold: None, when: Vec::new(), experts_read: None }
    }

    fn bind(mut self, tensor: TensorId, shard: usize, write: bool) -> Self {
        self.bindings.push(Binding { tensor, shard, write });
        self
    }

    /// Binds a tensor `read`.
    pub fn read(self, tensor: TensorId) -> Self {
        self.bind(tensor, 0, false)
    }

    /// Binds tensors `read`.
    pub fn reads(self, tensors: impl IntoIterator<Item = TensorId>) -> Self {
        tensors.into_iter().fold(self, Self::read)
    }

    /// Binds a shard of a weight `read`.
    pub fn shard(self, weight: TensorId, shard: usize) -> Self {
        self.bind(weight, shard, false)
    }

    /// Binds a tensor `read_write`.
    pub fn write(self, tensor: TensorId) -> Self {
        self.bind(tensor, 0, true)
    }

    /// Sets a constant to the number of the next binding.
    pub fn set_next_binding(self, name: &'static str) -> Self {
        let next = self.bindings.len() as u32 + 1;
        self.set(name, next)
    }

    /// Sets a constant of the header.
    pub fn set(mut self, name: &'static str, value: impl Into<Const>) -> Self {
        self.source.consts.push((name, value.into()));
        self
    }

    /// Sets constants of one type.
    pub fn set_all<T: Into<Const>>(mut self, consts: impl IntoIterator<Item = (&'static str, T)>) -> Self {
        self.source.consts.extend(consts.into_iter().map(|(name, value)| (name, value.into())));
        self
    }

    /// Chooses a file for a role of the shader; see `shaders/README.md`.
    pub fn import(mut self, role: &'static str, file: &'static str) -> Self {
        self.source.imports.push((role, file));
        self
    }

    /// The same, run only while `size` is in `min..=max`.
    pub fn when(mut self, size: StepSize, min: u32, max: u32) -> Self {
        self.when.push(DispatchPredicate { size, min, max });
        self
    }
}
