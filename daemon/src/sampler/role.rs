//! What a process below a trainer is, by its name and command line: a data loader's worker or anything else. Pure.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::domain::ProcessRole;

/// torch names the first thread of its data loaders' workers so.
const TORCH_WORKER: &str = "pt_data_worker";

/// What a process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Runs {
    /// multiprocessing's child by "spawn".
    Spawned,
    /// multiprocessing's server that forks children; they have its command line.
    ForkServer,
    /// multiprocessing's resource_tracker, or another of its servants.
    Servant,
    /// Anything else.
    Other,
}

/// What is kept of a process's command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Image {
    pub(super) name: String,
    runs: Runs,
    /// Of its program and arguments: equal where one is a forked copy of the other.
    digest: u64,
}

impl Image {
    pub(super) fn new(name: String, command_line: &[u8], program: Option<&[u8]>) -> Self {
        let has = |word: &[u8]| command_line.windows(word.len()).any(|at| at == word);
        let runs = if has(b"multiprocessing.resource_tracker")
            || has(b"multiprocessing.semaphore_tracker")
        {
            Runs::Servant
        } else if has(b"multiprocessing.forkserver import main") {
            Runs::ForkServer
        } else if has(b"--multiprocessing-fork") || has(b"multiprocessing.spawn import spawn_main")
        {
            Runs::Spawned
        } else {
            Runs::Other
        };
        let mut hasher = DefaultHasher::new();
        (command_line, program).hash(&mut hasher);
        Self {
            name,
            runs,
            digest: hasher.finish(),
        }
    }
}

/// Those above a process.
#[derive(Clone, Copy)]
pub(super) struct Above<'a> {
    /// The trainer.
    pub(super) main: &'a Image,
    /// The process's parent.
    pub(super) parent: &'a Image,
    /// It, or one between it and the trainer, is another rank's main process.
    pub(super) other_rank: bool,
}

/// What a process is.
pub(super) fn of(image: &Image, above: Above<'_>) -> ProcessRole {
    if above.other_rank {
        return ProcessRole::Child;
    }
    if image.name == TORCH_WORKER {
        return ProcessRole::Worker;
    }
    let worker = match image.runs {
        Runs::Spawned => true,
        Runs::Servant => false,
        // The server itself is below something else than a server.
        Runs::ForkServer => above.parent.runs == Runs::ForkServer,
        // A forked copy of a trainer that was itself spawned is `Spawned`, as it should be.
        Runs::Other => image.digest == above.main.digest,
    };
    if worker {
        ProcessRole::Worker
    } else {
        ProcessRole::Child
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(name: &str, arguments: &[&str]) -> Image {
        let line: Vec<u8> = arguments
            .iter()
            .flat_map(|argument| argument.bytes().chain([0]))
            .collect();
        let program = arguments.first().map(|first| first.as_bytes());
        Image::new(name.to_owned(), &line, program)
    }

    #[test]
    fn workers_are_told_from_other_children() {
        use ProcessRole::{Child, Worker};
        let main = image("python", &["/usr/bin/python3", "train.py"]);
        let spawned = [
            "/usr/bin/python3",
            "-c",
            "from multiprocessing.spawn import spawn_main; spawn_main(tracker_fd=5, pipe_handle=7)",
            "--multiprocessing-fork",
        ];
        let tracker = [
            "/usr/bin/python3",
            "-c",
            "from multiprocessing.resource_tracker import main;main(4)",
        ];
        let server_line = [
            "/usr/bin/python3",
            "-c",
            "from multiprocessing.forkserver import main; main(6, 7, ['__main__'])",
        ];
        let server = image("python", &server_line);
        let shell = image("sh", &["/bin/sh", "-c", "nvidia-smi"]);
        for (what, process, parent, other_rank, role) in [
            ("a forked copy", main.clone(), &main, false, Worker),
            (
                "torch's name",
                image("pt_data_worker", &["renamed"]),
                &main,
                false,
                Worker,
            ),
            ("spawned", image("python", &spawned), &main, false, Worker),
            (
                "the tracker",
                image("python", &tracker),
                &main,
                false,
                Child,
            ),
            ("the fork server", server.clone(), &main, false, Child),
            ("below the server", server.clone(), &server, false, Worker),
            ("a shell", shell.clone(), &main, false, Child),
            (
                "another rank",
                image("python", &spawned),
                &main,
                true,
                Child,
            ),
            (
                "another program with the same arguments",
                image("python", &["/opt/python3", "train.py"]),
                &main,
                false,
                Child,
            ),
        ] {
            let above = Above {
                main: &main,
                parent,
                other_rank,
            };
            assert_eq!(of(&process, above), role, "{what}");
        }
    }
}
