//! Which run, which attempt, which rank: read once from the launcher's environment and from /proc, as a pure function of
//! both, so that its tests are a table.

use std::collections::HashMap;
use std::fs;
use std::hash::{BuildHasher, RandomState};

use hookbus_proto::v1 as wire;

/// Who this process is to the daemon.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    /// The run's name.
    pub run: String,
    /// What all ranks of one start share.
    pub launch: String,
    /// The launcher's count, if it counts.
    pub attempt: Option<u32>,
    /// Which process of the run.
    pub rank: u32,
    /// How many there are.
    pub world_size: u32,
    /// Its number on its node.
    pub local_rank: Option<u32>,
}

/// Facts of a process from /proc.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProcessFacts {
    /// This process.
    pub pid: u32,
    /// Field 22 of its stat.
    pub start_ticks: u64,
    /// The process that started it.
    pub parent_pid: u32,
    /// Field 22 of the parent's stat.
    pub parent_start_ticks: u64,
    /// Of the kernel.
    pub boot_id: String,
}

/// The identity for the `nth` attach (from 0) of a process that asks for the name `asked`.
pub fn identify(
    asked: &str,
    env: &HashMap<String, String>,
    process: &ProcessFacts,
    nth: u64,
) -> Identity {
    let text = |key: &str| {
        env.get(key)
            .map(|value| value.trim())
            .filter(|value| !value.is_empty())
    };
    let number = |keys: &[&str]| keys.iter().find_map(|key| text(key)?.parse::<u32>().ok());
    let torch_id = text("TORCHELASTIC_RUN_ID").filter(|id| !id.eq_ignore_ascii_case("none"));
    let slurm_id =
        text("SLURM_JOB_ID").map(|job| format!("{job}.{}", text("SLURM_STEP_ID").unwrap_or("0")));
    let rank = number(&["RANK", "SLURM_PROCID"]);
    let world_size = number(&["WORLD_SIZE", "SLURM_NTASKS"]);
    let launched = rank.is_some() && world_size.is_some();
    let ProcessFacts {
        pid,
        start_ticks,
        parent_pid,
        parent_start_ticks,
        boot_id,
    } = process;
    let boot = boot_id.split('-').next().unwrap_or_default();
    let launch = text("HOOKBUS_LAUNCH")
        .or(torch_id)
        .map(str::to_owned)
        .or(slurm_id)
        .unwrap_or_else(|| {
            if launched {
                format!("launcher-{boot}-{parent_pid}-{parent_start_ticks}")
            } else {
                format!("process-{boot}-{pid}-{start_ticks}-{nth}")
            }
        });
    let (rank, world_size) = (rank.unwrap_or(0), world_size.unwrap_or(1).max(1));
    Identity {
        run: text("HOOKBUS_RUN").unwrap_or(asked).to_owned(),
        launch,
        attempt: number(&["TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT"]),
        rank,
        world_size: world_size.max(rank + 1),
        local_rank: number(&["LOCAL_RANK", "SLURM_LOCALID"]),
    }
}

/// This process, from /proc; what cannot be read stays empty, and the daemon then does not believe it.
pub fn process_facts() -> ProcessFacts {
    let parent_pid = std::os::unix::process::parent_id();
    ProcessFacts {
        pid: std::process::id(),
        start_ticks: start_ticks("self"),
        parent_pid,
        parent_start_ticks: start_ticks(&parent_pid.to_string()),
        boot_id: fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .unwrap_or_default()
            .trim()
            .to_owned(),
    }
}

/// This process as Hello says it.
pub(crate) fn wire_process(facts: &ProcessFacts) -> wire::Process {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ns_pids: Vec<u32> = status
        .lines()
        .find_map(|line| line.strip_prefix("NSpid:"))
        .map(|pids| {
            pids.split_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .collect()
        })
        .unwrap_or_default();
    let command = fs::read("/proc/self/cmdline").unwrap_or_default();
    let command = String::from_utf8_lossy(&command[..command.len().min(256)])
        .replace('\0', " ")
        .trim()
        .to_owned();
    wire::Process {
        ns_pids: if ns_pids.is_empty() {
            vec![facts.pid]
        } else {
            ns_pids
        },
        start_ticks: facts.start_ticks,
        boot_id: facts.boot_id.clone(),
        command: cut(command, 256),
    }
}

