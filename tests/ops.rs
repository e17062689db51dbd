//! Every op on the GPU compared with its CPU reference: a table of small graphs, one `check`, on every tier of the
//! adapter, with the kernels for real GPUs and those for software adapters, fused and unfused.

mod common;

use common::cpu::Cpu;
use common::test_plan::{TestPlan, caps};
use common::{Data, EMBEDDINGS, Step, compare, random, types};
use firelight::dtype::DType;
use firelight::gpu::{Caps, Tier, TuneConfig};
use firelight::graph::{
    Activation, Attention, AttentionTemperature, DeltaNet, EMBEDDING_INPUT, Graph, HeadConcat, HeadSlice, KvWrite,
    LogitScale, MaskKind, NO_STATE, Op, Rope, RopeStyle, Rows, SAMPLED_INPUT, Segment, ShortConv, StepInput, TensorId,
    TensorKind,
};
use firelight::ops::catalog::catalog;
use firelight::ops::{Capacity, KvType, SlidingPages};
use firelight::plan::fuse::{self, Fuse};
use firelight::plan::{DispatchList, PlanOptions};
use half::f16;
use std::collections::BTreeSet;

/// The number of sequences in every test.
const SEQUENCES: u32 = 4;
/// Pages per sequence: more than 1000 positions.
const PAGES: u32 = 33;

/// The configurations in which a case runs. Software adapters take seconds to compile a matmul.
#[derive(Clone, Copy, PartialEq)]
enum Coverage {
    /// Every tier, with the kernels for real and for software adapters, and unfused.
    All,
    /// The highest tier, with the kernels for real and for software adapters.
    HighestTier,
    /// The highest tier, with the kernels for real GPUs.
    One,
}

/// A graph, its steps, and the tolerance for the GPU's results.
#[derive(Clone)]
struct Case {
    name: String,
    graph: Graph,
    steps: Vec<Step>,
    kv: KvType,
    /// The maximum number of sequences; with only one, other kernels run.
    sequences: u32,
    /// Splits every weight into shards.
    max_binding: Option<u64>,
    coverage: Coverage,
    tolerance: f64,
}

impl Case {
    fn new(name: impl Into<String>, graph: Graph, steps: Vec<Step>, tolerance: f64) -> Self {
        Case {
            name: name.into(),
            graph,
            steps,
            kv: KvType::F32,
            sequences: SEQUENCES,
            max_binding: None,
            coverage: Coverage::All,
            tolerance,
        }
    }

    fn capacity(&self) -> Capacity {
        let most = |len: fn(&Step) -> usize| self.steps.iter().map(len).max().unwrap_or(0) as u32;
        Capacity {
            rows: most(|s| s.rows.len()),
            logits: most(|s| s.logit_rows.len()).max(1),
            sequences: self.sequences,
            outputs: SEQUENCES,
            embeddings: EMBEDDINGS,
            pages: SEQUENCES * PAGES,
            pages_per_sequence: PAGES,
            sliding: Some(SlidingPages { window: 0, pages: SEQUENCES * PAGES }),
            kv: self.kv,
        }
    }

    /// Activations that no node reads.
    fn outputs(&self) -> Vec<TensorId> {
        let first = self.graph.nodes.iter().map(|node| node.outputs()[0]);
        let is_output = |id: &TensorId| self.graph.readers(*id) == 0;
        first.filter(|id| self.graph.tensor(*id).kind == TensorKind::Activation && is_output(id)).collect()
    }
}

/// Page tables in which consecutive pages are not adjacent.
fn pages() -> Vec<u32> {
    let n = SEQUENCES * PAGES;
    (0..n).map(|i| i * 61 % n).collect()
}

const SAMPLED: [u32; SEQUENCES as usize] = [3, 1, 2, 0];

/// The CPU's values of each output in each step.
fn expected(case: &Case, data: &Data) -> Vec<Vec<Vec<f32>>> {
    let mut cpu = Cpu::new(&case.graph, data, case.capacity(), &pages(), &SAMPLED);
    let run = |step| {
        cpu.run(step);
        case.outputs().iter().map(|id| cpu.value(*id).to_vec()).collect()
    };
    case.steps.iter().map(run).collect()
}

/// The configurations in which the adapter runs a case.
fn setups(case: &Case) -> Vec<(Caps, Fuse)> {
    let adapter = caps();
    let max_binding = case.max_binding.unwrap_or(adapter.max_binding);
    let caps = |tier, software| adapter.clone().tier(tier).software(software).max_binding(max_binding);
    let mut out = vec![(caps(adapter.tier, false), Fuse::ALL)];
    // Both layouts in each tier. Where few are tested, lower tiers have the layout that the highest does not have.
    let few = common::few();
    if case.coverage != Coverage::One && !few {
        out.push((caps(adapter.tier, true), Fuse::ALL));
    }
    if case.coverage == Coverage::All {
        for tier in Tier::ALL.into_iter().filter(|tier| *tier < adapter.tier) {
            let layouts = [true, false].into_iter().take(if few { 1 } else { 2 });
            out.extend(layouts.map(|software| (caps(tier, software), Fuse::ALL)));
        }
    }
    // How work is divided and fused does not depend on the adapter.
    if case.coverage == Coverage::All && !few {
        // The two most different tuning configurations.
        for (lanes, threads, rows, span) in [(64, 256, 4, 16), (32, 64, 1, 8)] {
            let measured = Some(TuneConfig {
                lanes,
                threads,
                rows_per_lane: rows,
                tile_threads: span,
                ..TuneConfig::untuned(false)
            });
            out.push((caps(adapter.tier, false).tuned(measured), Fuse::ALL));
        }
        if fuse::fuse(case.graph.clone(), Fuse::ALL, max_binding) != case.graph {
            out.push((caps(adapter.tier, false), Fuse::NONE));
        }
    }
    out
}

/// Runs a case in one configuration. Returns the largest difference, or an error with the output and step that differ.
fn run(case: &Case, data: &Data, want: &[Vec<Vec<f32>>], caps: &Caps, fuse: Fuse) -> Result<f64, String> {
    let (outputs, capacity) = (case.outputs(), case.capacity());
    let options = PlanOptions { fuse, keep: outputs.clone() };
    let dispatch_list = DispatchList::new(case.graph.clone(), caps, capacity, &options);
    if case.max_binding.is_some() {
        let split = dispatch_list.weights().iter().all(|(id, _)| dispatch_list.shards(*id).len() > 1);
        assert!(split, "{}: not every weight is split", case.name);
    }
    let mut plan = TestPlan::new(dispatch_list)?;
    fill(&mut plan, case, data);
    let mut worst = 0f64;
    for (step, want) in case.steps.iter().zip(want) {
        let tile = plan.dispatch_list().query_tile();
        let tiles = step.tiles(tile);
        plan.write_input(StepInput::Rows, 0, bytemuck::cast_slice(&step.rows));
        plan.write_input(StepInput::LogitRows, 0, bytemuck::cast_slice(&step.logit_rows));
        plan.write_input(StepInput::QueryTiles, 0, bytemuck::cast_slice(&tiles));
        plan.write_input(StepInput::Segments, 0, bytemuck::cast_slice(&step.segments));
        for (id, want) in outputs.iter().zip(want) {
            plan.write(*id, 0, &vec![0xff; 4 * want.len()]);
        }
        plan.run(&step.sizes(tile))?;
        for (id, want) in outputs.iter().zip(want).filter(|(_, want)| !want.is_empty()) {
            let got = plan.read(*id, 4 * want.len() as u64)?;
            let difference = compare(&bytemuck::pod_collect_to_vec(&got), want, case.tolerance).map_err(|e| {
                let (tensor, rows) = (&case.graph.tensor(*id).name, step.rows.len());
                format!("{tensor} of a step of {rows} rows: {e} ({} values a row)", case.graph.cols(*id))
            })?;
            worst = worst.max(difference);
        }
    }
    Ok(worst)
}

