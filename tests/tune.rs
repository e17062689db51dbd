//! Ways to multiply are tried, the right ones taken, and the wrong ones dropped.

mod common;

use common::gpu;
use firelight::gpu::{Caps, Matrices, Tier};
use firelight::plan::tune::{Trial, trials, verdict};
use pollster::block_on;

/// Small enough for a processor that pretends to be a GPU.
const MATRIX: (u32, u32) = (256, 512);

fn tried(caps: &Caps) -> Vec<Trial> {
    block_on(trials(gpu(), caps, MATRIX)).expect("a device")
}

/// Of this adapter as it is, and laid out as a real GPU or a software adapter.
#[test]
fn every_way_that_is_tried_is_right() {
    for software in [false, true] {
        let caps = Caps { software, ..gpu().caps().clone() };
        let tried = tried(&caps);
        for trial in &tried {
            let (tier, least) = if trial.tier.exact() { (caps.tier, 1e-5) } else { (Tier::Cooperative, 2e-3) };
            assert!(trial.error < least && trial.seconds > Some(0.0) && trial.tier == tier, "{trial:?}");
        }
        let found = verdict(&tried).expect("something is right");
        assert!(tried.iter().any(|trial| trial.layout == found.layout && trial.rows > 1), "{found:?}");
        let rounding = tried.iter().any(|trial| trial.tier == Tier::Cooperative);
        assert_eq!((rounding, found.matrices != Matrices::None), (caps.cooperative != 0, caps.cooperative != 0));
    }
}

/// An adapter that lies about the size of its subgroups adds up only a part of each row, where several threads share one as
/// on a real GPU.
#[test]
fn what_is_wrong_is_dropped() {
    let caps = gpu().caps();
    assert!(caps.subgroups(), "this needs an adapter with subgroups");
    let lie = if caps.subgroup.1 == 64 { 128 } else { 64 };
    let tried = tried(&Caps { subgroup: (lie, lie), software: false, ..caps.clone() });
    for trial in &tried {
        let wrong = trial.tier == Tier::Subgroups;
        assert_eq!((trial.error > 0.01, trial.seconds.is_none()), (wrong, wrong), "{trial:?}");
    }
    assert_eq!(verdict(&tried).map(|found| found.tier), Some(Tier::Baseline));
}
