//! Who may ask for what: one layer before every service and page, so that no handler can forget it. The decision is pure;
//! a token is neither logged nor repeated.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, WWW_AUTHENTICATE};
use axum::http::{Response, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use tonic::{Code, Status};

use crate::config::Tokens;
use crate::domain::{Role, Roles};
use crate::listen::Peer;

/// A client that keeps trying is logged once; so many are remembered.
const REMEMBERED: usize = 1024;

/// What the first part of a path needs. None: free.
const NEEDS: &[(&str, Option<Role>)] = &[
    ("hookbus.v1.HookBus", Some(Role::Trainer)),
    ("hookbus.v1.Inspect", Some(Role::Viewer)),
    ("hookbus.v1.Control", Some(Role::Operator)),
    ("hookbus.v1.Providers", Some(Role::Operator)),
    ("grpc.health.v1.Health", None),
    ("grpc.reflection.v1.ServerReflection", None),
    ("grpc.reflection.v1alpha.ServerReflection", None),
    ("", None),
    ("healthz", None),
    ("readyz", None),
    ("metrics", Some(Role::Viewer)),
];

/// What is told apart over TCP.
#[derive(Clone, Debug)]
pub struct Access {
    /// `[auth]`
    pub tokens: Tokens,
    /// What a client's certificate gives.
    pub certified: Role,
}

/// Why not. The text has no token in it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Refusal {
    /// What was shown is nobody's.
    Unknown(String),
    /// It is somebody who may not do this.
    Forbidden(String),
}

impl Access {
    /// What this peer may do. Over the Unix socket the kernel has vouched for it, and a token is not looked at.
    fn roles(&self, peer: &Peer, shown: Option<&[u8]>) -> Result<Roles, Refusal> {
        if peer.unix {
            return Ok(Roles::EVERY);
        }
        let mut roles = if self.tokens.has(Role::Viewer) {
            Roles::NONE
        } else {
            Roles::of(Role::Viewer)
        };
        if peer.certified {
            roles = roles.and(Roles::of(self.certified));
        }
        let Some(shown) = shown else {
            return Ok(roles);
        };
        let Some(token) = bearer(shown) else {
            return Err(Refusal::Unknown(
                "the authorization is of another kind than `Bearer TOKEN`".to_owned(),
            ));
        };
        if self.tokens.is_empty() {
            return Err(Refusal::Unknown(
                "a token was shown, and this daemon knows none: set auth.trainer_token_file, auth.viewer_token_file or auth.operator_token_file in its configuration"
                    .to_owned(),
            ));
        }
        match self.tokens.roles(token) {
            Some(more) => Ok(roles.and(more)),
            None => Err(Refusal::Unknown(
                "the token is wrong: it is in none of the files that [auth] names in the daemon's configuration"
                    .to_owned(),
            )),
        }
    }

    /// Whether this peer may do what `needed` is for.
    fn decide(&self, peer: &Peer, shown: Option<&[u8]>, needed: Role) -> Result<(), Refusal> {
        if self.roles(peer, shown)?.allow(needed) {
            return Ok(());
        }
        let this = match needed {
            Role::Trainer => "to attach a training over TCP",
            Role::Viewer => "to look over TCP",
            Role::Operator => "to act over TCP",
        };
        let has = match (shown.is_some(), peer.certified) {
            (true, _) => "this token is for another role",
            (false, true) => "this certificate is for another role",
            (false, false) => "no token was shown",
        };
        Err(Refusal::Forbidden(format!(
            "{this} one needs the role {needed}, and {has}: show a token of auth.{needed}_token_file (HOOKBUS_TOKEN_FILE), or use the Unix socket on the daemon's own machine"
        )))
    }
}

/// The token of `Bearer TOKEN`.
fn bearer(shown: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = shown.split_at_checked(7)?;
    (scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty()).then(|| token.trim_ascii())
}

/// What a path needs. What nobody has thought of needs the most.
fn needed(path: &str) -> Option<Role> {
    let first = path.trim_start_matches('/').split('/').next();
    let first = first.unwrap_or_default();
    NEEDS
        .iter()
        .find(|(name, _)| *name == first)
        .map_or(Some(Role::Operator), |(_, role)| *role)
}

struct Guard {
    access: Access,
    refused: Mutex<HashSet<String>>,
}