/// Writes weights, vectors and page tables, and fills caches with NaN.
fn fill(plan: &mut TestPlan, case: &Case, data: &Data) {
    for id in plan.dispatch_list().used() {
        for (vector, start) in plan.dispatch_list().graph.vectors(id) {
            plan.write(id, u64::from(start) * 4, bytemuck::cast_slice(&data.vectors[&vector]));
        }
        match case.graph.tensors.get(id.0).map(|t| &t.kind) {
            Some(TensorKind::Weight { .. }) => plan.write_rows(id, 0, &data.weights[&id]),
            Some(TensorKind::StepInput(StepInput::Embeddings)) => {
                plan.write(id, 0, bytemuck::cast_slice(&data.vectors[&id]));
            }
            Some(TensorKind::State { values }) => {
                let bytes = 4 * case.capacity().state_slots() * values;
                plan.write(id, 0, &vec![0xff; bytes as usize]);
            }
            Some(TensorKind::KvCache { heads, head_dim, .. }) => {
                let bytes = u64::from(SEQUENCES * PAGES * 32) * case.kv.bytes(*heads, *head_dim);
                plan.write(id, 0, &vec![0xff; bytes as usize]);
            }
            _ => {}
        }
    }
    let mut pages = pages()[..(case.sequences * PAGES) as usize].to_vec();
    plan.write_input(StepInput::Pages, 0, bytemuck::cast_slice(&pages));
    pages.reverse();
    plan.write_input(StepInput::SlidingPages, 0, bytemuck::cast_slice(&pages));
    plan.write_input(StepInput::Sampled, 0, bytemuck::cast_slice(&SAMPLED));
}

/// Compares the GPU with the CPU in every configuration.
fn check(case: Case) {
    let data = Data::random(&case.graph, 1);
    let want = expected(&case, &data);
    for (caps, fuse) in setups(&case) {
        let (Caps { tier, software, .. }, layout) = (&caps, caps.tune_config());
        let setup =
            format!("{}, tier {tier}, software {software}, {layout:?}, residual fused {}", case.name, fuse.residual);
        match run(&case, &data, &want, &caps, fuse) {
            Ok(worst) => println!("{setup}: {worst:.1e}"),
            Err(e) => panic!("{setup}: {e}"),
        }
    }
}

/// Steps with these numbers of rows, with random tokens below `vocabulary`, positions and sequences. The second half of
/// the rows and the first row have logits.
fn any_rows(counts: &[u32], vocabulary: u32) -> Vec<Step> {
    let mut rng = random(2);
    let row = |_| [rng() % vocabulary, rng() % 1024, rng() % SEQUENCES, 0];
    let mut rows: Vec<[u32; 4]> = (0..counts.iter().sum()).map(row).collect();
    let step = |n: &u32| {
        let mut rows: Vec<_> = rows.drain(..*n as usize).collect();
        if *n > 4 {
            (rows[2][0], rows[3][0]) = (EMBEDDING_INPUT | 1, SAMPLED_INPUT | 2);
        }
        let logit_rows = (n / 2..*n).rev().chain((*n > 1).then_some(0)).collect();
        Step { rows, logit_rows, segments: vec![] }
    };
    counts.iter().map(step).collect()
}

/// Row counts around each boundary between kernels; small ones follow large ones, so that stale values follow the rows.
const COUNTS: [u32; 8] = [130, 1, 65, 9, 8, 40, 2, 5];

const VOCABULARY: u32 = 70;

/// Input rows: embeddings from a table of `cols` columns.
fn rows(g: &mut Graph, cols: u32) -> TensorId {
    let table = g.weight("rows.weight", VOCABULARY, cols, DType::F32);
    g.embed_tokens(table, 1.0)
}

/// The size of a binding that fits exactly 64 rows of a weight.
fn one_shard(dtype: DType, cols: u32) -> Option<u64> {
    Some(64 * (dtype.gpu_bytes(1, cols) + 16 * dtype.planes().len() as u64))
}

/// One linear of (n, k).
fn plain(dtype: DType, n: u32, k: u32) -> Graph {
    let mut g = Graph::default();
    let x = rows(&mut g, k);
    let weight = g.weight("plain.weight", n, k, dtype);
    g.linear(x, weight, None);
    g
}

/// Linears of (n, k) with every epilogue, over all rows and over those with logits. All weights have one type.
fn linears(dtype: DType, n: u32, k: u32) -> Graph {
    let mut g = Graph::default();
    let table = g.weight("token_embd.weight", VOCABULARY, k, dtype);
    let x = g.embed(table, 1.0);
    let weight = g.weight("plain.weight", n, k, dtype);
    let plain = g.linear(x, weight, None);
    let (weight, bias) = (g.weight("bias.weight", n, k, dtype), g.vector("bias.bias", n));
    let biased = g.linear(x, weight, Some(bias));
    let weight = g.weight("residual.weight", n, k, dtype);
    let y = g.linear(x, weight, None);
    g.sum(y, plain);
    let weight = g.weight("both.weight", n, k, dtype);
    let y = g.linear(x, weight, Some(bias));
    g.sum(biased, y);
    g.gather(plain);
    g.gather(biased);
    let x = g.gather(x);
    let weight = g.weight("logits.weight", n, k, dtype);
    g.linear(x, weight, None);
    g
}

fn linear_glu(gate: DType, up: DType, n: u32, k: u32) -> Graph {
    let mut g = Graph::default();
    let x = rows(&mut g, k);
    let (gate, up) = (g.weight("gate.weight", n, k, gate), g.weight("up.weight", n, k, up));
    let (gate, up) = (g.linear(x, gate, None), g.linear(x, up, None));
    g.glu(gate, up, Activation::Silu);
    g
}

fn embeds(dtype: DType, cols: u32, scale: f32) -> Graph {
    let mut g = Graph::default();
    let weight = g.weight("token_embd.weight", VOCABULARY, cols, dtype);
    g.embed(weight, scale);
    g
}

#[test]
fn embed() {
    for dtype in types() {
        // Scales are exact; types with a min may round once more where the GPU fuses a multiply-add.
        let steps = any_rows(&[40, 1, 9], VOCABULARY);
        let case = Case::new(format!("embed {dtype}"), embeds(dtype, 256, 1.0), steps, 1e-6);
        check(Case { coverage: Coverage::HighestTier, ..case });
    }
    for (cols, scale) in [(172, 13.1), (36, 0.5), (2304, 1.0)] {
        let graph = embeds(DType::F32, cols, scale);
        check(Case::new(format!("embed F32 {cols}"), graph, any_rows(&[9, 1], VOCABULARY), 1e-6));
    }
    let graph = embeds(DType::Q8_0, 64, 1.0);
    let case = Case::new("embed in shards", graph, any_rows(&[40, 1], VOCABULARY), 1e-6);
    check(Case { max_binding: one_shard(DType::Q8_0, 64), ..case });
}

#[test]
fn linear() {
    let case = |dtype: DType, n, k, graph: fn(DType, u32, u32) -> Graph| {
        let (name, steps) = (format!("linear {dtype} {n} {k}"), any_rows(&COUNTS, VOCABULARY));
        Case::new(name, graph(dtype, n, k), steps, 2e-5)
    };
    check(case(DType::F32, 100, 172, plain));
    check(Case { coverage: Coverage::One, ..case(DType::F32, 100, 172, linears) });
    check(Case { coverage: Coverage::One, ..case(DType::Q4K, 68, 256, linears) });
    // Rows that end within a group of 32, outputs that end within a tile, a single row of weights.
    for (dtype, n, k) in [
        (DType::F16, 64, 36),
        (DType::BF16, 129, 100),
        (DType::F32, 1, 4),
        (DType::Q4_0, 3, 32),
        (DType::Q8_0, 260, 96),
        (DType::Q6K, 130, 1280),
    ] {
        check(Case { coverage: Coverage::One, ..case(dtype, n, k, plain) });
    }
}

#[test]
fn linear_of_every_weight_type() {
    for dtype in types() {
        let case = Case::new(format!("linear {dtype}"), plain(dtype, 68, 512), any_rows(&COUNTS, VOCABULARY), 2e-5);
        check(Case { coverage: Coverage::HighestTier, ..case });
    }
}

