//! The real binary, and what ends it: another process, or that nobody is connected.

mod running;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use running::{Running, ask, ends, folder, hookbusd};

/// A process that lives until it is killed.
fn other() -> Child {
    Command::new("cat")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("cat")
}

fn private_dir(base: &Path, pid: u32) -> PathBuf {
    let path = base.join(format!("hookbus-{pid}-0"));
    fs::DirBuilder::new()
        .mode(0o700)
        .create(&path)
        .expect("a directory");
    path
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// A request that keeps its connection open: when it is answered, the daemon has counted it.
fn connect(socket: &Path) -> UnixStream {
    let mut held = UnixStream::connect(socket).expect("it listens");
    held.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .expect("a request");
    let mut reply = [0; 15];
    held.read_exact(&mut reply).expect("a reply");
    assert_eq!(&reply, b"HTTP/1.1 200 OK");
    held
}

#[test]
fn it_ends_with_the_process_that_it_belongs_to_and_removes_its_directory() {
    let folder = folder();
    let mut parent = other();
    let pid = parent.id().to_string();
    let private = private_dir(folder.path(), parent.id());
    let socket = private.join("d.sock");
    let flags = ["--socket", text(&socket), "--parent-pid", &pid];
    let more = ["--remove-dir", text(&private)];
    let mut daemon = Running::start(folder.path(), "d", &[flags.as_slice(), &more].concat());
    // A client that dawdles holds it up for less than a second; the deadline of its configuration is three.
    let mut dawdles = UnixStream::connect(&socket).expect("it listens");
    dawdles
        .write_all(b"GET /healthz HTTP/1.1\r\n")
        .expect("half a request");
    parent.kill().expect("it lived");
    assert!(daemon.child.wait().expect("its end").success());
    let log = fs::read_to_string(folder.path().join("d.log")).expect("the log");
    assert!(
        log.contains("the process of --parent-pid has ended"),
        "{log}"
    );
    assert!(log.contains("deadline_ms=800"), "{log}");
    assert!(!private.exists(), "socket and directory are gone");
    parent.wait().expect("its end");
}

#[test]
fn told_to_end_it_leaves_the_directory_to_the_process_that_made_it() {
    let folder = folder();
    let mut parent = other();
    let pid = parent.id().to_string();
    let private = private_dir(folder.path(), parent.id());
    let socket = private.join("d.sock");
    let flags = ["--socket", text(&socket), "--parent-pid", &pid];
    let more = ["--remove-dir", text(&private)];
    let mut daemon = Running::start(folder.path(), "d", &[flags.as_slice(), &more].concat());
    daemon.signal(rustix::process::Signal::TERM);
    assert!(daemon.child.wait().expect("its end").success());
    assert!(!socket.exists() && private.exists());
    parent.kill().expect("it lived");
    parent.wait().expect("its end");
}

#[test]
fn a_process_that_has_ended_already_is_one_line_and_nothing_is_left() {
    let folder = folder();
    let mut parent = other();
    parent.kill().expect("it lived");
    parent.wait().expect("its end");
    let pid = parent.id().to_string();
    let private = private_dir(folder.path(), parent.id());
    let socket = private.join("d.sock");
    let mut command = hookbusd(folder.path());
    command.args(["--socket", text(&socket), "--parent-pid", &pid]);
    let (status, said) = ends(command.args(["--remove-dir", text(&private)]));
    let wanted = format!("hookbusd: process {pid} (--parent-pid) has ended already\n");
    assert_eq!((status, said), (1, wanted));
    assert!(!private.exists());
}

#[test]
fn a_directory_that_the_process_did_not_make_is_refused() {
    let folder = folder();
    let mut command = hookbusd(folder.path());
    let pid = std::process::id().to_string();
    let home = text(folder.path());
    let (status, said) = ends(command.args(["--parent-pid", &pid, "--remove-dir", home]));
    assert_eq!((status, said.lines().count()), (1, 1), "{said}");
    assert!(
        said.contains(&format!("{home} (--remove-dir) is not removed")),
        "{said}"
    );
    assert!(folder.path().exists());
}

#[test]
fn without_a_connection_it_ends_and_with_one_it_stays() {
    let folder = folder();
    let sockets = ["with", "without"].map(|name| folder.path().join(name));
    let flags = |at: usize| ["--socket", text(&sockets[at]), "--idle-exit", "1"];
    let mut with = Running::start(folder.path(), "a", &flags(0));
    let held = connect(&sockets[0]);
    // Its time begins later, so when it is over, so is the other's.
    let mut without = Running::start(folder.path(), "b", &flags(1));
    assert!(without.child.wait().expect("its end").success());
    assert!(!sockets[1].exists(), "the socket is gone");
    let reply = ask(
        UnixStream::connect(&sockets[0]).expect("it listens"),
        "/readyz",
    );
    assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    drop(held);
    assert!(with.child.wait().expect("its end").success());
    assert!(!sockets[0].exists(), "the socket is gone");
}
