//! Bind first, then serve: one listener speaks gRPC (HTTP/2) and HTTP/1, on a Unix socket and, if asked, on TCP.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::config::Listen;

/// sun_path has 108 bytes with its closing NUL.
const MOST_PATH_BYTES: usize = 107;
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
    /// For logs.
    pub remote: String,
}

struct UnixSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the file that was bound, so that only it is removed.
    file: (u64, u64),
    allowed_uids: Vec<u32>,
}

/// Whoever lets the socket go takes its file away: at the end, and where a later address cannot be bound.
impl Drop for UnixSocket {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|file| (file.dev(), file.ino()) == self.file);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "the socket file cannot be removed");
        }
    }
}

/// Bound, not yet serving.
pub struct Listeners {
    unix: Option<UnixSocket>,
    tcp: Option<TcpListener>,
}

/// Binds what the configuration asks for.
pub fn bind(listen: &Listen) -> Result<Listeners, BindError> {
    let unix = listen
        .socket
        .as_ref()
        .map(|path| bind_unix(path, listen))
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
        tcp: tcp.transpose()?,
    })
}

fn bind_unix(path: &Path, listen: &Listen) -> Result<UnixSocket, BindError> {
    let fail = |why: String| {
        BindError(format!(
            "cannot listen on {} (listen.socket): {why}",
            path.display()
        ))
    };
    let bytes = path.as_os_str().len();
    if bytes > MOST_PATH_BYTES {
        return Err(fail(format!(
            "the path has {bytes} bytes, a socket's has at most {MOST_PATH_BYTES}; choose a shorter one"
        )));
    }
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty() && !folder.exists())
    {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|error| fail(format!("its directory cannot be made: {error}")))?;
    }
    if let Ok(there) = fs::symlink_metadata(path) {
        if !there.file_type().is_socket() {
            return Err(fail(
                "something that is no socket is there; remove it or choose another path".to_owned(),
            ));
        }
        match StdUnixStream::connect(path) {
            Ok(_) => {
                return Err(fail(
                    "another daemon answers there; stop it or choose another path".to_owned(),
                ));
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                tracing::info!(path = %path.display(), "a stale socket file is replaced");
                fs::remove_file(path).map_err(|error| {
                    fail(format!("the stale socket cannot be removed: {error}"))
                })?;
            }
            Err(error) => {
                return Err(fail(format!(
                    "a socket is there and cannot be asked: {error}"
                )));
            }
        }
    }
    // Nobody may connect between bind and chmod.
    let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
    let listener = UnixListener::bind(path);
    rustix::process::umask(before);
    let listener = listener.map_err(|error| fail(error.to_string()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(listen.socket_mode)).map_err(|error| {
        fail(format!(
            "its mode cannot be set to {:o}: {error}",
            listen.socket_mode
        ))
    })?;
    let file = fs::symlink_metadata(path).map_err(|error| fail(error.to_string()))?;
    let allowed_uids = if listen.allowed_uids.is_empty() {
        vec![rustix::process::geteuid().as_raw(), 0]
    } else {
        listen.allowed_uids.clone()
    };
    Ok(UnixSocket {
        listener,
        path: path.to_path_buf(),
        file: (file.dev(), file.ino()),
        allowed_uids,
    })
}

impl Listeners {
    /// As clients take them.
    pub fn addresses(&self) -> Vec<String> {
        let unix = self
            .unix
            .iter()
            .map(|unix| format!("unix://{}", unix.path.display()));
        let tcp = self
            .tcp
            .iter()
            .filter_map(|tcp| Some(format!("http://{}", tcp.local_addr().ok()?)));
        unix.chain(tcp).collect()
    }
}

/// Serves until `stop_accepting`, then lets connections end; cuts them on `kill`.
pub async fn serve(
    listeners: Listeners,
    app: axum::Router,
    stop_accepting: CancellationToken,
    kill: CancellationToken,
    connections: TaskTracker,
) {
    let serving = Serving {
        app,
        stop_accepting: stop_accepting.clone(),
        kill: kill.clone(),
        connections,
    };
    let Listeners { unix, tcp } = listeners;
    let unix_loop = async {
        if let Some(unix) = &unix {
            serving.accept_unix(unix).await;
        }
    };
    let tcp_loop = async {
        if let Some(tcp) = &tcp {
            serving.accept_tcp(tcp).await;
        }
    };
    tokio::join!(unix_loop, tcp_loop);
    drop(unix);
    kill.cancelled().await;
}

struct Serving {
    app: axum::Router,
    stop_accepting: CancellationToken,
    kill: CancellationToken,
    connections: TaskTracker,
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
                    remote: format!("uid {uid}"),
                },
            );
        }
    }

    async fn accept_tcp(&self, tcp: &TcpListener) {
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
            self.serve(
                stream,
                Peer {
                    uid: None,
                    pid: None,
                    unix: false,
                    remote: remote.to_string(),
                },
            );
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