/// Linears of one x with every epilogue, over all rows and over those with logits.
fn linears_of_rows(dtype: DType, n: u32, k: u32) -> Graph {
    let mut g = Graph::default();
    let x = rows(&mut g, k);
    let weight = g.weight("plain.weight", n, k, dtype);
    let plain = g.linear(x, weight, None);
    let (weight, bias) = (g.weight("both.weight", n, k, dtype), g.vector("both.bias", n));
    let biased = g.linear(x, weight, Some(bias));
    g.sum(plain, biased);
    let x = g.gather(x);
    let weight = g.weight("logits.weight", n, k, dtype);
    g.linear(x, weight, None);
    g
}

/// x as the int8 tier rounds it: multiples of 1/127 of the largest of 32 values.
fn rounded_to_int8(x: &[f32]) -> Vec<f32> {
    let group = |x: &[f32]| {
        let step = x.iter().fold(0f32, |most, x| most.max(x.abs())) / 127.0;
        x.iter().map(|x| (x / step).round_ties_even() * step).collect::<Vec<f32>>()
    };
    x.chunks(32).flat_map(group).collect()
}

/// A graph of linears in every quantized type, and one with every epilogue. All weights but the input table have one
/// type.
fn rounded_graphs() -> impl Iterator<Item = (String, DType, Graph)> {
    let quantized = types().filter(|dtype| dtype.block_len() > 1);
    let each = quantized.map(|dtype| (dtype.to_string(), dtype, plain(dtype, 68, 512)));
    each.chain([("every epilogue".to_string(), DType::Q4K, linears_of_rows(DType::Q4K, 260, 256))])
}

/// The table of the input rows.
fn table(graph: &Graph) -> TensorId {
    graph.tensors.iter().position(|t| t.name == "rows.weight").map(TensorId).expect("a table")
}

/// The same data with other values of x.
fn with_x(data: &Data, graph: &Graph, round: impl Fn(&[f32]) -> Vec<f32>) -> Data {
    let mut rounded = data.clone();
    let x: Vec<f32> = bytemuck::pod_collect_to_vec(&data.weights[&table(graph)]);
    rounded.weights.insert(table(graph), bytemuck::cast_slice(&round(&x)).to_vec());
    rounded
}

/// The int8 tier rounds x as specified, for one row and for many, and not the weights. The tolerance covers values
/// between two steps, which the GPU's division may round to the other one.
#[test]
fn int8_rounds_only_x() {
    let gated = [("gate and up".to_string(), DType::Q4K, linear_glu(DType::Q4K, DType::Q6K, 72, 256))];
    for (name, _, graph) in rounded_graphs().chain(gated) {
        // Every step but the last has more rows with logits than a decode step.
        let case = Case::new(format!("int8 {name}"), graph, any_rows(&[130, 20, 65, 1], VOCABULARY), 1e-3);
        let data = Data::random(&case.graph, 1);
        let (exact, want) = (expected(&case, &data), expected(&case, &with_x(&data, &case.graph, rounded_to_int8)));
        // With the kernels for software adapters and for GPUs; on GPUs, steps of up to four sequences are exact.
        for software in [true, false] {
            let caps = caps().clone().tier(Tier::Int8).software(software);
            let run = |want: &[Vec<Vec<f32>>]| run(&case, &data, want, &caps, Fuse::ALL);
            println!(
                "{}, software {software}: {:.1e}",
                case.name,
                run(&want).unwrap_or_else(|e| panic!("{}: {e}", case.name))
            );
            assert!(run(&exact).is_err(), "{}: x was not rounded", case.name);
        }
    }
}

/// Whether the adapter has cooperative matrices; with FIRELIGHT_COOPERATIVE it must.
fn has_cooperative_matrices() -> bool {
    let has = caps().cooperative != 0;
    assert!(has || std::env::var_os("FIRELIGHT_COOPERATIVE").is_none(), "the adapter has no cooperative matrices");
    if !has {
        eprintln!("skipped: the adapter has no cooperative matrices");
    }
    has
}

/// x as the cooperative tier rounds it, in f32.
fn rounded_to_f16(x: &[f32]) -> Vec<f32> {
    x.iter().map(|x| f16::from_f32(x / 16.0).to_f32() * 16.0).collect()
}

/// The same graph and data with F16 instead of `dtype` as the type of all weights but the input table.
fn in_f16(graph: &Graph, data: &Data, dtype: DType) -> (Graph, Data) {
    let (mut twin, mut rounded) = (graph.clone(), data.clone());
    for tensor in &mut twin.tensors {
        if let TensorKind::Weight { dtype: of, .. } = &mut tensor.kind
            && *of == dtype
        {
            *of = DType::F16;
        }
    }
    for (id, bytes) in rounded.weights.iter_mut().filter(|(id, _)| **id != table(graph)) {
        let mut values = vec![0.0; (graph.fixed_rows(*id) * graph.cols(*id)) as usize];
        dtype.dequantize(bytes, &mut values);
        *bytes = values.iter().flat_map(|w| f16::from_f32(*w).to_le_bytes()).collect();
    }
    (twin, rounded)
}

/// With many rows, weights and x are rounded to f16, and nothing else is.
#[test]
fn cooperative_matmuls_round_only_weights_and_x() {
    if !has_cooperative_matrices() {
        return;
    }
    for (name, dtype, graph) in rounded_graphs() {
        let case = Case::new(format!("cooperative {name}"), graph, any_rows(&[130, 20, 65], VOCABULARY), 1e-5);
        let data = Data::random(&case.graph, 1);
        let (twin, rounded) = in_f16(&case.graph, &with_x(&data, &case.graph, rounded_to_f16), dtype);
        let want = expected(&Case::new("", twin, case.steps.clone(), 0.0), &rounded);
        let exact = expected(&case, &data);
        // Compiling takes seconds on a software adapter.
        for side in if dtype == DType::Q4K { vec![64, 128] } else { vec![64] } {
            let measured = Some(TuneConfig { f16_tile_rows: side, ..TuneConfig::untuned(false) });
            let caps = caps().clone().tier(Tier::Cooperative).tuned(measured);
            let run = |want: &[Vec<Vec<f32>>]| run(&case, &data, want, &caps, Fuse::ALL);
            println!(
                "{}, {side}: {:.1e}",
                case.name,
                run(&want).unwrap_or_else(|e| panic!("{}, {side}: {e}", case.name))
            );
            assert!(run(&exact).is_err(), "{}: nothing was rounded", case.name);
        }
    }
}

/// Whether the adapter has f16 arithmetic; with FIRELIGHT_COOPERATIVE it must.
fn has_f16() -> bool {
    let has = caps().f16;
    assert!(has || std::env::var_os("FIRELIGHT_COOPERATIVE").is_none(), "the adapter has no f16");
    if !has {
        eprintln!("skipped: the adapter has no f16 arithmetic");
    }
    has
}

/// Sums of sixteen products in f16 have an error of about 1e-3; the worst of tens of thousands has 5e-3.
#[test]
fn f16_matmuls_have_small_errors() {
    if !has_f16() {
        return;
    }
    let graphs = [
        ("every epilogue", linears_of_rows(DType::Q4K, 260, 256)),
        ("long rows", plain(DType::Q6K, 130, 1280)),
        ("rows that end within a group", plain(DType::BF16, 129, 100)),
    ];
    for (name, graph) in graphs {
        let case = Case::new(format!("f16 {name}"), graph, any_rows(&[130, 20, 65], VOCABULARY), 6e-3);
        let data = Data::random(&case.graph, 1);
        // Of every three groups, the second is far smaller than the first, and the third is zero.
        let uneven = |x: &[f32]| {
            let groups = x.chunks(32).enumerate();
            groups.flat_map(|(i, x)| x.iter().map(move |x| x * [1.0, 1e-12, 0.0][i % 3])).collect()
        };
        for (what, data) in [("even", data.clone()), ("uneven", with_x(&data, &case.graph, uneven))] {
            let want = expected(&case, &data);
            for side in [64, 128] {
                let measured = Some(TuneConfig { f16_tile_rows: side, ..TuneConfig::untuned(false) });
                let caps = caps().clone().tier(Tier::F16).tuned(measured);
                let error =
                    run(&case, &data, &want, &caps, Fuse::ALL).unwrap_or_else(|e| panic!("{name}, {what}: {e}"));
                println!("{}, {what}, {side}: {error:.1e}", case.name);
                assert!(error > 5e-5, "{name}, {what}: nothing was rounded");
            }
        }
    }
}

