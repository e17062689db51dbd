//! Mixture of experts on the GPU compared with the CPU references, op by op: the reference of each op reads the inputs
//! that the GPU computed, so that rounding cannot send a row to another expert.

mod common;

use common::test_plan::{TestPlan, caps};
use common::types;
use firelight::dtype::DType;
use firelight::gpu::Tier;
use firelight::graph::{
    Activation, ExpertEpilogue, ExpertLinear, ExpertSort, ExpertSum, ExpertWeights, Graph, Op, Router, RouterGroups,
    RoutingWeights, Rows, Scoring, TensorId, TensorKind,
};
use firelight::ops::linear::MATMUL_TILE;
use firelight::ops::{Capacity, DECODE_ROWS, KvType, StepSizes};
use firelight::plan::fuse::Fuse;
use firelight::plan::{DispatchList, PlanOptions};
use std::collections::BTreeSet;

const MAX_ROWS: u32 = 300;
const CAPACITY: Capacity = Capacity {
    rows: MAX_ROWS,
    logits: 1,
    sequences: 2,
    outputs: 2,
    embeddings: 0,
    pages: 2,
    pages_per_sequence: 1,
    sliding: None,
    kv: KvType::F32,
};

fn random(mut state: u64) -> impl FnMut() -> u32 {
    move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 32) as u32
    }
}

fn normal(seed: u64, n: usize) -> Vec<f32> {
    let mut rng = random(seed);
    (0..n).map(|_| (0..4).map(|_| rng() as f32 / u32::MAX as f32 - 0.5).sum::<f32>() * 1.7).collect()
}

/// The file's bytes of a random weight, and their values.
fn weight(dtype: DType, seed: u64, rows: u32, cols: u32) -> (Vec<u8>, Vec<f32>) {
    let mut bytes = vec![0; rows as usize * dtype.row_bytes(cols.into()).unwrap() as usize];
    dtype.random_blocks(&mut random(seed), &mut bytes, 0.1);
    let mut values = vec![0.0; (rows * cols) as usize];
    dtype.dequantize(&bytes, &mut values);
    (bytes, values)
}

fn constant(graph: &mut Graph, name: &str, values: &[f32], cols: u32) -> TensorId {
    let rows = Rows::Fixed(values.len() as u32 / cols);
    graph.add(name, rows, cols, TensorKind::Constant(values.to_vec()))
}

fn read<T: bytemuck::Pod>(plan: &TestPlan, id: TensorId, n: usize) -> Vec<T> {
    bytemuck::pod_collect_to_vec(&plan.read(id, 4 * n as u64).unwrap()[..4 * n])
}

/// An error unless values differ by at most 1e-5 of their root mean square.
fn close(what: &str, got: &[f32], want: &[f32]) -> Result<(), String> {
    assert_eq!(got.len(), want.len(), "{what}");
    let rms = (want.iter().map(|v| v * v).sum::<f32>() / want.len() as f32).sqrt();
    let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-5 * rms;
    let far = got.iter().zip(want).position(|pair| !near(pair));
    far.map_or(Ok(()), |i| Err(format!("{what}: value {i} is {} instead of {} (rms {rms})", got[i], want[i])))
}

fn equal<T: PartialEq + std::fmt::Debug>(what: &str, got: &[T], want: &[T]) -> Result<(), String> {
    assert_eq!(got.len(), want.len(), "{what}");
    let wrong = got.iter().zip(want).position(|(a, b)| a != b);
    wrong.map_or(Ok(()), |i| Err(format!("{what}: {i} is {:?} instead of {:?}", got[i], want[i])))
}

/// Asserts that every slot is in exactly one tile, and that the tile belongs to its expert.
fn covered_once(ids: &[u32], sorted: &[u32], tiles: &[[u32; 4]]) {
    let mut seen = vec![0; ids.len()];
    for [expert, first, count, _] in tiles {
        assert!(*count <= MATMUL_TILE);
        for slot in &sorted[*first as usize..][..*count as usize] {
            seen[*slot as usize] += 1;
            assert_eq!(ids[*slot as usize], *expert, "slot {slot}");
        }
    }
    assert!(seen.iter().all(|times| *times == 1), "{seen:?}");
}

