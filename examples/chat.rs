//! The chat window: `cargo run --release --features chat --example chat [MODEL.gguf]`.

fn main() -> Result<(), String> {
    firelight::chat::open(std::env::args().nth(1).map(firelight::chat::Place::File))
}
