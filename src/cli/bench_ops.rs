//! `bench --ops`: the cost of matmul for each weight type and of attention, relative to a copy shader and to peak
//! arithmetic.

use std::io::{self, Write};

use firelight::dtype::DType;
use firelight::gpu::Gpu;
use firelight::ops::KvType;
use firelight::plan::tune::TuneSizes;
use firelight::plan::{self, Cost};

use super::{Result, profile, term};

/// Row counts of a decode, a batched decode and a prefill.
const ROWS: [u32; 3] = [1, 8, 512];

/// Parses a weight type.
pub fn weight_type(name: &str) -> std::result::Result<DType, String> {
    let names = || DType::ALL.map(DType::name).join(", ");
    DType::from_name(name).ok_or_else(|| format!("there are {}", names()))
}

/// Prints the tables of matmul, for these types or for all if there are none, and of attention.
pub async fn run(gpu: &Gpu, types: &[DType]) -> Result {
    let (n, k) = plan::measured_matrix(gpu.caps());
    let types = if types.is_empty() { &DType::ALL } else { types };
    let (copy, rate) = (profile::bandwidth(gpu).await?, plan::arithmetic_rate(gpu).await?);
    let bar = term::counting_bar("type", types.len() as u64);
    let mut rows = Vec::new();
    for dtype in types {
        bar.set_message(dtype.name());
        let products = plan::products(gpu, *dtype, (n, k), &ROWS).await?;
        rows.push(row(*dtype, &products, 2e-9 * f64::from(n) * f64::from(k), copy, rate));
        bar.inc(1);
    }
    bar.finish_and_clear();
    let (card, mut out) = (gpu.adapter(), io::stdout().lock());
    writeln!(
        out,
        "matrices of {n} x {k} on {} ({}, {} tier); a copy reaches {copy:.1} GB/s, bare arithmetic {rate:.0} GFLOP/s\n",
        card.name, card.backend, card.caps.tier
    )?;
    let title = ["<type", "1 row, us", "GB/s", "% of copy", "8 rows, us", "512 rows, us", "GFLOP/s", "% of rate"];
    writeln!(out, "{}", term::table(&title, &rows))?;
    drop(out);
    attention(gpu, copy, rate).await
}

/// Prints the table of attention for two KV cache types.
async fn attention(gpu: &Gpu, copy: f64, rate: f64) -> Result {
    let TuneSizes { attention: op, rows: many, first, .. } = TuneSizes::usual(gpu.caps());
    // Two operations for each product of a query with a key, and two for the values.
    let flop =
        |rows: u32| 4.0 * f64::from(op.heads * op.head_dim) * (1..=rows).map(|i| f64::from(first + i)).sum::<f64>();
    let mut lines = Vec::new();
    for kv in [KvType::F16, KvType::Q8_0] {
        let costs = plan::attention(gpu, &op, kv, &[1, many], first).await?;
        let bytes = costs[0].bytes as f64 / costs[0].seconds / 1e9;
        let flops = flop(many) / costs[1].seconds / 1e9;
        let mut line = vec![kv.name().to_string()];
        line.extend([costs[0].seconds * 1e6, bytes].map(|n| format!("{n:.1}")));
        line.push(format!("{:.0}%", bytes / copy * 100.0));
        line.extend([
            format!("{:.1}", costs[1].seconds * 1e6),
            format!("{flops:.0}"),
            format!("{:.0}%", flops / rate * 100.0),
        ]);
        lines.push(line);
    }
    let (heads, of, values, mut out) = (op.heads, op.kv_heads, op.head_dim, io::stdout().lock());
    writeln!(out, "attention of {heads} heads over {of} of {values} values, after {first} positions\n")?;
    let many = format!("{many} rows, us");
    let title = ["<cache", "1 row, us", "GB/s", "% of copy", &many, "GFLOP/s", "% of rate"];
    Ok(write!(out, "{}", term::table(&title, &lines))?)
}

/// The table row of a weight type; `gflop` is the work per activation row.
fn row(dtype: DType, products: &[Cost], gflop: f64, copy: f64, rate: f64) -> Vec<String> {
    let microseconds = |i: usize| format!("{:.1}", products[i].seconds * 1e6);
    let bytes = products[0].bytes as f64 / products[0].seconds / 1e9;
    let flops = gflop * f64::from(ROWS[2]) / products[2].seconds;
    vec![
        dtype.name().to_string(),
        microseconds(0),
        format!("{bytes:.1}"),
        format!("{:.0}%", bytes / copy * 100.0),
        microseconds(1),
        microseconds(2),
        format!("{flops:.0}"),
        format!("{:.0}%", flops / rate * 100.0),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_counts_bytes_of_one_row_and_arithmetic_of_many() {
        let products = [(1e-3, 2_000_000), (2e-3, 0), (1.0, 0)].map(|(seconds, bytes)| Cost { seconds, bytes });
        let line = row(DType::Q4K, &products, 0.5, 4.0, 1024.0);
        assert_eq!(line, ["Q4_K", "1000.0", "2.0", "50%", "2000.0", "1000000.0", "256", "25%"]);
    }
}