#[derive(Clone, Copy, Debug)]
struct Case {
    experts: u32,
    used: u32,
    norm: bool,
    /// With all options: sigmoid scores, expert scales, a bias after `up`, and routing weights applied after `down`.
    dressed: bool,
    dtype: DType,
    /// Columns and rows of `up`; rows and columns of `down`.
    d: u32,
    n: u32,
    /// The number of matrices that fit into a binding.
    shard: u32,
    /// Additional slots in the stacks, with a slot table that permutes the experts; 0: no table, experts in order.
    spare: u32,
    tier: Tier,
    software: bool,
    max_workgroups: u32,
}

/// A compiled chain of expert ops, its inputs, and its tensors.
struct Chain {
    case: Case,
    plan: TestPlan,
    x: Vec<f32>,
    logits: Vec<f32>,
    expert_scales: Vec<f32>,
    up: Vec<f32>,
    bias: Vec<f32>,
    down: Vec<f32>,
    ids: [TensorId; 7],
}

impl Case {
    fn router(&self) -> Router {
        let scoring = if self.dressed { Scoring::Sigmoid } else { Scoring::Softmax };
        Router { scoring, norm: self.norm, scale: 2.5, ..Router::plain(self.experts, self.used) }
    }

    /// The slot of each expert in the stacks.
    fn slot_table(&self) -> Vec<u32> {
        let room = self.experts + self.spare;
        (0..self.experts).map(|expert| if self.spare == 0 { expert } else { (expert * 11 + 3) % room }).collect()
    }
}

impl Chain {
    /// The last `favour` experts get large logits in all rows, so that routing is uneven and some experts have no rows.
    fn new(case: Case, favour: u32) -> Self {
        let Case { experts, used, dressed, dtype, d, n, spare, .. } = case;
        let mut graph = Graph::default();
        let x = normal(1, (MAX_ROWS * d) as usize);
        let mut logits = normal(2, (MAX_ROWS * experts) as usize);
        for row in logits.chunks_mut(experts as usize) {
            row.iter_mut().rev().take(favour as usize).for_each(|v| *v += 20.0);
        }
        let (up_bytes, up) = weight(dtype, 3, experts * n, d);
        let (down_bytes, down) = weight(dtype, 4, experts * d, n);
        let x_id = constant(&mut graph, "x", &x, d);
        let logits_id = constant(&mut graph, "logits", &logits, experts);
        let (room, slot_table) = (experts + spare, case.slot_table());
        let up_id = graph.expert_cache("up", room, n, d, dtype);
        let down_id = graph.expert_cache("down", room, d, n, dtype);
        let places_id =
            (spare > 0).then(|| graph.add("slot_table", Rows::Fixed(1), experts, TensorKind::ExpertSlotTable));
        let bias = normal(5, (experts * n) as usize);
        let bias_id = constant(&mut graph, "bias", &bias, experts * n);
        let expert_scales: Vec<f32> = normal(6, experts as usize);
        let gains_id = dressed.then(|| constant(&mut graph, "expert_scales", &expert_scales, experts));
        let (ids, shares) = graph.router(logits_id, None, gains_id, case.router());
        let sorted = graph.expert_sort(ids, experts, used);
        let epilogue = |epilogue| dressed.then_some(epilogue);
        let upped = graph.expert_linear(x_id, (up_id, places_id), ids, sorted, epilogue(ExpertEpilogue::Bias(bias_id)));
        let downed = graph.expert_linear(
            upped,
            (down_id, places_id),
            ids,
            sorted,
            epilogue(ExpertEpilogue::RoutingWeight(shares)),
        );
        let y = graph.expert_sum(downed, shares);
        let y = graph.sum(x_id, y);
        let keep = vec![ids, shares, sorted.0, sorted.1, upped, downed, y];
        let one = dtype.gpu_bytes(n, d).max(dtype.gpu_bytes(d, n)) + 16 * u64::from(n + d);
        let caps = caps()
            .clone()
            .tier(case.tier)
            .software(case.software)
            .max_binding(one * u64::from(case.shard) + one / 2)
            .max_workgroups(case.max_workgroups);
        let ids = keep.clone().try_into().unwrap();
        let dispatch_list = DispatchList::new(graph, &caps, CAPACITY, &PlanOptions { fuse: Fuse::ALL, keep });
        let Some(Op::ExpertSum(_, sum)) = dispatch_list.graph.nodes.last() else { panic!("no sum") };
        assert!(sum.residual.is_some());
        assert!(spare > 0 || (dispatch_list.shards(up_id).len() > 1) == (case.shard < experts), "{case:?}");
        let mut plan = TestPlan::new(dispatch_list).unwrap();
        for (id, bytes, rows) in [(up_id, &up_bytes, n), (down_id, &down_bytes, d)] {
            let experts = bytes.chunks_exact(bytes.len() / experts as usize);
            slot_table.iter().zip(experts).for_each(|(place, expert)| plan.write_rows(id, place * rows, expert));
        }
        if let Some(id) = places_id {
            plan.write(id, 0, bytemuck::cast_slice(&slot_table));
        }
        Chain {
            case,
            plan,
            x,
            logits,
            expert_scales: if dressed { expert_scales } else { vec![] },
            up,
            bias,
            down,
            ids,
        }
    }

