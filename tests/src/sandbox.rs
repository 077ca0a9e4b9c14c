//! The real `hookbusd` on a private socket. Everything waits for a fact: a ready file, an exit, a line.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use hookbus_client::address::Address;
use tempfile::TempDir;

/// The stand-in's file.
pub const NVML: &str = "libnvidia_ml_standin.so";
/// No fact of these tests takes longer on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A binary of this workspace, or the stand-in for NVIDIA's library ([`NVML`]), built if it is not there or not up to date.
pub fn binary(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let folder = BUILT.get_or_init(|| {
        let test = std::env::current_exe().expect("the test's own path");
        let folder = test
            .ancestors()
            .nth(2)
            .expect("target/PROFILE/deps/test")
            .to_path_buf();
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "-p", "hookbusd", "-p", "hookbus-cli"]);
        build.args(["-p", "hookbus-nvml-standin", "-p", "own-daemon"]);
        if folder.ends_with("release") {
            build.arg("--release");
        }
        // What cargo says of this package to its tests would make dependencies that look at it (ring) build anew, each time.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
                build.env_remove(&name);
            }
        }
        let status = build
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status()
            .expect("cargo runs");
        assert!(status.success(), "the binaries do not build");
        folder
    });
    folder.join(name)
}

/// A daemon in a directory of its own. Dropped: the daemon is killed.
pub struct Sandbox {
    directory: TempDir,
    daemon: Child,
    program: &'static str,
    variables: Vec<(&'static str, PathBuf)>,
}

impl Sandbox {
    /// A daemon with its defaults.
    pub fn start() -> Self {
        Self::with_config("")
    }

    /// A daemon with this TOML.
    pub fn with_config(config: &str) -> Self {
        Self::with_variables(config, Vec::new())
    }

    /// A daemon with this TOML, and these paths in its environment.
    pub fn with_variables(config: &str, variables: Vec<(&'static str, PathBuf)>) -> Self {
        Self::of("hookbusd", config, variables)
    }

    /// The same with another daemon than hookbusd: a program of this workspace.
    pub fn of(
        program: &'static str,
        config: &str,
        variables: Vec<(&'static str, PathBuf)>,
    ) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("hb")
            .tempdir()
            .expect("a temporary directory");
        fs::write(directory.path().join("hookbusd.toml"), config).expect("write the config");
        let daemon = spawn(program, directory.path(), &variables);
        let mut sandbox = Self {
            directory,
            daemon,
            program,
            variables,
        };
        sandbox.wait_ready();
        sandbox
    }

    /// Starts the daemon again after [`Sandbox::kill`].
    pub fn restart(&mut self) {
        let _ = fs::remove_file(self.path("ready"));
        self.daemon = spawn(self.program, self.directory.path(), &self.variables);
        self.wait_ready();
    }

    fn wait_ready(&mut self) {
        let ready = self.path("ready");
        wait_for("the daemon's ready file", || {
            if let Some(status) = self.daemon.try_wait().expect("the daemon's status") {
                panic!("{} ended with {status}:\n{}", self.program, self.log());
            }
            ready.exists().then_some(())
        });
    }

    /// A file of the sandbox.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Where the daemon listens.
    pub fn address(&self) -> Address {
        Address::parse(&self.url()).expect("the sandbox's socket is a valid address")
    }

    /// The same, as text.
    pub fn url(&self) -> String {
        format!("unix://{}", self.path("d.sock").display())
    }

    /// Where it listens over TCP, if its configuration says so.
    pub fn tcp(&self) -> String {
        let ready = fs::read_to_string(self.path("ready")).expect("it is ready");
        let tcp = ready.lines().find(|line| line.starts_with("http"));
        tcp.expect("listen.tcp is configured").to_owned()
    }

    /// The daemon's process id.
    pub fn pid(&self) -> u32 {
        self.daemon.id()
    }

    /// What the daemon logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// SIGKILL, and wait.
    pub fn kill(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }

    /// Waits for the exit status of a daemon that was told to end.
    pub fn wait(&mut self) -> ExitStatus {
        self.daemon.wait().expect("the daemon's status")
    }

    /// SIGTERM, and wait for the exit status.
    pub fn terminate(&mut self) -> ExitStatus {
        let pid = rustix::process::Pid::from_child(&self.daemon);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)
            .expect("the daemon can be signalled");
        self.daemon.wait().expect("the daemon's status")
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(program: &str, directory: &Path, variables: &[(&'static str, PathBuf)]) -> Child {
    let log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(directory.join("log"))
        .expect("the log file");
    Command::new(binary(program))
        .arg("--config")
        .arg(directory.join("hookbusd.toml"))
        .arg("--socket")
        .arg(directory.join("d.sock"))
        .arg("--ready-file")
        .arg(directory.join("ready"))
        .env("HOOKBUSD_JOURNAL__DIR", directory.join("state"))
        .env_remove("HOOKBUS_ADDRESS")
        .envs(variables.iter().map(|(name, path)| (name, path)))
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("the log file"))
        .stderr(log)
        .spawn()
        .expect("hookbusd starts")
}

/// Polls for a fact, with a deadline that only a failure reaches.
pub fn wait_for<T>(what: &str, mut fact: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = fact() {
            return found;
        }
        assert!(
            Instant::now() < deadline,
            "{what} did not come within {PATIENCE:?}"
        );
        std::thread::park_timeout(Duration::from_millis(5));
    }
}
