// Rows of a step that follow each other in one sequence; graph::Input::Runs, word for word.
struct Run {
    first: u32,
    rows: u32,
    // The slot of the state that the run begins with, or NOTHING, and of the one that it leaves behind.
    reads: u32,
    writes: u32,
}

const NOTHING = 0xFFFFFFFFu;
