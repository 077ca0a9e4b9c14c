//! `[listen]`, checked key against key: the socket, its rights and users, the TCP address. Whether that address may be
//! open to other machines is judged in `access`; nothing is bound here.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::walk::Walk;
use super::{Listen, access};
use crate::domain::Value;

pub(super) fn listen(walk: &mut Walk, env: &HashMap<String, String>) -> Listen {
    let socket = match walk.text("listen", "socket").as_str() {
        "" => None,
        "auto" => Some(default_socket(env)),
        path => Some(PathBuf::from(path)),
    };
    let (mode, origin) = (
        walk.text("listen", "socket_mode"),
        walk.origin("listen", "socket_mode"),
    );
    let socket_mode = match u32::from_str_radix(mode.trim_start_matches("0o"), 8) {
        Ok(mode) if mode <= 0o777 => mode,
        _ => {
            walk.wrong(
                &origin,
                "listen.socket_mode",
                &format!("{mode:?} is no octal mode such as \"0600\" or \"0660\""),
            );
            0o600
        }
    };
    let (text, origin) = (walk.text("listen", "tcp"), walk.origin("listen", "tcp"));
    let tcp = if text.is_empty() {
        None
    } else {
        text.parse::<SocketAddr>().ok()
    };
    match tcp {
        None if !text.is_empty() => {
            walk.wrong(
                &origin,
                "listen.tcp",
                &format!("{text:?} is no address such as \"127.0.0.1:7070\" or \"[::1]:7070\""),
            );
        }
        _ => access::judge(walk, tcp),
    }
    if socket.is_none() && text.is_empty() {
        let origin = walk.origin("listen", "socket");
        walk.wrong(
            &origin,
            "listen",
            "neither socket nor tcp is set, so nobody could connect",
        );
    }
    let uids = match &walk.get("listen", "allowed_uids").value {
        Value::List(items) => items
            .iter()
            .filter_map(|item| {
                if let Value::Integer(uid) = item {
                    u32::try_from(*uid).ok()
                } else {
                    None
                }
            })
            .collect(),
        _ => Vec::new(),
    };
    Listen {
        socket,
        socket_mode,
        allowed_uids: uids,
        tcp,
        tls: access::tls(walk),
        temporary: std::env::temp_dir(),
    }
}

fn default_socket(env: &HashMap<String, String>) -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/run/hookbus/hookbusd.sock");
    }
    match env
        .get("XDG_RUNTIME_DIR")
        .filter(|folder| !folder.is_empty())
    {
        Some(folder) => PathBuf::from(folder).join("hookbus/hookbusd.sock"),
        None => std::env::temp_dir().join(format!(
            "hookbus-{}/hookbusd.sock",
            rustix::process::geteuid().as_raw()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::super::walk::mistakes;

    #[test]
    fn beyond_loopback_needs_tls_and_tokens_or_a_word() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = |name: &str| folder.path().join(name).display().to_string();
        let put = |name: &str, text: &str, mode: u32| {
            std::fs::write(path(name), text).expect("written");
            let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
            std::fs::set_permissions(path(name), mode).expect("set");
        };
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("made");
        let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("made");
        put("cert.pem", &own.cert.pem(), 0o644);
        put("key.pem", &own.signing_key.serialize_pem(), 0o600);
        put("open.pem", &own.signing_key.serialize_pem(), 0o644);
        put("other.pem", &other.signing_key.serialize_pem(), 0o600);
        put("one", "one-one-one-one-one\n", 0o600);
        put(
            "two",
            "# both\none-one-one-one-one\ntwo-two-two-two-two\n",
            0o600,
        );
        put("open", "one-one-one-one-one\n", 0o640);
        let tls = format!(
            "tls_cert = \"{}\"\ntls_key = \"{}\"\n",
            path("cert.pem"),
            path("key.pem")
        );
        let beyond = "[listen]\ntcp = \"0.0.0.0:1\"\n";
        let auth =
            |role: &str, file: &str| format!("[auth]\n{role}_token_file = \"{}\"\n", path(file));
        let table: [(String, &[&str]); 16] = [
            (
                beyond.into(),
                &[
                    "listen.tls_cert, listen.tls_key, and auth.trainer_token_file",
                    "listen.insecure = true",
                ],
            ),
            (format!("{beyond}insecure = true\n"), &[]),
            (format!("{beyond}{tls}"), &["set auth.trainer_token_file"]),
            (
                format!("{beyond}{}", auth("viewer", "one")),
                &["set listen.tls_cert and listen.tls_key"],
            ),
            (format!("{beyond}{tls}{}", auth("trainer", "one")), &[]),
            (
                format!("{beyond}{tls}tls_client_ca = \"{}\"\n", path("cert.pem")),
                &[],
            ),
            ("[listen]\ntcp = \"here\"\n".into(), &["is no address"]),
            (
                "[listen]\nsocket = \"\"\n".into(),
                &["nobody could connect"],
            ),
            (format!("[listen]\n{tls}"), &["listen.tcp is not set"]),
            (
                format!(
                    "{beyond}insecure = true\ntls_cert = \"{}\"\n",
                    path("cert.pem")
                ),
                &["it needs listen.tls_key beside it"],
            ),
            (
                format!(
                    "{beyond}insecure = true\ntls_client_ca = \"{}\"\n",
                    path("cert.pem")
                ),
                &["over TLS only"],
            ),
            (
                format!(
                    "{beyond}insecure = true\ntls_cert = \"{}\"\ntls_key = \"{}\"\n",
                    path("cert.pem"),
                    path("open.pem")
                ),
                &["listen.tls_key", "mode 0644", "chmod 600"],
            ),
            (
                format!(
                    "{beyond}insecure = true\ntls_cert = \"{}\"\ntls_key = \"{}\"\n",
                    path("cert.pem"),
                    path("other.pem")
                ),
                &["does not fit to listen.tls_cert"],
            ),
            (
                format!(
                    "{beyond}insecure = true\ntls_cert = \"{}\"\ntls_key = \"{}\"\n",
                    path("key.pem"),
                    path("cert.pem")
                ),
                &[
                    "listen.tls_cert",
                    "has no certificate in it",
                    "listen.tls_key",
                    "mode 0644",
                ],
            ),
            (
                auth("operator", "open"),
                &["auth.operator_token_file", "chmod 600"],
            ),
            (
                format!(
                    "{}viewer_token_file = \"{}\"\n",
                    auth("operator", "one"),
                    path("two")
                ),
                &[
                    "auth.operator_token_file",
                    "is in auth.viewer_token_file too",
                ],
            ),
        ];
        for (toml, words) in table {
            let said = mistakes(&toml, &[], None).join("\n");
            assert_eq!(said.is_empty(), words.is_empty(), "{toml}{said}");
            for word in words {
                assert!(said.contains(word), "{toml}{word} is not in {said}");
            }
            assert!(!said.contains("one-one"), "{said}");
        }
    }
}
