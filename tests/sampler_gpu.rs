//! The sampling kernels against the CPU sampler: the same token for all kinds of logits and settings, with several rows
//! of a sequence in a step.

mod common;

use common::test_plan::{TestPlan, caps};
use firelight::gpu::{Caps, Tier};
use firelight::graph::{CANDIDATES, Graph, NO_OUTPUT, Rows, StepInput, TensorId, TensorKind, TensorRef};
use firelight::ops::sample::{Params, reference};
use firelight::ops::{Capacity, KvType, StepSizes};
use firelight::plan::{DispatchList, PlanOptions, fuse::Fuse};
use firelight::sampler::{IN_PROMPT, Sampling};

/// A small generator (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, n: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (((z >> 32) * u64::from(n)) >> 32) as u32
    }

    fn unit(&mut self) -> f32 {
        self.below(1 << 24) as f32 / (1 << 24) as f32
    }

    /// Nearly normal, deviation 1.
    fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.unit()).sum::<f32>() - 6.0
    }

    fn one_of<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len() as u32) as usize]
    }
}

const SHAPES: u32 = 10;

/// A row of logits with a distribution of this number.
fn logits(random: &mut Random, vocab: usize, shape: u32) -> Vec<f32> {
    let mut row: Vec<f32> = match shape {
        // Like a language model's: wide, with a few large ones.
        0 => (0..vocab).map(|_| random.normal() * 3.0).collect(),
        1 => (0..vocab).map(|_| random.normal() * 0.5 - 40.0).collect(),
        // All the same, or nearly.
        2 => vec![1.25; vocab],
        3 => (0..vocab).map(|_| random.unit() * 1e-3 + 10.0).collect(),
        // Many ties.
        4 => (0..vocab).map(|_| random.below(6) as f32).collect(),
        // Far apart.
        5 => (0..vocab).map(|_| random.normal() * 60.0).collect(),
        // The best ones are adjacent and in order.
        6 => (0..vocab).map(|i| if i % 1000 < 200 { 5.0 + (i % 1000) as f32 * 0.01 } else { -3.0 }).collect(),
        // More tokens tie for the best than the filters keep.
        7 => (0..vocab).map(|i| if i % 3 > 0 { 2.0 } else { random.normal() }).collect(),
        // All tokens masked but a few; or all.
        8 => (0..vocab).map(|_| if random.below(40) == 0 { random.normal() } else { f32::NEG_INFINITY }).collect(),
        _ => vec![f32::NEG_INFINITY; vocab],
    };
    if shape == 0 {
        for _ in 0..random.below(8) {
            row[random.below(vocab as u32) as usize] = 8.0 + random.unit() * 8.0;
        }
        row[random.below(vocab as u32) as usize] = f32::NAN;
    }
    row
}

fn settings(random: &mut Random) -> Sampling {
    let mut s = Sampling::default()
        .temperature(random.one_of(&[0.0, 0.3, 0.8, 1.0, 1.0, 3.0]))
        .top_k(random.one_of(&[0, 0, 1, 5, 40, 1000, 1024, 5000]))
        .top_p(random.one_of(&[1.0, 1.0, 0.0, 0.1, 0.5, 0.95, 0.999]))
        .min_p(random.one_of(&[0.0, 0.0, 0.05, 0.5, 1e-4, 1.0]))
        .seed(u64::from(random.below(u32::MAX)) << 7);
    if random.below(4) == 0 {
        (s.top_k, s.top_p, s.min_p) = (0, 1.0, 0.0);
    }
    if random.below(3) == 0 {
        s.repetition_penalty = random.one_of(&[1.0, 1.3, 0.8]);
        s.frequency_penalty = random.one_of(&[0.0, 0.5, -0.1]);
        s.presence_penalty = random.one_of(&[0.0, 0.7]);
    }
    s
}

/// Whether rounding explains that the GPU sampled `token`: nearly the same settings would have sampled it.
fn is_close(params: &Params, row: &[f32], seen: &[u32], position: u32, token: u32) -> bool {
    let nudges = [0.0, -1e-4, 1e-4];
    nudges.iter().any(|top_p| {
        nudges.iter().any(|reach| {
            [0.0, 1e-4].iter().any(|key| {
                let near = Params { top_p: params.top_p + top_p, reach: params.reach + reach, ..*params };
                reference(&near, row, seen, &[(token, key / params.scale)], position) == token
            })
        })
    })
}

