//! One process and the descriptors through which it is read. Its folder below /proc is opened once and its start ticks are
//! looked at then: the folder's descriptor stays with the process that it was opened for, so that a pid that means another
//! process later is never read by mistake.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

use procfs::FromRead;
use procfs::process::Stat;
use rustix::fs::{AtFlags, Dir, Mode, OFlags, StatxFlags};

use super::kept::{number, read_whole};

/// Descriptors that a process holds open: its folder, statm, and what its tree or its cgroup need.
const DESCRIPTORS: usize = 4;
/// A command line is looked at so far.
const MOST_CMDLINE: u64 = 16 << 10;
/// An environment is looked at so far.
const MOST_ENVIRON: u64 = 1 << 20;

/// Why a process is not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// There is no such process any more, or only what is left of one (a zombie).
    Ended,
    /// It is there, or may be.
    Unread(String),
}

impl Lost {
    pub(super) fn why(&self) -> &str {
        match self {
            Self::Ended => "the process has ended",
            Self::Unread(why) => why,
        }
    }
}

impl From<io::Error> for Lost {
    fn from(error: io::Error) -> Self {
        let no_such_process = rustix::io::Errno::SRCH.raw_os_error();
        match error.kind() {
            ErrorKind::NotFound => Self::Ended,
            _ if error.raw_os_error() == Some(no_such_process) => Self::Ended,
            ErrorKind::PermissionDenied => {
                Self::Unread("permission: it may be read by its own user and root only".to_owned())
            }
            _ => Self::Unread(error.to_string()),
        }
    }
}

impl From<rustix::io::Errno> for Lost {
    fn from(error: rustix::io::Errno) -> Self {
        io::Error::from(error).into()
    }
}

#[derive(Debug)]
struct Open {
    folder: OwnedFd,
    statm: File,
    children: Option<File>,
    cgroup: Option<File>,
}

/// A process, by its pid and start ticks.
#[derive(Debug)]
pub(super) struct Process {
    pid: u32,
    start_ticks: u64,
    open: Option<Open>,
}

impl Process {
    /// The process that is known by both.
    pub(super) fn known(pid: u32, start_ticks: u64) -> Self {
        Self {
            pid,
            start_ticks,
            open: None,
        }
    }

    /// Whatever process has this pid now, with its name and its parent; zombies are none.
    pub(super) fn found(root: &Path, pid: u32) -> Result<(Self, Stat), Lost> {
        let folder = folder(root, pid)?;
        let stat = stat(&folder)?;
        let process = Self {
            pid,
            start_ticks: stat.starttime,
            open: Some(Open::of(folder)?),
        };
        Ok((process, stat))
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    pub(super) fn start_ticks(&self) -> u64 {
        self.start_ticks
    }

    fn open(&mut self, root: &Path) -> Result<&mut Open, Lost> {
        if self.open.is_none() {
            let folder = folder(root, self.pid)?;
            if stat(&folder)?.starttime != self.start_ticks {
                return Err(Lost::Ended);
            }
            self.open = Some(Open::of(folder)?);
        }
        Ok(self.open.as_mut().expect("it was just opened"))
    }

    /// Gives its descriptors back where there is no more room for them.
    pub(super) fn settle(&mut self, room: &mut usize) {
        if self.open.is_some() {
            match room.checked_sub(DESCRIPTORS) {
                Some(left) => *room = left,
                None => self.open = None,
            }
        }
    }

    /// Resident set size, by statm.
    pub(super) fn resident_bytes(&mut self, root: &Path, page_bytes: u64) -> Result<u64, Lost> {
        let mut text = [0; 128];
        let open = self.open(root)?;
        let read = rustix::io::pread(&open.statm, &mut text, 0)?;
        match resident_pages(&text[..read]) {
            Some(pages) if pages > 0 => Ok(pages * page_bytes),
            // Without pages it is a zombie, or swapped out, or just ending.
            Some(_) => stat(&open.folder).map(|_| 0),
            None => {
                stat(&open.folder)?;
                Err(Lost::Unread("its statm does not parse".to_owned()))
            }
        }
    }

    /// The cgroups that it is in, as the kernel says it, into `text`.
    pub(super) fn cgroup(&mut self, root: &Path, text: &mut Vec<u8>) -> Result<(), Lost> {
        let open = self.open(root)?;
        if open.cgroup.is_none() {
            open.cgroup = Some(open.file("cgroup")?);
        }
        read_whole(open.cgroup.as_ref().expect("it was just opened"), text)?;
        Ok(())
    }

    /// The pids of those that its first thread has forked, onto `pids`. None: this kernel does not list them.
    pub(super) fn children_of_first(
        &mut self,
        root: &Path,
        text: &mut Vec<u8>,
        pids: &mut Vec<u32>,
    ) -> Result<Option<()>, Lost> {
        let pid = self.pid;
        let open = self.open(root)?;
        if open.children.is_none() {
            match open.file(&format!("task/{pid}/children")) {
                Ok(file) => open.children = Some(file),
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    // Without the file the process is gone, or the kernel is made without it.
                    stat(&open.folder)?;
                    return Ok(None);
                }
                Err(error) => return Err(error.into()),
            }
        }
        read_whole(open.children.as_ref().expect("it was just opened"), text)?;
        pids_in(text, pids);
        Ok(Some(()))
    }

