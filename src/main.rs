//! The `firelight` program: see `cli`, and `server` for what `serve` does.

mod cli;
mod server;

fn main() -> std::process::ExitCode {
    cli::main()
}
