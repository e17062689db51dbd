//! Autotuning: kernel configurations are measured, correct ones are kept, and wrong ones are excluded.

mod common;

use common::gpu;
use firelight::gpu::{Caps, Tier, TuneConfig, TuneOutcome};
use firelight::graph::Attention;
use firelight::plan::arithmetic_rate;
use firelight::plan::tune::{Trial, TuneSizes, trials, tune_result};
use pollster::block_on;

/// Trials with sizes small enough for a software adapter.
fn tried(caps: &Caps) -> Vec<Trial> {
    let (matrix, prompts_matrix) = ((256, 512), (192, 256));
    let sizes = TuneSizes { matrix, prompts_matrix, attention: Attention::full(2, 1, 64), rows: 100, first: 40 };
    block_on(trials(gpu(), caps, &sizes)).expect("a device")
}

/// With the configurations for real GPUs and those for software adapters.
#[test]
fn every_configuration_is_correct() {
    for software in [false, true] {
        let caps = gpu().caps().clone().software(software);
        let tried = tried(&caps);
        for trial in &tried {
            let (tier, most) = if trial.tier.exact() { (caps.tier, 1e-5) } else { (trial.tier, 6e-3) };
            assert!(trial.error < most && trial.seconds > Some(0.0) && trial.tier == tier, "{trial:?}");
        }
        let found = tune_result(&tried).expect("a correct configuration");
        let same = |trial: &Trial| {
            TuneConfig { cooperative_attention: found.config.cooperative_attention, ..trial.layout } == found.config
        };
        assert!(tried.iter().any(|trial| same(trial) && trial.rows > 1), "{found:?}");
        assert_eq!(tried.iter().any(|trial| trial.attends), caps.cooperative != 0);
        for tier in Tier::F16_TIERS {
            let (was, has) = (tried.iter().any(|trial| trial.tier == tier), caps.lacks(tier).is_none());
            assert_eq!((was, found.of(tier) != TuneOutcome::None), (has, has), "{tier}");
        }
    }
}

/// With a wrong subgroup size, reductions add up only a part of each row (in configurations for real GPUs, where
/// several threads share a row).
#[test]
fn wrong_configurations_are_excluded() {
    let caps = gpu().caps();
    assert!(caps.subgroups(), "this needs an adapter with subgroups");
    let wrong_size = if caps.subgroup.1 == 64 { 128 } else { 64 };
    let tried = tried(&caps.clone().subgroup((wrong_size, wrong_size)).software(false));
    for trial in &tried {
        // The f16 kernels do not use subgroups.
        let wrong = trial.tier == Tier::Subgroups;
        assert_eq!((trial.error > 0.01, trial.seconds.is_none()), (wrong, wrong), "{trial:?}");
    }
    assert_eq!(tune_result(&tried).map(|found| found.tier), Some(Tier::Baseline));
}

/// The reference rate of `bench --ops`, in every tier of the adapter.
#[test]
fn arithmetic_rates_are_measured() {
    for tier in Tier::ALL.into_iter().filter(|tier| gpu().caps().lacks(*tier).is_none()) {
        let rate = block_on(arithmetic_rate(&gpu().clone().in_tier(tier))).expect("a device");
        println!("{tier}: {rate:.1} GFLOP/s");
        assert!(rate > 0.01 && rate.is_finite(), "{tier}: {rate} GFLOP/s");
    }
}
