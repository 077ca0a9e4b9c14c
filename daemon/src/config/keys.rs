//! The one list of keys: name, kind, default, help. Parsing, mistakes, `--print-config` and `--example-config`
//! follow it.

/// What a key may hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    /// true or false.
    Flag,
    /// A whole number in this range.
    Whole(i64, i64),
    /// A number in this range.
    Number(f64, f64),
    /// A string.
    Text,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A list of strings.
    Texts,
    /// A list of user ids.
    Uids,
}

/// One key.
pub(super) struct Key {
    pub(super) section: &'static str,
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// As TOML.
    pub(super) default: &'static str,
    pub(super) help: &'static str,
}

const fn key(
    section: &'static str,
    name: &'static str,
    kind: Kind,
    default: &'static str,
    help: &'static str,
) -> Key {
    Key {
        section,
        name,
        kind,
        default,
        help,
    }
}

const MS: Kind = Kind::Whole(10, 3_600_000);
const PERCENT: Kind = Kind::Number(0.001, 100.0);

/// Every key but `[[hooks]]`.
pub(super) const KEYS: &[Key] = &[
    key(
        "listen",
        "socket",
        Kind::Text,
        "\"auto\"",
        "Unix socket; \"auto\": $XDG_RUNTIME_DIR/hookbus/hookbusd.sock, for root /run/hookbus/hookbusd.sock; \"\": none",
    ),
    key(
        "listen",
        "socket_mode",
        Kind::Text,
        "\"0600\"",
        "rights of the socket, octal",
    ),
    key(
        "listen",
        "allowed_uids",
        Kind::Uids,
        "[]",
        "users who may connect; []: the daemon's own and root",
    ),
    key(
        "listen",
        "tcp",
        Kind::Text,
        "\"\"",
        "TCP address, say \"127.0.0.1:7070\"; \"\": none. Without a token one may look there, not train or act",
    ),
    key(
        "listen",
        "insecure",
        Kind::Flag,
        "false",
        "allow a TCP address beyond loopback without TLS or tokens",
    ),
    key(
        "listen",
        "tls_cert",
        Kind::Text,
        "\"\"",
        "TLS for TCP: the certificate with its chain, PEM; \"\": no TLS",
    ),
    key(
        "listen",
        "tls_key",
        Kind::Text,
        "\"\"",
        "its private key, PEM, readable by its owner only",
    ),
    key(
        "listen",
        "tls_client_ca",
        Kind::Text,
        "\"\"",
        "authorities of clients' certificates, PEM; a client may show one instead of a token",
    ),
    key(
        "listen",
        "tls_client_role",
        Kind::Word(&["trainer", "viewer", "operator"]),
        "\"viewer\"",
        "what such a certificate gives",
    ),
    key(
        "auth",
        "trainer_token_file",
        Kind::Text,
        "\"\"",
        "over TCP: who may attach a training; one token a line, 16 bytes or more, readable by its owner only",
    ),
    key(
        "auth",
        "viewer_token_file",
        Kind::Text,
        "\"\"",
        "over TCP: who may look; \"\": everybody who can connect",
    ),
    key(
        "auth",
        "operator_token_file",
        Kind::Text,
        "\"\"",
        "over TCP: who may act, and look",
    ),
    key(
        "record",
        "enabled",
        Kind::Flag,
        "true",
        "the daemon itself sees the events, for progress, step times and losses",
    ),
    key(
        "record",
        "every",
        Kind::Whole(1, i64::MAX),
        "1",
        "of events, every n-th iteration",
    ),
    key(
        "record",
        "fields",
        Kind::Texts,
        "[\"*\"]",
        "metrics to record; \"*\": every one",
    ),
    key(
        "log",
        "level",
        Kind::Word(&["error", "warn", "info", "debug", "trace"]),
        "\"info\"",
        "what is logged; RUST_LOG wins",
    ),
    key(
        "log",
        "format",
        Kind::Word(&["text", "json"]),
        "\"text\"",
        "how",
    ),
    key(
        "log",
        "file",
        Kind::Text,
        "\"\"",
        "where; \"\": standard error",
    ),
    key(
        "limits",
        "sessions",
        Kind::Whole(1, 1_000_000),
        "4096",
        "open sessions",
    ),
    key(
        "limits",
        "frame_bytes",
        Kind::Whole(65_536, 64 << 20),
        "1048576",
        "bytes of one frame",
    ),
    key(
        "limits",
        "string_bytes",
        Kind::Whole(256, 1 << 20),
        "4096",
        "bytes of one name or text",
    ),
    key(
        "limits",
        "fields",
        Kind::Whole(1, 65_536),
        "256",
        "fields of one event",
    ),
    key(
        "limits",
        "batch_events",
        Kind::Whole(1, 1_000_000),
        "8192",
        "events of one batch",
    ),
    key(
        "limits",
        "in_flight_bytes",
        Kind::Whole(65_536, 1 << 30),
        "4194304",
        "bytes sent and not acknowledged, per session",
    ),
    key(
        "limits",
        "metrics",
        Kind::Whole(1, 65_536),
        "1024",
        "metric names of an attempt",
    ),
    key(
        "limits",
        "stall_budget",
        Kind::Number(0.0, 1.0),
        "0.005",
        "share of wall time that gates may cost a trainer; 0: no budget",
    ),
    key(
        "limits",
        "probe_ms",
        MS,
        "1000",
        "how often a trainer whose gate timed out tries again",
    ),
    key("sampler", "host_ms", MS, "100", "host memory and swap"),
    key(
        "sampler",
        "process_ms",
        MS,
        "100",
        "the trainers' main processes",
    ),
    key(
        "sampler",
        "children_ms",
        MS,
        "1000",
        "the processes below them",
    ),
    key(
        "sampler",
        "smaps_ms",
        MS,
        "10000",
        "PSS, USS and swap of each of them: some 10 ms a GB",
    ),
    key(
        "sampler",
        "cgroup_ms",
        MS,
        "1000",
        "the memory cgroups that bind them",
    ),
    key(
        "sampler",
        "shm_ms",
        MS,
        "5000",
        "/dev/shm, theirs and the host's",
    ),
    key("sampler", "gpu_ms", MS, "1000", "GPUs"),
    key(
        "sampler",
        "host_budget_percent",
        PERCENT,
        "0.1",
        "what looking at the host may cost, in percent of one core; beyond that it is looked at less often",
    ),
    key(
        "sampler",
        "process_budget_percent",
        PERCENT,
        "0.1",
        "the same for the main processes",
    ),
    key(
        "sampler",
        "children_budget_percent",
        PERCENT,
        "0.2",
        "the same for those below them",
    ),
    key(
        "sampler",
        "smaps_budget_percent",
        PERCENT,
        "1.0",
        "the same for smaps_rollup",
    ),
    key(
        "sampler",
        "cgroup_budget_percent",
        PERCENT,
        "0.5",
        "the same for cgroups",
    ),
    key(
        "sampler",
        "shm_budget_percent",
        PERCENT,
        "0.1",
        "the same for /dev/shm",
    ),
    key(
        "sampler",
        "gpu_budget_percent",
        PERCENT,
        "2.0",
        "the same for GPUs",
    ),
    key(
        "sampler",
        "gpu",
        Kind::Flag,
        "true",
        "look for GPUs by NVML",
    ),
    key(
        "sampler",
        "nvml_library",
        Kind::Text,
        "\"\"",
        "another file than the usual libnvidia-ml.so.1",
    ),
    key(
        "journal",
        "enabled",
        Kind::Flag,
        "true",
        "each run has a file, from which this daemon goes on after its death, and which can be read afterwards",
    ),
    key(
        "journal",
        "dir",
        Kind::Text,
        "\"auto\"",
        "where; \"auto\": $STATE_DIRECTORY, else for root /var/lib/hookbus, else $XDG_STATE_HOME/hookbus or ~/.local/state/hookbus",
    ),
    key(
        "journal",
        "sample_ms",
        Kind::Whole(100, 3_600_000),
        "10000",
        "how often memory goes to it",
    ),
    key(
        "journal",
        "max_age_days",
        Kind::Whole(0, 36_500),
        "30",
        "runs that ended longer ago are removed",
    ),
    key(
        "journal",
        "max_bytes",
        Kind::Whole(0, i64::MAX),
        "10737418240",
        "the oldest ended runs are removed while all together are larger",
    ),
    key(
        "providers",
        "python",
        Kind::Text,
        "\"python3\"",
        "the interpreter for hooks with a `module`: a program's name, or a path, from this file's directory on; \"\": none is started, the modules' providers attach by hand (hookbus hooks serve)",
    ),
    key(
        "providers",
        "path",
        Kind::Texts,
        "[]",
        "where it looks for modules besides this file's directory: directories, from there on",
    ),
    key(
        "providers",
        "failures",
        Kind::Whole(1, 1_000_000),
        "5",
        "a hook of a module that fails so often in a row is switched off",
    ),
    key(
        "providers",
        "hung_ms",
        Kind::Whole(1000, 3_600_000),
        "30000",
        "a module's process that answers nothing for so long while calls wait is ended and started again",
    ),
    key(
        "providers",
        "start_ms",
        Kind::Whole(0, 600_000),
        "10000",
        "how long the daemon waits for the modules' hooks at its start; what comes later counts from then on",
    ),
    key(
        "drain",
        "deadline_ms",
        Kind::Whole(0, 3_600_000),
        "3000",
        "how long an ending daemon waits for its sessions",
    ),
];
