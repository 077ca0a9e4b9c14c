//! The real binary, as a person or a launcher meets it: exit status, one clear line, the ready file, signals, sockets.

mod running;

use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use running::{Running, ask, ends, folder, hookbusd};

fn addresses(daemon: &Running) -> Vec<String> {
    let text = fs::read_to_string(&daemon.ready).expect("the ready file");
    text.lines().map(str::to_owned).collect()
}

#[test]
fn three_mistakes_in_a_file_are_all_named_with_file_and_key() {
    let folder = folder();
    let file = folder.path().join("bad.toml");
    fs::write(
        &file,
        "[limits]\nsessions = \"many\"\n[recrod]\nenabled = true\n[[hooks]]\ntype = \"CheckInvalidLossHok\"\n",
    )
    .expect("written");
    let (status, text) = ends(hookbusd(folder.path()).arg("--config").arg(&file));
    assert_eq!(status, 2, "{text}");
    for key in ["limits.sessions", "recrod", "CheckInvalidLossHok"] {
        let named = text
            .lines()
            .any(|line| line.contains(key) && line.contains("bad.toml"));
        assert!(named, "{key} and its file are in one line of:\n{text}");
    }
    assert!(
        text.contains("CheckInvalidLossHook"),
        "what there is:\n{text}"
    );
}

#[test]
fn a_bad_flag_a_bad_variable_and_a_missing_file_are_usage() {
    let folder = folder();
    let (status, text) = ends(hookbusd(folder.path()).arg("--sokcet=x"));
    assert_eq!((status, text.contains("--sokcet")), (2, true), "{text}");
    let (status, text) = ends(hookbusd(folder.path()).env("HOOKBUSD_LIMITS__SESSIONS", "-3"));
    assert_eq!(status, 2, "{text}");
    assert!(text.contains("HOOKBUSD_LIMITS__SESSIONS"), "{text}");
    let (status, text) = ends(hookbusd(folder.path()).args(["--config", "/nowhere/h.toml"]));
    assert_eq!(status, 2, "{text}");
    assert!(text.contains("/nowhere/h.toml"), "{text}");
}

#[test]
fn what_cannot_be_listened_on_is_one_clear_line() {
    let folder = folder();
    let socket = folder.path().join("d.sock");
    let socket = socket.to_str().expect("UTF-8");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("its address").to_string();
    let long = format!("{}/{}", folder.path().display(), "x".repeat(120));
    let file = folder.path().join("file");
    fs::write(&file, "").expect("written");
    let below_a_file = format!("{}/d.sock", file.display());
    let cases: [(&[&str], &str); 4] = [
        (&["--socket", socket, "--tcp", &address], &address),
        (&["--socket", &long], "at most 107"),
        (&["--socket", &below_a_file], &below_a_file),
        // nobody may make a file there, root neither
        (&["--socket", "/proc/hookbus/d.sock"], "/proc/hookbus"),
    ];
    for (flags, named) in cases {
        let (status, text) = ends(hookbusd(folder.path()).args(flags));
        assert!(status == 1 || status == 2, "{flags:?}: {status}: {text}");
        let lines: Vec<_> = text
            .lines()
            .filter(|line| !line.contains(" INFO "))
            .collect();
        assert_eq!(lines.len(), 1, "{flags:?}: one line, not:\n{text}");
        assert!(lines[0].contains(named), "{flags:?}: {named} in:\n{text}");
    }
    assert!(
        !Path::new(socket).exists(),
        "a failed start leaves no socket"
    );
}

#[test]
fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let folder = folder();
    let socket = folder.path().join("d.sock");
    drop(UnixListener::bind(&socket).expect("bound"));
    assert!(socket.exists(), "a dead daemon's file");
    let path = socket.to_str().expect("UTF-8");
    let first = Running::start(folder.path(), "first", &["--socket", path]);
    assert_eq!(addresses(&first), [format!("unix://{path}")]);
    let (status, text) = ends(hookbusd(folder.path()).args(["--socket", path]));
    assert_eq!(status, 1, "{text}");
    assert!(text.contains(path), "{text}");
    let stream = UnixStream::connect(&socket).expect("the first one listens");
    assert!(ask(stream, "/healthz").starts_with("HTTP/1.1 200"));
}

#[test]
fn the_ready_file_means_that_it_serves_and_sigterm_leaves_nothing_behind() {
    let folder = folder();
    let socket = folder.path().join("d.sock");
    let flags = [
        "--socket",
        socket.to_str().expect("UTF-8"),
        "--tcp",
        "127.0.0.1:0",
    ];
    let mut daemon = Running::start(folder.path(), "d", &flags);
    let addresses = addresses(&daemon);
    let tcp = addresses[1].strip_prefix("http://").expect("a TCP address");
    for (path, word) in [
        ("/healthz", ""),
        ("/readyz", ""),
        ("/metrics", "# TYPE hookbus"),
    ] {
        for reply in [
            ask(TcpStream::connect(tcp).expect("it listens"), path),
            ask(UnixStream::connect(&socket).expect("it listens"), path),
        ] {
            assert!(reply.starts_with("HTTP/1.1 200"), "{path}: {reply}");
            assert!(reply.contains(word), "{path}: {reply}");
        }
    }
    daemon.signal(rustix::process::Signal::TERM);
    assert!(daemon.child.wait().expect("its end").success());
    assert!(!socket.exists(), "the socket is gone");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let folder = folder();
    let socket = folder.path().join("d.sock");
    let path = socket.to_str().expect("UTF-8");
    // an open connection that asks nothing holds the drain up until its deadline, which never comes here
    let mut daemon = Running::start(folder.path(), "d", &["--socket", path]);
    let mut held = UnixStream::connect(&socket).expect("it listens");
    held.write_all(b"GET /healthz HTTP/1.1\r\n")
        .expect("half a request");
    let log = folder.path().join("d.log");
    daemon.signal(rustix::process::Signal::TERM);
    daemon.until("the drain", |_| {
        fs::read_to_string(&log).is_ok_and(|text| text.contains("draining"))
    });
    daemon.signal(rustix::process::Signal::INT);
    let status = daemon.child.wait().expect("its end");
    let text = fs::read_to_string(&log).expect("the log");
    assert_eq!(status.code(), Some(1), "{text}");
    assert!(text.contains("ended at once by a second signal"), "{text}");
}

#[test]
fn what_print_config_prints_is_a_configuration() {
    let folder = folder();
    let print = |extra: &[&str]| {
        let output = hookbusd(folder.path())
            .env("HOOKBUSD_LOG__LEVEL", "debug")
            .args(extra)
            .arg("--print-config")
            .output()
            .expect("hookbusd runs");
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        // The comments say where each value is from.
        let (comments, values): (Vec<_>, Vec<_>) =
            text.lines().partition(|line| line.starts_with('#'));
        (text.clone(), values.join("\n"), comments.join("\n"))
    };
    let (first, values, comments) = print(&["--tcp", "127.0.0.1:7070"]);
    assert!(values.contains("127.0.0.1:7070") && values.contains("\"debug\""));
    assert!(comments.contains("(from --tcp)") && comments.contains("(from HOOKBUSD_LOG__LEVEL)"));
    let file = folder.path().join("printed.toml");
    fs::write(&file, &first).expect("written");
    let (_, again, _) = print(&["--config", file.to_str().expect("UTF-8")]);
    assert_eq!(again, values);
}
