//! Mixture of experts: routing, sorting, the experts' matrices, and their weighted sum. Routing stays on the GPU.

use super::{Choice, Kernel};

/// Which experts a row goes to.
#[derive(Clone, Debug, PartialEq)]
pub struct Router;
/// (row, expert) pairs in order of the expert, in tiles.
#[derive(Clone, Debug, PartialEq)]
pub struct ExpertSort;
/// Rows times the matrices of their experts.
#[derive(Clone, Debug, PartialEq)]
pub struct ExpertLinear;
/// Weighted sum of a row's experts.
#[derive(Clone, Debug, PartialEq)]
pub struct ExpertSum {
    /// There is a residual.
    pub residual: bool,
}
impl Router {
    pub(super) fn kernels(&self, _cx: &Choice) -> Vec<Kernel> {
        Vec::new()
    }
}
impl ExpertSort {
    pub(super) fn kernels(&self, _cx: &Choice) -> Vec<Kernel> {
        Vec::new()
    }
}
impl ExpertLinear {
    pub(super) fn kernels(&self, _cx: &Choice) -> Vec<Kernel> {
        Vec::new()
    }
}
impl ExpertSum {
    pub(super) fn kernels(&self, _cx: &Choice) -> Vec<Kernel> {
        Vec::new()
    }
}
