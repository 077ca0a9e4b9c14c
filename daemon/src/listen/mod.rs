//! Bind first, then serve: one listener speaks gRPC (HTTP/2) and HTTP/1, on a Unix socket and, if asked, on TCP, there with
//! TLS if a certificate is configured.

mod connections;
mod tls;
mod unix;

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::rustls::ServerConfig;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::config::Listen;
pub use connections::Connections;
use unix::UnixSocket;

/// After an accept that failed (no more descriptors), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const WINDOW_BYTES: u32 = 4 << 20;
const STREAMS: u32 = 256;

/// Why an address cannot be bound: one line.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BindError(String);

/// Who is at the other end.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The peer's user, by the kernel's word (Unix socket only).
    pub uid: Option<u32>,
    /// The peer's process, by the kernel's word (Unix socket only).
    pub pid: Option<u32>,
    /// It came over the Unix socket.
    pub unix: bool,
    /// It showed a certificate that listen.tls_client_ca vouches for.
    pub certified: bool,
    /// For logs.
    pub remote: String,
}

/// Bound, not yet serving.
pub struct Listeners {
    unix: Option<UnixSocket>,
    /// For the processes that the daemon starts.
    private: Option<UnixSocket>,
    tcp: Option<TcpListener>,
    /// With which handshake TCP begins; None: plain.
    tls: Option<Arc<ServerConfig>>,
}

/// Each session is a descriptor, and the usual soft limit is 1,024: as many as the hard limit allows are asked for.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let now = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: now.maximum,
        maximum: now.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, wanted) {
        tracing::warn!(%error, limit = ?now.current, "the limit of open files could not be raised");
    }
}

/// Binds what the configuration asks for.
pub fn bind(listen: &Listen) -> Result<Listeners, BindError> {
    raise_descriptor_limit();
    let unix = listen
        .socket
        .as_ref()
        .map(|path| unix::bind(path, listen.socket_mode, &listen.allowed_uids))
        .transpose()?;
    let tcp = listen.tcp.map(|address| {
        let bound = std::net::TcpListener::bind(address).and_then(|listener| {
            listener.set_nonblocking(true)?;
            TcpListener::from_std(listener)
        });
        bound.map_err(|error| {
            let why = match error.kind() {
                io::ErrorKind::AddrInUse => {
                    "the port is in use by another process; choose another one, or 0 for a free one"
                        .to_owned()
                }
                _ => error.to_string(),
            };
            BindError(format!("cannot listen on {address} (listen.tcp): {why}"))
        })
    });
    Ok(Listeners {
        unix,
        private: None,
        tcp: tcp.transpose()?,
        tls: listen.tls.as_ref().map(|tls| Arc::clone(&tls.server)),
    })
}

impl Listeners {
    /// Binds another socket, for the processes that the daemon starts itself: they reach it whatever [listen] says, and do
    /// not keep a daemon alive that nobody else needs. Returns its address, which is in no list. `temporary`: where
    /// directories for a while are made.
    pub fn open_private(&mut self, temporary: &std::path::Path) -> Result<String, BindError> {
        let beside = self.unix.as_ref().map(|unix| unix.path.as_path());
        let private = unix::bind_private(beside, temporary)?;
        let address = format!("unix://{}", private.path.display());
        self.private = Some(private);
        Ok(address)
    }

    /// As clients take them.
    pub fn addresses(&self) -> Vec<String> {
        let unix = self
            .unix
            .iter()
            .map(|unix| format!("unix://{}", unix.path.display()));
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let tcp = self
            .tcp
            .iter()
            .filter_map(|tcp| Some(format!("{scheme}://{}", tcp.local_addr().ok()?)));
        unix.chain(tcp).collect()
    }
}

/// A peer whose machine is gone is noticed within two minutes; the kernel of one that only stands still answers for it.
fn keep_alive(stream: &TcpStream) {
    use rustix::net::sockopt;
    let set = sockopt::set_socket_keepalive(stream, true)
        .and_then(|()| sockopt::set_tcp_keepidle(stream, Duration::from_secs(60)))
        .and_then(|()| sockopt::set_tcp_keepintvl(stream, Duration::from_secs(15)))
        .and_then(|()| sockopt::set_tcp_keepcnt(stream, 4));
    if let Err(error) = set {
        tracing::debug!(%error, "SO_KEEPALIVE");
    }
}

