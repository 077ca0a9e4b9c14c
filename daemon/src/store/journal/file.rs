//! The file of a run: its name, its lock, its state of health. One daemon writes it; readers open it at any time.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, params};
use rustix::fs::{FlockOperation, flock, statfs};

use super::{saved, schema};
use crate::domain::RunId;

/// What a file's name ends with.
pub(super) const ENDING: &str = "db";
/// So many files of one run may be in other daemons' hands.
const TRIES: u32 = 64;
/// Who only looks whether a file is held holds it for a moment: it is tried so often again, after so long.
const LOOKED_AT: u32 = 3;
const LOOK: std::time::Duration = std::time::Duration::from_millis(10);
/// Bytes of a file's name, with room for what SQLite appends.
const NAME_BYTES: usize = 200;
/// A larger file is not looked through for damage: that takes longer than a trainer waits.
const CHECKED_BYTES: u64 = 64 << 20;
/// File systems over a network or through FUSE, where a shared memory of several machines is none: statfs(2).
const NOT_LOCAL: [u32; 11] = [
    0x6969,      // NFS
    0x517b,      // SMB
    0xff53_4d42, // CIFS
    0xfe53_4d42, // SMB2
    0x6573_5546, // FUSE
    0x0bd0_0bd0, // Lustre
    0x4750_4653, // GPFS
    0x1983_0326, // BeeGFS
    0x00c3_6400, // Ceph
    0x0102_1997, // 9p
    0x5346_414f, // AFS
];

/// A file that this process alone writes.
pub(super) struct Held {
    pub(super) path: PathBuf,
    pub(super) connection: Connection,
    /// Held while it is open.
    lock: File,
    /// What was found and set aside instead: a line for people.
    pub(super) set_aside: Option<String>,
    /// It was there before.
    #[cfg(test)]
    existed: bool,
}

/// Why a file is not opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unopened {
    #[error("{0}: {1}")]
    Io(PathBuf, io::Error),
    #[error("{0}: {1}")]
    Sqlite(PathBuf, rusqlite::Error),
    #[error("{0}: other daemons hold all {TRIES} files of this run")]
    Held(PathBuf),
}

/// Opens the file of a run for writing, or makes it. One that another daemon holds is passed over.
pub(super) fn open(
    directory: &Path,
    run: &RunId,
    node: &str,
    unix_us: i64,
) -> Result<Held, Unopened> {
    for n in 1..=TRIES {
        let path = directory.join(name(run, n));
        if is_anothers(&path, run, node) {
            continue;
        }
        let mut held = lock(&path)?;
        for _ in 0..LOOKED_AT {
            if held.is_some() {
                break;
            }
            std::thread::park_timeout(LOOK);
            held = lock(&path)?;
        }
        if let Some(lock) = held {
            return open_locked(path, lock, run, node, unix_us);
        }
        tracing::debug!(path = %path.display(), "another daemon writes this file");
    }
    Err(Unopened::Held(directory.join(name(run, 1))))
}

/// Whether a file is of another run whose name is written alike, or is of this one, under way on another node.
fn is_anothers(path: &Path, run: &RunId, node: &str) -> bool {
    let read = || {
        let connection = open_to_read(path).ok()?;
        saved::brief(&connection).ok()?
    };
    // What cannot be read is looked at when it is opened.
    let brief = if path.exists() { read() } else { None };
    brief.is_some_and(|brief| brief.run != *run || (brief.is_running() && brief.node != node))
}

/// The files that a run may have, as far as there are any.
pub(super) fn paths(directory: &Path, run: &RunId) -> impl Iterator<Item = PathBuf> {
    let names: Vec<_> = (1..=TRIES).map(|n| directory.join(name(run, n))).collect();
    names.into_iter().filter(|path| path.exists())
}

/// Whether a daemon holds a file.
pub(super) fn is_held(path: &Path) -> bool {
    // Held for a moment only; a daemon that wants it just then tries again.
    let lock = File::open(with(path, ".lock"));
    lock.is_ok_and(|lock| flock(&lock, FlockOperation::NonBlockingLockShared).is_err())
}

