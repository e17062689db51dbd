//! Graph to graph: a few ops become one. Each rule can be switched off; a test holds fused equal to unfused.

use crate::graph::{Graph, Node, Rows, TensorId, TensorKind};
use crate::ops::add::Add;
use crate::ops::fused_norm::{self, FusedNorm};
use crate::ops::linear_glu::LinearGlu;
use crate::ops::norm_add::NormAdd;
use crate::ops::qkv::Qkv;
use crate::ops::rope_kv::RopeKv;
use crate::ops::{Op, weight_shards};

/// Which rules run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fuse {
    /// linear + add -> linear with a residual; likewise the sum of experts.
    pub residual: bool,
    /// gate linear + up linear + glu -> one op.
    pub glu: bool,
    /// The linears of queries, keys and values -> one op; head norms + rotations + cache -> another.
    pub qkv: bool,
    /// A norm between a linear with a residual and one of the two above -> into both.
    pub norm: bool,
    /// norm + add, and the norm of the sum -> one op.
    pub post_norm: bool,
}

impl Fuse {
    /// Every rule.
    pub const ALL: Fuse = Fuse { residual: true, glu: true, qkv: true, norm: true, post_norm: true };
    /// None.
    pub const NONE: Fuse = Fuse { residual: false, glu: false, qkv: false, norm: false, post_norm: false };
}

/// Applies the rules. `max_binding` in bytes: matrices that must be split are left alone by the glu and qkv rules.
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