/// Serves until `stop_accepting`, then lets connections end; cuts them on `kill`. `own` counts those of the processes that
/// the daemon started.
pub async fn serve(
    listeners: Listeners,
    app: axum::Router,
    stop_accepting: CancellationToken,
    kill: CancellationToken,
    connections: Connections,
    own: Connections,
) {
    let serving = Serving {
        app,
        stop_accepting: stop_accepting.clone(),
        kill: kill.clone(),
        connections,
    };
    let for_own = Serving {
        connections: own,
        ..serving.clone()
    };
    let Listeners {
        unix,
        private,
        tcp,
        tls,
    } = listeners;
    let unix_loop = async {
        if let Some(unix) = &unix {
            serving.accept_unix(unix).await;
        }
    };
    let tcp_loop = async {
        if let Some(tcp) = &tcp {
            serving.accept_tcp(tcp, tls.as_ref()).await;
        }
    };
    let private_loop = async {
        if let Some(private) = &private {
            for_own.accept_unix(private).await;
        }
    };
    tokio::join!(unix_loop, private_loop, tcp_loop);
    drop((unix, private));
    kill.cancelled().await;
}

#[derive(Clone)]
struct Serving {
    app: axum::Router,
    stop_accepting: CancellationToken,
    kill: CancellationToken,
    connections: Connections,
}

impl Serving {
    async fn accept_unix(&self, unix: &UnixSocket) {
        let mut refused = HashSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = unix.listener.accept() => accepted,
                () = self.stop_accepting.cancelled() => return,
            };
            let Some((stream, _)) = self.accepted(accepted).await else {
                continue;
            };
            let Ok(credentials) = stream.peer_cred() else {
                continue;
            };
            let uid = credentials.uid();
            if !unix.allowed_uids.contains(&uid) {
                // Once a user: a client that keeps trying does not fill the log.
                if refused.len() < 1024 && refused.insert(uid) {
                    tracing::warn!(
                        uid,
                        "a user that listen.allowed_uids does not name was refused"
                    );
                }
                continue;
            }
            let pid = credentials.pid().and_then(|pid| u32::try_from(pid).ok());
            self.serve(
                stream,
                Peer {
                    uid: Some(uid),
                    pid,
                    unix: true,
                    certified: false,
                    remote: format!("uid {uid}"),
                },
            );
        }
    }

    async fn accept_tcp(&self, tcp: &TcpListener, tls: Option<&Arc<ServerConfig>>) {
        loop {
            let accepted = tokio::select! {
                accepted = tcp.accept() => accepted,
                () = self.stop_accepting.cancelled() => return,
            };
            let Some((stream, remote)) = self.accepted(accepted).await else {
                continue;
            };
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "TCP_NODELAY");
            }
            keep_alive(&stream);
            let peer = Peer {
                uid: None,
                pid: None,
                unix: false,
                certified: false,
                remote: remote.to_string(),
            };
            match tls {
                Some(tls) => self.shake_hands(stream, peer, Arc::clone(tls)),
                None => self.serve(stream, peer),
            }
        }
    }

    async fn accepted<T>(&self, accepted: io::Result<T>) -> Option<T> {
        match accepted {
            Ok(accepted) => Some(accepted),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                None
            }
        }
    }

    /// In a task of its own: a client that dawdles holds up nobody.
    fn shake_hands(&self, stream: TcpStream, peer: Peer, tls: Arc<ServerConfig>) {
        let serving = self.clone();
        self.connections.spawn(async move {
            let shaken = tokio::select! {
                shaken = tls::accept(stream, tls) => shaken,
                () = serving.stop_accepting.cancelled() => return,
            };
            match shaken {
                Ok((stream, certified)) => serving.serve(stream, Peer { certified, ..peer }),
                Err(why) => {
                    tracing::debug!(remote = peer.remote, why, "no TLS connection came to be")
                }
            }
        });
    }

    fn serve(&self, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, peer: Peer) {
        let (app, stop, kill) = (
            self.app.clone(),
            self.stop_accepting.clone(),
            self.kill.clone(),
        );
        let service = app.map_request(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(peer.clone());
            request.map(axum::body::Body::new)
        });
        self.connections.spawn(async move {
            let mut builder = auto::Builder::new(TokioExecutor::new());
            builder
                .http2()
                .max_concurrent_streams(STREAMS)
                .initial_stream_window_size(WINDOW_BYTES)
                .initial_connection_window_size(4 * WINDOW_BYTES);
            let connection =
                builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
            tokio::pin!(connection);
            let mut draining = false;
            loop {
                tokio::select! {
                    ended = connection.as_mut() => {
                        if let Err(error) = ended {
                            tracing::debug!(error, "a connection ended with an error");
                        }
                        return;
                    }
                    () = stop.cancelled(), if !draining => {
                        draining = true;
                        connection.as_mut().graceful_shutdown();
                    }
                    () = kill.cancelled() => return,
                }
            }
        });
    }
}
