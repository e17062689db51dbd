// The slot of an expert's matrix in a stack that holds only some (expert offload): a table that the engine writes.
@group(0) @binding(SLOT_TABLE_AT) var<storage, read> slot_table: array<u32>;

fn expert_slot(expert: u32) -> u32 {
    return slot_table[expert];
}