/// The node that alone writes `id`, if `id` is an activation that one node reads.
fn only_link(graph: &Graph, id: TensorId) -> Option<usize> {
    let link = graph.tensor(id).kind == TensorKind::Activation && graph.readers(id) == 1;
    graph.nodes.iter().position(|n| n.outputs.contains(&id)).filter(|_| link)
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

/// If node `i` adds something to the product of node `from`: both in one.
fn residual_at(graph: &Graph, i: usize) -> Option<(usize, Node)> {
    let node = &graph.nodes[i];
    let Op::Add(Add { scale: 1.0 }) = node.op else { return None };
    let [a, b] = node.inputs[..] else { return None };
    [(a, b), (b, a)].into_iter().find_map(|(product, other)| {
        let from = only_link(graph, product)?;
        let mut joined = graph.nodes[from].clone();
        match &mut joined.op {
            Op::Linear(op) if !op.residual && graph.tensor(product).rows == Rows::Step => op.residual = true,
            Op::ExpertSum(op) if !op.residual => op.residual = true,
            _ => return None,
        }
        joined.inputs.push(other);
        joined.outputs = node.outputs.clone();
        Some((from, joined))
    })
}

fn glu(graph: &mut Graph, max_binding: u64) {
    let mut i = 0;
    while i < graph.nodes.len() {
        if let Some((gate, up)) = glu_at(graph, i, max_binding) {
            let (x, y) = (graph.nodes[gate].inputs[0], graph.nodes[i].outputs[0]);
            let Op::Glu(op) = &graph.nodes[i].op else { unreachable!("glu_at looked") };
            let activation = op.activation;
            let (gate_weight, up_weight) = (graph.nodes[gate].inputs[1], graph.nodes[up].inputs[1]);
            graph.nodes[i] = LinearGlu::node(graph, x, gate_weight, up_weight, y, activation);
            graph.nodes.remove(gate.max(up));
            graph.nodes.remove(gate.min(up));
            i -= 1;
        } else {
            i += 1;
        }
    }
}

/// If node `i` is the glu of two plain linears of one input: their ranges.
fn glu_at(graph: &Graph, i: usize, max_binding: u64) -> Option<(usize, usize)> {
    let Op::Glu(_) = graph.nodes[i].op else { return None };
    let plain = |id| {
        let has_bias = |n: usize| matches!(&graph.nodes[n].op, Op::Linear(op) if op.bias);
        only_link(graph, id).filter(|n| is_whole_linear(graph, *n, max_binding) && !has_bias(*n))
    };
    let (gate, up) = (plain(graph.nodes[i].inputs[0])?, plain(graph.nodes[i].inputs[1])?);
    (graph.nodes[gate].inputs[0] == graph.nodes[up].inputs[0]).then_some((gate, up))
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

/// What leads from one x to attention, as ranges of nodes.
struct Projections {
    linears: [usize; 3],
    head_norms: Option<[usize; 2]>,
    value_norm: Option<usize>,
    ropes: [usize; 2],
}

impl Projections {
    /// If node `i` is the cache's: what leads to it and to the attention that reads it.
    fn at(graph: &Graph, i: usize, max_binding: u64) -> Option<Self> {
        let node = &graph.nodes[i];
        let Op::KvWrite(kv) = &node.op else { return None };
        let attention =
            graph.nodes.iter().find(|n| matches!(n.op, Op::Attention(_)) && n.inputs.contains(&node.outputs[0]))?;
        let heads: Vec<usize> = [attention.inputs[3], node.inputs[2]]
            .into_iter()
            .map(|id| only_link(graph, id).filter(|n| matches!(graph.nodes[*n].op, Op::Rope(_))))
            .collect::<Option<_>>()?;
        let ropes = [heads[0], heads[1]];
        let turned = ropes.map(|n| &graph.nodes[n]);
        if turned[0].op != turned[1].op || turned[0].inputs[1] != turned[1].inputs[1] {
            return None;
        }
        let before = ropes.map(|n| graph.nodes[n].inputs[2]);
        let norms = before.map(|id| only_link(graph, id).filter(|n| is_norm_of(graph, *n, kv.head_dim)));
        let head_norms = match norms {
            [Some(q), Some(k)] if graph.nodes[q].op == graph.nodes[k].op => Some([q, k]),
            [None, None] => None,
            _ => return None,
        };
        let [q, k] = head_norms.map_or(before, |norms| norms.map(|n| graph.nodes[n].inputs[0]));
        let alike = |n: &usize| head_norms.is_some_and(|[q, _]| graph.nodes[*n].op == graph.nodes[q].op);
        let value_norm =
            only_link(graph, node.inputs[3]).filter(alike).filter(|n| is_bare_norm(graph, *n, kv.head_dim));
        let v = value_norm.map_or(node.inputs[3], |n| graph.nodes[n].inputs[0]);
        let linear = |id| only_link(graph, id).filter(|n| is_whole_linear(graph, *n, max_binding));
        let linears = [linear(q)?, linear(k)?, linear(v)?];
        let same = |n: &usize| {
            let (a, b) = (&graph.nodes[linears[0]], &graph.nodes[*n]);
            a.op == b.op && a.inputs[0] == b.inputs[0]
        };
        linears[1..].iter().all(same).then_some(Projections { linears, head_norms, value_norm, ropes })
    }

    /// Puts two nodes in the place of all of them and of node `i`. Returns where the last one is.
    fn fuse(&self, graph: &mut Graph, i: usize) -> usize {
        let linears = self.linears.map(|n| graph.nodes[n].clone());
        let ropes = self.ropes.map(|n| graph.nodes[n].clone());
        let write = graph.nodes[i].clone();
        let (Op::Linear(linear), Op::Rope(rope), Op::KvWrite(kv)) = (&linears[0].op, &ropes[0].op, &write.op) else {
            unreachable!("at looked")
        };
        let mut inputs = vec![linears[0].inputs[0]];
        inputs.extend(linears.iter().map(|n| n.inputs[1]));
        if linear.bias {
            let biases = [0, 1, 2].map(|n: usize| linears[n].inputs[2]);
            inputs.push(graph.concat_vectors(&biases));
        }
        let cols = linears.iter().map(|n| graph.cols(n.outputs[0])).sum();
        let heads = graph.cols(ropes[0].outputs[0]) / rope.head_dim;
        let side_by_side = graph.add("qkv", Rows::Step, cols, TensorKind::Activation);
        let qkv = Node { op: Op::Qkv(Qkv { bias: linear.bias, norm: None }), inputs, outputs: vec![side_by_side] };
        let mut inputs = vec![write.inputs[0], write.inputs[1], ropes[0].inputs[1], side_by_side];
        let head_norm = self.head_norms.map(|norms| {
            let nodes = norms.map(|n| &graph.nodes[n]);
            let Op::RmsNorm(norm) = &nodes[0].op else { unreachable!("at looked") };
            (norm.eps, nodes.map(|n| n.inputs[1]))
        });
        inputs.extend(head_norm.map(|(_, weights)| graph.concat_vectors(&weights)));
        let outputs = vec![ropes[0].outputs[0], write.outputs[0], write.outputs[1]];
        let (head_norm, norm_values) = (head_norm.map(|(eps, _)| eps), self.value_norm.is_some());
        let op = RopeKv { heads, kv_heads: kv.heads, rope: rope.clone(), head_norm, norm_values };
        let rope_kv = Node { op: Op::RopeKv(op), inputs, outputs };
        graph.nodes[i] = rope_kv;
        let mut gone: Vec<usize> = self.linears.into_iter().chain(self.ropes).collect();
        gone.extend(self.head_norms.into_iter().flatten().chain(self.value_norm));
        gone.sort_unstable();
        // The rotation of the queries may stand behind the cache.
        let before = gone.iter().filter(|n| **n < i).count();
        gone.iter().rev().for_each(|n| drop(graph.nodes.remove(*n)));
        graph.nodes.insert(i - before, qkv);
        i - before + 1
    }
}

/// Whether node `n` norms every `width` values by themselves.
fn is_norm_of(graph: &Graph, n: usize, width: u32) -> bool {
    let node = &graph.nodes[n];
    matches!(node.op, Op::RmsNorm(_)) && graph.cols(node.inputs[1]) == width
}

/// The same, without a weight.
fn is_bare_norm(graph: &Graph, n: usize, width: u32) -> bool {
    let ones = |id| matches!(&graph.tensor(id).kind, TensorKind::Constant(values) if values.iter().all(|v| *v == 1.0));
    is_norm_of(graph, n, width) && ones(graph.nodes[n].inputs[1])
}

/// Whether node `n` is a linear without a residual whose weight is in one piece.
fn is_whole_linear(graph: &Graph, n: usize, max_binding: u64) -> bool {
    let node = &graph.nodes[n];
    let is_plain = matches!(&node.op, Op::Linear(op) if !op.residual && !op.tally);
    is_plain && weight_shards(graph, node.inputs[1], max_binding).len() == 1
}

fn norm(graph: &mut Graph) {
    let mut i = 0;
    while i < graph.nodes.len() {
        if let Some((from, to)) = norm_at(graph, i) {
            let Node { op: Op::RmsNorm(op), inputs, outputs } = graph.nodes[i].clone() else {
                unreachable!("norm_at looked")
            };
            let (x, weight) = (inputs[0], inputs[1]);
            let cols = graph.cols(graph.nodes[from].inputs[0]);
            let [scaled, squares] = fused_norm::outputs(graph, graph.cols(x));
            let fused_norm = Some(FusedNorm { eps: op.eps, from: cols });
            let before = &mut graph.nodes[from];
            before.inputs.push(weight);
            before.outputs.extend([scaled, squares]);
            if let Op::Linear(linear) = &mut before.op {
                linear.tally = true;
            }
            let behind = &mut graph.nodes[to];
            behind.inputs[0] = x;
            behind.inputs.extend([weight, scaled, squares]);
            behind.outputs.push(outputs[0]);
            match &mut behind.op {
                Op::Qkv(qkv) => qkv.norm = fused_norm,
                Op::LinearGlu(glu) => glu.norm = fused_norm,
                _ => {}
            }
            graph.nodes.remove(i);
        } else {
            i += 1;
        }
    }
}

/// If node `i` norms whole rows that a linear with a residual makes, for nobody but a node that can take the norm on:
/// the ranges of those two.
fn norm_at(graph: &Graph, i: usize) -> Option<(usize, usize)> {
    let node = &graph.nodes[i];
    let Op::RmsNorm(_) = node.op else { return None };
    let (x, y) = (node.inputs[0], node.outputs[0]);
    let whole = is_norm_of_rows(graph, i);
    let from = graph.nodes.iter().position(|n| n.outputs[0] == x).filter(|_| whole && graph.readers(y) == 1)?;
    let makes = matches!(&graph.nodes[from].op, Op::Linear(op) if op.residual && !op.tally);
    let to = graph.nodes.iter().position(|n| n.inputs[0] == y)?;
    let takes = match &graph.nodes[to].op {
        Op::Qkv(op) => op.norm.is_none(),
        Op::LinearGlu(op) => op.norm.is_none(),
        _ => false,
    };
    (makes && takes).then_some((from, to))
}

fn post_norm(graph: &mut Graph) {
    let mut i = 0;
    while i < graph.nodes.len() {
        if let Some((from, node)) = norm_add_at(graph, i) {
            graph.nodes[i] = node;
            graph.nodes.remove(from);
            i -= 1;
            take_next(graph, i);
        }
        i += 1;
    }
}

/// If node `i` adds something to rows that node `from` norms whole: both in one.
fn norm_add_at(graph: &Graph, i: usize) -> Option<(usize, Node)> {
    let node = &graph.nodes[i];
    let Op::Add(Add { scale: 1.0 }) = node.op else { return None };
    let [a, b] = node.inputs[..] else { return None };
    [(a, b), (b, a)].into_iter().find_map(|(normed, other)| {
        let from = only_link(graph, normed).filter(|n| is_norm_of_rows(graph, *n))?;
        let Node { op: Op::RmsNorm(norm), inputs, .. } = &graph.nodes[from] else { return None };
        Some((from, NormAdd::node(norm.eps, (inputs[0], inputs[1]), other, node.outputs[0])))
    })
}

/// Node `i` takes on a norm of what it makes, if there is one.
fn take_next(graph: &mut Graph, i: usize) {
    let y = graph.nodes[i].outputs[0];
    let next = (i + 1..graph.nodes.len()).find(|n| graph.nodes[*n].inputs[0] == y && is_norm_of_rows(graph, *n));
    let Some(next) = next else { return };
    let Node { op: Op::RmsNorm(norm), inputs, outputs } = graph.nodes.remove(next) else {
        unreachable!("is_norm_of_rows looked")
    };
    let node = &mut graph.nodes[i];
    if let Op::NormAdd(op) = &mut node.op {
        op.next = Some(norm.eps);
    }
    node.inputs.push(inputs[1]);
    node.outputs.push(outputs[0]);
}

/// Whether node `n` norms whole rows of a step.
fn is_norm_of_rows(graph: &Graph, n: usize) -> bool {
    let x = graph.nodes[n].inputs[0];
    is_norm_of(graph, n, graph.cols(x)) && graph.tensor(x).rows == Rows::Step
}
