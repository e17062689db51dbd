//! Room for experts that do not all fit the GPU: stacks that all layers with experts of the same types and sizes share.
//! Which experts are in them changes while the model runs; that is the session's business.

use crate::checkpoint::TensorInfo;
use crate::dtype::DType;
use crate::graph::{Graph, Kind, Rows, TensorId};

/// Where the matrices of a layer's experts lie in the file: the same rows of each matrix of a stack.
#[derive(Clone, Debug, PartialEq)]
pub struct ExpertPart {
    /// The stack: (experts, rows of a matrix, columns).
    pub tensor: TensorInfo,
    /// The first of the rows.
    pub first: u32,
    /// How many.
    pub rows: u32,
}

impl ExpertPart {
    fn cols(&self) -> u32 {
        self.tensor.dims[0] as u32
    }

    /// All of them, as a weight of the graph.
    pub fn stack(&self, graph: &mut Graph, experts: u32) -> TensorId {
        let TensorInfo { name, dtype, .. } = &self.tensor;
        graph.experts_part(name, experts, self.first, self.rows, self.cols(), *dtype)
    }

    /// The bytes of the tensor that are one expert's.
    pub fn bytes_of(&self, expert: u32) -> std::ops::Range<u64> {
        let row = u64::from(expert) * self.tensor.dims.get(1).copied().unwrap_or(1) + u64::from(self.first);
        row * self.tensor.row_bytes()..(row + u64::from(self.rows)) * self.tensor.row_bytes()
    }
}

/// A layer whose experts come and go.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamedLayer {
    /// The experts that rows are sent to; once they are known, the experts must be fetched.
    pub ids: TensorId,
    /// Where the layer's experts lie in the stacks: [`Kind::Places`].
    pub places: TensorId,
    /// The stacks of gate, up and down matrices.
    pub stacks: [TensorId; 3],
    /// Where they come from.
    pub parts: [ExpertPart; 3],
}

/// The stacks, as they are made while a model is recorded.
pub struct Rooms {
    share: f64,
    /// What was recorded.
    pub streamed: Vec<StreamedLayer>,
}

impl Rooms {
    /// Room for all experts of one layer, which any step may want, and for this share of those of the others.
    pub fn new(share: f64) -> Self {
        Rooms { share, streamed: Vec::new() }
    }

    /// The stacks for such parts, and where a layer's experts lie there.
    pub fn stacks(&self, graph: &mut Graph, parts: &[ExpertPart; 3], experts: u32) -> ([TensorId; 3], TensorId) {
        let shape = |parts: &[ExpertPart; 3]| -> [(DType, u32, u32); 3] {
            parts.each_ref().map(|part| (part.tensor.dtype, part.rows, part.cols()))
        };
        let alike = self.streamed.iter().find(|layer| shape(&layer.parts) == shape(parts));
        let mut room = |(dtype, rows, cols)| graph.expert_room("experts", experts, rows, cols, dtype);
        let stacks = alike.map_or_else(|| shape(parts).map(&mut room), |layer| layer.stacks);
        let places = graph.add("places", Rows::Fixed(1), experts, Kind::Places);
        (stacks, places)
    }

    /// Makes the stacks as large as they are to be, now that it is known how many layers share each.
    pub fn finish(self, graph: &mut Graph) -> Vec<StreamedLayer> {
        for (n, layer) in self.streamed.iter().enumerate() {
            let alike = |other: &&StreamedLayer| other.stacks == layer.stacks;
            if self.streamed[..n].iter().any(|other| alike(&other)) {
                continue;
            }
            let others = self.streamed.iter().filter(alike).count() as u32 - 1;
            let one = graph.cols(layer.places);
            let room = one + (self.share * f64::from(others * one)) as u32;
            for (stack, part) in layer.stacks.iter().zip(&layer.parts) {
                let tensor = &mut graph.tensors[stack.0];
                tensor.rows = Rows::Fixed(room * part.rows);
                tensor.kind = Kind::Weight { dtype: part.tensor.dtype, experts: room, first: None };
            }
        }
        self.streamed
    }
}
