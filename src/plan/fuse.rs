//! Operator fusion, from graph to graph. Each rule can be switched off; a test compares fused with unfused results.

use crate::graph::{
    Add, Attention, FusedNorm, Graph, HeadNorm, KvWriteOperands, LinearGlu, LinearGluOperands, LinearOperands,
    NextFusedNorm, NextNorm, NormAdd, NormAddOperands, Op, Qkv, QkvOperands, RmsNorm, RmsNormOperands, Rope, RopeKv,
    RopeKvOperands, RopeOperands, Rows, TensorId, TensorKind,
};
use crate::ops::weight_shards;

/// Which rules run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fuse {
    /// linear + add -> linear with a residual; the sum of experts + add, too.
    pub residual: bool,
    /// gate linear + up linear + glu -> one op.
    pub glu: bool,
    /// The linears of queries, keys and values -> one op; head norms + rotations + cache -> another.
    pub qkv: bool,
    /// A norm between a linear with a residual and one of the two above -> into both.
    pub norm: bool,
    /// post-norm + add, and the norm of the sum -> one op.
    pub post_norm: bool,
}

impl Fuse {
    /// Every rule.
    pub const ALL: Fuse = Fuse { residual: true, glu: true, qkv: true, norm: true, post_norm: true };
    /// No rule.
    pub const NONE: Fuse = Fuse { residual: false, glu: false, qkv: false, norm: false, post_norm: false };
}

/// Applies the rules. `max_binding` in bytes: matrices that must be split are not fused by the glu and qkv rules.
pub fn fuse(mut graph: Graph, rules: Fuse, max_binding: u64) -> Graph {
    if rules.residual {
        residual(&mut graph);
    }
    if rules.glu {
        glu(&mut graph, max_binding);
    }
    if rules.qkv {
        qkv(&mut graph, max_binding);
    }
    if rules.norm {
        norm(&mut graph);
    }
    if rules.post_norm {
        post_norm(&mut graph);
    }
    graph
}

/// The node that writes `id`, if `id` is an activation that only one node reads.
fn only_link(graph: &Graph, id: TensorId) -> Option<usize> {
    let link = graph.tensor(id).kind == TensorKind::Activation && graph.readers(id) == 1;
    graph.nodes.iter().position(|node| node.writes(id)).filter(|_| link)
}

fn residual(graph: &mut Graph) {
    let mut i = 0;
    while i < graph.nodes.len() {
        if let Some((from, node)) = residual_at(graph, i) {
            graph.nodes[i] = node;
            graph.nodes.remove(from);
        } else {
            i += 1;
        }
    }
}

/// If node `i` adds a residual to the product of another node: the index of that node, and the fused op.
fn residual_at(graph: &Graph, i: usize) -> Option<(usize, Op)> {
    let Op::Add(Add { scale: 1.0 }, sum) = &graph.nodes[i] else { return None };
    [(sum.a, sum.b), (sum.b, sum.a)].into_iter().find_map(|(product, other)| {
        let from = only_link(graph, product)?;
        let mut fused = graph.nodes[from].clone();
        let (residual, y) = match &mut fused {
            Op::Linear(_, io) if graph.tensor(product).rows == Rows::Step => (&mut io.residual, &mut io.y),
            Op::ExpertSum(_, io) => (&mut io.residual, &mut io.y),
            _ => return None,
        };
        if residual.is_some() {
            return None;
        }
        (*residual, *y) = (Some(other), sum.y);
        Some((from, fused))
    })
}

fn glu(graph: &mut Graph, max_binding: u64) {
    let mut i = 0;
    while i < graph.nodes.len() {
        if let Some((linears, fused)) = glu_at(graph, i, max_binding) {
            graph.nodes[i] = fused;
            remove(graph, &linears);
            i -= 1;
        } else {
            i += 1;
        }
    }
}

/// If node `i` is the glu of two plain linears of one x: their indices, and the fused op.
fn glu_at(graph: &mut Graph, i: usize, max_binding: u64) -> Option<([usize; 2], Op)> {
    let Op::Glu(op, glu) = graph.nodes[i].clone() else { return None };
    let plain = |id| {
        let (n, linear) = only_linear(graph, id, max_binding)?;
        linear.bias.is_none().then_some((n, linear.x, linear.weight))
    };
    let ((gate, x, gate_weight), (up, up_x, up_weight)) = (plain(glu.gate)?, plain(glu.up)?);
    (x == up_x).then(|| {
        let operands = LinearGluOperands::new(graph, x, [gate_weight, up_weight], glu.y);
        ([gate, up], Op::LinearGlu(LinearGlu { activation: op.activation }, operands))
    })
}

/// The linear whose product `id` is, if only one node reads that: one without a residual and with a weight in one
/// piece.
fn only_linear(graph: &Graph, id: TensorId, max_binding: u64) -> Option<(usize, &LinearOperands)> {
    let n = only_link(graph, id)?;
    let Op::Linear(_, io) = &graph.nodes[n] else { return None };
    let plain = io.residual.is_none() && io.next_norm.is_none();
    (plain && weight_shards(graph, io.weight, max_binding).len() == 1).then_some((n, io))
}