/// Opens a file for reading, whoever writes it.
pub(super) fn open_to_read(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = if with(path, "-wal").exists() || is_held(path) {
        Connection::open_with_flags(path, flags)?
    } else {
        // Nobody writes it: SQLite needs no files of its own beside it.
        let escaped = escaped(path.as_os_str().as_encoded_bytes());
        let uri = format!("file:{escaped}?immutable=1");
        Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI)?
    };
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    let version: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let application: i32 = connection.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    // An older file lacks only columns.
    if application != schema::APPLICATION || !(1..=schema::VERSION as u32).contains(&version) {
        let text = format!(
            "schema version {version}, this hookbusd reads {}",
            schema::VERSION
        );
        return Err(rusqlite::Error::ToSqlConversionFailure(text.into()));
    }
    Ok(connection)
}

/// Removes a run's file with all that belongs to it. False: a daemon writes it.
pub(super) fn remove(path: &Path) -> io::Result<bool> {
    let Some(_lock) = lock(path).map_err(io::Error::other)? else {
        return Ok(false);
    };
    // The lock's file goes last, and whoever waits for it sees that it is gone.
    for ending in ["", "-wal", "-shm", "-journal", ".lock"] {
        match fs::remove_file(with(path, ending)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(true)
}

/// Bytes of a file with all that belongs to it.
pub(super) fn bytes(path: &Path) -> u64 {
    let each = ["", "-wal", "-shm", "-journal"].map(|ending| fs::metadata(with(path, ending)));
    each.iter().flatten().map(fs::Metadata::len).sum()
}

fn open_locked(
    path: PathBuf,
    lock: File,
    run: &RunId,
    node: &str,
    unix_us: i64,
) -> Result<Held, Unopened> {
    let existed = path.exists();
    let io = |error| Unopened::Io(path.clone(), error);
    let mut set_aside = None;
    if existed && let Some(why) = unfit(&path) {
        set_aside = Some(put_aside(&path, &why, unix_us).map_err(io)?);
    }
    let connection = connect(&path, run, node, unix_us)
        .map_err(|error| Unopened::Sqlite(path.clone(), error))?;
    Ok(Held {
        #[cfg(test)]
        existed: existed && set_aside.is_none(),
        path,
        connection,
        lock,
        set_aside,
    })
}

impl Held {
    /// Splits off what only has to live as long.
    pub(super) fn into_parts(self) -> (PathBuf, Connection, File) {
        (self.path, self.connection, self.lock)
    }
}

fn connect(path: &Path, run: &RunId, node: &str, unix_us: i64) -> rusqlite::Result<Connection> {
    let mut connection = Connection::open(path)?;
    // Somebody else's transaction holds up the other runs no longer than this; then it is tried again.
    connection.busy_timeout(std::time::Duration::from_millis(500))?;
    let local = is_local(path);
    connection.pragma_update(None, "journal_mode", if local { "WAL" } else { "TRUNCATE" })?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "cache_size", -512)?; // KiB: rows go to the ends of a few trees
    connection.pragma_update(None, "journal_size_limit", 16 << 20)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    schema::migrate(&mut connection)?;
    let known: bool = connection.query_row("SELECT count(*) FROM run", [], |row| row.get(0))?;
    if known {
        // Nothing is written where nothing changes, so that a full disk keeps nobody from going on.
        connection.execute("UPDATE run SET node = ?1 WHERE node <> ?1", [node])?;
    } else {
        connection.execute(
            "INSERT INTO run VALUES (?1, ?2, ?3, NULL, ?4, ?5)",
            params![
                &*run.name,
                &*run.launch,
                node,
                env!("CARGO_PKG_VERSION"),
                unix_us
            ],
        )?;
    }
    Ok(connection)
}

/// Why a file that is there is not written on.
fn unfit(path: &Path) -> Option<String> {
    let checked = (|| {
        let connection = Connection::open(path)?;
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        let number = |pragma: &str| connection.query_row(pragma, [], |row| row.get::<_, i64>(0));
        let (application, version) = (
            number("PRAGMA application_id")?,
            number("PRAGMA user_version")?,
        );
        let empty = number("SELECT count(*) FROM sqlite_schema")? == 0;
        if empty {
            return Ok(None); // a daemon died while it made it
        }
        if application != i64::from(schema::APPLICATION) {
            return Ok(Some("is no journal of hookbus".to_owned()));
        }
        if version > schema::VERSION as i64 {
            let ours = schema::VERSION;
            return Ok(Some(format!(
                "is of a newer hookbusd (schema version {version}; this one writes {ours})"
            )));
        }
        if bytes(path) > CHECKED_BYTES {
            return Ok(None);
        }
        let found: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        Ok((found != "ok").then(|| format!("is damaged ({})", found.replace('\n', " "))))
    })();
    match checked {
        Ok(found) => found,
        Err(rusqlite::Error::SqliteFailure(error, text))
            if matches!(
                error.code,
                rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase
            ) =>
        {
            Some(format!(
                "is damaged ({})",
                text.unwrap_or_else(|| error.to_string())
            ))
        }
        // What only fails now is no damage: opening it says so.
        Err(_) => None,
    }
}

/// Keeps a file under another name. Who calls it holds its lock. Returns a line for people.
pub(super) fn put_aside(path: &Path, why: &str, unix_us: i64) -> io::Result<String> {
    let aside = aside(path, unix_us)?;
    tracing::error!(path = %path.display(), why, kept_as = %aside.display(), "a journal is set aside");
    let (path, aside) = (path.display(), aside.display());
    Ok(format!("{path} {why}; it is kept as {aside}"))
}

fn aside(path: &Path, unix_us: i64) -> io::Result<PathBuf> {
    let mut second = unix_us / 1_000_000;
    let mut aside = with(path, &format!(".set-aside-{second}"));
    while aside.exists() {
        second += 1;
        aside = with(path, &format!(".set-aside-{second}"));
    }
    for ending in ["-wal", "-shm", "-journal"] {
        let _ = fs::rename(with(path, ending), with(&aside, ending)); // not every file has one
    }
    fs::rename(path, &aside)?;
    Ok(aside)
}

fn lock(path: &Path) -> Result<Option<File>, Unopened> {
    let at = with(path, ".lock");
    let io = |error| Unopened::Io(at.clone(), error);
    loop {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&at)
            .map_err(io)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(io(error.into())),
        }
        // Who held it before may have removed it: then another one may be there, in other hands.
        let inode = |file: io::Result<fs::Metadata>| file.map(|file| (file.dev(), file.ino())).ok();
        if inode(file.metadata()) == inode(fs::metadata(&at)) {
            return Ok(Some(file));
        }
    }
}