/// The f16 tiers handle values beyond the f16 range, and are exact in decode steps.
#[test]
fn f16_tiers_take_large_values_and_decode_exactly() {
    let has = [has_f16(), has_cooperative_matrices()];
    let tiers = Tier::F16_TIERS.into_iter().zip(has).filter(|(_, has)| *has);
    tiers.for_each(|(tier, _)| large_values_and_decodes(&caps().clone().tier(tier)));
}

fn large_values_and_decodes(caps: &Caps) {
    let mut large = Case::new("large values", plain(DType::Q8_0, 68, 512), any_rows(&[40], VOCABULARY), 5e-3);
    let data = with_x(&Data::random(&large.graph, 1), &large.graph, |x| x.iter().map(|x| x * 5e5).collect());
    let want = expected(&large, &data);
    run(&large, &data, &want, caps, Fuse::ALL).unwrap_or_else(|e| panic!("{}: {e}", caps.tier));
    large = Case::new("decodes", plain(DType::Q8_0, 68, 512), any_rows(&[1, 8], VOCABULARY), 2e-5);
    let (data, mut more) = (Data::random(&large.graph, 1), large.steps.clone());
    let want = expected(&large, &data);
    run(&large, &data, &want, caps, Fuse::ALL).unwrap_or_else(|e| panic!("{}: {e}", caps.tier));
    // Steps with many rows are not exact.
    more.extend(any_rows(&[40], VOCABULARY));
    let many = Case { steps: more, ..large };
    let want = expected(&many, &data);
    assert!(run(&many, &data, &want, caps, Fuse::ALL).is_err());
}

#[test]
fn linear_in_shards() {
    let graph = linears(DType::Q4K, 132, 256);
    let case = Case::new("linears in shards", graph, any_rows(&COUNTS, VOCABULARY), 2e-5);
    check(Case { max_binding: one_shard(DType::Q4K, 256), coverage: Coverage::One, ..case });
}

#[test]
fn gate_and_up_linears() {
    for dtype in types() {
        let graph = linear_glu(dtype, dtype, 72, 256);
        let case = Case::new(format!("linear_glu {dtype}"), graph, any_rows(&COUNTS, VOCABULARY), 5e-5);
        check(Case { coverage: Coverage::One, ..case });
    }
    for (gate, up, n, k) in
        [(DType::F32, DType::F16, 50, 172), (DType::Q4K, DType::Q6K, 130, 512), (DType::Q5_1, DType::IQ4NL, 7, 64)]
    {
        let name = format!("linear_glu {gate} {up} {n} {k}");
        check(Case::new(name, linear_glu(gate, up, n, k), any_rows(&COUNTS, VOCABULARY), 5e-5));
    }
}

#[test]
fn norms() {
    for (cols, width) in [(256, 256), (172, 172), (4096, 4096), (512, 64), (64, 8), (4, 4), (1028, 1028), (240, 80)] {
        let mut g = Graph::default();
        let x = rows(&mut g, cols);
        let weight = g.vector("norm.weight", width);
        let bias = g.vector("norm.bias", width);
        g.rms_norm(x, weight, 1e-5);
        let last = g.gather(x);
        g.rms_norm(last, weight, 1e-2);
        for x in [x, last].into_iter().filter(|_| cols == width) {
            g.layer_norm(x, weight, bias, 1e-3);
        }
        check(Case::new(format!("norms {cols} {width}"), g, any_rows(&[40, 1, 9], VOCABULARY), 1e-5));
    }
}

#[test]
fn rotations() {
    for style in [RopeStyle::Interleaved, RopeStyle::Neox] {
        for (heads, head_dim, rotated) in [(1, 8, 8), (3, 64, 64), (2, 80, 32), (4, 128, 128), (1, 256, 64), (2, 12, 4)]
        {
            let mut g = Graph::default();
            let x = rows(&mut g, heads * head_dim);
            let pairs = rotated / 2;
            let frequencies: Vec<f64> = (0..pairs).map(|i| 10_000f64.powf(-f64::from(i) / f64::from(pairs))).collect();
            let angles = g.rope_angles(&frequencies, 1024, 1.0);
            g.rope(x, angles, Rope { head_dim, rotated, style });
            let name = format!("rope {heads} {head_dim} {rotated} {style:?}");
            check(Case::new(name, g, any_rows(&[40, 1, 9], VOCABULARY), 2e-6));
        }
    }
}

#[test]
fn elementwise_ops_and_gather() {
    for cols in [4, 172, 256, 1000] {
        let mut g = Graph::default();
        let (a, b) = (rows(&mut g, cols), rows(&mut g, cols));
        g.sum(a, b);
        // Beyond the bounds of every activation.
        let far = g.scaled_sum(a, b, 40.0);
        for activation in [Activation::Silu, Activation::Gelu, Activation::Clamped, Activation::Product] {
            g.glu(a, b, activation);
            g.glu(far, far, activation);
        }
        let one = g.vector("one.weight", 1);
        g.glu(one, a, Activation::Product);
        g.glu(a, one, Activation::Gelu);
        let picked = g.gather(far);
        for cap in [None, Some(3.0)] {
            g.logit_scale(picked, LogitScale { scale: 0.25, softcap: cap });
        }
        check(Case::new(format!("add, glu, gather, logit_scale {cols}"), g, any_rows(&COUNTS, VOCABULARY), 1e-6));
    }
}

/// Steps with random tokens at these positions of these sequences, in order.
fn positions(steps: &[&[(u32, std::ops::Range<u32>)]]) -> Vec<Step> {
    let mut rng = random(3);
    let step = |parts: &&[(u32, std::ops::Range<u32>)]| {
        let rows = parts.iter().flat_map(|(s, range)| range.clone().map(|p| (*s, p)));
        Step { rows: rows.map(|(s, p)| [rng() % VOCABULARY, p, s, 0]).collect(), ..Default::default() }
    };
    steps.iter().map(step).collect()
}

/// Sequences in common and separate steps that cross pages, query tiles and KV splits, up to `context` positions.
fn conversation(context: u32) -> Vec<Step> {
    let mut steps = positions(&[
        &[(2, 0..1)],
        &[(0, 0..40)],
        &[(1, 0..17), (3, 0..9), (0, 40..77)],
        &[(0, 77..78), (1, 17..18), (2, 1..2), (3, 9..10)],
        &[(1, 18..26)],
        &[(1, 26..35)],
        &[(3, 10..127)],
        &[(3, 127..128)],
        &[(3, 128..129), (2, 2..3)],
    ]);
    for start in (78..context).step_by(130) {
        steps.extend(positions(&[&[(0, start..(start + 130).min(context))]]));
    }
    steps.extend(positions(&[
        &[(0, context..context + 1)],
        &[(2, 3..5), (0, context + 1..context + 5), (3, 129..131)],
        &[(2, 5..6)],
    ]));
    steps
}

/// The same steps for layers with states: segments of several rows write to the other slot and so keep a checkpoint;
/// segments of 3n rows continue from the checkpoint, as after a discarded answer.
fn with_states(mut steps: Vec<Step>) -> Vec<Step> {
    let mut slots = [[NO_STATE; 2]; SEQUENCES as usize];
    for step in &mut steps {
        let mut first = 0;
        for rows in step.rows.chunk_by(|a, b| a[2] == b[2]) {
            let (count, sequence) = (rows.len() as u32, rows[0][2] as usize);
            let [before, last] = slots[sequence];
            let reads = if count % 3 == 0 { before } else { last };
            let writes = match reads {
                NO_STATE => 2 * sequence as u32,
                slot if count == 1 => slot,
                slot => slot ^ 1,
            };
            step.segments.push(Segment { first, count, reads, writes });
            slots[sequence] = if writes == reads { [before, last] } else { [reads, writes] };
            first += count;
        }
    }
    steps
}

