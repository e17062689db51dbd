//! Room for experts that do not all fit the GPU: stacks that all layers with experts of the same types and sizes share.
//! Which experts are in them changes while the model runs; that is the session's business.

use crate::checkpoint::{Checkpoint, TensorInfo};
use crate::dtype::DType;
use crate::graph::{Graph, Kind, Rows, TensorId};

/// The matrices of an expert, as the file's tensors are called.
pub const PARTS: [&str; 3] = ["ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"];

/// A layer whose experts come and go.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamedLayer {
    /// The experts that rows are sent to; once they are known, the experts must be fetched.
    pub ids: TensorId,
    /// Where the layer's experts lie in the stacks: [`Kind::Places`].
    pub places: TensorId,
    /// The stacks of gate, up and down matrices.
    pub stacks: [TensorId; 3],
    /// The file's tensors that hold all of the layer's experts, one after another.
    pub tensors: [TensorInfo; 3],
}

/// Type, columns and rows of an expert's matrices.
type Shape = [(DType, u64, u64); 3];

/// The stacks, as they are made while a model is recorded.
pub struct Rooms {
    share: f64,
    /// Layers whose experts have this shape.
    layers: Vec<(Shape, u32)>,
    made: Vec<(Shape, [TensorId; 3])>,
    /// What was recorded.
    pub streamed: Vec<StreamedLayer>,
}

impl Rooms {
    /// Room for all experts of one layer, which any step may want, and for this share of those of the others.
    pub fn new(checkpoint: &Checkpoint, share: f64) -> Self {
        let mut layers: Vec<(Shape, u32)> = Vec::new();
        for name in checkpoint.tensors.keys().filter(|name| name.ends_with("ffn_gate_exps.weight")) {
            let Some(tensors) = tensors(checkpoint, name.trim_end_matches("ffn_gate_exps.weight")) else { continue };
            let shape = shape(&tensors);
            match layers.iter_mut().find(|(other, _)| *other == shape) {
                Some((_, count)) => *count += 1,
                None => layers.push((shape, 1)),
            }
        }
        Rooms { share, layers, made: Vec::new(), streamed: Vec::new() }
    }

    /// The stacks for the experts of the block whose tensors begin with `prefix`, and where they lie there. The file's
    /// tensors have been found right.
    pub fn stacks(&mut self, graph: &mut Graph, checkpoint: &Checkpoint, prefix: &str, experts: u32) -> Option<Stacks> {
        let tensors = tensors(checkpoint, prefix)?;
        let shape = shape(&tensors);
        let others = self.layers.iter().find(|(other, _)| *other == shape).map_or(0, |(_, count)| count - 1);
        let count = experts + (self.share * f64::from(others * experts)) as u32;
        let found = self.made.iter().find(|(other, _)| *other == shape).map(|(_, stacks)| *stacks);
        let stacks = found.unwrap_or_else(|| {
            let mut room = |i: usize| {
                let (dtype, cols, rows) = shape[i];
                graph.expert_room(PARTS[i], count, rows as u32, cols as u32, dtype)
            };
            [room(0), room(1), room(2)]
        });
        if found.is_none() {
            self.made.push((shape, stacks));
        }
        let places = graph.add(format!("{prefix}places"), Rows::Fixed(1), experts, Kind::Places);
        Some(Stacks { stacks, places, tensors })
    }
}

/// What [`Rooms::stacks`] finds for a block.
pub struct Stacks {
    /// The stacks of gate, up and down matrices.
    pub stacks: [TensorId; 3],
    /// Where the block's experts lie in them.
    pub places: TensorId,
    tensors: [TensorInfo; 3],
}

impl Stacks {
    /// The layer, once it is known which tensor says where its rows are sent to.
    pub fn of(self, ids: TensorId) -> StreamedLayer {
        StreamedLayer { ids, places: self.places, stacks: self.stacks, tensors: self.tensors }
    }
}

fn tensors(checkpoint: &Checkpoint, prefix: &str) -> Option<[TensorInfo; 3]> {
    let tensor = |part: &str| checkpoint.tensors.get(&format!("{prefix}{part}.weight")).cloned();
    Some([tensor(PARTS[0])?, tensor(PARTS[1])?, tensor(PARTS[2])?])
}

fn shape(tensors: &[TensorInfo; 3]) -> Shape {
    tensors.each_ref().map(|tensor| {
        let dim = |i: usize| tensor.dims.get(i).copied().unwrap_or(1);
        (tensor.dtype, dim(0), dim(1))
    })
}