/// Removes nodes.
fn remove(graph: &mut Graph, nodes: &[usize]) {
    let mut n = 0;
    graph.nodes.retain(|_| {
        n += 1;
        !nodes.contains(&(n - 1))
    });
}

fn qkv(graph: &mut Graph, max_binding: u64) {
    let mut i = 0;
    while i < graph.nodes.len() {
        if let Some(found) = Projections::at(graph, i, max_binding) {
            i = found.fuse(graph, i);
        }
        i += 1;
    }
}

/// The nodes between one x and attention.
struct Projections {
    /// Indices of the nodes that are replaced, except the one that writes the cache.
    nodes: Vec<usize>,
    linears: [LinearOperands; 3],
    rope: Rope,
    /// The operands of the queries' rotation.
    q: RopeOperands,
    head_norm: Option<(RmsNorm, [TensorId; 2])>,
    norm_values: bool,
    kv_heads: u32,
    cache: KvWriteOperands,
}

impl Projections {
    /// If node `i` writes the cache: the nodes that compute its operands and those of the attention that reads it.
    fn at(graph: &Graph, i: usize, max_binding: u64) -> Option<Self> {
        let Op::KvWrite(kv, cache) = &graph.nodes[i] else { return None };
        let values = cache.values.as_ref()?;
        let q = graph.nodes.iter().find_map(|node| match node {
            Op::Attention(Attention { .. }, io) if io.kv.keys == cache.keys => Some(io.q),
            _ => None,
        })?;
        let rope = |id| {
            let n = only_link(graph, id)?;
            let Op::Rope(op, io) = &graph.nodes[n] else { return None };
            Some((n, op, io))
        };
        let ((q_rope, op, q), (k_rope, k_op, k)) = (rope(q)?, rope(cache.k)?);
        if op != k_op || q.angles != k.angles {
            return None;
        }
        let mut nodes = vec![q_rope, k_rope];
        let norm = |id| only_norm(graph, id).filter(|(_, _, io)| graph.cols(io.weight) == kv.head_dim);
        let (mut inputs, mut head_norm) = ([q.x, k.x, values.v], None);
        match (norm(q.x), norm(k.x)) {
            (Some((q_norm, op, q)), Some((k_norm, k_op, k))) if op == k_op => {
                (inputs[0], inputs[1]) = (q.x, k.x);
                head_norm = Some((op.clone(), [q.weight, k.weight]));
                nodes.extend([q_norm, k_norm]);
            }
            (None, None) => {}
            _ => return None,
        }
        let alike = |op: &RmsNorm| head_norm.as_ref().is_some_and(|(q, _)| q == op);
        let value_norm = norm(values.v).filter(|(_, op, io)| alike(op) && is_ones(graph, io.weight));
        if let Some((n, _, io)) = value_norm {
            inputs[2] = io.x;
            nodes.push(n);
        }
        let linear = |id| only_linear(graph, id, max_binding);
        let found = [linear(inputs[0])?, linear(inputs[1])?, linear(inputs[2])?];
        nodes.extend(found.map(|(n, _)| n));
        let linears = found.map(|(_, io)| io.clone());
        let same = |io: &LinearOperands| io.x == linears[0].x && io.bias.is_some() == linears[0].bias.is_some();
        if !linears.iter().all(same) {
            return None;
        }
        let (rope, q, cache, norm_values) = (op.clone(), q.clone(), cache.clone(), value_norm.is_some());
        Some(Projections { nodes, linears, rope, q, head_norm, norm_values, kv_heads: kv.heads, cache })
    }

    /// Replaces these nodes and node `i` by two nodes. Returns the index of the last one.
    fn fuse(self, graph: &mut Graph, i: usize) -> usize {
        let Projections { nodes, linears, rope, q, head_norm, norm_values, kv_heads, cache } = self;
        let weights = linears.each_ref().map(|io| io.weight);
        let biases: Vec<TensorId> = linears.iter().filter_map(|io| io.bias).collect();
        let bias = (!biases.is_empty()).then(|| graph.concat_vectors(&biases));
        let cols = linears.iter().map(|io| graph.cols(io.y)).sum();
        let qkv = graph.activation("qkv", Rows::Step, cols);
        let projections = QkvOperands { x: linears[0].x, weights, bias, y: qkv, norm: None };

        let head_norm = head_norm.map(|(op, weights)| {
            let weights = graph.concat_vectors(&weights);
            HeadNorm { eps: op.eps, weights }
        });
        let heads = graph.cols(q.y) / rope.head_dim;
        let values = cache.values.expect("at looked").cache;
        let op = RopeKv { heads, kv_heads, rope, norm_values };
        let (rows, pages, angles) = (cache.rows, cache.pages, q.angles);
        let operands = RopeKvOperands { rows, pages, angles, qkv, head_norm, q: q.y, keys: cache.keys, values };
        graph.nodes[i] = Op::RopeKv(op, operands);
        // The rotation of the queries may come after the cache.
        let i = i - nodes.iter().filter(|n| **n < i).count();
        remove(graph, &nodes);
        graph.nodes.insert(i, Op::Qkv(Qkv, projections));
        i + 1
    }
}