/// The maximum number of output rows of one sequence in a step.
const ROWS_OF_SEQUENCE: u32 = 3;

/// A plan with only a sampler, and its inputs on the CPU.
struct Bench {
    plan: TestPlan,
    logits: TensorId,
    vocab: usize,
    slots: usize,
    counts: Vec<u32>,
}

impl Bench {
    fn new(caps: &Caps, vocab: u32, slots: u32, random: &mut Random) -> Self {
        let mut graph = Graph::default();
        let logits = graph.add(
            "logits",
            Rows::Logits,
            vocab,
            TensorKind::Vector { tensor: TensorRef::new("logits", 0..vocab), plus: 0.0 },
        );
        graph.sample(logits);
        let capacity = Capacity {
            rows: 2 * slots,
            logits: slots,
            sequences: slots.div_ceil(ROWS_OF_SEQUENCE),
            outputs: slots,
            embeddings: 0,
            pages: 1,
            pages_per_sequence: 1,
            sliding: None,
            kv: KvType::F16,
        };
        let options = PlanOptions { fuse: Fuse::ALL, keep: vec![] };
        let mut plan = TestPlan::new(DispatchList::new(graph, caps, capacity, &options)).unwrap();
        let count = |random: &mut Random| match random.below(6) {
            0 => IN_PROMPT,
            1 => random.below(4),
            2 => IN_PROMPT + random.below(4),
            _ => 0,
        };
        let counts: Vec<u32> = (0..slots * vocab).map(|_| count(random)).collect();
        plan.write_input(StepInput::Counts, 0, bytemuck::cast_slice(&counts));
        Bench { plan, logits, vocab: vocab as usize, slots: slots as usize, counts }
    }

    /// One step with a token for each of `n` output slots, several of one sequence; rows, logit rows and slots are in
    /// different orders. Returns the number of tokens that differ, all of them explained by rounding.
    fn step(&mut self, n: usize, random: &mut Random) -> u32 {
        let settings: Vec<Sampling> = (0..self.slots).map(|_| settings(random)).collect();
        let params: Vec<Params> = settings.iter().map(Params::from).collect();
        let row = |r: usize| {
            let slot = ((r / 2 + 1) % self.slots) as u32;
            [0, random.below(100_000), slot / ROWS_OF_SEQUENCE, if r % 2 == 1 { slot } else { NO_OUTPUT }]
        };
        let rows: Vec<[u32; 4]> = (0..2 * n).map(row).collect();
        let logit_rows: Vec<u32> = (0..n).rev().map(|i| 2 * i as u32 + 1).collect();
        let values: Vec<Vec<f32>> = (0..n)
            .map(|_| {
                let shape = random.below(SHAPES);
                logits(random, self.vocab, shape)
            })
            .collect();
        self.plan.write_input(StepInput::Sampling, 0, bytemuck::cast_slice(&params));
        self.plan.write_input(StepInput::Rows, 0, bytemuck::cast_slice(&rows));
        self.plan.write_input(StepInput::LogitRows, 0, bytemuck::cast_slice(&logit_rows));
        self.plan.write(self.logits, 0, bytemuck::cast_slice(&values.concat()));
        let of_row = |i: usize| rows[logit_rows[i] as usize];
        let filtered = (0..n).any(|i| settings[of_row(i)[3] as usize].has_filter());
        let sizes = StepSizes {
            rows: 2 * n as u32,
            logits: n as u32,
            sampled: 1,
            filtered: filtered.into(),
            ..Default::default()
        };
        self.plan.run(&sizes).unwrap();
        let sampled = self.read(StepInput::Sampled, self.slots);

        let mut differing = 0;
        for (i, row) in values.iter().enumerate() {
            let [_, position, _, slot] = of_row(i);
            let (params, got) = (&params[slot as usize], sampled[slot as usize]);
            let seen = &mut self.counts[slot as usize * self.vocab..][..self.vocab];
            let want = reference(params, row, seen, &[], position);
            if got != want {
                assert!((got as usize) < self.vocab, "token {got}");
                let close = is_close(params, row, seen, position, got);
                assert!(
                    close,
                    "{got}, not {want}, of logits {} and {} with {params:?}",
                    row[got as usize], row[want as usize]
                );
                differing += 1;
            }
            seen[got as usize] += 1;
        }
        differing
    }

