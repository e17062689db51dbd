// Rows of a step that follow each other in one sequence; graph::Segment, word for word.
struct Segment {
    first: u32,
    count: u32,
    // The slot of the state that the run begins with, or NO_STATE, and of the one that it leaves behind.
    reads: u32,
    writes: u32,
}

const NO_STATE = 0xFFFFFFFFu;
