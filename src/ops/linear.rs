//! Rows times a matrix of any weight type. Few rows run as a matvec, which reads each weight once for up to
//! [`KernelContext::matvec_rows`] rows; many as a tiled matmul. Several matrices of one x are in `linear_glu` and
//! `qkv`.

use super::context::KernelContext;
use super::epilogue::Epilogue;
use super::fused_norm;
use super::grid::{GridDim, StepSize};
use super::kernel::Kernel;
pub use super::matmul::MATMUL_TILE;
use super::matmul::Product;
use super::matvec::{MatvecShape, few_or_many};
use super::shard::Shard;
use crate::graph::{Linear, LinearOperands};

pub(super) fn kernels(_: &Linear, io: &LinearOperands, cx: &KernelContext) -> Vec<Kernel> {
    let (rows, epilogue) = (cx.rows(io.x), Epilogue::dense(io.bias, io.residual));
    let product = Product { x: io.x, weight: io.weight, y: io.y, column: 0, rows, epilogue };
    few_or_many(cx, rows, |tile| matvecs(io, &product, cx, tile), || product.matmuls(cx))
}

fn matvecs(io: &LinearOperands, product: &Product, cx: &KernelContext, tile: u32) -> Vec<Kernel> {
    let (dtype, cols) = (cx.dtype(io.weight), cx.cols(io.weight));
    let shape = MatvecShape::choose(cx, cols, tile, &[dtype]);
    let kernel = |(i, shard): (usize, &Shard)| {
        let grid = [GridDim::ceil(shard.rows, shape.rows()), GridDim::fixed(1), GridDim::fixed(1)];
        let kernel = Kernel::new("matvec", grid).set_all(product.matrix(cx, shard).consts());
        let kernel = kernel.set("OVER_LOGITS", product.rows == StepSize::Logits);
        let kernel = shape.weight(shape.add_to(kernel, cx, "dot"), "weight", dtype);
        let kernel = kernel.import("route", "matmul/route/dense");
        let mut kernel = product.epilogue.add_to(kernel.shard(io.weight, i).read(io.x).write(io.y));
        if let Some(norm) = &io.next_norm {
            let part0 = shard.row0 / shape.rows();
            kernel = fused_norm::write(norm, kernel, fused_norm::parts(cx, cols, cx.cols(io.y), tile), part0);
        }
        shape.when(kernel, product.rows)
    };
    cx.shards(io.weight).iter().enumerate().map(kernel).collect()
}

/// The reference of [`Linear`]: x (rows, `k`), weight (n, `k`), bias (n), residual (rows, n) -> (rows, n), summed in
/// f64.
pub fn reference(x: &[f32], weight: &[f32], k: usize, bias: Option<&[f32]>, residual: Option<&[f32]>) -> Vec<f32> {
    let mut y = Vec::new();
    for x in x.chunks_exact(k) {
        for (n, weight) in weight.chunks_exact(k).enumerate() {
            let sum: f64 = x.iter().zip(weight).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
            let bias = bias.map_or(0.0, |b| f64::from(b[n]));
            let residual = residual.map_or(0.0, |r| f64::from(r[y.len()]));
            y.push((sum + bias + residual) as f32);
        }
    }
    y
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_meets_every_row_of_the_weight() {
        let (x, weight) = ([1.0, 2.0, 3.0, -1.0], [1.0, 0.0, 2.0, 1.0, 0.5, -1.0]);
        assert_eq!(reference(&x, &weight, 2, None, None), [1.0, 4.0, -1.5, 3.0, 5.0, 2.5]);
        let (bias, residual) = ([10.0, 20.0, 30.0], [0.0, 0.0, 0.5, 1.0, 2.0, 3.0]);
        assert_eq!(reference(&x, &weight, 2, Some(&bias), None), [11.0, 24.0, 28.5, 13.0, 25.0, 32.5]);
        assert_eq!(reference(&x, &weight, 2, None, Some(&residual)), [1.0, 4.0, -1.0, 4.0, 7.0, 5.5]);
        assert_eq!(reference(&x, &weight, 2, Some(&bias), Some(&residual)), [11.0, 24.0, 29.0, 14.0, 27.0, 35.5]);
    }
}
