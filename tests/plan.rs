//! Plans: activations that share memory, fused compared with unfused, and determinism.

mod engine;

use engine::{difference, gpu, logits, model, prompt};
use firelight::dtype::DType;
use firelight::gpu::{Caps, Tier, TuneConfig};
use firelight::graph::{
    Activation, Attention, ExpertWeights, Graph, KvWrite, LogitScale, Op, Rope, RopeStyle, Router, RoutingWeights,
    Rows, TensorId, TensorKind,
};
use firelight::memory_plan;
use firelight::ops::{Binding, Capacity, Kernel, KvType, StepSizes};
use firelight::plan::DispatchList;
use firelight::plan::activations::{self, ActivationSlots, NodeTensors};
use firelight::plan::fuse::Fuse;
use firelight::plan::runs;
use firelight::session::SessionOptions;
use proptest::prelude::*;
use std::collections::BTreeSet;

/// A draft of a node: the earlier tensors that it reads, and the sizes of those that it writes. A size of 0 overwrites
/// an earlier tensor.
type Draft = (Vec<prop::sample::Index>, Vec<u32>);

/// Nodes with these tensors, which are activations of the graph. Slots do not depend on a node's operation.
fn nodes_of(drafts: &[Draft]) -> (Graph, Vec<NodeTensors>) {
    let mut graph = Graph::default();
    let (mut made, mut nodes) = (Vec::new(), Vec::new());
    let weight = graph.vector("not an activation", 7);
    for (reads, writes) in drafts {
        let pick = |i: &prop::sample::Index| if made.is_empty() { weight } else { *i.get(&made) };
        let inputs: Vec<TensorId> = reads.iter().map(pick).collect();
        let mut outputs = Vec::new();
        for cols in writes {
            let id = match cols {
                0 => inputs.first().copied().filter(|id| *id != weight && !outputs.contains(id)),
                _ => None,
            };
            outputs.push(id.unwrap_or_else(|| graph.add("t", Rows::Step, cols + 1, TensorKind::Activation)));
        }
        made.extend(&outputs);
        nodes.push(NodeTensors { reads: inputs, writes: outputs });
    }
    (graph, nodes)
}

fn bytes(graph: &Graph, id: TensorId) -> u64 {
    u64::from(graph.cols(id)) * 4
}

/// Slots of the nodes' activations.
fn assign(graph: &Graph, nodes: &[NodeTensors], keep: &[TensorId]) -> ActivationSlots {
    let size = |id| (graph.tensor(id).kind == TensorKind::Activation).then(|| bytes(graph, id));
    activations::assign(nodes, size, keep)
}

/// Checks that each activation has a large enough slot that no other activation uses during its lifetime: from the
/// first node that names it to the last, or to the end if it is kept.
fn check(graph: &Graph, nodes: &[NodeTensors], slots: &ActivationSlots, keep: &[TensorId]) -> Result<(), String> {
    let mut taken: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); nodes.len()];
    for id in (0..graph.tensors.len()).map(TensorId).filter(|id| graph.tensor(*id).kind == TensorKind::Activation) {
        let uses: Vec<usize> = (0..nodes.len()).filter(|i| nodes[*i].all().any(|of| of == id)).collect();
        let (Some(first), Some(last)) = (uses.first(), uses.last()) else { continue };
        let slot = *slots.of.get(&id).ok_or(format!("{id:?} has no slot"))?;
        let size = *slots.bytes.get(slot).ok_or(format!("{id:?}: there is no slot {slot}"))?;
        if size < bytes(graph, id) {
            return Err(format!("{id:?} needs {} bytes, its slot has {size}", bytes(graph, id)));
        }
        let last = if keep.contains(&id) { nodes.len() - 1 } else { *last };
        for (at, taken) in taken.iter_mut().enumerate().take(last + 1).skip(*first) {
            if !taken.insert(slot) {
                return Err(format!("slot {slot} of {id:?} is in use by another tensor at node {at}"));
            }
        }
    }
    Ok(())
}