#[test]
fn convolutions_and_delta_nets_with_states() {
    // Value heads repeat the key heads, or are grouped by key head; b and alpha are separate or fused; decay rates may
    // be logarithms.
    let (plain, grouped) = ([false; 3], [true, false, false]);
    let (fused, logarithms) = ([true, true, false], [true, false, true]);
    for (key_heads, heads, head_dim, taps, [grouped, fused, log_decay]) in [
        (1, 1, 4, 2, plain),
        (2, 4, 32, 4, plain),
        (3, 3, 20, 3, logarithms),
        (2, 6, 128, 4, plain),
        (2, 4, 64, 4, fused),
        (2, 6, 32, 4, grouped),
    ] {
        let mut g = Graph::default();
        let op = DeltaNet { key_heads, heads, head_dim, grouped, fused, log_decay };
        let channels = (2 * key_heads + heads) * head_dim;
        let x = rows(&mut g, channels);
        let weight = g.vector("taps.weight", channels * taps);
        let x = g.short_conv(x, weight, "conv_state", ShortConv { kernel_size: taps, silu: taps != 3 });
        let wide = rows(&mut g, heads * 12);
        let mut part = |first, len| g.head_slice(wide, HeadSlice { head_dim: 12, start: first, len });
        let (alpha, b) = if fused { (part(0, 2), None) } else { (part(0, 1), Some(part(11, 1))) };
        let b = b.unwrap_or(alpha);
        // Decaying states, fast in some heads.
        let rate = |i| if log_decay { (0.02 * (1 + 10 * i) as f32).ln() } else { -0.02 * (1 + 10 * i) as f32 };
        let rates = (0..2 * heads).map(|i| if i < heads { rate(i) } else { 0.1 * i as f32 });
        let rates = g.add("rates", Rows::Fixed(1), 2 * heads, TensorKind::Constant(rates.collect()));
        let y = g.delta_net(x, [alpha, b, rates], "delta_state", op);
        let gates = rows(&mut g, heads * head_dim);
        g.glu(gates, y, Activation::Sigmoid);
        let name = format!("delta net {key_heads} {heads} {head_dim} {taps}");
        let coverage = if head_dim == 32 { Coverage::All } else { Coverage::HighestTier };
        check(Case { coverage, ..Case::new(name, g, with_states(conversation(150)), 5e-5) });
    }
}

fn attends(op: Attention) -> Graph {
    let mut g = Graph::default();
    attend(&mut g, op, false);
    g
}

/// The same with sinks.
fn attends_with_sinks(op: Attention) -> Graph {
    let mut g = Graph::default();
    attend(&mut g, op, true);
    g
}

/// Attention with a separate KV cache. Returns its output and the cache.
fn attend(g: &mut Graph, op: Attention, sinks: bool) -> (TensorId, (TensorId, TensorId)) {
    let Attention { heads, kv_heads, head_dim, .. } = op;
    let q = rows(g, heads * head_dim);
    let (k, v) = (rows(g, kv_heads * head_dim), rows(g, kv_heads * head_dim));
    let near = op.mask != MaskKind::Causal;
    let mut cache =
        |name| g.add(name, Rows::Fixed(0), 0, TensorKind::KvCache { heads: kv_heads, head_dim, sliding: near });
    let caches = (cache("k_cache"), cache("v_cache"));
    g.kv_write(k, v, caches, KvWrite { heads: kv_heads, head_dim });
    let sinks = sinks.then(|| g.vector("sinks.weight", heads));
    let scale = 2.0 / (head_dim as f32).sqrt();
    (g.attention(q, caches, sinks, Attention { scale, ..op }), caches)
}

#[test]
fn attention_over_pages_and_sequences() {
    for (heads, kv_heads, head_dim, context, kv) in [
        (2, 2, 8, 1000, KvType::F32),
        (3, 1, 64, 600, KvType::F32),
        (8, 2, 80, 400, KvType::F32),
        (7, 1, 128, 300, KvType::F16),
        (8, 1, 256, 200, KvType::F32),
        (4, 2, 512, 200, KvType::F32),
        (3, 1, 320, 150, KvType::Q8_0),
        (14, 2, 64, 300, KvType::F16),
        (9, 1, 32, 150, KvType::F32),
        (11, 1, 20, 150, KvType::F16),
        (4, 2, 64, 300, KvType::Q8_0),
        (6, 3, 96, 150, KvType::Q8_0),
        (8, 1, 256, 150, KvType::Q8_0),
        (3, 3, 32, 150, KvType::Q8_0),
    ] {
        let name = format!("attention {heads} {kv_heads} {head_dim} {kv:?}");
        let tolerance = match kv {
            KvType::F32 => 2e-5,
            // A value that rounds to the other f16 differs by at most 2^-11.
            KvType::F16 => 1e-3,
            // A value that rounds to the other quant differs by 1/127 of the block's largest value, which is 1.
            KvType::Q8_0 => 1.5e-2,
            new => panic!("{new:?} has no tolerance"),
        };
        let case =
            Case::new(name, attends(Attention::full(heads, kv_heads, head_dim)), conversation(context), tolerance);
        // Heads of 8 and 64 values on every tier.
        let coverage = if [8, 64].contains(&head_dim) { Coverage::All } else { Coverage::HighestTier };
        check(Case { kv, coverage, ..case });
    }
}

/// Masks, softcaps, temperatures and sinks; windows and chunks that begin within pages, query tiles and KV splits, and
/// some that are longer than a KV split.
#[test]
fn attention_with_windows_chunks_softcaps_and_sinks() {
    let temperature = |floor_scale, offset| Some(AttentionTemperature { floor_scale, attn_scale: 0.5, offset });
    let op = |heads, kv_heads, head_dim| Attention::full(heads, kv_heads, head_dim);
    for (name, op) in [
        ("window", Attention { mask: MaskKind::SlidingWindow(50), ..op(3, 1, 64) }),
        (
            "long window and softcap",
            Attention { mask: MaskKind::SlidingWindow(200), softcap: Some(1.5), ..op(8, 2, 32) },
        ),
        ("narrow window", Attention { mask: MaskKind::SlidingWindow(1), ..op(2, 2, 8) }),
        ("chunk", Attention { mask: MaskKind::Chunked(48), ..op(4, 2, 64) }),
        ("long chunk and sinks", Attention { mask: MaskKind::Chunked(160), ..op(5, 1, 64) }),
        ("softcap", Attention { softcap: Some(0.7), ..op(4, 4, 32) }),
        ("temperature", Attention { temperature: temperature(64, 1), ..op(4, 1, 64) }),
        ("temperature without offset", Attention { temperature: temperature(10, 0), ..op(2, 1, 8) }),
        ("sinks", op(6, 3, 64)),
        ("sinks and window", Attention { mask: MaskKind::SlidingWindow(128), ..op(9, 3, 64) }),
    ] {
        let coverage = if name.contains("and") { Coverage::All } else { Coverage::HighestTier };
        let graph = if name.contains("sinks") { attends_with_sinks(op) } else { attends(op) };
        let case = Case::new(format!("attention, {name}"), graph, conversation(300), 2e-5);
        check(Case { kv: KvType::F32, coverage, ..case });
    }
}