    /// Runs a step of `rows` rows and compares each op's output with its reference on the same inputs.
    fn check(&mut self, rows: u32) -> Result<(), String> {
        let Case { experts, used, dressed, d, n, .. } = self.case;
        self.plan.run(&StepSizes { rows, ..Default::default() }).unwrap();
        let slots = (rows * used) as usize;
        let (d, n, rows_) = (d as usize, n as usize, rows as usize);
        let [ids, shares, sorted, tiles, upped, downed, y] = self.ids;

        let want = self.case.router().reference(&self.logits[..rows_ * experts as usize], &[], &self.expert_scales);
        let (ids, shares) = (read::<u32>(&self.plan, ids, slots), read::<f32>(&self.plan, shares, slots));
        equal("ids", &ids, &want.0)?;
        close("weights", &shares, &want.1)?;

        if rows > DECODE_ROWS {
            let want = ExpertSort { experts, used, tile: MATMUL_TILE }.reference(&ids);
            let tiles = read::<u32>(&self.plan, tiles, 4 * want.1.len());
            let sorted = read::<u32>(&self.plan, sorted, slots);
            covered_once(&ids, &sorted, tiles.as_chunks().0);
            equal("sorted slots", &sorted, &want.0)?;
            equal("tiles", tiles.as_chunks().0, &want.1)?;
        }
        let got_up = read::<f32>(&self.plan, upped, slots * n);
        let linear = ExpertLinear { experts, used, from_slots: false };
        let bias = dressed.then_some(ExpertEpilogue::Bias(self.bias.as_slice()));
        close("up", &got_up, &linear.reference(&self.x[..rows_ * d], &self.up, &ids, d, bias))?;

        let got_down = read::<f32>(&self.plan, downed, slots * d);
        let linear = ExpertLinear { experts, used, from_slots: true };
        let weights = dressed.then_some(ExpertEpilogue::RoutingWeight(shares.as_slice()));
        close("down", &got_down, &linear.reference(&got_up, &self.down, &ids, n, weights))?;

        let sum = ExpertSum { used };
        let want = sum.reference(&got_down, &shares, &self.x[..rows_ * d], d);
        close("sum", &read::<f32>(&self.plan, y, rows_ * d), &want)
    }
}

const ROWS: [u32; 6] = [1, 3, 8, 9, 40, MAX_ROWS];

