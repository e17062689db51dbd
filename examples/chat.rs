//! The chat window: `cargo run --release --features chat --example chat [MODEL.gguf]`. Compiled to wasm
//! (`./x chat-web`), the same program runs as the window in a page and as the engine in its worker.

#[cfg(not(target_arch = "wasm32"))]
fn main() -> Result<(), String> {
    firelight::chat::open(std::env::args().nth(1).map(firelight::chat::Place::File))
}

#[cfg(target_arch = "wasm32")]
fn main() {
    firelight::chat::start();
}
