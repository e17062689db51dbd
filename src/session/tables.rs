//! What a step is told of its rows: tables that the engine writes before each step.

use super::Session;
use crate::graph::{NO_STATE, Segment, StepInput};
use crate::ops::{StepSizes, attention};

/// A row of a step.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its token, or [`crate::graph::LAST_SAMPLED`].
    pub token: u32,
    /// Its position in the sequence.
    pub position: usize,
    /// The sequence's number.
    pub sequence: usize,
}

impl Session {
    /// Writes the row table, the logit rows and the attention tiles of a step.
    pub(super) fn write_tables(&mut self, rows: &[Row], wants: &[usize]) -> StepSizes {
        let table: Vec<[u32; 4]> = rows.iter().map(|r| [r.token, r.position as u32, r.sequence as u32, 0]).collect();
        self.plan.write_input(StepInput::Rows, 0, bytemuck::cast_slice(&table));
        let wants: Vec<u32> = wants.iter().map(|i| *i as u32).collect();
        if !wants.is_empty() {
            self.plan.write_input(StepInput::LogitRows, 0, bytemuck::cast_slice(&wants));
        }
        let tiles = self.tiles(rows);
        if rows.len() > self.decode_rows() as usize {
            self.plan.write_input(StepInput::QueryTiles, 0, bytemuck::cast_slice(&tiles));
        }
        let runs = self.runs(rows);
        self.plan.write_input(StepInput::Segments, 0, bytemuck::cast_slice(&runs));
        let longest = rows.iter().map(|r| r.position as u32 + 1).max().unwrap_or(0);
        StepSizes {
            rows: rows.len() as u32,
            logits: wants.len() as u32,
            splits: longest.div_ceil(attention::KV_SPLIT),
            tiles: tiles.len() as u32,
            segments: runs.len() as u32,
            ..Default::default()
        }
    }

    /// Rows that follow each other in one sequence, and the states that they go from and to; none if the model has no
    /// states.
    fn runs(&mut self, rows: &[Row]) -> Vec<Segment> {
        let mut runs = Vec::new();
        let mut first = 0;
        for part in rows.chunk_by(|a, b| a.sequence == b.sequence) {
            let (at, start) = (part[0].sequence, part[0].position);
            if let Some(state) = &mut self.sequences[at].state {
                let (reads, writes) = state.step(start, start + part.len());
                let slot = |which: usize| (2 * at + which) as u32;
                let count = part.len() as u32;
                runs.push(Segment { first, count, reads: reads.map_or(NO_STATE, slot), writes: slot(writes) });
            }
            first += part.len() as u32;
        }
        runs
    }

    /// Runs of rows of one sequence at following positions, cut to the attention kernel's tile.
    fn tiles(&self, rows: &[Row]) -> Vec<[u32; 4]> {
        let tile = self.plan.dispatch_list().query_tile();
        let mut tiles: Vec<[u32; 4]> = Vec::new();
        for (i, row) in rows.iter().enumerate() {
            match tiles.last_mut() {
                Some([first, count, ..])
                    if *count < tile
                        && rows[*first as usize].sequence == row.sequence
                        && rows[*first as usize].position + *count as usize == row.position =>
                {
                    *count += 1;
                }
                _ => tiles.push([i as u32, 1, 0, 0]),
            }
        }
        tiles
    }
}