#[test]
fn every_op_equals_its_reference() {
    use DType::*;
    #[rustfmt::skip]
    let cases = [
        // experts used norm  type   d    n   shard favour
        (4,       1,  false, F32,    36,  20,   4,  0),
        (4,       2,  true,  Q4_0,   64,  96,   2,  0),
        (4,       2,  true,  Q6K,   256, 256,   3,  2),
        (8,       1,  true,  Q4K,   256, 256,   8,  1),
        (8,       2,  true,  Q4K,   256, 512,   3,  0),
        (8,       8,  true,  F16,    40,  68,   3,  0),
        (128,     1,  false, Q8_0,   64,  32, 128,  3),
        (128,     2,  true,  MXFP4,  32,  64,  50,  0),
        (128,     8,  true,  Q4_0,   64,  32,  50,  0),
        (128,     8,  false, F32,    32,  24, 128, 16),
        (512,    10,  true,  Q4_0,   32,  32, 200,  0),
        // Types with a table, which is part of every shard.
        (8,       2,  true,  IQ2XS, 256, 256,   3,  0),
        (8,       2,  true,  IQ3S,  256, 256,   3,  0),
        (8,       2,  true,  IQ1S,  256, 512,   3,  0),
        (8,       2,  true,  TQ1_0, 256, 256,   3,  0),
    ];
    let is_tested = |dtype| dtype == F32 || types().any(|some| some == dtype);
    let cases = cases.into_iter().enumerate().filter(|(_, case)| is_tested(case.3));
    for (i, (experts, used, norm, dtype, d, n, shard, favour)) in cases {
        // Kernels for real GPUs are correct on software adapters, too, only slow; cases alternate between both kinds,
        // and where few are tested, between tiers.
        for (tier, software) in [(Tier::Baseline, i % 2 == 0), (Tier::Subgroups, i % 2 == 1)] {
            let alternate = common::few() && (tier == Tier::Baseline) == (i / 2 % 2 == 0);
            if tier > caps().tier || alternate {
                continue;
            }
            let dressed = i % 3 == 1;
            // The number of slots must not be divisible by 11, so that no two experts share a slot.
            let spare = if i % 4 < 2 { 0 } else { 1 + u32::from((experts + 1) % 11 == 0) };
            let case =
                Case { experts, used, norm, dressed, dtype, d, n, shard, spare, tier, software, max_workgroups: 65535 };
            let mut chain = Chain::new(case, favour);
            for rows in ROWS {
                chain.check(rows).unwrap_or_else(|e| panic!("{case:?}, {rows} rows: {e}"));
            }
        }
    }
}

const SMALL: Case = Case {
    experts: 4,
    used: 2,
    norm: true,
    dressed: false,
    dtype: DType::F32,
    d: 32,
    n: 32,
    shard: 4,
    spare: 0,
    tier: Tier::Baseline,
    software: true,
    max_workgroups: 65535,
};

/// Grids that exceed an adapter's workgroups per dimension.
#[test]
fn folded_grids() {
    let mut folded = BTreeSet::new();
    for (tier, software) in [(Tier::Baseline, true), (Tier::Baseline, false), (caps().tier, false)] {
        // The largest grid has 13 x 32 workgroups, less than 8^3.
        let case = Case { used: 4, experts: 16, shard: 7, n: 100, tier, software, max_workgroups: 8, ..SMALL };
        let mut chain = Chain::new(case, 0);
        for rows in ROWS {
            chain.check(rows).unwrap_or_else(|e| panic!("{case:?}, {rows} rows: {e}"));
        }
        let dispatch_list = chain.plan.dispatch_list();
        folded.extend(dispatch_list.kernels.iter().filter(|(_, k)| k.fold.is_some()).map(|(_, k)| k.source.file));
    }
    assert_eq!(Vec::from_iter(folded), ["expert_sum", "matmul", "matmul_rows", "matvec", "router"]);
}