impl Guard {
    /// One line in the log for each peer and reason, however often it tries.
    fn tell(&self, peer: &Peer, needed: Role, path: &str, why: &str) {
        let host = peer.remote.rsplit_once(':').map_or("", |(host, _)| host);
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.len() < REMEMBERED && refused.insert(format!("{host} {needed} {why}")) {
            tracing::warn!(remote = peer.remote, path, why, "refused");
        }
    }
}

/// Puts the guard before everything that `app` serves.
pub fn guard(app: axum::Router, access: Access) -> axum::Router {
    let guard = Guard {
        access,
        refused: Mutex::default(),
    };
    app.layer(from_fn_with_state(Arc::new(guard), pass))
}

async fn pass(State(guard): State<Arc<Guard>>, mut request: Request, next: Next) -> Response<Body> {
    // Taken out, so that nothing behind the guard can log it.
    let shown = request.headers_mut().remove(AUTHORIZATION);
    let Some(needed) = needed(request.uri().path()) else {
        return next.run(request).await;
    };
    let Some(peer) = request.extensions().get::<Peer>() else {
        let why = "nobody knows where this connection came from".to_owned();
        return answer(request.headers(), Refusal::Forbidden(why));
    };
    let shown = shown.as_ref().map(|shown| shown.as_bytes());
    match guard.access.decide(peer, shown, needed) {
        Ok(()) => next.run(request).await,
        Err(refusal) => {
            let (Refusal::Unknown(why) | Refusal::Forbidden(why)) = &refusal;
            guard.tell(peer, needed, request.uri().path(), why);
            answer(request.headers(), refusal)
        }
    }
}

