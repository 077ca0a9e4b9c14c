//! `hookbus hooks`: the list, and one's own in Python: served to a daemon, or tried on a recorded run.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{JsonArgs, StateArgs};

const SERVE_EXAMPLES: &str = "\
Examples:
  hookbus hooks serve my_hooks.py                          every type that is registered in it, with its defaults
  hookbus hooks serve my_hooks.py --hook 'Check(interval=10)' --hook Other
  hookbus hooks serve my_hooks.py --hooks hookbusd.toml    its [[hooks]] that name my_hooks
  hookbus --address https://node7:7601 --token-file operator.token hooks serve my_hooks.py

An operator's right is needed: what these hooks decide is done to trainings. They are in every run that begins while
this is there. Ends with Ctrl-C; where the daemon is away it waits for it.";

const TEST_EXAMPLES: &str = "\
Examples:
  hookbus hooks test my_hooks.py                           on the recording that ships with the package
  hookbus hooks test my_hooks.py --replay LAST             on the newest run; no daemon needs to run
  hookbus hooks test my_hooks.py --replay digits --hook 'Check(interval=10)' --json
  hookbus hooks test my_hooks.py --replay out/             on what `hookbus export --ndjson out` wrote

Each decision is `same`, `only now` or `only then`, compared with what the hook of the same name decided in that run.
Exit status 0 if it ran, whatever was decided.";

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct HooksArgs {
    #[command(subcommand)]
    pub(crate) verb: Option<HooksVerb>,

    #[command(flatten)]
    pub(crate) output: JsonArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum HooksVerb {
    /// Serve hooks that are written in Python to a daemon
    Serve(ServeArgs),
    /// Say what hooks that are written in Python would have decided in a recorded run
    Test(TestArgs),
}

/// Which hooks, and which interpreter.
#[derive(Debug, Args)]
pub(crate) struct ModuleArgs {
    /// A file my_hooks.py, or the name of a module
    pub(crate) module: OsString,

    /// This hook, with these arguments; again for more [default: each type with its defaults]
    #[arg(long, value_name = "TYPE(ARG=1)", conflicts_with = "hooks")]
    pub(crate) hook: Vec<String>,

    /// The [[hooks]] of this file that name the module (TOML)
    #[arg(long, value_name = "FILE")]
    pub(crate) hooks: Option<PathBuf>,

    /// The interpreter that has the package hookbus
    #[arg(long, value_name = "PROGRAM", default_value = "python3")]
    pub(crate) python: OsString,
}

#[derive(Debug, Args)]
#[command(after_help = SERVE_EXAMPLES)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) module: ModuleArgs,
}

#[derive(Debug, Args)]
#[command(after_help = TEST_EXAMPLES)]
pub(crate) struct TestArgs {
    #[command(flatten)]
    pub(crate) module: ModuleArgs,

    /// A run's name or id, or LAST; a file of recorded rows, or a folder of them [default: the recording that ships]
    #[arg(long, value_name = "RUN|PATH")]
    pub(crate) replay: Option<String>,

    #[command(flatten)]
    pub(crate) output: JsonArgs,

    #[command(flatten)]
    pub(crate) state: StateArgs,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Verb, parse};

    #[test]
    fn without_a_verb_it_is_the_list() {
        let Verb::Hooks(args) = parse(&["hooks", "--json"]).unwrap().verb else {
            panic!("hooks")
        };
        assert!(args.verb.is_none() && args.output.json);
        assert!(parse(&["hooks", "--json", "test", "a.py"]).is_err());
    }

    #[test]
    fn hooks_are_named_on_the_line_or_in_a_file() {
        let line = [
            "hooks", "serve", "a.py", "--hook", "A(n=1)", "--hook", "B", "--python", "/p",
        ];
        let Verb::Hooks(args) = parse(&line).unwrap().verb else {
            panic!("hooks")
        };
        let Some(HooksVerb::Serve(serve)) = args.verb else {
            panic!("serve")
        };
        assert_eq!(serve.module.hook, ["A(n=1)", "B"]);
        assert_eq!(serve.module.python, "/p");
        assert!(parse(&["hooks", "serve"]).is_err());
        let both = ["hooks", "serve", "a.py", "--hook", "A", "--hooks", "f"];
        assert!(parse(&both).is_err());
    }
}
