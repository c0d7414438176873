//! The command line of Hookgate: see [`hookgate::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    hookgate::cli::main()
}
