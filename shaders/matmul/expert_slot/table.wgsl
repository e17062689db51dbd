// Where an expert's matrix lies in the stack, which has room for some: a table that the engine keeps.
@group(0) @binding(SLOT_TABLE_AT) var<storage, read> slot_table: array<u32>;

fn expert_slot(expert: u32) -> u32 {
    return slot_table[expert];
}
