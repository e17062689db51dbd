// A row may go to any expert.
fn limit(lid: u32) {}
