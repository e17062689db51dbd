// Where an expert's matrix lies in the stack: all are there, in order.
fn place(expert: u32) -> u32 {
    return expert;
}