#[test]
fn the_comparison_detects_one_changed_weight() {
    for rows in [1, 40] {
        let mut chain = Chain::new(SMALL, 2);
        chain.check(rows).unwrap();
        // The last expert is favoured, so that every row uses it.
        chain.up[3 * 32 * 32 + 5] += 0.001;
        assert!(chain.check(rows).unwrap_err().starts_with("up"));
    }
    let mut chain = Chain::new(SMALL, 1);
    chain.logits[3] = -20.0;
    assert!(chain.check(1).unwrap_err().starts_with("ids"));
}

#[test]
fn ties_infinities_and_nan_still_make_a_permutation() {
    let rows: [[f32; 4]; 5] = [
        [1.0, 1.0, 1.0, 1.0],
        [-2.0, 3.0, -2.0, 3.0],
        [0.0, f32::NAN, 5.0, -1.0],
        [f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY, -1.0],
        [f32::NAN; 4],
    ];
    let want: [[u32; 4]; 5] = [[0, 1, 2, 3], [1, 3, 0, 2], [1, 2, 0, 3], [1, 3, 0, 2], [0, 1, 2, 3]];
    let mut graph = Graph::default();
    let logits = constant(&mut graph, "logits", rows.as_flattened(), 4);
    let router = Router::plain(4, 4);
    let (ids, weights) = graph.router(logits, None, None, router);
    let options = PlanOptions { fuse: Fuse::ALL, keep: vec![ids, weights] };
    let dispatch_list = DispatchList::new(graph, caps(), CAPACITY, &options);
    let mut plan = TestPlan::new(dispatch_list).unwrap();
    plan.run(&StepSizes { rows: 5, ..Default::default() }).unwrap();
    assert_eq!(read::<u32>(&plan, ids, 20), want.as_flattened());
    assert_eq!(router.reference(rows.as_flattened(), &[], &[]).0, want.as_flattened());
    let weights = read::<f32>(&plan, weights, 8);
    let share = 1.0 / (2.0 + 2.0 * (-5f32).exp());
    close("weights", &weights, &[0.25, 0.25, 0.25, 0.25, share, share, 0.5 - share, 0.5 - share]).unwrap();
}

/// Experts are selected with a bias, by groups, or both, with whole groups selected and with NaN.
#[test]
fn selection_by_bias_and_groups() {
    let sigmoid = |experts, used| Router { scoring: Scoring::Sigmoid, scale: 2.5, ..Router::plain(experts, used) };
    let groups = |count, used, top2_sum| Some(RouterGroups { count, used, top2_sum });
    for (biased, router) in [
        (true, sigmoid(64, 4)),
        (true, Router { groups: groups(8, 4, true), ..sigmoid(256, 8) }),
        (true, Router { groups: groups(2, 1, true), ..Router::plain(4, 2) }),
        (false, Router { norm: false, groups: groups(8, 3, false), ..Router::plain(160, 6) }),
        (false, Router { groups: groups(3, 1, false), ..sigmoid(12, 4) }),
    ] {
        let experts = router.experts;
        let mut logits = normal(7, (MAX_ROWS * experts) as usize);
        logits[experts as usize + 2] = f32::NAN;
        let bias: Vec<f32> = normal(8, experts as usize).iter().map(|b| 0.2 * b).collect();
        for tier in [Tier::Baseline, Tier::Subgroups].into_iter().filter(|tier| *tier <= caps().tier) {
            let mut graph = Graph::default();
            let logits_id = constant(&mut graph, "logits", &logits, experts);
            let bias_id = biased.then(|| constant(&mut graph, "bias", &bias, experts));
            let (ids, weights) = graph.router(logits_id, bias_id, None, router);
            let caps = caps().clone().tier(tier);
            let dispatch_list =
                DispatchList::new(graph, &caps, CAPACITY, &PlanOptions { fuse: Fuse::ALL, keep: vec![ids, weights] });
            let mut plan = TestPlan::new(dispatch_list).unwrap();
            plan.run(&StepSizes { rows: MAX_ROWS, ..Default::default() }).unwrap();
            let want = router.reference(&logits, if biased { &bias } else { &[] }, &[]);
            let (got, shares) = (read::<u32>(&plan, ids, want.0.len()), read::<f32>(&plan, weights, want.1.len()));
            // Even with NaN, the second row has distinct, valid experts.
            let (used, second) = (router.used as usize, router.used as usize..2 * router.used as usize);
            let mut distinct = got[second.clone()].to_vec();
            distinct.sort_unstable();
            distinct.dedup();
            assert!(distinct.len() == used && distinct.iter().all(|e| *e < experts), "{router:?}: {distinct:?}");
            let without = |v: &[f32]| [&v[..used], &v[2 * used..]].concat();
            equal("ids", &[&got[..used], &got[2 * used..]].concat(), &[&want.0[..used], &want.0[2 * used..]].concat())
                .and_then(|()| close("weights", &without(&shares), &without(&want.1)))
                .unwrap_or_else(|e| panic!("{router:?}, {tier}: {e}"));
        }
    }
}

