//! Expert offload: resident slots for experts that do not all fit the GPU. Layers with experts of the same types and
//! sizes share stacks of slots. The session decides which experts are resident while the model runs.

use super::spec::WeightSpec;
use crate::dtype::DType;
use crate::graph::{Graph, Rows, TensorId, TensorKind};

/// A layer with offloaded experts.
#[derive(Clone, Debug, PartialEq)]
pub struct OffloadedLayer {
    /// The experts that rows are routed to. They must be resident before the step continues.
    pub ids: TensorId,
    /// The slots of the layer's experts: [`TensorKind::ExpertSlotTable`].
    pub places: TensorId,
    /// The stacks of gate, up and down matrices.
    pub stacks: [TensorId; 3],
    /// The same matrices in the file.
    pub parts: [WeightSpec; 3],
}

/// Slots for experts, collected while a model is recorded.
pub struct ExpertSlots {
    share: f64,
    /// The layers recorded so far.
    pub offloaded: Vec<OffloadedLayer>,
}

impl ExpertSlots {
    /// Slots for all experts of one layer, since a step may need them all, and for this share of the other layers'.
    pub fn new(share: f64) -> Self {
        ExpertSlots { share, offloaded: Vec::new() }
    }

    /// The stacks for these matrices, and the layer's slot table.
    pub fn stacks(&self, graph: &mut Graph, parts: &[WeightSpec; 3]) -> ([TensorId; 3], TensorId) {
        let shape = |parts: &[WeightSpec; 3]| -> [(DType, u32, u32); 3] {
            parts.each_ref().map(|part| (part.dtype, part.rows(), part.cols))
        };
        let experts = parts[0].experts;
        let alike = self.offloaded.iter().find(|layer| shape(&layer.parts) == shape(parts));
        let mut stack = |(dtype, rows, cols)| graph.expert_cache("experts", experts, rows, cols, dtype);
        let stacks = alike.map_or_else(|| shape(parts).map(&mut stack), |layer| layer.stacks);
        let places = graph.add("places", Rows::Fixed(1), experts, TensorKind::ExpertSlotTable);
        (stacks, places)
    }

    /// Sets the sizes of the stacks, once the number of layers that share each is known.
    pub fn finish(self, graph: &mut Graph) -> Vec<OffloadedLayer> {
        for (n, layer) in self.offloaded.iter().enumerate() {
            let alike = |other: &&OffloadedLayer| other.stacks == layer.stacks;
            if self.offloaded[..n].iter().any(|other| alike(&other)) {
                continue;
            }
            let others = self.offloaded.iter().filter(alike).count() as u32 - 1;
            let one = graph.cols(layer.places);
            let slots = one + (self.share * f64::from(others * one)) as u32;
            for (stack, part) in layer.stacks.iter().zip(&layer.parts) {
                let tensor = &mut graph.tensors[stack.0];
                tensor.rows = Rows::Fixed(slots * part.rows());
                tensor.kind = TensorKind::Weight { dtype: part.dtype, experts: slots, tensor: None };
            }
        }
        self.offloaded
    }
}
