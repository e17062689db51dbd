// Where an expert's matrix lies in the stack, which has room for some: a table that the engine keeps.
@group(0) @binding(PLACES_AT) var<storage, read> places: array<u32>;

fn place(expert: u32) -> u32 {
    return places[expert];
}
