//! Rows, and the tables in which the GPU reads them: written before each step.

use super::Executor;
use crate::Result;
use crate::graph::{EMBEDDING_INPUT, NO_OUTPUT, NO_STATE, SAMPLED_INPUT, Segment, StepInput};
use crate::kv_cache::StateStep;
use crate::ops::{StepSizes, attention};

/// A row of a step: one position of one sequence. Rows of a sequence follow each other in the order of their positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The input of the first layer.
    pub input: RowInput,
    /// The position in time, height and width (M-RoPE); for text, all three are the same. The first is also where the
    /// cache keeps the row's keys and values, and the only one that the GPU's row table has so far.
    pub position: [u32; 3],
    /// The sequence, below [`Capacity::sequences`](crate::ops::Capacity::sequences).
    pub sequence: u32,
    /// The output slot, if logits, a hidden state or a token of the row is requested. Tokens are sampled with the
    /// parameters and counts of the slot, which is then below [`Capacity::outputs`](crate::ops::Capacity::outputs), and
    /// no other row of the step may have it; other outputs do not depend on its number.
    pub output: Option<u32>,
}

/// The input of the first layer for a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RowInput {
    /// The embedding of a token.
    Token(u32),
    /// The embedding of the token that was last sampled in an output slot, perhaps by a step that is still queued.
    Sampled(u32),
    /// The vector in an embedding slot; see [`Executor::set_embedding`].
    Embedding(u32),
}

impl Row {
    /// A row without output.
    pub fn new(input: RowInput, position: u32, sequence: u32) -> Self {
        Row { input, position: [position; 3], sequence, output: None }
    }

    /// The same row with an output slot.
    pub fn with_output(self, slot: u32) -> Self {
        Row { output: Some(slot), ..self }
    }

    /// Its entry in the GPU's row table.
    fn entry(&self) -> [u32; 4] {
        let input = match self.input {
            RowInput::Token(token) => token,
            RowInput::Sampled(slot) => SAMPLED_INPUT | slot,
            RowInput::Embedding(slot) => EMBEDDING_INPUT | slot,
        };
        [input, self.position[0], self.sequence, self.output.unwrap_or(NO_OUTPUT)]
    }
}

impl Executor {
    /// Makes room in the cache and writes the tables of a step: page tables, rows, output rows, query tiles, segments.
    pub(super) fn write_tables(&mut self, rows: &[Row]) -> Result<StepSizes> {
        let segments = self.write_segments(rows)?;
        let table: Vec<[u32; 4]> = rows.iter().map(Row::entry).collect();
        self.plan.write_input(StepInput::Rows, 0, bytemuck::cast_slice(&table));
        let outputs: Vec<u32> = (0..).zip(rows).filter(|(_, row)| row.output.is_some()).map(|(i, _)| i).collect();
        if !outputs.is_empty() {
            self.plan.write_input(StepInput::LogitRows, 0, bytemuck::cast_slice(&outputs));
        }
        let tiles = query_tiles(rows, self.plan.dispatch_list().query_tile());
        if rows.len() > self.decode_rows() as usize {
            self.plan.write_input(StepInput::QueryTiles, 0, bytemuck::cast_slice(&tiles));
        }
        let longest = rows.iter().map(|row| row.position[0] + 1).max().unwrap_or(0);
        Ok(StepSizes {
            rows: rows.len() as u32,
            logits: outputs.len() as u32,
            splits: longest.div_ceil(attention::KV_SPLIT),
            tiles: tiles.len() as u32,
            segments,
            ..Default::default()
        })
    }

    /// Advances the cache of each sequence by its rows. Returns how many segments have states to read and write.
    fn write_segments(&mut self, rows: &[Row]) -> Result<u32> {
        let (mut segments, mut first) = (Vec::new(), 0);
        for part in rows.chunk_by(|a, b| a.sequence == b.sequence) {
            let (sequence, start) = (part[0].sequence, part[0].position[0] as usize);
            let states = self.cache.advance(sequence as usize, start..start + part.len())?;
            self.write_page_tables(sequence as usize);
            let count = part.len() as u32;
            if let Some(StateStep { reads, writes }) = states {
                let slot = |slot: usize| 2 * sequence + slot as u32;
                segments.push(Segment { first, count, reads: reads.map_or(NO_STATE, slot), writes: slot(writes) });
            }
            first += count;
        }
        self.plan.write_input(StepInput::Segments, 0, bytemuck::cast_slice(&segments));
        Ok(segments.len() as u32)
    }

    fn write_page_tables(&mut self, sequence: usize) {
        let stride = self.plan.dispatch_list().capacity.pages_per_sequence as usize;
        let offset = (sequence * stride * 4) as u64;
        let Some((pages, sliding)) = self.cache.changed_tables(sequence) else { return };
        self.plan.write_input(StepInput::Pages, offset, bytemuck::cast_slice(pages));
        if let Some(sliding) = sliding {
            self.plan.write_input(StepInput::SlidingPages, offset, bytemuck::cast_slice(&sliding));
        }
    }
}

/// Rows of one sequence at consecutive positions, cut to at most `tile` rows; see [`StepInput::QueryTiles`].
fn query_tiles(rows: &[Row], tile: u32) -> Vec<[u32; 4]> {
    let follows = |a: &Row, b: &Row| a.position[0] + 1 == b.position[0];
    let (mut tiles, mut start) = (Vec::new(), 0);
    for sequence in rows.chunk_by(|a, b| a.sequence == b.sequence) {
        let mut first = start;
        for run in sequence.chunk_by(follows).flat_map(|run| run.chunks(tile as usize)) {
            tiles.push([first, run.len() as u32, start, sequence.len() as u32]);
            first += run.len() as u32;
        }
        start = first;
    }
    tiles
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_tiles_are_runs_of_a_sequence() {
        let row = |(sequence, position)| Row::new(RowInput::Token(0), position, sequence);
        let rows = [(0, 4), (0, 5), (0, 6), (2, 0), (2, 1), (2, 7), (1, 3)].map(row);
        let tiles = [[0, 2, 0, 3], [2, 1, 0, 3], [3, 2, 3, 3], [5, 1, 3, 3], [6, 1, 6, 1]];
        assert_eq!(query_tiles(&rows, 2), tiles);
    }
}
