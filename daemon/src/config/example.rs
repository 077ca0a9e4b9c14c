//! A configuration file to begin with, made from the one list of keys and the one list of hooks, so that it cannot lag
//! behind them. Comments are "# words"; what is only switched off is "#key = value".

use std::fmt::Write;

use super::keys::{KEYS, Kind};
use crate::hooks;

const HEAD: &str = "\
# hookbusd's configuration: every key with its default. A key that is left out has its default too.
# HOOKBUSD_SECTION__KEY in the environment wins over this file, and a flag wins over both.
# After a change: hookbusd --config THIS_FILE --check-config
";

const HOOKS: &str = "
# --- hooks: for every training that attaches, beside those that it asks for itself (its own of the same name gives way).
# To have one, take the # away from its lines. Each also takes name, priority (0 to 100, 50 where it is not said; smaller
# ones are called first) and policy (\"act\"; \"warn\" and \"observe\" leave the training alone).
";

/// A hook of one's own. Its lines stay comments: there is no such module.
const MODULE: &str = "
# A class of your own, in a module beside this file (my_hooks.py) or where [providers] looks: the daemon starts the
# interpreter and keeps it running. `hookbus hooks test my_hooks.py` tries it without a training.
# [[hooks]]
# type = \"MyHook\"
# module = \"my_hooks\"
# the arguments of its constructor follow
# interval = 50
";

/// Every key with its help and default, and each hook, switched off, with its defaults or what it is known for.
pub fn example() -> String {
    let mut out = HEAD.to_owned();
    let mut section = "";
    for key in KEYS {
        if key.section != section {
            section = key.section;
            let _ = write!(out, "\n[{section}]\n");
        }
        let words = match key.kind {
            Kind::Word(words) => format!(": {}", words.join(", ")),
            _ => String::new(),
        };
        let _ = writeln!(out, "# {}{words}\n{} = {}", key.help, key.name, key.default);
    }
    out.push_str(HOOKS);
    for kind in hooks::all() {
        let _ = write!(
            out,
            "\n# {}; does: {}\n#[[hooks]]\n#type = {:?}\n",
            kind.summary, kind.effect, kind.type_name
        );
        for arg in kind.args {
            match kind.example_of(arg) {
                Some(value) => {
                    let _ = writeln!(out, "# {}\n#{} = {value}", arg.help, arg.name);
                }
                None => {
                    let _ = writeln!(out, "# {}: {} (not said here)", arg.name, arg.help);
                }
            }
        }
    }
    out.push_str(MODULE);
    out
}