/// As a status to gRPC, as a page to anybody else.
fn answer(headers: &HeaderMap, refusal: Refusal) -> Response<Body> {
    let grpc = headers
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    let (code, page, text) = match refusal {
        Refusal::Unknown(text) => (Code::Unauthenticated, StatusCode::UNAUTHORIZED, text),
        Refusal::Forbidden(text) => (Code::PermissionDenied, StatusCode::FORBIDDEN, text),
    };
    if grpc {
        return Status::new(code, text).into_http();
    }
    let mut response = Response::new(Body::from(format!("{text}\n")));
    *response.status_mut() = page;
    if page == StatusCode::UNAUTHORIZED {
        let bearer = axum::http::HeaderValue::from_static("Bearer");
        response.headers_mut().insert(WWW_AUTHENTICATE, bearer);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRAINER: &str = "Bearer trainer-trainer-1";
    const VIEWER: &str = "Bearer viewer-viewer-123";
    const OPERATOR: &str = "bearer operator-operator";

    #[derive(Clone, Copy)]
    enum From {
        Unix,
        Tcp,
        Certified,
    }

    fn peer(from: From) -> Peer {
        Peer {
            uid: None,
            pid: None,
            unix: matches!(from, From::Unix),
            certified: matches!(from, From::Certified),
            remote: "1.2.3.4:5".to_owned(),
        }
    }

    fn access(roles: &[Role], certified: Role) -> Access {
        let all = [
            (Role::Trainer, "trainer-trainer-1"),
            (Role::Viewer, "viewer-viewer-123"),
            (Role::Operator, "operator-operator"),
        ];
        let some: Vec<_> = all
            .into_iter()
            .filter(|(role, _)| roles.contains(role))
            .collect();
        Access {
            tokens: Tokens::of(&some),
            certified,
        }
    }

    /// For each of train, look, act: y may, n forbidden, ? unknown.
    fn verdicts(access: &Access, from: From, shown: Option<&str>) -> String {
        Role::ALL
            .map(
                |needed| match access.decide(&peer(from), shown.map(str::as_bytes), needed) {
                    Ok(()) => 'y',
                    Err(Refusal::Forbidden(_)) => 'n',
                    Err(Refusal::Unknown(_)) => '?',
                },
            )
            .iter()
            .collect()
    }

    #[test]
    fn who_may_train_look_and_act() {
        use Role::{Operator, Trainer, Viewer};
        let (none, all): (&[Role], &[Role]) = (&[], &Role::ALL);
        let table = [
            // over the Unix socket a token is not looked at
            (none, Viewer, From::Unix, None, "yyy"),
            (all, Viewer, From::Unix, None, "yyy"),
            (
                all,
                Viewer,
                From::Unix,
                Some("Bearer wrong-wrong-wrong"),
                "yyy",
            ),
            // over TCP without tokens one may look
            (none, Viewer, From::Tcp, None, "nyn"),
            (none, Viewer, From::Tcp, Some(TRAINER), "???"),
            (&[Trainer, Operator], Viewer, From::Tcp, None, "nyn"),
            (
                &[Trainer, Operator],
                Viewer,
                From::Tcp,
                Some(TRAINER),
                "yyn",
            ),
            // with tokens for looking, without one nothing
            (&[Viewer], Viewer, From::Tcp, None, "nnn"),
            (all, Viewer, From::Tcp, None, "nnn"),
            (all, Viewer, From::Tcp, Some(TRAINER), "ynn"),
            (all, Viewer, From::Tcp, Some(VIEWER), "nyn"),
            (all, Viewer, From::Tcp, Some(OPERATOR), "nyy"),
            // what is nobody's opens nothing, not even what is open without it
            (
                all,
                Viewer,
                From::Tcp,
                Some("Bearer trainer-trainer-2"),
                "???",
            ),
            (
                all,
                Viewer,
                From::Tcp,
                Some("Bearer trainer-trainer-"),
                "???",
            ),
            (all, Viewer, From::Tcp, Some("Bearer "), "???"),
            (all, Viewer, From::Tcp, Some("Basic dHJhaW5lcjox"), "???"),
            (all, Viewer, From::Tcp, Some("trainer-trainer-1"), "???"),
            (all, Viewer, From::Tcp, Some(""), "???"),
            // a certificate gives its role, and a token adds to it
            (all, Viewer, From::Certified, None, "nyn"),
            (all, Trainer, From::Certified, None, "ynn"),
            (none, Trainer, From::Certified, None, "yyn"),
            (all, Operator, From::Certified, None, "nyy"),
            (all, Viewer, From::Certified, Some(TRAINER), "yyn"),
            (
                all,
                Operator,
                From::Certified,
                Some("Bearer wrong-wrong-wrong"),
                "???",
            ),
        ];
        for (at, (roles, certified, from, shown, wanted)) in table.into_iter().enumerate() {
            let access = access(roles, certified);
            assert_eq!(
                verdicts(&access, from, shown),
                wanted,
                "row {at}: {shown:?}"
            );
        }
    }

    #[test]
    fn a_refusal_names_role_and_key_and_no_token() {
        let access = access(&Role::ALL, Role::Viewer);
        let why = |shown, needed| match access.decide(&peer(From::Tcp), shown, needed) {
            Err(Refusal::Unknown(why) | Refusal::Forbidden(why)) => why,
            Ok(()) => panic!("refused"),
        };
        let viewer = Some(VIEWER.as_bytes());
        for (shown, needed, words) in [
            (
                viewer,
                Role::Operator,
                "the role operator, and this token is for another role: show a token of auth.operator_token_file",
            ),
            (
                None,
                Role::Trainer,
                "the role trainer, and no token was shown: show a token of auth.trainer_token_file",
            ),
            (
                Some(b"Bearer viewer-viewer-124".as_slice()),
                Role::Viewer,
                "the token is wrong",
            ),
        ] {
            let why = why(shown, needed);
            assert!(why.contains(words), "{why}");
            assert!(
                !why.contains("viewer-viewer") && !why.contains('\n'),
                "{why}"
            );
        }
    }

    #[test]
    fn what_nobody_has_thought_of_needs_the_most() {
        for (path, role) in [
            ("/hookbus.v1.HookBus/Session", Some(Role::Trainer)),
            ("/hookbus.v1.Inspect/Runs", Some(Role::Viewer)),
            ("/hookbus.v1.Control/Send", Some(Role::Operator)),
            ("/hookbus.v1.Providers/Serve", Some(Role::Operator)),
            ("/hookbus.v1.Another/Thing", Some(Role::Operator)),
            ("//hookbus.v1.Control/Send", Some(Role::Operator)),
            ("/metrics", Some(Role::Viewer)),
            ("/grpc.health.v1.Health/Check", None),
            (
                "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
                None,
            ),
            ("/", None),
            ("/healthz", None),
            ("/readyz", None),
        ] {
            assert_eq!(needed(path), role, "{path}");
        }
        for service in super::super::SERVICES {
            assert!(
                NEEDS.iter().any(|(name, _)| *name == service),
                "{service} is in no row"
            );
        }
    }
}
