// Where an expert's matrix lies in the stack: all are there, in order.
fn expert_slot(expert: u32) -> u32 {
    return expert;
}