fn is_local(path: &Path) -> bool {
    statfs(path).map_or(true, |of| !NOT_LOCAL.contains(&(of.f_type as u32)))
}

/// For a URI.
fn escaped(path: &[u8]) -> String {
    let mut text = String::new();
    for byte in path {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' | b'@' | b'~' => {
                text.push(char::from(*byte));
            }
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

/// A file's name with more behind it.
pub(super) fn with(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    name.into()
}

/// `digits@4711.db`. The second of a run is `digits@4711~2.db`.
fn name(run: &RunId, n: u32) -> String {
    let stem = stem(run);
    if n > 1 {
        format!("{stem}~{n}.{ENDING}")
    } else {
        format!("{stem}.{ENDING}")
    }
}

/// What the names of a run's files begin with; a long one is cut, and ends with digits of the whole.
pub(super) fn stem(run: &RunId) -> String {
    let mut text = encoded(&run.to_string());
    if text.len() > NAME_BYTES {
        use sha2::{Digest, Sha256};
        let whole: [u8; 32] = Sha256::digest(run.to_string()).into();
        let digits = crate::domain::hex::text(&whole[..8]);
        text.truncate(NAME_BYTES);
        text = format!("{text}~{digits}");
    }
    text
}

/// The same, of a file; None: its name is no run's.
pub(super) fn stem_of(path: &Path) -> Option<&str> {
    let stem = path.file_stem()?.to_str()?;
    Some(match stem.rsplit_once('~') {
        Some((first, n)) if n.parse().is_ok_and(|n| (2..=TRIES).contains(&n)) => first,
        _ => stem,
    })
}

/// Whether a file with this stem may be of a run that is called so, by its name or its id.
pub(super) fn may_be_called(stem: &str, asked: &str) -> bool {
    let mut text = encoded(asked);
    text.truncate(NAME_BYTES);
    let rest = stem.strip_prefix(&text);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['@', '~']))
}