fn drafts() -> impl Strategy<Value = Vec<Draft>> {
    let node = (prop::collection::vec(any::<prop::sample::Index>(), 1..4), prop::collection::vec(0u32..40, 1..3));
    prop::collection::vec(node, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn no_two_live_tensors_share_a_slot(nodes in drafts(), kept in prop::collection::vec(any::<prop::sample::Index>(), 0..3)) {
        let (graph, nodes) = nodes_of(&nodes);
        let activations: Vec<TensorId> = nodes.iter().flat_map(|n| n.writes.clone()).collect();
        let keep: Vec<TensorId> = kept.iter().map(|i| *i.get(&activations)).collect();
        let slots = assign(&graph, &nodes, &keep);
        prop_assert_eq!(check(&graph, &nodes, &slots, &keep), Ok(()));
        // Every slot is used.
        let all: BTreeSet<usize> = slots.of.values().copied().collect();
        prop_assert_eq!(all.len(), slots.bytes.len());
    }
}

/// A chain of any length needs two slots, and the check detects a slot that is reused too early.
#[test]
fn a_chain_alternates_between_two_slots() {
    let mut graph = Graph::default();
    let mut x = graph.vector("start", 8);
    for _ in 0..20 {
        x = graph.sum(x, x);
    }
    let nodes: Vec<NodeTensors> = graph.nodes.iter().map(NodeTensors::from).collect();
    let slots = assign(&graph, &nodes, &[]);
    assert_eq!(slots.bytes, [32, 32]);
    let check = |slots: &ActivationSlots, keep: &[TensorId]| check(&graph, &nodes, slots, keep);
    assert_eq!(check(&slots, &[]), Ok(()));
    let one = ActivationSlots { bytes: vec![32], of: slots.of.keys().map(|id| (*id, 0)).collect() };
    assert!(check(&one, &[]).unwrap_err().contains("in use by another"));
    let small = ActivationSlots { bytes: vec![32, 28], ..slots.clone() };
    assert!(check(&small, &[]).unwrap_err().contains("needs 32"));
    let first = TensorId(1);
    assert!(
        check(&slots, &[first]).unwrap_err().contains("in use by another"),
        "a kept tensor must not share its slot"
    );
}

/// Tensors that are not activations do not overlap. Of the tensors that kernels write, only caches share a buffer, so
/// that no dispatch waits for another because of unrelated tensors in the same buffer.
#[test]
fn parts_of_a_buffer_do_not_overlap() {
    for shape in ["tiny-llama3", "tiny-qwen3moe", "tiny-gemma3", "tiny-deepseek2", "tiny-qwen35"] {
        let model = model(engine::file(shape, "F16"));
        let options = SessionOptions::default().context(64);
        let fitted = |max_binding| {
            memory_plan::plan_memory(&model, &Caps::baseline().max_binding(max_binding), &options).expect(shape)
        };
        let wide = Caps::baseline().max_binding;
        // Small enough to split larger weights.
        let narrow = fitted(wide).dispatch_list.largest_binding().0;
        for (max_binding, split) in [(wide, false), (narrow, true)] {
            let fitted = fitted(max_binding);
            assert_eq!(fitted.dispatch_list.shared.of.values().any(|of| of.len() > 1), split, "{shape}");
            let DispatchList { graph, shared: parts, kernels, .. } = &fitted.dispatch_list;
            let kind = |id: TensorId| &graph.tensor(id).kind;
            let written = |id| kernels.iter().any(|(_, k)| k.bindings.iter().any(|b| b.write && b.tensor == id));
            let used = fitted.dispatch_list.used().into_iter().filter(|id| *kind(*id) != TensorKind::Activation);
            assert!(used.clone().all(|id| !parts.of[&id].is_empty()) && used.count() == parts.of.len(), "{shape}");
            let mut ends = vec![0; parts.bytes.len()];
            let mut all: Vec<_> = parts.of.iter().flat_map(|(id, of)| of.iter().map(|part| (*id, *part))).collect();
            all.sort_by_key(|(_, part)| (part.buffer, part.offset));
            for (id, part) in &all {
                assert!(part.offset >= ends[part.buffer] && part.offset % 256 == 0, "{shape}: {part:?}");
                ends[part.buffer] = part.offset + part.bytes;
                assert!(ends[part.buffer] <= parts.bytes[part.buffer], "{shape}: {part:?}");
                let alone = all.iter().filter(|(_, other)| other.buffer == part.buffer).count() == 1;
                let cache = matches!(kind(*id), TensorKind::KvCache { .. } | TensorKind::State { .. });
                assert!(alone || cache || !written(*id), "{shape}: {} is written", graph.tensor(*id).name);
            }
            for (id, dtype) in fitted.dispatch_list.weights() {
                let bytes =
                    fitted.dispatch_list.shards(id).into_iter().map(|s| dtype.gpu_bytes(s.rows, graph.cols(id)));
                assert!(bytes.eq(parts.of[&id].iter().map(|part| part.bytes)), "{shape}: {}", graph.tensor(id).name);
            }
        }
    }
}

/// The number of bindings of a layer's kernels (without the step's sizes) and of their buffers, which wgpu tracks.
#[test]
fn tensors_of_a_kernel_share_buffers() {
    let dispatch_list = memory_plan::plan_memory(
        &model(engine::file("tiny-qwen3", "Q4_0")),
        &Caps::baseline(),
        &SessionOptions::default(),
    );
    let dispatch_list = dispatch_list.unwrap().dispatch_list;
    let of = |file: &str| {
        let (_, kernel) =
            dispatch_list.kernels.iter().rfind(|(_, k)| k.source.file == file).expect("a kernel of a layer");
        let buffer = |b: &Binding| match dispatch_list.slots.of.get(&b.tensor) {
            Some(slot) => (true, *slot),
            None => (false, dispatch_list.shared.of[&b.tensor][b.shard].buffer),
        };
        (kernel.bindings.len(), kernel.bindings.iter().map(buffer).collect::<BTreeSet<_>>().len())
    };
    assert_eq!(of("matvec_qkv"), (6, 4), "q, k and v's weights");
    assert_eq!(of("rope_kv"), (8, 4), "keys and values, and read-only tensors");
    assert_eq!(of("attention_decode"), (6, 4), "keys and values, rows and pages");
    assert_eq!(of("matvec_glu"), (5, 4), "gate and up's weights");
}

const RULES: [Fuse; 6] = [
    Fuse::ALL,
    Fuse { glu: false, ..Fuse::ALL },
    Fuse { residual: false, ..Fuse::ALL },
    Fuse { qkv: false, ..Fuse::ALL },
    Fuse { norm: false, ..Fuse::ALL },
    Fuse { post_norm: false, ..Fuse::ALL },
];

#[test]
fn fused_equals_unfused() {
    for (shape, types) in [("tiny-qwen2", "Q4_0"), ("tiny-qwen3moe", "Q4_K"), ("tiny-gemma3", "Q4_0")] {
        let model = model(engine::file(shape, types));
        let tokens = prompt(1, 40);
        let run = |fuse| {
            let options = SessionOptions::default().context(64).logits(64).kv(KvType::F32).fuse(fuse);
            let mut session = engine::session(gpu(), &model, &options);
            let nodes = session.plan().dispatch_list().graph.nodes.len();
            (nodes, logits(&mut session, &tokens, false), logits(&mut session, &tokens, true))
        };
        let (plain, prefill, decode) = run(Fuse::NONE);
        for rules in RULES {
            let (fused, got_prefill, got_decode) = run(rules);
            assert!(
                fused < plain || model.spec.moes().next().is_some(),
                "{shape}, {rules:?}: {fused} nodes of {plain}"
            );
            for (got, want) in [(got_prefill, &prefill), (got_decode, &decode)] {
                let d = difference(&got, want, model.spec.vocab_size as usize);
                assert!(d.rms <= 1e-5 * d.of, "{shape}, {rules:?}: {d:?}");
            }
        }
    }
}

/// Norm + q, k, v; rotation + cache; attention; its output + residual; norm + gate, up; down + residual.
#[test]
fn a_layer_decodes_in_six_dispatches() {
    for (shape, layers) in [("tiny-llama3", 2), ("tiny-qwen3", 2), ("tiny-qwen2", 2)] {
        let model = model(engine::file(shape, "Q4_K_M"));
        assert_eq!(model.spec.layers.len(), layers as usize, "{shape}");
        for caps in [&Caps::baseline(), gpu().caps()] {
            let dispatch_list =
                memory_plan::plan_memory(&model, caps, &SessionOptions::default()).unwrap().dispatch_list;
            let sizes = StepSizes { rows: 1, logits: 1, splits: 1, tiles: 1, sampled: 1, ..Default::default() };
            let of_layers = |(node, kernel): &&(usize, Kernel)| {
                let op = &dispatch_list.graph.nodes[*node];
                let once = matches!(op, Op::Embed(..) | Op::Gather(..) | Op::Sample(..));
                let head = kernel.bindings.iter().any(|b| dispatch_list.graph.tensor(b.tensor).rows == Rows::Logits);
                runs(kernel, &sizes) && !once && !head
            };
            let count = dispatch_list.kernels.iter().filter(of_layers).count();
            // The first norm does not follow a linear.
            assert_eq!(count, 6 * layers as usize + 1, "{shape}");
        }
    }
}

/// Post-norms after attention and after the feed-forward network add one dispatch each; see `ops::norm_add`.
#[test]
fn a_layer_with_post_norms_decodes_in_eight_dispatches() {
    let model = model(engine::file("tiny-gemma3", "Q4_0"));
    let dispatch_list =
        memory_plan::plan_memory(&model, gpu().caps(), &SessionOptions::default()).unwrap().dispatch_list;
    let sizes = StepSizes { rows: 1, logits: 1, splits: 1, tiles: 1, sampled: 1, ..Default::default() };
    let count = dispatch_list.kernels.iter().filter(|(_, kernel)| runs(kernel, &sizes)).count();
    // The embedding and the first norm; the gathered rows, their norm, their logits, and two sampling kernels.
    assert_eq!(count, 8 * model.spec.layers.len() + 2 + 5);
}

#[test]
fn plans_are_deterministic() {
    for shape in ["tiny-llama3", "tiny-qwen3moe"] {
        let model = || model(engine::file(shape, "Q4_K_M"));
        for caps in [&Caps::baseline(), gpu().caps()] {
            let dispatch_list =
                || memory_plan::plan_memory(&model(), caps, &SessionOptions::default()).unwrap().dispatch_list;
            let (a, b) = (dispatch_list(), dispatch_list());
            assert!(!a.kernels.is_empty() && !a.slots.of.is_empty());
            assert!(
                a.graph == b.graph
                    && a.kernels == b.kernels
                    && a.slots == b.slots
                    && a.shared == b.shared
                    && a.capacity == b.capacity
            );
            assert_eq!(a.bytes(), b.bytes());
            let nodes: Vec<NodeTensors> = a.graph.nodes.iter().map(NodeTensors::from).collect();
            let slots = ActivationSlots { bytes: vec![u64::MAX; a.slots.bytes.len()], of: a.slots.of };
            check(&a.graph, &nodes, &slots, &[]).unwrap();
        }
    }
}

/// A decoder with every kernel whose grid grows with the vocabulary, the heads, the experts or the rows of a step.
fn wide(vocabulary: u32) -> Graph {
    let mut g = Graph::default();
    let (width, heads, kv_heads, head_dim) = (5376, 128, 8, 128);
    let table = g.weight("token_embd.weight", vocabulary, width, DType::Q6K);
    let mut x = g.embed(table, 1.0);
    let norm = g.vector("norm.weight", width);
    let h = g.rms_norm(x, norm, 1e-6);
    let mut part = |name, rows| {
        let weight = g.weight(name, rows, width, DType::Q4K);
        g.linear(h, weight, None)
    };
    let (q, k, v) = (part("q", heads * head_dim), part("k", kv_heads * head_dim), part("v", kv_heads * head_dim));
    let cache = |g: &mut Graph, name| {
        let kind = TensorKind::KvCache { heads: kv_heads, head_dim, sliding: false };
        g.add(name, Rows::Fixed(0), 0, kind)
    };
    let caches = (cache(&mut g, "keys"), cache(&mut g, "values"));
    let angles = g.rope_angles(&[1.0; 64], 1 << 20, 1.0);
    let rope = Rope { head_dim, rotated: head_dim, style: RopeStyle::Neox };
    let (q, k) = (g.rope(q, angles, rope.clone()), g.rope(k, angles, rope));
    g.kv_write(k, v, caches, KvWrite { heads: kv_heads, head_dim });
    let y = g.attention(q, caches, None, Attention::full(heads, kv_heads, head_dim));
    let weight = g.weight("output", width, heads * head_dim, DType::Q4K);
    let y = g.linear(y, weight, None);
    x = g.sum(x, y);
    let router = g.weight("router", 256, width, DType::F32);
    let logits = g.linear(x, router, None);
    let mut stack = |name, rows, cols| g.expert_stack(name, 256, rows, cols, DType::Q4K);
    let (gate, up, down) = (stack("gates", 2048, width), stack("ups", 2048, width), stack("downs", width, 2048));
    let stacks =
        ExpertWeights { expert_scales: None, selection_bias: None, gate, up, down, biases: None, slot_table: None };
    let (y, _) = g.expert_ffn(x, logits, stacks, Router::plain(256, 8), Activation::Silu, RoutingWeights::OnOutputs);
    x = g.sum(x, y);
    let inner = ["gate", "up"].map(|name| {
        let weight = g.weight(name, 1 << 20, width, DType::Q4_0);
        g.linear(x, weight, None)
    });
    g.glu(inner[0], inner[1], Activation::Silu);
    let last = g.gather(x);
    let logits = g.linear(last, table, None);
    let logits = g.logit_scale(logits, LogitScale { scale: 1.0, softcap: Some(30.0) });
    g.sample(logits);
    g
}

/// Adapters of each tier and subgroup size, with each configuration that tuning may choose.
fn adapters() -> Vec<Caps> {
    let mut out = Vec::new();
    for tier in Tier::ALL {
        for software in [false, true] {
            for subgroup in [(0, 0), (4, 4), (8, 8), (16, 16), (32, 32), (32, 64), (64, 64), (128, 128), (4, 128)] {
                let subgroups = subgroup != (0, 0);
                if tier == Tier::Subgroups && !subgroups || tier == Tier::Cooperative && !(8..=64).contains(&subgroup.1)
                {
                    continue;
                }
                let matvecs = TuneConfig::gemv_candidates(software).into_iter().map(Some).chain([None]);
                // Matrices are not split.
                let caps = Caps::baseline().max_binding(1 << 40).max_buffer(1 << 40);
                let caps = caps.tier(tier).software(software).subgroup(subgroup).f16(true).cooperative(16);
                out.extend(matvecs.map(|measured| caps.clone().tuned(measured)));
            }
        }
    }
    out
}

/// For every adapter, tuning result, vocabulary, number of sequences and chunk size: no dispatch has more workgroups
/// per dimension than WebGPU allows, and it covers the kernel's whole grid.
#[test]
fn every_dispatch_is_within_the_limits() {
    let (mut folded, mut plans) = (BTreeSet::new(), 0);
    let adapters = adapters();
    for (vocabulary, sequences, rows) in
        [(262_208, 1, 512), (262_208, 8, 512), (151_936, 2, 4096), (1_000_448, 64, 16_384), (262_144, 4, 131_072)]
    {
        let graph = wide(vocabulary);
        for caps in &adapters {
            let (pages_per_sequence, near) = (1 << 15, None);
            let pages = pages_per_sequence * sequences;
            let logits = sequences.max(64);
            let capacity = Capacity {
                rows,
                logits,
                sequences,
                outputs: sequences,
                embeddings: 0,
                pages,
                pages_per_sequence,
                sliding: near,
                kv: KvType::F16,
            };
            let options = firelight::plan::PlanOptions { fuse: Fuse::ALL, keep: vec![] };
            let dispatch_list = DispatchList::new(graph.clone(), caps, capacity, &options);
            assert_eq!(dispatch_list.oversized(caps), None, "{caps:?}");
            plans += 1;
            let most = capacity.largest_step();
            for (_, kernel) in &dispatch_list.kernels {
                let decode = StepSizes { rows: capacity.decode_rows(), logits: sequences, ..most };
                for sizes in [most, decode, StepSizes { rows: 1, logits: 1, tiles: 1, segments: 1, ..most }] {
                    if !runs(kernel, &sizes) {
                        continue;
                    }
                    let dispatch = kernel.workgroups(&sizes);
                    let shader = kernel.source.file;
                    assert!(dispatch.iter().all(|n| *n <= caps.max_workgroups), "{shader}: {dispatch:?} of {caps:?}");
                    let all = |grid: [u32; 3]| grid.map(u64::from).iter().product::<u64>();
                    let needed = all(kernel.grid.map(|extent| extent.of(&sizes)));
                    assert!(all(dispatch) >= needed, "{shader}: {dispatch:?} is less than {needed}");
                }
                folded.extend(kernel.fold.map(|_| kernel.source.file));
            }
        }
    }
    println!("{plans} plans, folded: {folded:?}");
    // The head, a GLU of a million rows, and kernels whose grid grows with the rows of a chunk.
    for shader in ["matvec", "matvec_glu", "embed", "glu", "expert_sum", "rms_norm", "attention_prefill"] {
        assert!(folded.contains(shader), "{shader} is not folded: {folded:?}");
    }
}

/// A plan that exceeds an adapter's limits even when folded is an error, not a panic in the driver.
#[test]
fn too_many_workgroups_are_an_error() {
    let model = model(engine::file("tiny-llama3", "F16"));
    let fitted = |max_workgroups| {
        let caps = Caps::baseline().max_workgroups(max_workgroups);
        memory_plan::plan_memory(&model, &caps, &SessionOptions::default().context(256))
            .map(|fitted| fitted.dispatch_list)
    };
    assert!(fitted(16).unwrap().kernels.iter().any(|(_, kernel)| kernel.fold.is_some()));
    let error = fitted(2).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("more workgroups"), "{error}");
}
