//! Says that the daemon serves, and that it ends: a ready file for launchers and tests, READY=1 and STOPPING=1 for systemd.

use std::fs;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

/// Writes the addresses, one a line, by rename; tells systemd if it asked.
pub fn announce(
    ready_file: Option<&Path>,
    notify_socket: Option<&str>,
    addresses: &[String],
) -> io::Result<()> {
    if let Some(path) = ready_file {
        let mut text = addresses.join("\n");
        text.push('\n');
        let new = path.with_extension("new");
        fs::write(&new, text)?;
        fs::rename(&new, path)?;
    }
    tell(notify_socket, b"READY=1")
}

/// Tells systemd, if it asked, that the end was asked for: `systemctl status` then says so while sessions drain.
pub fn stopping(notify_socket: Option<&str>) {
    if let Err(error) = tell(notify_socket, b"STOPPING=1") {
        tracing::warn!(%error, "systemd could not be told of the end");
    }
}

fn tell(notify_socket: Option<&str>, word: &[u8]) -> io::Result<()> {
    let Some(name) = notify_socket else {
        return Ok(());
    };
    let address = match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    UnixDatagram::unbound()?.send_to_addr(word, &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn launchers_and_systemd_are_told() {
        let folder = tempfile::tempdir().expect("a directory");
        let socket = folder.path().join("notify");
        let systemd = UnixDatagram::bind(&socket).expect("a socket");
        let ready = folder.path().join("ready");
        announce(
            Some(&ready),
            socket.to_str(),
            &["unix:///x".to_owned(), "http://y".to_owned()],
        )
        .expect("told");
        assert_eq!(
            fs::read_to_string(&ready).expect("it is there"),
            "unix:///x\nhttp://y\n"
        );
        let mut said = [0; 16];
        let bytes = systemd.recv(&mut said).expect("a word");
        assert_eq!(&said[..bytes], b"READY=1");
        stopping(socket.to_str());
        let bytes = systemd.recv(&mut said).expect("a word");
        assert_eq!(&said[..bytes], b"STOPPING=1");
    }
}