/// Rounding scores to f16 changes weights by about 1e-3, and by a few hundredths if scores are in the tens.
#[test]
fn cooperative_attention_has_small_errors() {
    if !has_cooperative_matrices() {
        return;
    }
    let op = |heads, kv_heads, head_dim| Attention::full(heads, kv_heads, head_dim);
    let steep = Some(AttentionTemperature { floor_scale: 1, attn_scale: 4.0, offset: 0 });
    let mut two = attends(op(4, 2, 64));
    attend(&mut two, op(2, 1, 320), false);
    for (name, kv, tolerance, graph) in [
        ("shared heads", KvType::F32, 4e-3, attends(op(4, 2, 64))),
        ("long heads", KvType::F16, 4e-3, attends(op(3, 1, 128))),
        ("cache in q8_0", KvType::Q8_0, 1.5e-2, attends(op(3, 3, 32))),
        ("two lengths", KvType::F32, 4e-3, two),
        ("steep", KvType::F32, 1e-1, attends(Attention { temperature: steep, ..op(2, 1, 64) })),
        (
            "sinks and window",
            KvType::F32,
            4e-3,
            attends_with_sinks(Attention { mask: MaskKind::SlidingWindow(50), ..op(3, 3, 64) }),
        ),
        (
            "chunk and softcap",
            KvType::F32,
            4e-3,
            attends(Attention { softcap: Some(0.7), mask: MaskKind::Chunked(48), ..op(2, 2, 96) }),
        ),
    ] {
        let case = Case { kv, ..Case::new(name, graph, conversation(300), tolerance) };
        let data = Data::random(&case.graph, 1);
        let caps = caps().clone().tier(Tier::Cooperative);
        let error =
            run(&case, &data, &expected(&case, &data), &caps, Fuse::ALL).unwrap_or_else(|e| panic!("{name}: {e}"));
        println!("cooperative attention, {name}: {error:.1e}");
        assert!(error > 5e-5, "{name}: nothing was rounded");
    }
}

/// Attention without a cache: steps of whole sequences, of one row and of many, in any order.
#[test]
fn attention_over_the_rows_of_a_step() {
    let steps = positions(&[
        &[(2, 0..1)],
        &[(0, 0..40), (3, 0..1), (1, 0..17)],
        &[(1, 0..130), (0, 0..65)],
        &[(0, 0..3), (1, 0..5)],
        &[(3, 0..33), (2, 0..32), (1, 0..31), (0, 0..2)],
    ]);
    let op = |heads, kv_heads, head_dim| Attention::full(heads, kv_heads, head_dim);
    for (name, op) in [
        ("bidirectional", Attention { mask: MaskKind::Bidirectional, ..op(4, 2, 64) }),
        ("bidirectional and softcap", Attention { mask: MaskKind::Bidirectional, softcap: Some(0.7), ..op(3, 3, 20) }),
        ("symmetric window", Attention { mask: MaskKind::SymmetricWindow(24), ..op(2, 1, 32) }),
        ("long heads", Attention { mask: MaskKind::SymmetricWindow(3), ..op(2, 1, 320) }),
        ("sliding window and sinks", Attention { mask: MaskKind::SlidingWindow(9), ..op(4, 4, 64) }),
        ("causal", op(6, 3, 96)),
    ] {
        let graph = encodes(op, name.contains("sinks"));
        let coverage = if name.contains("and") { Coverage::All } else { Coverage::HighestTier };
        check(Case { coverage, ..Case::new(format!("attention over rows, {name}"), graph, steps.clone(), 2e-5) });
    }
    if has_cooperative_matrices() {
        let mask = MaskKind::SymmetricWindow(40);
        for op in [Attention { mask, ..op(4, 2, 64) }, Attention { mask: MaskKind::Bidirectional, ..op(2, 1, 32) }] {
            let case = Case::new("attention over rows", encodes(op, true), steps.clone(), 4e-3);
            let (data, caps) = (Data::random(&case.graph, 1), caps().clone().tier(Tier::Cooperative));
            let error = run(&case, &data, &expected(&case, &data), &caps, Fuse::ALL).unwrap_or_else(|e| panic!("{e}"));
            assert!(error > 5e-5, "nothing was rounded");
        }
    }
}

/// Attention over rows of keys and values.
fn encodes(op: Attention, sinks: bool) -> Graph {
    let mut g = Graph::default();
    let Attention { heads, kv_heads, head_dim, .. } = op;
    let q = rows(&mut g, heads * head_dim);
    let (k, v) = (rows(&mut g, kv_heads * head_dim), rows(&mut g, kv_heads * head_dim));
    let sinks = sinks.then(|| g.vector("sinks.weight", heads));
    g.attention_over_rows(q, (k, v), sinks, Attention { scale: 2.0 / (head_dim as f32).sqrt(), ..op });
    g
}

/// MLA: keys with a latent part, which also serves as values, and a rotated part; `heads` query heads share them.
fn attends_latent(heads: u32, rank: u32, rotated: u32) -> Graph {
    let (mut g, head_dim) = (Graph::default(), rank + rotated);
    let (q, q_rope, k) = (rows(&mut g, heads * rank), rows(&mut g, heads * rotated), rows(&mut g, head_dim));
    let q = g.head_concat(q, q_rope, HeadConcat { heads });
    let cache = g.add("k_cache", Rows::Fixed(0), 0, TensorKind::KvCache { heads: 1, head_dim, sliding: false });
    g.k_write(k, cache, KvWrite { heads: 1, head_dim });
    let scale = 2.0 / (head_dim as f32).sqrt();
    g.attention(q, (cache, cache), None, Attention { value_dim: rank, scale, ..Attention::full(heads, 1, head_dim) });
    g
}

#[test]
fn attention_over_latent_keys() {
    for (heads, rank, rotated, context, kv) in [
        (4, 8, 4, 300, KvType::F32),
        (6, 64, 32, 300, KvType::Q8_0),
        (2, 512, 64, 300, KvType::F32),
        (12, 512, 64, 150, KvType::F16),
        (5, 512, 64, 150, KvType::Q8_0),
        (3, 256, 20, 150, KvType::F16),
    ] {
        let tolerance = match kv {
            KvType::F32 => 2e-5,
            KvType::F16 => 1e-3,
            KvType::Q8_0 => 1.5e-2,
            new => panic!("{new:?} has no tolerance"),
        };
        let name = format!("latent attention {heads} {rank} {rotated} {kv:?}");
        let case = Case::new(name, attends_latent(heads, rank, rotated), conversation(context), tolerance);
        let coverage = if rank == 8 || heads == 2 { Coverage::All } else { Coverage::HighestTier };
        check(Case { kv, coverage, ..case });
    }
}

#[test]
fn linears_per_head() {
    for (dtype, heads, n, k, max_binding) in [
        (DType::F32, 3, 20, 36, None),
        (DType::F16, 16, 512, 128, None),
        (DType::Q8_0, 5, 68, 64, None),
        (DType::Q4K, 2, 64, 256, None),
        // Shards of two heads and of one.
        (DType::F32, 3, 88, 256, one_shard(DType::F32, 3 * 256)),
    ] {
        let mut g = Graph::default();
        let x = rows(&mut g, heads * k);
        let weight = g.expert_stack("heads.weight", heads, n, k, dtype);
        g.head_linear(x, weight);
        let name = format!("head_linear {dtype} {heads} {n} {k}");
        let case = Case::new(name, g, any_rows(&COUNTS, VOCABULARY), 2e-5);
        check(Case { max_binding, coverage: if n == 20 { Coverage::All } else { Coverage::HighestTier }, ..case });
    }
}

/// Kernels for long heads divide the query tiles that other layers process whole; some layers read another layer's
/// cache.
#[test]
fn heads_of_two_sizes_and_a_shared_cache() {
    let mut g = Graph::default();
    let narrow = Attention { mask: MaskKind::SlidingWindow(50), ..Attention::full(4, 2, 64) };
    let (_, caches) = attend(&mut g, narrow.clone(), false);
    let q = rows(&mut g, 4 * 64);
    g.attention(q, caches, None, narrow);
    attend(&mut g, Attention::full(2, 1, 320), false);
    check(Case::new("heads of two lengths", g, conversation(200), 2e-5));
}

/// The variants of a decoder block.
struct Block {
    heads: (u32, u32, u32),
    rotated: u32,
    rope_style: RopeStyle,
    bias: bool,
    head_norm: bool,
    value_norm: bool,
    types: [DType; 3],
}