/// The norm whose result `id` is, if only one node reads that.
fn only_norm(graph: &Graph, id: TensorId) -> Option<(usize, &RmsNorm, &RmsNormOperands)> {
    let n = only_link(graph, id)?;
    let Op::RmsNorm(op, io) = &graph.nodes[n] else { return None };
    Some((n, op, io))
}

fn is_ones(graph: &Graph, id: TensorId) -> bool {
    matches!(&graph.tensor(id).kind, TensorKind::Constant(values) if values.iter().all(|v| *v == 1.0))
}

/// Whether a norm is over whole rows of the step.
fn is_of_rows(graph: &Graph, io: &RmsNormOperands) -> bool {
    graph.cols(io.weight) == graph.cols(io.x) && graph.tensor(io.x).rows == Rows::Step
}

fn norm(graph: &mut Graph) {
    let mut i = 0;
    while i < graph.nodes.len() {
        if let Some((from, to, op, io)) = norm_at(graph, i) {
            let next = NextFusedNorm::new(graph, io.weight, graph.cols(io.x));
            let NextFusedNorm { weight, scaled, squares } = next;
            let Op::Linear(_, before) = &graph.nodes[from] else { unreachable!("norm_at looked") };
            let source_cols = graph.cols(before.x);
            let fused = FusedNorm { eps: op.eps, source_cols, weight, scaled, squares, normed: io.y };
            if let Op::Linear(_, before) = &mut graph.nodes[from] {
                before.next_norm = Some(next);
            }
            if let Some((x, norm)) = norm_of(&mut graph.nodes[to]) {
                (*x, *norm) = (io.x, Some(fused));
            }
            graph.nodes.remove(i);
        } else {
            i += 1;
        }
    }
}

/// The x of an op that can norm it, and the norm.
fn norm_of(op: &mut Op) -> Option<(&mut TensorId, &mut Option<FusedNorm>)> {
    match op {
        Op::Qkv(_, io) => Some((&mut io.x, &mut io.norm)),
        Op::LinearGlu(_, io) => Some((&mut io.x, &mut io.norm)),
        _ => None,
    }
}

/// If node `i` norms whole rows between a linear with a residual and a node that can fuse the norm and is their only
/// reader: the indices of these two, and the norm.
fn norm_at(graph: &Graph, i: usize) -> Option<(usize, usize, RmsNorm, RmsNormOperands)> {
    let Op::RmsNorm(op, io) = &graph.nodes[i] else { return None };
    let only = is_of_rows(graph, io) && graph.readers(io.y) == 1;
    let makes = |node: &Op| matches!(node, Op::Linear(_, linear) if linear.y == io.x && linear.residual.is_some() && linear.next_norm.is_none());
    let takes = |node: &Op| match node {
        Op::Qkv(_, qkv) => qkv.x == io.y && qkv.norm.is_none(),
        Op::LinearGlu(_, glu) => glu.x == io.y && glu.norm.is_none(),
        _ => false,
    };
    let from = graph.nodes.iter().position(makes).filter(|_| only)?;
    Some((from, graph.nodes.iter().position(takes)?, op.clone(), io.clone()))
}

fn post_norm(graph: &mut Graph) {
    let mut i = 0;
    while i < graph.nodes.len() {
        if let Some((from, eps, operands)) = norm_add_at(graph, i) {
            graph.nodes[i] = Op::NormAdd(NormAdd { eps }, operands);
            graph.nodes.remove(from);
            i -= 1;
            take_next(graph, i);
        }
        i += 1;
    }
}

/// If node `i` adds a residual to rows that another node norms whole: the index of that node, and the parts of the
/// fused op.
fn norm_add_at(graph: &Graph, i: usize) -> Option<(usize, f32, NormAddOperands)> {
    let Op::Add(Add { scale: 1.0 }, sum) = &graph.nodes[i] else { return None };
    [(sum.a, sum.b), (sum.b, sum.a)].into_iter().find_map(|(normed, residual)| {
        let (from, norm, io) = only_norm(graph, normed).filter(|(_, _, io)| is_of_rows(graph, io))?;
        let operands = NormAddOperands { x: io.x, weight: io.weight, residual, y: sum.y, next: None };
        Some((from, norm.eps, operands))
    })
}

/// Fuses the norm of its result, if there is one, into the sum of node `i`.
fn take_next(graph: &mut Graph, i: usize) {
    let Op::NormAdd(_, sum) = &graph.nodes[i] else { return };
    let norm_of_sum = |node: &Op| match node {
        Op::RmsNorm(op, io) if io.x == sum.y && is_of_rows(graph, io) => {
            Some(NextNorm { eps: op.eps, weight: io.weight, z: io.y })
        }
        _ => None,
    };
    let found = graph.nodes.iter().enumerate().skip(i + 1).find_map(|(n, node)| Some((n, norm_of_sum(node)?)));
    if let (Some((n, next)), Op::NormAdd(_, sum)) = (found, &mut graph.nodes[i]) {
        sum.next = Some(next);
        graph.nodes.remove(n);
    }
}
