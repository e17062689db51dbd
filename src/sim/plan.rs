//! A [`DispatchList`] on the simulator: its buffers and dispatches, as [`Plan`](crate::plan::Plan) has them on a
//! device.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::{BoundRange, Program, SimulationOptions, SimulationReport, dispatch};
use crate::graph::{StepInput, TensorId, TensorKind};
use crate::ops::{Kernel, StepSizes};
use crate::plan::suballocation::Suballocation;
use crate::plan::{DispatchList, runs};
use crate::shader::{ShaderLanguage, assemble};

/// A dispatch of a step.
#[derive(Clone, Debug)]
pub struct SimulatedDispatch {
    /// Index of the kernel in the dispatch list.
    pub kernel: usize,
    /// Findings and counts.
    pub report: SimulationReport,
}

/// A dispatch list with its buffers.
pub struct SimulatedPlan {
    dispatch_list: DispatchList,
    buffers: Vec<Vec<u32>>,
    ranges: BTreeMap<TensorId, Vec<BoundRange>>,
    programs: HashMap<(String, u32), Arc<Program>>,
    /// The fewest and the most lanes of a subgroup.
    subgroup: (u32, u32),
}

impl SimulatedPlan {
    /// Allocates every buffer, filled with zeros, and writes the constants. `subgroup` is the range of lanes of a
    /// subgroup; if it has several sizes, kernels use them in turn, because drivers choose a size per kernel.
    pub fn new(dispatch_list: DispatchList, subgroup: (u32, u32)) -> Self {
        let mut plan = Self::unwritten(dispatch_list, subgroup);
        plan.write_constants();
        plan
    }

    /// The same without memory for weights and caches, which read as zeros: enough to profile a step, because the work
    /// of kernels does not depend on weights.
    pub fn without_weights(dispatch_list: DispatchList, subgroup: (u32, u32)) -> Self {
        let mut plan = Self::unwritten(dispatch_list, subgroup);
        let graph = &plan.dispatch_list.graph;
        let large = |id: &TensorId| {
            let kind = &graph.tensor(*id).kind;
            matches!(kind, TensorKind::Weight { .. } | TensorKind::KvCache { .. } | TensorKind::State { .. })
        };
        for (_, ranges) in plan.ranges.iter().filter(|(id, _)| large(id)) {
            // Weights and caches share buffers only with other weights and caches.
            ranges.iter().for_each(|range| plan.buffers[range.buffer] = Vec::new());
        }
        plan.write_vectors();
        plan
    }

    fn unwritten(dispatch_list: DispatchList, subgroup: (u32, u32)) -> Self {
        let words = |bytes: &u64| vec![0; bytes.div_ceil(4) as usize];
        let shared = &dispatch_list.shared;
        let mut buffers: Vec<Vec<u32>> = shared.bytes.iter().map(words).collect();
        let mut ranges: BTreeMap<TensorId, Vec<BoundRange>> = BTreeMap::new();
        for (id, parts) in &shared.of {
            let range =
                |part: &Suballocation| BoundRange { buffer: part.buffer, offset: part.offset, bytes: part.bytes };
            ranges.insert(*id, parts.iter().map(range).collect());
        }
        for (id, slot) in &dispatch_list.slots.of {
            let range = BoundRange { buffer: buffers.len() + slot, offset: 0, bytes: dispatch_list.slots.bytes[*slot] };
            ranges.insert(*id, vec![range]);
        }
        buffers.extend(dispatch_list.slots.bytes.iter().map(words));
        buffers.push(words(&(size_of::<StepSizes>() as u64)));
        SimulatedPlan { dispatch_list, buffers, ranges, programs: HashMap::new(), subgroup }
    }

    fn write_constants(&mut self) {
        for (id, shard, offset, table) in self.dispatch_list.tables() {
            self.write_range(self.ranges[&id][shard], offset, table);
        }
        self.write_vectors();
    }

    /// Writes the constants of the graph.
    fn write_vectors(&mut self) {
        for id in self.dispatch_list.used() {
            if let TensorKind::Constant(values) = &self.dispatch_list.graph.tensor(id).kind {
                let bytes = bytemuck::cast_slice(values).to_vec();
                self.write(id, 0, &bytes);
            }
        }
    }

    /// The dispatch list.
    pub fn dispatch_list(&self) -> &DispatchList {
        &self.dispatch_list
    }