/// The block of Llama.
const BLOCK: Block = Block {
    heads: (4, 2, 64),
    rotated: 64,
    rope_style: RopeStyle::Interleaved,
    bias: false,
    head_norm: false,
    value_norm: false,
    types: [DType::F32; 3],
};

/// A block with `width` columns, from a linear with residual to the GLU after attention. Fusion turns it into every
/// fused op.
fn block(b: &Block, width: u32) -> Graph {
    let mut g = Graph::default();
    let (heads, kv_heads, head_dim) = b.heads;
    let x = rows(&mut g, width);
    let made = |g: &mut Graph, x, from: TensorId, name: &str| {
        let cols = g.cols(from);
        let weight = g.weight(&format!("{name}.weight"), width, cols, b.types[1]);
        let y = g.linear(from, weight, None);
        let sum = g.sum(x, y);
        let norm = g.vector(&format!("{name}_norm.weight"), width);
        // An epsilon large enough to have an effect.
        (sum, g.rms_norm(sum, norm, 0.2))
    };
    let (x, h) = made(&mut g, x, x, "first");
    let part = |g: &mut Graph, name: &str, heads: u32, dtype| {
        let weight = g.weight(&format!("{name}.weight"), heads * head_dim, width, dtype);
        let bias = b.bias.then(|| g.vector(&format!("{name}.bias"), heads * head_dim));
        g.linear(h, weight, bias)
    };
    let mut q = part(&mut g, "q", heads, b.types[0]);
    let mut k = part(&mut g, "k", kv_heads, b.types[1]);
    let mut v = part(&mut g, "v", kv_heads, b.types[2]);
    if b.value_norm {
        let ones = g.add("ones", Rows::Fixed(1), head_dim, TensorKind::Constant(vec![1.0; head_dim as usize]));
        v = g.rms_norm(v, ones, 1e-6);
    }
    if b.head_norm {
        (q, k) = (head_norm(&mut g, q, head_dim), head_norm(&mut g, k, head_dim));
    }
    let angles = g.rope_angles(&vec![0.3; b.rotated as usize / 2], 1024, 1.0);
    let rope = Rope { head_dim, rotated: b.rotated, style: b.rope_style };
    let (q, k) = (g.rope(q, angles, rope.clone()), g.rope(k, angles, rope));
    let mut cache =
        |name| g.add(name, Rows::Fixed(0), 0, TensorKind::KvCache { heads: kv_heads, head_dim, sliding: false });
    let caches = (cache("k_cache"), cache("v_cache"));
    g.kv_write(k, v, caches, KvWrite { heads: kv_heads, head_dim });
    let y = g.attention(q, caches, None, Attention::full(heads, kv_heads, head_dim));
    let (_, h) = made(&mut g, x, y, "second");
    let mut weight = |name| g.weight(name, 100, width, b.types[2]);
    let (gate, up) = (weight("gate.weight"), weight("up.weight"));
    let (gate, up) = (g.linear(h, gate, None), g.linear(h, up, None));
    g.glu(gate, up, Activation::Silu);
    g
}

fn head_norm(g: &mut Graph, x: TensorId, head_dim: u32) -> TensorId {
    let weight = g.vector("head_norm.weight", head_dim);
    g.rms_norm(x, weight, 1e-6)
}

#[test]
fn fused_blocks() {
    let qwen2 = Block { heads: (6, 2, 32), rope_style: RopeStyle::Neox, rotated: 32, bias: true, ..BLOCK };
    let qwen3 = Block { heads: (3, 1, 128), rope_style: RopeStyle::Neox, rotated: 64, head_norm: true, ..BLOCK };
    let gemma4 = Block { value_norm: true, ..qwen3 };
    let mixed = Block { types: [DType::Q4K, DType::Q4K, DType::Q6K], ..BLOCK };
    let odd = Block { heads: (5, 5, 20), rotated: 12, head_norm: true, bias: true, ..BLOCK };
    for (name, b, width, kv) in [
        ("llama", &BLOCK, 172, KvType::F32),
        ("qwen2", &qwen2, 256, KvType::F32),
        ("qwen3, keys and values in f16", &qwen3, 260, KvType::F16),
        ("qwen3, keys and values in q8_0", &qwen3, 64, KvType::Q8_0),
        ("gemma4", &gemma4, 64, KvType::F32),
        ("two types of weights", &mixed, 256, KvType::F32),
        ("an odd shape", &odd, 100, KvType::F32),
    ] {
        let graph = block(b, width);
        let fused = fuse::fuse(graph.clone(), Fuse::ALL, u64::MAX);
        let ops: Vec<&str> = fused.nodes.iter().map(Op::name).collect();
        assert_eq!(ops, ["embed", "linear", "qkv", "rope_kv", "attention", "linear", "linear_glu"]);
        let tolerance = if kv == KvType::F32 { 5e-5 } else { 5e-3 };
        let case = Case::new(format!("block: {name}"), graph, conversation(150), tolerance);
        let coverage = if name == "llama" { Coverage::All } else { Coverage::HighestTier };
        check(Case { kv, coverage, ..case });
    }
}

/// Post-norms fused with residual sums and, once, with the next norm.
#[test]
fn post_norms() {
    for width in [256, 172, 64, 1028, 4096] {
        let mut g = Graph::default();
        let (x, y) = (rows(&mut g, width), rows(&mut g, width));
        let weights = ["first", "next", "last"].map(|name| g.vector(&format!("{name}_norm.weight"), width));
        let normed = g.rms_norm(y, weights[0], 1e-5);
        let sum = g.sum(x, normed);
        let next = g.rms_norm(sum, weights[1], 0.2);
        let both = g.sum(next, sum);
        let last = g.rms_norm(both, weights[2], 1e-3);
        g.sum(last, x);
        let fused = fuse::fuse(g.clone(), Fuse::ALL, u64::MAX);
        let ops: Vec<&str> = fused.nodes.iter().map(Op::name).collect();
        assert_eq!(ops, ["embed", "embed", "norm_add", "add", "norm_add"]);
        check(Case::new(format!("post-norms {width}"), g, any_rows(&[40, 1, 9], VOCABULARY), 1e-5));
    }
}

/// With one sequence, plans have no kernels for a few rows: the tiled kernels process them.
#[test]
fn plans_for_one_sequence() {
    let alone = |mut case: Case| {
        case.steps.iter_mut().flat_map(|s| &mut s.rows).for_each(|row| row[2] = 0);
        check(Case { sequences: 1, coverage: Coverage::One, ..case });
    };
    alone(Case::new("linear, one sequence", linears(DType::F32, 68, 100), any_rows(&COUNTS, VOCABULARY), 2e-5));
    let graph = linear_glu(DType::Q8_0, DType::Q8_0, 50, 64);
    alone(Case::new("linear_glu, one sequence", graph, any_rows(&COUNTS, VOCABULARY), 5e-5));
    let steps = positions(&[&[(0, 0..3)], &[(0, 3..4)], &[(0, 4..12)], &[(0, 12..140)], &[(0, 140..141)]]);
    alone(Case::new("attention, one sequence", attends(Attention::full(6, 2, 64)), steps, 2e-5));
}

/// The same adapter with the fewest workgroups per dimension that allow all kernels to be dispatched.
fn tight(case: &Case, caps: &Caps) -> Caps {
    let options = PlanOptions { fuse: Fuse::ALL, keep: case.outputs() };
    let most = |max_workgroups| caps.clone().max_workgroups(max_workgroups);
    let fits =
        |caps: &Caps| DispatchList::new(case.graph.clone(), caps, case.capacity(), &options).oversized(caps).is_none();
    (2..).map(most).find(fits).expect("a sufficient number")
}

