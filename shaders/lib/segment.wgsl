// Consecutive rows of a step that belong to one sequence; the layout of graph::Segment.
struct Segment {
    first: u32,
    count: u32,
    // The slot with the segment's initial state, or NO_STATE, and the slot that receives its last state.
    reads: u32,
    writes: u32,
}

const NO_STATE = 0xFFFFFFFFu;
