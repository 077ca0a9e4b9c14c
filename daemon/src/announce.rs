//! Says that the daemon serves: a ready file for launchers and tests, READY=1 for systemd.

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
    if let Some(name) = notify_socket {
        let address = match name.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(name)?,
        };
        UnixDatagram::unbound()?.send_to_addr(b"READY=1", &address)?;
    }
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
    }
}
