//! `[journal]`: where runs are written down, and how long they stay.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use super::Keep;
use super::walk::Walk;
use crate::domain::Value;
use crate::store::journal::Settings;

/// So much of a run waits in memory while the disk takes nothing.
const WAITING_BYTES: usize = 16 << 20;

pub(super) fn keep(walk: &Walk, env: &HashMap<String, String>) -> Keep {
    let said = walk.text("journal", "dir");
    let auto = said == "auto";
    let directory = if auto {
        default_directory(env)
    } else {
        Some(PathBuf::from(said)).filter(|directory| !directory.as_os_str().is_empty())
    };
    let whole = |name| match walk.get("journal", name).value {
        Value::Integer(number) => u64::try_from(number).unwrap_or(0),
        _ => 0,
    };
    let journal = directory
        .filter(|_| walk.flag("journal", "enabled"))
        .map(|directory| Settings {
            directory,
            node: rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned(),
            most_age: Duration::from_secs(whole("max_age_days") * 86_400),
            most_disk_bytes: whole("max_bytes"),
            most_bytes: WAITING_BYTES,
        });
    Keep {
        journal,
        said: !auto,
        sample_every: walk.ms("journal", "sample_ms"),
    }
}

/// None: nobody says where.
fn default_directory(env: &HashMap<String, String>) -> Option<PathBuf> {
    let said = |name: &str| env.get(name).filter(|text| !text.is_empty());
    // systemd may name several, with colons between.
    if let Some(folder) = said("STATE_DIRECTORY").and_then(|all| all.split(':').next()) {
        return Some(PathBuf::from(folder));
    }
    if rustix::process::geteuid().is_root() {
        return Some(PathBuf::from("/var/lib/hookbus"));
    }
    let state = said("XDG_STATE_HOME").map(PathBuf::from);
    let home = || said("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    state.or_else(home).map(|folder| folder.join("hookbus"))
}
