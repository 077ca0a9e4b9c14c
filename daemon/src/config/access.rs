//! `[auth]` and the keys of TLS: who may come over TCP, and beyond loopback under which conditions.

use std::net::SocketAddr;

use super::secret::{self, Tokens};
use super::tls::{self, Tls, TlsFiles};
use super::walk::Walk;
use crate::domain::Role;

/// Each role's key in `[auth]`.
const TOKEN_FILES: [(Role, &str); 3] = [
    (Role::Trainer, "trainer_token_file"),
    (Role::Viewer, "viewer_token_file"),
    (Role::Operator, "operator_token_file"),
];

/// Every file of tokens, read.
pub(super) fn tokens(walk: &mut Walk) -> Tokens {
    let mut tokens = Tokens::default();
    for (role, name) in TOKEN_FILES {
        let Some(path) = walk.path("auth", name) else {
            continue;
        };
        let (origin, key) = (walk.origin("auth", name), format!("auth.{name}"));
        match secret::read_tokens(&path) {
            Ok(words) => {
                if let Err(other) = tokens.add(role, words) {
                    let why = format!(
                        "a token of {} is in auth.{other}_token_file too; a token has one role",
                        path.display()
                    );
                    walk.wrong(&origin, &key, &why);
                }
            }
            Err(why) => walk.wrong(&origin, &key, &why),
        }
    }
    tokens
}

/// The certificate, if one is asked for.
pub(super) fn tls(walk: &mut Walk) -> Option<Tls> {
    let (cert, key) = (
        walk.path("listen", "tls_cert"),
        walk.path("listen", "tls_key"),
    );
    let client_ca = walk.path("listen", "tls_client_ca");
    let role = walk.text("listen", "tls_client_role");
    let (cert, key) = match (cert, key) {
        (Some(cert), Some(key)) => (cert, key),
        (None, None) => {
            if client_ca.is_some() {
                let origin = walk.origin("listen", "tls_client_ca");
                walk.wrong(
                    &origin,
                    "listen.tls_client_ca",
                    "clients show certificates over TLS only; set listen.tls_cert and listen.tls_key",
                );
            }
            return None;
        }
        (cert, _) => {
            let (there, missing) = if cert.is_some() {
                ("tls_cert", "tls_key")
            } else {
                ("tls_key", "tls_cert")
            };
            let (origin, key) = (walk.origin("listen", there), format!("listen.{there}"));
            let why = format!("it needs listen.{missing} beside it");
            walk.wrong(&origin, &key, &why);
            return None;
        }
    };
    let files = TlsFiles {
        cert,
        key,
        client_ca,
        client_role: Role::of(&role).unwrap_or(Role::Viewer),
    };
    match tls::load(files) {
        Ok(tls) => Some(tls),
        Err(mistakes) => {
            for (key, why) in mistakes {
                let name = key.strip_prefix("listen.").unwrap_or(key);
                let origin = walk.origin("listen", name);
                walk.wrong(&origin, key, &why);
            }
            None
        }
    }
}

/// Beyond loopback everybody on the way reads along, and everybody can knock: TLS, and something to tell clients by.
pub(super) fn judge(walk: &mut Walk, tcp: Option<SocketAddr>) {
    let set = |walk: &Walk, section, name| !walk.text(section, name).is_empty();
    let encrypted = set(walk, "listen", "tls_cert") || set(walk, "listen", "tls_key");
    let known = set(walk, "listen", "tls_client_ca")
        || TOKEN_FILES.iter().any(|(_, name)| set(walk, "auth", name));
    let Some(address) = tcp else {
        if encrypted {
            let origin = walk.origin("listen", "tls_cert");
            walk.wrong(
                &origin,
                "listen.tls_cert",
                "TLS is for TCP, and listen.tcp is not set",
            );
        }
        return;
    };
    if address.ip().is_loopback() || walk.flag("listen", "insecure") {
        return;
    }
    let missing = match (encrypted, known) {
        (true, true) => return,
        (false, true) => "listen.tls_cert and listen.tls_key",
        (true, false) => "auth.trainer_token_file, another file of [auth], or listen.tls_client_ca",
        (false, false) => {
            "listen.tls_cert, listen.tls_key, and auth.trainer_token_file or another file of [auth]"
        }
    };
    let origin = walk.origin("listen", "tcp");
    let why = format!(
        "{address} can be reached from other machines, so it needs TLS and tokens: set {missing}; or listen on 127.0.0.1 and tunnel, or set listen.insecure = true"
    );
    walk.wrong(&origin, "listen.tcp", &why);
}
