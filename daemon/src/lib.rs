//! hookbusd: the hooks of a training run, outside the training process.
//!
//! # The map
//!
//! ```text
//! trainer --proto--> service --Event--> bus --&Event--> hooks
//! trainer <--proto-- service <--State-- bus <-steering <-Decision-'
//! probes ----------> sampler --Sample--> store --View--> hooks, inspect --> service --proto--> operator
//! ```
//!
//! | module | what it is |
//! |---|---|
//! | [`program`] | the whole of main: arguments, configuration, log, bind, run, exit status; what a daemon with hooks of its own calls |
//! | [`daemon`] | the wiring; the only file that knows every part |
//! | [`config`] | sections, defaults, validation; the only reader of configuration files, environment and arguments |
//! | [`logging`] | tracing as text or JSON |
//! | [`lifetime`] | when it ends: asked to, with the process that it belongs to, or when nobody is connected |
//! | [`listen`] | bind and accept: one listener for gRPC and HTTP/1, over TCP with TLS if asked |
//! | [`announce`] | the ready file, and systemd |
//! | [`http`] | /healthz, /readyz, /metrics |
//! | [`metrics`] | the Prometheus text, from snapshots |
//! | [`domain`] | plain words, no I/O |
//! | [`service`] | the edge: who may ask for what; validates, converts, sends one message, returns; the only user of tonic and the wire |
//! | [`session`] | one rank's admission and the order of its events, as pure state |
//! | [`bus`] | one task a run owns its ranks and hooks; events in, decisions out |
//! | [`hooks`] | the trait and the one list of hooks; one file a hook |
//! | [`providers`] | hooks in other processes: what is said to them, and which there are |
//! | [`pages`] | docs/hooks: a page a hook, from the one list |
//! | [`steering`] | desired state, commands and orders: merge, address, await results |
//! | [`sampler`] | probes on a thread of their own |
//! | [`store`] | samples in memory, the view that hooks read; the journal on disk |
//! | [`snapshot`] | what a run shows: published by its bus, held by readers |
//! | [`inspect`] | answers for operators, computed off the sessions' thread |
//!
//! # What may name what
//!
//! ```text
//! domain -> nothing
//! store -> domain, snapshot
//! hooks -> domain, store
//! steering -> domain
//! session -> domain
//! snapshot -> domain
//! sampler -> domain, store
//! providers -> domain, hooks
//! bus -> domain, hooks, providers, session, snapshot, steering, store
//! inspect -> domain, hooks, providers, snapshot, store
//! pages -> hooks
//! service -> all of these, and the wire
//! daemon, program -> everything
//! ```
//!
//! # Invariants
//!
//! - A hook cannot hurt: it is called inside `catch_unwind`; one that panics is switched off and reported.
//! - Acknowledged means committed to the journal, in order, once, with what hooks knew and decided then. (Without a journal:
//!   taken by the bus.) No gate waits for a commit.
//! - The generation of a desired state never goes back; a decision's id derives from its cause, so a repeat has the same.
//! - A number that could not be read is absent with a reason; it is never 0.
//! - No device, /proc of a large process or disk is touched on an async worker.
//!
//! # Channels
//!
//! | from -> to | bound | when full |
//! |---|---|---|
//! | service -> bus (a run's inbox) | 256 messages | the session waits, HTTP/2 flow control holds the client back, its own buffer drops the oldest batch, counted |
//! | bus -> service (a rank's outbox) | 256 messages | acknowledgements are skipped (the next one covers them); for anything else the session is closed, the client reconnects and gets the state whole |
//! | bus -> provider (calls) | 4,096 messages a connection | what does not fit waits in the run, 1,024 calls a hook; beyond that events are missed, counted |
//! | provider -> bus (a run's answers) | 1,024 answers | the provider's connection waits: there are no more than the calls that wait |
//! | bus -> readers (snapshots) | 1, `watch` | the newest replaces the older |
//! | bus -> who follows a run | 1,024 happenings | the happening is lost to that reader, which is told how many |
//! | journal -> who follows a run from earlier, who reads its tables | 1,024 happenings, 4 parts | the reading waits; the file is closed between two pages of happenings |
//! | bus -> an operator's order | 1,024 updates | the update is dropped and counted in the log; the run's results still have it |
//! | bus -> journal | none: what is taken and not settled is bounded by the clients' in-flight bytes once 100,000 rows wait | the clients wait; while the disk takes nothing the oldest beyond 16 MiB a run go: events become counted holes, samples and lines of the log are counted |
//! | journal -> bus (how far it is) | 1, `watch` | the newest replaces the older |
//! | sampler -> store | 1 per source | the newest replaces the older |

pub mod announce;
pub mod bus;
pub mod config;
pub mod daemon;
pub mod domain;
pub mod hooks;
pub mod http;
pub mod inspect;
pub mod lifetime;
pub mod listen;
pub mod logging;
pub mod metrics;
pub mod pages;
pub mod program;
pub mod providers;
pub mod sampler;
pub mod service;
pub mod session;
pub mod snapshot;
pub mod steering;
pub mod store;