    fn read(&self, input: StepInput, words: usize) -> Vec<u32> {
        let id = self.plan.input(input).unwrap();
        let bytes = self.plan.read(id, words as u64 * 4).unwrap();
        bytemuck::pod_collect_to_vec(&bytes[..words * 4])
    }
}

/// The adapter in each of its tiers.
fn tiers() -> Vec<Caps> {
    let tiers = Tier::ALL.into_iter().filter(|tier| caps().lacks(*tier).is_none());
    tiers.map(|tier| caps().clone().tier(tier)).collect()
}

/// (vocabulary, output slots, steps)
const CASES: [(u32, u32, u32); 5] = [(512, 64, 12), (1, 2, 4), (3001, 24, 20), (32000, 3, 6), (151_936, 2, 4)];

#[test]
fn the_gpu_samples_the_cpus_tokens() {
    for caps in tiers() {
        // With the workgroups for software adapters and those for real GPUs.
        for software in [true, false] {
            let caps = caps.clone().software(software);
            let (mut differing, mut drawn) = (0, 0);
            for (vocab, slots, steps) in CASES {
                let mut random = Random(u64::from(vocab) + u64::from(software));
                let mut bench = Bench::new(&caps, vocab, slots, &mut random);
                for step in 0..steps {
                    let n = if step == 0 { 1 } else { slots };
                    differing += bench.step(n as usize, &mut random);
                    drawn += n;
                }
                let counts = bench.read(StepInput::Counts, bench.counts.len());
                let wrong = counts.iter().zip(&bench.counts).position(|(a, b)| a != b);
                assert_eq!(wrong, None, "the index of the first count that differs");
            }
            println!("{}, software {software}: {differing} of {drawn} differ", caps.tier);
            assert!(f64::from(differing) < 0.005 * f64::from(drawn), "{differing} of {drawn}");
        }
    }
}

/// Grids that exceed an adapter's workgroups per dimension.
#[test]
fn folded_grids_sample_the_cpus_tokens() {
    for caps in tiers() {
        let caps = caps.max_workgroups(8);
        let mut random = Random(5);
        let mut bench = Bench::new(&caps, 40_000, 24, &mut random);
        let folded =
            bench.plan.dispatch_list().kernels.iter().filter(|(_, k)| k.fold.is_some()).map(|(_, k)| k.source.file);
        assert_eq!(Vec::from_iter(folded), ["sample_scan", "sample_candidates", "sample_pick"]);
        let differing: u32 = [1, 24, 9, 24].into_iter().map(|n| bench.step(n, &mut random)).sum();
        assert!(differing <= 1, "{differing}");
    }
}

#[test]
fn steps_are_deterministic() {
    for caps in tiers() {
        let mut again = Vec::new();
        for _ in 0..2 {
            let mut random = Random(11);
            let mut bench = Bench::new(&caps, 5000, 8, &mut random);
            for _ in 0..4 {
                bench.step(8, &mut random);
            }
            again.push((bench.read(StepInput::Sampled, 8), bench.read(StepInput::Counts, bench.counts.len())));
        }
        assert!(again[0] == again[1]);
    }
}

#[test]
fn the_comparison_detects_wrong_settings() {
    let mut random = Random(3);
    let row = logits(&mut random, 2000, 0);
    let params = Params::from(&Sampling::default().temperature(1.0));
    let hotter = Params { scale: 0.9, ..params };
    let wider = Params { limit: CANDIDATES, top_p: 1.0, reach: 10.0, search_reach: 27.0, ..params };
    for wrong in [hotter, wider] {
        let caught = (0..400).filter(|p| {
            let token = reference(&wrong, &row, &[], &[], *p);
            token != reference(&params, &row, &[], &[], *p) && !is_close(&params, &row, &[], *p, token)
        });
        assert!(caught.count() > 5);
    }
}