/// Runs a case on adapters with few workgroups per dimension. Returns the shaders of the kernels that are folded there.
fn check_folded(case: Case) -> BTreeSet<&'static str> {
    let (data, mut folded) = (Data::random(&case.graph, 1), BTreeSet::new());
    let want = expected(&case, &data);
    let adapter = caps();
    let rounds = |tier: &Tier| case.coverage == Coverage::All && !tier.exact() && adapter.lacks(*tier).is_none();
    let rounds = Tier::ALL.into_iter().filter(rounds);
    let setups = [(adapter.tier, false), (Tier::Baseline, false), (adapter.tier, true)];
    for (tier, software) in setups.into_iter().chain(rounds.map(|tier| (tier, false))) {
        let caps = tight(&case, &adapter.clone().tier(tier).software(software));
        // A large tolerance suffices: values that no workgroup has written are NaN.
        let case = Case { tolerance: if tier.exact() { case.tolerance } else { 0.1 }, ..case.clone() };
        let setup = format!("{}, tier {tier}, software {software}, at most {}", case.name, caps.max_workgroups);
        match run(&case, &data, &want, &caps, Fuse::ALL) {
            Ok(worst) => println!("{setup}: {worst:.1e}"),
            Err(e) => panic!("{setup}: {e}"),
        }
        let options = PlanOptions { fuse: Fuse::ALL, keep: case.outputs() };
        let dispatch_list = DispatchList::new(case.graph.clone(), &caps, case.capacity(), &options);
        folded.extend(dispatch_list.kernels.iter().filter(|(_, k)| k.fold.is_some()).map(|(_, k)| k.source.file));
    }
    folded
}

/// Grids that exceed an adapter's workgroups per dimension: every kernel still covers its whole grid.
#[test]
fn folded_grids() {
    let mut folded = BTreeSet::new();
    let mut check = |case: Case| folded.extend(check_folded(case));
    let exact = |name: &str, graph, steps, tolerance| Case {
        coverage: Coverage::HighestTier,
        ..Case::new(format!("folded {name}"), graph, steps, tolerance)
    };
    let graph = linears_of_rows(DType::Q4K, 1000, 256);
    check(Case::new("folded linears", graph, any_rows(&[130, 1, 65, 8], VOCABULARY), 2e-5));
    let graph = linear_glu(DType::Q4K, DType::Q8_0, 1000, 256);
    check(exact("gate and up", graph, any_rows(&[40, 1, 5], VOCABULARY), 5e-5));
    let mut g = Graph::default();
    let x = rows(&mut g, 5 * 64);
    let weight = g.expert_stack("heads.weight", 5, 300, 64, DType::F16);
    g.head_linear(x, weight);
    check(exact("heads", g, any_rows(&[40, 1, 5], VOCABULARY), 2e-5));
    check(exact("rows", values_and_norms(), any_rows(&[130, 1, 9], VOCABULARY), 1e-5));
    for (heads, kv) in [((6, 2, 64), KvType::F32), ((4, 4, 32), KvType::Q8_0)] {
        let (heads, kv_heads, head_dim) = heads;
        let op = Attention { mask: MaskKind::SlidingWindow(500), ..Attention::full(heads, kv_heads, head_dim) };
        let tolerance = if kv == KvType::F32 { 2e-5 } else { 1.5e-2 };
        let coverage = if kv == KvType::F32 { Coverage::All } else { Coverage::HighestTier };
        check(Case { kv, coverage, ..exact("attention", attends_with_sinks(op), conversation(600), tolerance) });
    }
    // Only decode steps, whose grids are smaller than those of prefill steps.
    let mut steps: Vec<Step> = (0..272).step_by(8).flat_map(|at| positions(&[&[(0, at..at + 8)]])).collect();
    steps.extend(positions(&[&[(0, 272..274), (1, 0..2)], &[(0, 274..275)]]));
    check(exact("decodes", attends(Attention::full(12, 3, 64)), steps, 2e-5));
    check(exact("latent attention", attends_latent(6, 64, 32), conversation(300), 2e-5));
    let b = Block { heads: (4, 2, 64), rotated: 64, head_norm: true, types: [DType::Q8_0; 3], ..BLOCK };
    check(exact("block", block(&b, 256), conversation(150), 5e-5));
    let mut g = Graph::default();
    let op = DeltaNet { key_heads: 4, heads: 12, head_dim: 64, grouped: false, fused: false, log_decay: false };
    let channels = (2 * op.key_heads + op.heads) * op.head_dim;
    let x = rows(&mut g, channels);
    let taps = g.vector("taps.weight", channels * 4);
    let x = g.short_conv(x, taps, "conv_state", ShortConv { kernel_size: 4, silu: true });
    let (alpha, b) = (rows(&mut g, op.heads), rows(&mut g, op.heads));
    let rates = g.add("rates", Rows::Fixed(1), 2 * op.heads, TensorKind::Constant(vec![-0.1; 2 * op.heads as usize]));
    g.delta_net(x, [alpha, b, rates], "delta_state", op);
    let steps = positions(&[&[(0, 0..2), (1, 0..3)], &[(0, 2..3), (2, 0..1), (1, 3..4)], &[(1, 4..5)]]);
    check(exact("states", g, with_states(steps), 5e-5));

    // Other files test the kernels of experts and sampling; the sort is one workgroup.
    let elsewhere = ["router", "expert_sort", "expert_sum", "sample_scan", "sample_candidates", "sample_pick"];
    let lacks = |tier| caps().lacks(tier).is_some();
    let mut all: BTreeSet<&str> = catalog().into_iter().map(|(_, source)| source.file).collect();
    all.retain(|file| !elsewhere.contains(file));
    all.retain(|file| !(file.ends_with("_cooperative") && lacks(Tier::Cooperative)));
    all.retain(|file| !(file.ends_with("_f16") && lacks(Tier::F16)));
    assert_eq!(folded, all, "every kernel must be folded once");
}

/// Elementwise ops, row ops, norms and RoPE.
fn values_and_norms() -> Graph {
    let mut g = Graph::default();
    let (a, b) = (rows(&mut g, 256), rows(&mut g, 256));
    let weights = ["first", "next", "last"].map(|name| g.vector(&format!("{name}_norm.weight"), 256));
    let heads = g.vector("head_norm.weight", 64);
    let normed = g.rms_norm(b, weights[0], 1e-5);
    let sum = g.sum(a, normed);
    let next = g.rms_norm(sum, weights[1], 0.2);
    let both = g.sum(next, sum);
    g.layer_norm(both, weights[2], weights[0], 1e-3);
    let picked = g.gather(both);
    g.logit_scale(picked, LogitScale { scale: 0.25, softcap: Some(3.0) });
    g.rms_norm(a, heads, 1e-5);
    g.glu(a, b, Activation::Silu);
    g.sum(b, b);
    g.head_slice(a, HeadSlice { head_dim: 64, start: 8, len: 24 });
    let angles = g.rope_angles(&[0.3; 16], 1024, 1.0);
    g.rope(b, angles, Rope { head_dim: 64, rotated: 32, style: RopeStyle::Neox });
    g
}

#[test]
fn the_comparison_detects_differences() {
    let differs = |case: &Case, data: &Data, changed: &Case, want: &Data| {
        let (caps, fuse) = setups(case).remove(0);
        assert!(run(case, data, &expected(case, data), &caps, fuse).is_ok());
        run(case, data, &expected(changed, want), &caps, fuse).is_err()
    };
    // One low bit of one quant in 68 * 512.
    let case = Case::new("linear", plain(DType::Q8_0, 68, 512), any_rows(&[1, 9], VOCABULARY), 2e-5);
    let data = Data::random(&case.graph, 1);
    let mut other = data.clone();
    let Op::Linear(_, io) = &case.graph.nodes[1] else { panic!("no linear") };
    let weight = io.weight;
    other.weights.get_mut(&weight).expect("a weight")[34 * 100 + 7] ^= 1;
    assert!(differs(&case, &data, &case, &other));
    // One row of the last step, at the position before.
    let case = Case::new("attention", attends(Attention::full(2, 1, 8)), conversation(150), 2e-5);
    let data = Data::random(&case.graph, 1);
    let mut changed = Case::new("attention", attends(Attention::full(2, 1, 8)), conversation(150), 2e-5);
    changed.steps.last_mut().expect("a step").rows[0][1] -= 1;
    assert!(differs(&case, &data, &changed, &data));
}
