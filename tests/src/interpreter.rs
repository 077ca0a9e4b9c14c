//! A stand-in for the interpreter of a module's process: it says how it was started, and a test speaks for it.

use hookbus_client::address::Address;
use hookbus_proto::v1::Introduction;
use rustix::process::Pid;

use crate::{ScriptedProvider, wait_for};

/// An interpreter that says how it was started, starts something itself, and does what `then` says.
pub struct Interpreter {
    folder: tempfile::TempDir,
}

/// One start of it.
pub struct Started {
    /// Its own.
    pub pid: Pid,
    /// Of what it has started.
    pub below: Pid,
    /// What it is to show.
    pub ticket: String,
    /// Where the daemon is.
    pub address: Address,
    /// PYTHONPATH.
    pub path: String,
    /// Its arguments.
    pub words: String,
}

impl Interpreter {
    /// One that then does this, in words of a shell.
    pub fn new(then: &str) -> Self {
        let folder = tempfile::tempdir().expect("a directory");
        let script = format!(
            "#!/bin/sh\nsleep 1000 &\necho words for the log; echo last words >&2\n\
             printf '%s\\n' $$ $! \"$HOOKBUS_PROVIDER_TICKET\" \"$HOOKBUS_ADDRESS\" \"$PYTHONPATH\" \"$*\" > {0}/new.$$\n\
             mv {0}/new.$$ {0}/start.$$\n{then}\n",
            folder.path().display()
        );
        let path = folder.path().join("python");
        std::fs::write(&path, script).expect("written");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&path, mode).expect("set");
        Self { folder }
    }

    /// A configuration with one hook of the module my_hooks; `more`: further keys of `[providers]`.
    pub fn config(&self, more: &str) -> String {
        format!(
            "[providers]\npython = \"{}/python\"\n{more}\n[[hooks]]\ntype = \"Loss\"\nmodule = \"my_hooks\"\npriority = 10\ninterval = 3\n",
            self.folder.path().display()
        )
    }

    /// The first start that nobody has taken yet.
    pub fn started(&self) -> Started {
        let file = wait_for("a start of the interpreter", || {
            let files = std::fs::read_dir(self.folder.path()).expect("its folder");
            let mut files = files.map(|file| file.expect("a file").path());
            files.find(|file| file.file_stem().is_some_and(|stem| stem == "start"))
        });
        let text = std::fs::read_to_string(&file).expect("it was renamed when it was whole");
        std::fs::remove_file(&file).expect("taken");
        let lines: Vec<_> = text.lines().collect();
        let pid = |text: &str| Pid::from_raw(text.parse().expect("a number")).expect("not 0");
        Started {
            pid: pid(lines[0]),
            below: pid(lines[1]),
            ticket: lines[2].to_owned(),
            address: Address::parse(lines[3]).expect("an address"),
            path: lines[4].to_owned(),
            words: lines[5].to_owned(),
        }
    }
}

impl Started {
    /// With its ticket.
    pub fn introduction(&self) -> Introduction {
        Introduction {
            ticket: self.ticket.clone(),
            ..ScriptedProvider::introduction("my_hooks")
        }
    }

    /// Neither it nor what it has started runs any more.
    pub fn is_gone(&self) {
        for pid in [self.pid, self.below] {
            wait_for("its end", || {
                // What nobody has waited for yet has ended too.
                let state = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
                let state = state.ok().filter(|stat| !stat.contains(") Z "));
                state.is_none().then_some(())
            });
        }
    }
}
