//! The epilogue of a product, applied to its sums before they are written: a file of `shaders/matmul/epilogue`, and its
//! bindings.

use super::kernel::Kernel;
use crate::graph::{ExpertEpilogue, TensorId};

/// See the module.
#[derive(Clone, Copy)]
pub(super) enum Epilogue {
    /// Nothing.
    Plain,
    /// Adds a bias to each column: (n).
    Bias(TensorId),
    /// Adds a residual: (rows, n).
    Residual(TensorId),
    /// Adds both.
    BiasResidual(TensorId, TensorId),
    /// Adds the bias (experts, n) of the slot's expert, one of `ids`.
    ExpertBias { bias: TensorId, ids: TensorId },
    /// Multiplies by the slot's routing weight.
    RoutingWeight(TensorId),
}

impl Epilogue {
    /// Of a bias and a residual, if there are any.
    pub fn dense(bias: Option<TensorId>, residual: Option<TensorId>) -> Self {
        match (bias, residual) {
            (None, None) => Epilogue::Plain,
            (Some(bias), None) => Epilogue::Bias(bias),
            (None, Some(residual)) => Epilogue::Residual(residual),
            (Some(bias), Some(residual)) => Epilogue::BiasResidual(bias, residual),
        }
    }

    /// Of slots that have the experts `ids`.
    pub fn expert(epilogue: Option<ExpertEpilogue>, ids: TensorId) -> Self {
        match epilogue {
            None => Epilogue::Plain,
            Some(ExpertEpilogue::Bias(bias)) => Epilogue::ExpertBias { bias, ids },
            Some(ExpertEpilogue::RoutingWeight(weights)) => Epilogue::RoutingWeight(weights),
        }
    }

    /// Gives it to a kernel.
    pub fn add_to(self, kernel: Kernel) -> Kernel {
        let (file, bindings) = match self {
            Epilogue::Plain => return kernel,
            Epilogue::Bias(bias) => ("matmul/epilogue/bias", vec![bias]),
            Epilogue::Residual(residual) => ("matmul/epilogue/residual", vec![residual]),
            Epilogue::BiasResidual(bias, residual) => ("matmul/epilogue/bias_residual", vec![bias, residual]),
            Epilogue::ExpertBias { bias, ids } => ("matmul/epilogue/expert_bias", vec![bias, ids]),
            Epilogue::RoutingWeight(weights) => ("matmul/epilogue/routing_weight", vec![weights]),
        };
        kernel.import("epilogue", file).set_next_binding("EPILOGUE_AT").reads(bindings)
    }
}