    fn write_range(&mut self, range: BoundRange, offset: u64, data: &[u8]) {
        let buffer: &mut [u8] = bytemuck::cast_slice_mut(&mut self.buffers[range.buffer]);
        buffer[(range.offset + offset) as usize..][..data.len()].copy_from_slice(data);
    }

    /// Writes `data` at byte `offset` of a tensor that is not a weight.
    pub fn write(&mut self, id: TensorId, offset: u64, data: &[u8]) {
        self.write_range(self.ranges[&id][0], offset, data);
    }

    /// Writes one of the engine's inputs; does nothing if the graph does not use it.
    pub fn write_input(&mut self, input: StepInput, offset: u64, data: &[u8]) {
        if let Some(id) = self.input(input) {
            self.write(id, offset, data);
        }
    }

    /// The tensor of one of the engine's inputs, if the graph uses it.
    pub fn input(&self, input: StepInput) -> Option<TensorId> {
        let tensors = &self.dispatch_list.graph.tensors;
        let id = tensors.iter().position(|t| t.kind == TensorKind::StepInput(input)).map(TensorId);
        id.filter(|id| self.ranges.contains_key(id))
    }

    /// Fills rows of a weight with rows in the layout of a file, repacked.
    pub fn write_rows(&mut self, id: TensorId, row: u32, data: &[u8]) {
        for rows in self.dispatch_list.shard_rows(id, row, data.len()) {
            for (offset, plane) in rows.planes(data) {
                self.write_range(self.ranges[&id][rows.shard], offset, &plane);
            }
        }
    }

    /// The first `bytes` bytes of a tensor.
    pub fn read(&self, id: TensorId, bytes: u64) -> Vec<u8> {
        let range = self.ranges[&id][0];
        let buffer: &[u8] = bytemuck::cast_slice(&self.buffers[range.buffer]);
        buffer[range.offset as usize..][..bytes as usize].to_vec()
    }

    /// Runs a step.
    ///
    /// # Errors
    /// If a kernel uses a feature that the simulator does not support, or its grid is too large.
    pub fn run(&mut self, sizes: &StepSizes, options: SimulationOptions) -> Result<Vec<SimulatedDispatch>, String> {
        let kernels = self.begin_step(sizes);
        let run = |kernel| Ok(SimulatedDispatch { kernel, report: self.run_kernel(kernel, sizes, options)? });
        kernels.into_iter().map(run).collect()
    }

    /// Writes the sizes of a step; returns the indices of the kernels that run.
    pub(super) fn begin_step(&mut self, sizes: &StepSizes) -> Vec<usize> {
        let step = self.buffers.len() - 1;
        self.buffers[step].copy_from_slice(bytemuck::cast_slice(bytemuck::bytes_of(sizes)));
        let kernels = self.dispatch_list.kernels.iter().enumerate();
        kernels.filter(|(_, (_, kernel))| runs(kernel, sizes)).map(|(index, _)| index).collect()
    }

    pub(super) fn run_kernel(
        &mut self,
        kernel: usize,
        sizes: &StepSizes,
        options: SimulationOptions,
    ) -> Result<SimulationReport, String> {
        let program = self.program(kernel)?;
        let step = BoundRange { buffer: self.buffers.len() - 1, offset: 0, bytes: size_of::<StepSizes>() as u64 };
        let Kernel { source, bindings, .. } = &self.dispatch_list.kernels[kernel].1;
        let bound = bindings.iter().map(|binding| self.ranges[&binding.tensor][binding.shard]);
        let ranges: Vec<BoundRange> = std::iter::once(step).chain(bound).collect();
        let workgroups = self.dispatch_list.kernels[kernel].1.workgroups(sizes);
        dispatch(&program, &mut self.buffers, &ranges, workgroups, options).map_err(|e| format!("{}: {e}", source.file))
    }

    /// The subgroup size of a kernel.
    fn width(&self, kernel: usize) -> u32 {
        let (min, max) = self.subgroup;
        let widths = (max / min).ilog2() as usize + 1;
        max >> (kernel % widths)
    }

    /// A kernel's program, compiled on first use.
    fn program(&mut self, kernel: usize) -> Result<Arc<Program>, String> {
        let source = &self.dispatch_list.kernels[kernel].1.source;
        let key = (assemble(source, ShaderLanguage::Native), self.width(kernel));
        if let Some(program) = self.programs.get(&key) {
            return Ok(program.clone());
        }
        let program = Program::compile(&key.0, key.1).map_err(|e| format!("{}: {e}", source.file))?;
        let program = Arc::new(program);
        self.programs.insert(key, program.clone());
        Ok(program)
    }
}
