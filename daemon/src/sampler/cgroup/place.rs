//! Where the memory cgroup of a process is. /proc/PID/cgroup names it as the daemon's cgroup namespace sees it, and so does
//! mountinfo name the group that a mount begins with; the difference is the way. Inside a container the mount begins with
//! the container's own group, and what is above it cannot be seen.

use std::ffi::OsStr;
use std::fs;
use std::path::{Component, Path, PathBuf};

use procfs::process::MountInfos;
use procfs::{FromBufRead, ProcessCGroups};

const USUAL: &str = "/sys/fs/cgroup";

/// A process's group and those above it.
#[derive(Debug, PartialEq)]
pub(super) struct Place {
    pub(super) version: u8,
    /// The process's own group.
    pub(super) path: String,
    /// Its own group first, as far up as can be seen.
    pub(super) levels: Vec<Level>,
    /// There are groups above the last one.
    pub(super) hidden: bool,
    /// memory.events of a group leaves out what is below it.
    pub(super) local_events: bool,
}

/// One group.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Level {
    pub(super) path: String,
    pub(super) folder: PathBuf,
    /// Where its pressure is: version 1 has none, but the same group of a unified hierarchy beside it does.
    pub(super) pressure: Option<PathBuf>,
}

#[derive(Debug, PartialEq)]
struct Mount {
    version: u8,
    /// The group that it begins with.
    root: String,
    point: PathBuf,
    local_events: bool,
}

/// Finds it. Error: why not.
pub(super) fn find(
    cgroups: &[u8],
    pid: u32,
    proc_root: &Path,
    cgroup_root: &Path,
) -> Result<Place, String> {
    let said = ProcessCGroups::from_buf_read(cgroups)
        .map_err(|error| format!("/proc/PID/cgroup does not parse: {error}"))?;
    let path_of = |is_it: &dyn Fn(&procfs::ProcessCGroup) -> bool| {
        let line = said.0.iter().find(|line| is_it(line));
        line.map(|line| line.pathname.clone())
    };
    let has_memory =
        |line: &procfs::ProcessCGroup| line.controllers.iter().any(|name| name == "memory");
    let unified = path_of(&|line| line.hierarchy == 0 && line.controllers.is_empty());
    let (version, path) = match (path_of(&has_memory), &unified) {
        (Some(path), _) => (1, path),
        (None, Some(path)) => (2, path.clone()),
        (None, None) => return Err("this kernel has no memory cgroups".to_owned()),
    };
    let own = mounts(&proc_root.join("self/mountinfo"), |point| {
        let rest = point.strip_prefix(USUAL);
        rest.map_or_else(|_| point.to_path_buf(), |rest| cgroup_root.join(rest))
    });
    // Another container's groups may be mounted there and not here.
    let root = proc_root.join(pid.to_string()).join("root");
    let theirs = mounts(&proc_root.join(format!("{pid}/mountinfo")), |point| {
        root.join(point.strip_prefix("/").unwrap_or(point))
    });
    let guessed = if own.is_empty() {
        usual(cgroup_root)
    } else {
        Vec::new()
    };
    let candidates = || own.iter().chain(&guessed).chain(&theirs);
    for mount in candidates().filter(|mount| mount.version == version) {
        if let Some(mut levels) = levels(mount, &path) {
            if version == 1 && unified.as_ref() == Some(&path) {
                let pressures = candidates()
                    .filter(|mount| mount.version == 2)
                    .find_map(|mount| self::levels(mount, &path));
                add_pressures(&mut levels, &pressures.unwrap_or_default());
            }
            return Ok(Place {
                version,
                path,
                levels,
                hidden: is_inside(mount),
                local_events: mount.local_events,
            });
        }
    }
    // Without mountinfo there is no telling where a mount begins; in a container it is with the container's own group.
    if let Some(mount) = guessed
        .iter()
        .find(|mount| mount.version == version && (version == 1 || is_inside(mount)))
    {
        let level = level(version, path.clone(), mount.point.clone());
        return Ok(Place {
            version,
            path,
            levels: vec![level],
            hidden: true,
            local_events: mount.local_events,
        });
    }
    let seen: Vec<_> = candidates()
        .filter(|mount| mount.version == version)
        .map(|mount| format!("{} begins with {}", mount.point.display(), mount.root))
        .collect();
    Err(if seen.is_empty() {
        format!(
            "no cgroup v{version} file system with memory is mounted here, so its group {path} cannot be read"
        )
    } else {
        format!(
            "its group {path} is outside of the cgroup namespace that can be seen from here ({})",
            seen.join(", ")
        )
    })
}

/// The cgroup mounts of a mountinfo; `reached` is how a mount point is reached from here.
fn mounts(mountinfo: &Path, reached: impl Fn(&Path) -> PathBuf) -> Vec<Mount> {
    // A process that ended has none, and another user's may not be read: then there is nothing to see through it.
    let Ok(text) = fs::read(mountinfo) else {
        return Vec::new();
    };
    let all = MountInfos::from_buf_read(&text[..]).map_or_else(|_| Vec::new(), |all| all.0);
    all.into_iter()
        .filter_map(|mount| {
            let version = match mount.fs_type.as_str() {
                "cgroup2" => 2,
                "cgroup" if mount.super_options.contains_key("memory") => 1,
                _ => return None,
            };
            Some(Mount {
                version,
                local_events: mount.super_options.contains_key("memory_localevents"),
                root: mount.root,
                point: reached(&mount.mount_point),
            })
        })
        .collect()
}

/// Where systemd and everybody after it puts them.
fn usual(cgroup_root: &Path) -> Vec<Mount> {
    let mount = |version, point: PathBuf| Mount {
        version,
        root: "/".to_owned(),
        point,
        local_events: false,
    };
    let mut found = Vec::new();
    if cgroup_root.join("memory").is_dir() {
        found.push(mount(1, cgroup_root.join("memory")));
    }
    if cgroup_root.join("cgroup.controllers").exists() {
        found.push(mount(2, cgroup_root.to_path_buf()));
    } else if cgroup_root.join("unified").is_dir() {
        found.push(mount(2, cgroup_root.join("unified")));
    }
    found
}

/// The mount begins with a group that is not the machine's root: that one has no limit in version 2.
fn is_inside(mount: &Mount) -> bool {
    mount.root != "/" || mount.version == 2 && mount.point.join("memory.max").exists()
}

/// The group at `path` and those above it, as far as this mount has them.
fn levels(mount: &Mount, path: &str) -> Option<Vec<Level>> {
    let below = Path::new(path).strip_prefix(&mount.root).ok()?;
    if below.components().any(|part| part == Component::ParentDir) {
        return None;
    }
    if !mount.point.join(below).is_dir() {
        return None;
    }
    let each = below.ancestors().map(|below| {
        let path = Path::new(&mount.root).join(below);
        // `join` of nothing ends with a slash.
        let path = if below == OsStr::new("") {
            mount.root.clone()
        } else {
            path.to_string_lossy().into_owned()
        };
        level(mount.version, path, mount.point.join(below))
    });
    Some(each.collect())
}

fn level(version: u8, path: String, folder: PathBuf) -> Level {
    Level {
        path,
        pressure: (version == 2).then(|| folder.clone()),
        folder,
    }
}

fn add_pressures(levels: &mut [Level], unified: &[Level]) {
    for level in levels {
        let same = unified.iter().find(|other| other.path == level.path);
        level.pressure = same.map(|same| same.folder.clone());
    }
}
