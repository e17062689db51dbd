// Stores four values of a head, from turned_s, in their cell of the cache.
fn store(page: u32, head: u32, slot: u32, d: u32) {
    cache[place(page, head, slot) + d] = pack(turned_s[d]);
}
