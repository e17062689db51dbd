//! Token embeddings, and embeddings of each layer (PLE).

use super::Recorder;
use crate::graph::{HeadSlice, TensorId};
use crate::model::spec::{EmbeddingSpec, LayerEmbeddingSpec, PerLayerSpec};

impl Recorder<'_> {
    /// The table, and the embeddings of the step's tokens: (rows, hidden).
    pub fn embedding(&mut self, spec: &EmbeddingSpec) -> (TensorId, TensorId) {
        let table = self.weight(&spec.table);
        let x = self.graph.embed(table, spec.scale);
        self.layer_embeddings = spec.per_layer.as_ref().map(|per_layer| self.per_layer_embeddings(x, per_layer));
        (table, x)
    }

    /// x (rows, hidden) -> (rows, layers * size)
    fn per_layer_embeddings(&mut self, x: TensorId, spec: &PerLayerSpec) -> TensorId {
        let table = self.weight(&spec.table);
        let own = self.graph.embed_tokens(table, (spec.size as f32).sqrt());
        let projected = self.linear(x, &spec.projection);
        let projected = self.norm(projected, &spec.norm);
        self.graph.sum(projected, own)
    }

    /// x (rows, hidden) -> (rows, hidden)
    pub(super) fn add_layer_embedding(&mut self, x: TensorId, spec: &LayerEmbeddingSpec) -> TensorId {
        let all = self.layer_embeddings.expect("layers have embeddings only with those of the model");
        let gate = self.linear(x, &spec.gate);
        let (head_dim, len) = (self.graph.cols(all), self.graph.cols(gate));
        let embedding = self.graph.head_slice(all, HeadSlice { head_dim, start: spec.start, len });
        let h = self.graph.glu(gate, embedding, spec.activation);
        let h = self.linear(h, &spec.projection);
        let h = self.norm(h, &spec.norm);
        self.graph.sum(x, h)
    }
}