    /// The pids of those that its other threads have forked, onto `pids`.
    pub(super) fn children_of_others(
        &mut self,
        root: &Path,
        text: &mut Vec<u8>,
        pids: &mut Vec<u32>,
    ) -> Result<(), Lost> {
        let pid = self.pid;
        let open = self.open(root)?;
        let tasks = rustix::fs::openat(&open.folder, "task", OFlags::CLOEXEC, Mode::empty())?;
        for entry in Dir::read_from(&tasks)? {
            let entry = entry?;
            let name = entry.file_name().to_str();
            let Ok(thread) = name.unwrap_or_default().parse::<u32>() else {
                continue;
            };
            if thread == pid {
                continue;
            }
            // A thread that has ended has no children.
            if let Ok(file) = open.file(&format!("task/{thread}/children"))
                && read_whole(&file, text).is_ok()
            {
                pids_in(text, pids);
            }
        }
        Ok(())
    }

    /// A number that changes when there is a thread more or less: the folder of threads has a link for each.
    pub(super) fn threads_mark(&mut self, root: &Path) -> Result<u32, Lost> {
        let open = self.open(root)?;
        let (flags, asked) = (AtFlags::empty(), StatxFlags::NLINK);
        Ok(rustix::fs::statx(&open.folder, "task", flags, asked)?.stx_nlink)
    }

    /// Its name.
    pub(super) fn name(&mut self, root: &Path) -> Result<String, Lost> {
        let mut text = Vec::new();
        self.open(root)?
            .file("comm")?
            .take(256)
            .read_to_end(&mut text)?;
        Ok(String::from_utf8_lossy(text.trim_ascii_end()).into_owned())
    }

    /// Its arguments, each ended by a zero byte.
    pub(super) fn command_line(&mut self, root: &Path) -> Result<Vec<u8>, Lost> {
        let mut text = Vec::new();
        self.open(root)?
            .file("cmdline")?
            .take(MOST_CMDLINE)
            .read_to_end(&mut text)?;
        Ok(text)
    }

    /// The file that it runs; None: it may not be seen.
    pub(super) fn program(&mut self, root: &Path) -> Option<Vec<u8>> {
        let open = self.open(root).ok()?;
        let target = rustix::fs::readlinkat(&open.folder, "exe", Vec::new()).ok()?;
        Some(target.into_bytes())
    }

    /// A variable of the environment that it was started with.
    pub(super) fn variable(&mut self, root: &Path, name: &str) -> Result<Option<String>, Lost> {
        let mut text = Vec::new();
        self.open(root)?
            .file("environ")?
            .take(MOST_ENVIRON)
            .read_to_end(&mut text)?;
        let value = text
            .split(|byte| *byte == 0)
            .find_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="));
        Ok(value.map(|value| String::from_utf8_lossy(value).into_owned()))
    }

    /// Another file of its folder.
    pub(super) fn file(&mut self, root: &Path, name: &str) -> Result<io::Result<File>, Lost> {
        Ok(self.open(root)?.file(name))
    }
}

impl Open {
    fn of(folder: OwnedFd) -> io::Result<Self> {
        Ok(Self {
            statm: file_in(&folder, "statm")?,
            folder,
            children: None,
            cgroup: None,
        })
    }

    fn file(&self, name: &str) -> io::Result<File> {
        file_in(&self.folder, name)
    }
}

fn file_in(folder: &OwnedFd, name: &str) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder, name, flags, Mode::empty())?;
    Ok(File::from(file))
}

/// The pid of the parent of a process that lives.
pub(super) fn parent_of(root: &Path, pid: u32) -> Result<u32, Lost> {
    let parent = stat(&folder(root, pid)?)?.ppid;
    u32::try_from(parent).map_err(|_| Lost::Unread(format!("its parent is {parent}")))
}

fn folder(root: &Path, pid: u32) -> Result<OwnedFd, Lost> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let path = root.join(pid.to_string());
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Of a process that lives.
fn stat(folder: &OwnedFd) -> Result<Stat, Lost> {
    let mut text = Vec::new();
    file_in(folder, "stat")?.take(4096).read_to_end(&mut text)?;
    let stat = Stat::from_read(&text[..])
        .map_err(|error| Lost::Unread(format!("its stat does not parse: {error}")))?;
    if matches!(stat.state, 'Z' | 'X') {
        Err(Lost::Ended)
    } else {
        Ok(stat)
    }
}

/// Field 2 of statm.
fn resident_pages(statm: &[u8]) -> Option<u64> {
    let second = statm.iter().position(|byte| *byte == b' ')?;
    number(&statm[second..])
}

fn pids_in(text: &[u8], pids: &mut Vec<u32>) {
    let each = text.split(u8::is_ascii_whitespace).filter_map(number);
    pids.extend(each.filter_map(|pid| u32::try_from(pid).ok()));
}
