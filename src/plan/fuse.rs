//! Graph to graph: a few ops become one. Each rule can be switched off; a test holds fused equal to unfused.

use crate::graph::{Graph, Kind, Node, Rows, TensorId};
use crate::ops::linear::LinearGlu;
use crate::ops::{Op, weight_shards};

/// Which rules run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fuse {
    /// linear + add -> linear with a residual; likewise the sum of experts.
    pub residual: bool,
    /// gate linear + up linear + glu -> one op.
    pub glu: bool,
}

impl Fuse {
    /// Every rule.
    pub const ALL: Fuse = Fuse { residual: true, glu: true };
    /// None.
    pub const NONE: Fuse = Fuse { residual: false, glu: false };
}

/// Applies the rules. `max_binding` in bytes: matrices that must be split are left alone by the glu rule.
pub fn fuse(mut graph: Graph, rules: Fuse, max_binding: u64) -> Graph {
    if rules.residual {
        residual(&mut graph);
    }
    if rules.glu {
        glu(&mut graph, max_binding);
    }
    graph
}

/// The node that alone writes `id`, if `id` is an activation that one node reads.
fn only_link(graph: &Graph, id: TensorId) -> Option<usize> {
    let link = graph.tensor(id).kind == Kind::Activation && graph.readers(id) == 1;
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
    let Op::Add(_) = node.op else { return None };
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

/// If node `i` is the glu of two plain linears of one input: their places.
fn glu_at(graph: &Graph, i: usize, max_binding: u64) -> Option<(usize, usize)> {
    let Op::Glu(_) = graph.nodes[i].op else { return None };
    let plain = |id: TensorId| {
        let from = only_link(graph, id)?;
        let node = &graph.nodes[from];
        let whole = || weight_shards(graph, node.inputs[1], max_binding).len() == 1;
        let is_plain = matches!(&node.op, Op::Linear(op) if !op.bias && !op.residual) && whole();
        is_plain.then_some(from)
    };
    let (gate, up) = (plain(graph.nodes[i].inputs[0])?, plain(graph.nodes[i].inputs[1])?);
    (graph.nodes[gate].inputs[0] == graph.nodes[up].inputs[0]).then_some((gate, up))
}
