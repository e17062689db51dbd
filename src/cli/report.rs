//! `devices --report`: what a bug report about a GPU needs, as Markdown. It must not print paths, user or machine
//! names.

use std::env::consts::{ARCH, OS};
use std::io::{self, Write};

use firelight::Error;
use firelight::gpu::{Gpu, GpuOptions, NO_ADAPTER, Tuning};
use firelight::plan;
use firelight::plan::tune::{self, TuneSizes};

use super::term::{self, Spinner};
use super::{Result, devices, doctor, profile};

pub async fn run(device: Option<String>) -> Result {
    let cards = Gpu::list().await;
    if cards.is_empty() {
        return Err(Error::Gpu(NO_ADAPTER.into()).into());
    }
    let gpu = Gpu::open(&GpuOptions::default().device(device).tuning(Tuning::Cached)).await?;
    let mut out = io::stdout().lock();
    writeln!(out, "### Firelight {} on {OS} {ARCH}\n\n```", env!("CARGO_PKG_VERSION"))?;
    cards.iter().enumerate().try_for_each(|(i, card)| write!(out, "{i}  {}", devices::describe(card)))?;
    writeln!(out, "```\n\n#### {}\n", term::printable(&gpu.adapter().name))?;
    for (name, (mark, text)) in
        [("kernels", doctor::kernels(&gpu).await.shown()), ("model", doctor::model(&gpu).await.shown())]
    {
        writeln!(out, "* {name}: {mark}: {}", term::printable(&text))?;
    }
    let spinner = Spinner::begin("measuring".into());
    let (copy, rate) = (profile::bandwidth(&gpu).await?, plan::arithmetic_rate(&gpu).await?);
    let sizes = TuneSizes::usual(gpu.caps());
    let trials = match gpu.caps().software {
        true => tune::default_trials(&gpu, &sizes).await?,
        false => tune::trials(&gpu, gpu.caps(), &sizes).await?,
    };
    drop(spinner);
    writeln!(out, "* speed: a copy shader reaches {copy:.1} GB/s, arithmetic in f32 {rate:.0} GFLOP/s")?;
    let (n, k) = sizes.matrix;
    let attention = &sizes.attention;
    writeln!(
        out,
        "* tuning: a matrix of {n} x {k}; {} query and {} KV heads of {}\n\n```\n{}```",
        attention.heads,
        attention.kv_heads,
        attention.head_dim,
        devices::trial_table(&gpu, &trials)
    )?;
    Ok(())
}