#[test]
fn expert_ffn_equals_its_ops_in_sequence() {
    let (experts, used, d, n) = (8, 2, 64, 96);
    let mut graph = Graph::default();
    let x = normal(1, (MAX_ROWS * d) as usize);
    let x_id = constant(&mut graph, "x", &x, d);
    let gate_inp_id = graph.weight("router.weight", experts, d, DType::F32);
    let logits = graph.linear(x_id, gate_inp_id, None);
    let weights = ExpertWeights {
        expert_scales: None,
        gate: graph.expert_stack("gate.weight", experts, n, d, DType::Q4_0),
        up: graph.expert_stack("up.weight", experts, n, d, DType::Q8_0),
        down: graph.expert_stack("down.weight", experts, d, n, DType::F32),
        selection_bias: None,
        biases: None,
        slot_table: None,
    };
    let router = Router::plain(experts, used);
    let (y, _) = graph.expert_ffn(x_id, logits, weights, router, Activation::Silu, RoutingWeights::OnOutputs);
    let dispatch_list = DispatchList::new(graph, caps(), CAPACITY, &PlanOptions { fuse: Fuse::ALL, keep: vec![y] });
    let mut plan = TestPlan::new(dispatch_list).unwrap();
    let mut load = |id: TensorId, dtype, rows, cols| {
        let (bytes, values) = weight(dtype, id.0 as u64, rows, cols);
        plan.write_rows(id, 0, &bytes);
        values
    };
    let gate_inp = load(gate_inp_id, DType::F32, experts, d);
    let gate = load(weights.gate, DType::Q4_0, experts * n, d);
    let up = load(weights.up, DType::Q8_0, experts * n, d);
    let down = load(weights.down, DType::F32, experts * d, n);
    for rows in [1, 8, 40] {
        plan.run(&StepSizes { rows, ..Default::default() }).unwrap();
        let x = &x[..(rows * d) as usize];
        let every = ExpertLinear { experts: 1, used: 1, from_slots: true };
        let logits = every.reference(x, &gate_inp, &vec![0; rows as usize], d as usize, None);
        let (ids, shares) = router.reference(&logits, &[], &[]);
        let first = ExpertLinear { experts, used, from_slots: false };
        let gated: Vec<f32> = (first.reference(x, &gate, &ids, d as usize, None).iter())
            .zip(first.reference(x, &up, &ids, d as usize, None))
            .map(|(g, u)| g / (1.0 + (-g).exp()) * u)
            .collect();
        let out = ExpertLinear { from_slots: true, ..first }.reference(&gated, &down, &ids, n as usize, None);
        let want = ExpertSum { used }.reference(&out, &shares, &vec![0.0; x.len()], d as usize);
        close("ffn", &read::<f32>(&plan, y, x.len()), &want).unwrap();
    }
}
