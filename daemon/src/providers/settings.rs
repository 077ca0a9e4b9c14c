//! What the configuration says of providers.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::Asked;

/// `[providers]`, and the hooks that have a module.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The interpreter; None: no process is started.
    pub python: Option<PathBuf>,
    /// PYTHONPATH of its processes.
    pub python_path: OsString,
    /// A process that answers nothing for so long while calls wait is ended.
    pub hung: Duration,
    /// How long the daemon's start waits for the modules' hooks.
    pub start: Duration,
    /// In the order in which the configuration has them.
    pub modules: Vec<Module>,
}

/// A module of somebody's own.
#[derive(Clone, Debug, PartialEq)]
pub struct Module {
    /// The namespace of its types.
    pub name: String,
    /// Where it is; None: where the interpreter looks.
    pub file: Option<PathBuf>,
    /// What is asked of it.
    pub hooks: Vec<Asked>,
}
