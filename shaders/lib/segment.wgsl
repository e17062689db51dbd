// Consecutive rows of a step that belong to one sequence; graph::Segment, word for word.
struct Segment {
    first: u32,
    count: u32,
    // The slot of the state that the segment begins with, or NO_STATE, and the slot that its last state goes to.
    reads: u32,
    writes: u32,
}

const NO_STATE = 0xFFFFFFFFu;