/// What has no place in a file's name is written as `%2F`.
fn encoded(asked: &str) -> String {
    let mut text = String::new();
    for byte in asked.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'@' | b'+' | b',' | b'=' => {
                text.push(char::from(byte));
            }
            b'.' if !text.is_empty() => text.push('.'),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(name: &str) -> RunId {
        RunId {
            name: name.into(),
            launch: "1".into(),
        }
    }

    #[test]
    fn names_of_files_are_safe_and_tell_runs_apart() {
        assert_eq!(name(&run("digits"), 1), "digits@1.db");
        assert_eq!(name(&run("../a b"), 2), "%2E.%2Fa%20b@1~2.db");
        let long = |end: char| name(&run(&format!("{}{end}", "x".repeat(900))), 64);
        assert!(long('a').len() < 240, "{}", long('a').len());
        assert_ne!(long('a'), long('b'));
    }

    #[test]
    fn a_file_s_name_tells_whose_it_may_be() {
        for name_of in ["digits", "a b@c", ".hidden", &"x".repeat(NAME_BYTES + 50)] {
            let run = run(name_of);
            for n in [1, 2, TRIES] {
                let path = PathBuf::from(name(&run, n));
                let of_path = stem_of(&path).unwrap();
                assert_eq!(of_path, stem(&run));
                assert!(may_be_called(of_path, name_of), "{of_path}");
                assert!(may_be_called(of_path, &run.to_string()), "{of_path}");
                for other in ["digit", "digits2", "digits@11", "1"] {
                    assert!(!may_be_called(of_path, other), "{of_path} {other}");
                }
            }
        }
    }

    #[test]
    fn two_daemons_never_write_one_file() {
        let directory = tempfile::tempdir().unwrap();
        let first = open(directory.path(), &run("a"), "n", 1).unwrap();
        let second = open(directory.path(), &run("a"), "n", 1).unwrap();
        assert_ne!(first.path, second.path);
        assert!(is_held(&first.path));
        drop(first);
        let again = open(directory.path(), &run("a"), "n", 1).unwrap();
        assert!(again.existed && again.path.ends_with("a@1.db"));
    }

    #[test]
    fn what_does_not_fit_is_set_aside_with_a_line_and_kept() {
        type Damage = fn(&Path);
        let cases: [(&str, Damage); 3] = [
            ("is damaged", |path| {
                let mut bytes = fs::read(path).unwrap();
                let half = bytes.len() / 2;
                bytes[half..].fill(0x5a);
                fs::write(path, bytes).unwrap();
            }),
            ("is damaged", |path| {
                fs::write(path, "no database at all").unwrap()
            }),
            ("is of a newer hookbusd (schema version 99", |path| {
                let connection = Connection::open(path).unwrap();
                connection.pragma_update(None, "user_version", 99).unwrap();
            }),
        ];
        for (expected, damage) in cases {
            let directory = tempfile::tempdir().unwrap();
            let path = open(directory.path(), &run("a"), "n", 1).unwrap().path;
            damage(&path);
            let before = fs::read(&path).unwrap();
            let opened = open(directory.path(), &run("a"), "n", 7_000_000).unwrap();
            let line = opened.set_aside.expect("it was set aside");
            assert!(line.contains(expected), "{line}");
            assert!(!opened.existed);
            let aside = directory.path().join("a@1.db.set-aside-7");
            assert_eq!(fs::read(aside).unwrap(), before, "{expected}");
        }
    }

    #[test]
    fn a_large_file_is_opened_without_being_read_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = open(directory.path(), &run("a"), "n", 1).unwrap().path;
        let connection = Connection::open(&path).unwrap();
        let sql = "PRAGMA journal_mode = TRUNCATE; CREATE TABLE large (x);
            INSERT INTO large VALUES (zeroblob(70 << 20))";
        connection.execute_batch(sql).unwrap();
        drop(connection);
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        let size = file.metadata().unwrap().len();
        let middle = std::os::unix::fs::FileExt::write_all_at(&file, &[0x5a; 8192], size / 2);
        middle.unwrap();
        let opened = open(directory.path(), &run("a"), "n", 1).unwrap();
        assert!(opened.existed);
        assert_eq!(opened.set_aside, None);
    }

    #[test]
    fn one_that_was_set_aside_is_not_written_over_by_the_next() {
        let directory = tempfile::tempdir().unwrap();
        for text in ["first", "second"] {
            fs::write(directory.path().join("a@1.db"), text).unwrap();
            open(directory.path(), &run("a"), "n", 7_000_000).unwrap();
        }
        let aside = |n| directory.path().join(format!("a@1.db.set-aside-{n}"));
        assert_eq!(fs::read(aside(7)).unwrap(), b"first");
        assert_eq!(fs::read(aside(8)).unwrap(), b"second");
    }

    #[test]
    fn what_a_daemon_writes_is_not_removed_and_what_is_removed_is_gone_whole() {
        let directory = tempfile::tempdir().unwrap();
        let held = open(directory.path(), &run("a"), "n", 1).unwrap();
        let path = held.path.clone();
        assert!(!remove(&path).unwrap());
        assert!(path.exists());
        drop(held);
        assert!(remove(&path).unwrap());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