/// At most so many bytes, at a character's border.
pub(crate) fn cut(mut text: String, most: usize) -> String {
    if text.len() > most {
        let end = (0..=most)
            .rev()
            .find(|at| text.is_char_boundary(*at))
            .unwrap_or(0);
        text.truncate(end);
    }
    text
}

/// A number that no other attach has.
pub(crate) fn nonce() -> String {
    format!(
        "{:016x}{:016x}",
        RandomState::new().hash_one(std::process::id()),
        RandomState::new().hash_one("attach")
    )
}

/// This node's name.
pub(crate) fn node() -> String {
    cut(
        rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned(),
        256,
    )
}

fn start_ticks(pid: &str) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name, field 2, may hold blanks and brackets; after its last bracket comes field 3.
    stat.rsplit_once(')')
        .and_then(|(_, rest)| rest.split_whitespace().nth(19)?.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn launchers_say_who_we_are() {
        let process = ProcessFacts {
            pid: 7,
            start_ticks: 70,
            parent_pid: 5,
            parent_start_ticks: 50,
            boot_id: "abc-def".to_owned(),
        };
        let alone = "process-abc-7-70-0";
        for (what, env, run, launch, attempt, rank, world_size, local_rank) in [
            ("nothing", vec![], "digits", alone, None, 0, 1, None),
            (
                "a name",
                vec![("HOOKBUS_RUN", "mine")],
                "mine",
                alone,
                None,
                0,
                1,
                None,
            ),
            (
                "an empty name",
                vec![("HOOKBUS_RUN", "")],
                "digits",
                alone,
                None,
                0,
                1,
                None,
            ),
            (
                "a launch id",
                vec![("HOOKBUS_LAUNCH", "x"), ("TORCHELASTIC_RUN_ID", "y")],
                "digits",
                "x",
                None,
                0,
                1,
                None,
            ),
            (
                "torchrun with an id",
                vec![
                    ("TORCHELASTIC_RUN_ID", "y"),
                    ("RANK", "1"),
                    ("WORLD_SIZE", "2"),
                    ("LOCAL_RANK", "1"),
                    ("TORCHELASTIC_RESTART_COUNT", "3"),
                ],
                "digits",
                "y",
                Some(3),
                1,
                2,
                Some(1),
            ),
            (
                "torchrun's default id is no id",
                vec![
                    ("TORCHELASTIC_RUN_ID", "none"),
                    ("RANK", "0"),
                    ("WORLD_SIZE", "2"),
                ],
                "digits",
                "launcher-abc-5-50",
                None,
                0,
                2,
                None,
            ),
            (
                "Slurm",
                vec![
                    ("SLURM_JOB_ID", "99"),
                    ("SLURM_STEP_ID", "2"),
                    ("SLURM_PROCID", "4"),
                    ("SLURM_NTASKS", "8"),
                    ("SLURM_LOCALID", "0"),
                ],
                "digits",
                "99.2",
                None,
                4,
                8,
                Some(0),
            ),
            (
                "a rank without a world",
                vec![("RANK", "3")],
                "digits",
                alone,
                None,
                3,
                4,
                None,
            ),
            (
                "words where numbers belong",
                vec![("RANK", "first"), ("WORLD_SIZE", "two")],
                "digits",
                alone,
                None,
                0,
                1,
                None,
            ),
        ] {
            let env = env
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect();
            let expected = Identity {
                run: run.to_owned(),
                launch: launch.to_owned(),
                attempt,
                rank,
                world_size,
                local_rank,
            };
            assert_eq!(identify("digits", &env, &process, 0), expected, "{what}");
        }
        assert_ne!(
            identify("a", &HashMap::new(), &process, 0).launch,
            identify("a", &HashMap::new(), &process, 1).launch
        );
    }

    #[test]
    fn this_process_knows_itself() {
        let facts = process_facts();
        assert!(
            facts.start_ticks > 0 && facts.parent_start_ticks > 0 && !facts.boot_id.is_empty(),
            "{facts:?}"
        );
        assert_eq!(cut("aé".to_owned(), 2), "a");
    }
}
