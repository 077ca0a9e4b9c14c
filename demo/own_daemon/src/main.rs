//! A daemon with a hook of one's own: hookbusd, and ReduceOnPlateau.
//!
//! ```text
//! cargo run -p own-daemon -- --list-hooks       the built-in hooks, then yours
//! cargo run -p own-daemon -- --config hooks.toml
//! ```
//!
//! with, in hooks.toml,
//!
//! ```toml
//! [[hooks]]
//! type = "ReduceOnPlateau"
//! patience = 3
//! ```

mod reduce_on_plateau;

use std::process::ExitCode;

fn main() -> ExitCode {
    hookbusd::program::main(&[reduce_on_plateau::KIND])
}
