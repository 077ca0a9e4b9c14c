//! hookbusd, with the built-in hooks.

use std::process::ExitCode;

fn main() -> ExitCode {
    hookbusd::program::main(&[])
}
