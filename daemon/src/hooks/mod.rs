//! Hooks: code that sees events and memory and decides. A hook is `(now, view, event) -> decisions with reasons`, pure
//! but for its own serialisable state. It knows no wire, no runtime, no clock, no file and no environment.
//!
//! The list in [`LIST`] is the one source: parsing, `hookbus hooks`, the README's table, the example config, the pages in
//! `docs/hooks` and the parity tests' table of differences follow it.
//!
//! # A hook of one's own
//!
//! Implement [`Hook`], describe it in a [`Kind`], and give that to [`crate::program::main`]: it is asked for, ordered, kept
//! in the journal and shown as the built-in ones are. `demo/own_daemon` is a whole one.

mod args;
mod check_invalid_loss;
mod guarded;
pub mod memory_profiler;
mod num_class_check;
mod rule;
mod set_epoch_info;
mod sync_norm;
mod sync_random_size;
mod yolox_lr;
mod yolox_mode_switch;

use std::fmt;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

pub use args::{Args, NORMAL, policy, priority};
pub use check_invalid_loss::CheckInvalidLossHook;
pub(crate) use guarded::guarded;
pub use memory_profiler::MemoryProfilerHook;
pub use num_class_check::NumClassCheckHook;
pub use rule::Rule;
pub use set_epoch_info::SetEpochInfoHook;
pub use sync_norm::SyncNormHook;
pub use sync_random_size::SyncRandomSizeHook;
pub use yolox_lr::YOLOXLrUpdaterHook;
pub use yolox_mode_switch::YOLOXModeSwitchHook;

use crate::domain::{
    Deed, Description, Event, Facts, Hold, HookRequest, IncidentKind, LogLine, Names, Position,
    Rank, Size, Standing, Subscription, Value,
};
use crate::store::View;

/// How long a trainer waits in a gate at an iteration.
pub const ITER_DEADLINE: Duration = Duration::from_millis(50);

/// How long a trainer waits in a gate at an epoch.
pub const EPOCH_DEADLINE: Duration = Duration::from_secs(2);

/// One event as a hook sees it.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The rank that reached the point.
    pub rank: Rank,
    /// The point's name.
    pub point: &'a str,
    /// The event.
    pub event: &'a Event,
    /// The names of its fields.
    pub names: &'a Names,
    /// What the rank's model and datasets are; None: it has not said.
    pub description: Option<&'a Description>,
    /// At a gate of a job whose ranks act together: where its condition held. Empty: on this rank.
    pub held_on: &'a [Rank],
}

impl Seen<'_> {
    /// Where.
    pub fn position(&self) -> Position {
        self.event.position
    }

    /// A metric by name.
    pub fn metric(&self, name: &str) -> Option<f64> {
        self.event.metric(self.names, name)
    }
}

/// What a hook may look at besides the event.
pub struct Context<'a> {
    /// The daemon's monotonic clock.
    pub now: Instant,
    /// The newest memory samples.
    pub view: &'a dyn View,
}

/// What a hook wants.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// End the training: at a gate here, else at the next boundary. The logs are written first.
    Stop {
        /// Why, for people.
        reason: String,
        /// Lines for the trainer's log, written before the stop.
        logs: Vec<LogLine>,
        /// What kind of incident this is.
        incident: IncidentKind,
    },
    /// A line for the trainer's log.
    Log(LogLine),
    /// Something of the desired state, from the next boundary on.
    Want(Want),
    /// Something done once, by the rank whose event it was.
    Do(Deed),
    /// Something to look at, in words; the training goes on.
    Incident(String),
}

/// What a hook wants of the training from where it is on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Want {
    /// A learning rate: it takes the place of what this hook wanted of the group before.
    Lr {
        /// None: every group.
        group: Option<u32>,
        /// What.
        hold: Hold,
    },
    /// An input size.
    Size(Size),
    /// YOLOX's mode.
    Mode {
        /// None: the next epoch.
        from_epoch: Option<u64>,
        /// None: those of the run's YOLOXModeSwitchHook, else YOLOX's own.
        skip_types: Vec<String>,
    },
    /// `model.set_epoch(epoch)` before each epoch.
    SetEpoch(bool),
    /// The mean of the norm layers' states before each validation.
    SyncNorm(bool),
}

impl Want {
    /// Which field of the desired state, as `hookbus show` has it; two hooks cannot both have it at one position.
    pub fn field(&self) -> &'static str {
        match self {
            Self::Lr { .. } => "lr",
            Self::Size(_) => "size",
            Self::Mode { .. } => "mode",
            Self::SetEpoch(_) => "set_epoch",
            Self::SyncNorm(_) => "sync_norm",
        }
    }
}

/// What a hook decides ahead of the training, from the trainer's facts alone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ahead {
    /// None: nothing of the desired state.
    pub standing: Option<Standing>,
    /// For the trainer's log, once.
    pub warnings: Vec<String>,
}

/// A hook. Built-in ones answer at once.
pub trait Hook: Send {
    /// What it wants to see; the bus fills in the subscriber's name.
    fn subscriptions(&self) -> Vec<Subscription> {
        Vec::new()
    }

    /// Decides ahead. Called with each new facts; `run` is the run's name. Errors: why the hook cannot work with them, and
    /// what to do; nothing of it is then in force.
    fn ahead(&mut self, facts: &Facts, run: &str) -> Result<Ahead, String> {
        let _ = (facts, run);
        Ok(Ahead::default())
    }

    /// Called for each event that a subscription of it makes due. For a gate subscription only when a trainer waits.
    fn on_event(&mut self, cx: &Context<'_>, seen: &Seen<'_>) -> Vec<Decision> {
        let _ = (cx, seen);
        Vec::new()
    }

    /// What went wrong since it was asked last, one line each: such a call decided less than it should, or nothing.
    fn take_errors(&mut self) -> Vec<String> {
        Vec::new()
    }

    /// What must survive the daemon's death; null where there is nothing.
    fn state(&self) -> serde_json::Value {
        serde_json::Value::Null
    }

    /// Takes back what `state` gave. Errors: the text says what does not fit.
    fn restore(&mut self, state: &serde_json::Value) -> Result<(), String> {
        if state.is_null() {
            Ok(())
        } else {
            Err("this hook keeps no state".to_owned())
        }
    }
}

/// What the bus does with a hook's decisions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// They are carried out.
    #[default]
    Act,
    /// A stop becomes a warning in the trainer's log and an incident.
    Warn,
    /// They are only counted and shown.
    Observe,
}

impl Policy {
    /// The word in a config.
    pub fn word(self) -> &'static str {
        match self {
            Self::Act => "act",
            Self::Warn => "warn",
            Self::Observe => "observe",
        }
    }
}

/// Who asked for a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The daemon's configuration.
    Config,
    /// A trainer's Hello.
    Trainer,
    /// A provider's offer.
    Provider,
}

impl fmt::Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Config => "config",
            Self::Trainer => "trainer",
            Self::Provider => "provider",
        })
    }
}

/// The default of an argument that is not there unless it is said.
pub const NONE: &str = "none";

/// Instead of a default: the argument must be said.
pub const REQUIRED: &str = "required";

/// One argument of a hook type, for parsing errors, help and docs.
pub struct Arg {
    /// Its name, as in MMDetection.
    pub name: &'static str,
    /// Its default, as JSON, so that it is TOML too; or [`NONE`], or [`REQUIRED`].
    pub default: &'static str,
    /// What it does.
    pub help: &'static str,
}

/// Instead of an original: there is none.
pub const OWN: &str = "none";

/// What a hook's page says beside its summary and arguments; Markdown, each line of it a paragraph or an item of a list.
pub struct Page {
    /// Whose hook it is: the packages and their versions; or [`OWN`].
    pub original: &'static str,
    /// What it decides from.
    pub sees: &'static str,
    /// When, at its points.
    pub fires: &'static str,
    /// What happens then, and how long the training waits for it.
    pub does: &'static str,
    /// What is meant to differ from the original.
    pub differences: &'static [Difference],
    /// What else there is to say, as it stands on the page; None: nothing.
    pub more: Option<fn() -> String>,
}

impl Page {
    /// Of a hook of one's own that has no page.
    pub const NONE: Self = Self {
        original: OWN,
        sees: "",
        fires: "",
        does: "",
        differences: &[],
        more: None,
    };
}

/// Something that is meant to differ from the original. Never a decision that the original takes and a training survives.
#[derive(PartialEq)]
pub struct Difference {
    /// What differs.
    pub what: &'static str,
    /// What is done here.
    pub ours: &'static str,
    /// Why, which says what the original does.
    pub why: &'static str,
    /// None: nobody recorded it.
    pub recorded: Option<Recorded>,
}

/// Where the recorded behaviour of the originals (`tests/oracle`) has what differs.
#[derive(PartialEq)]
pub struct Recorded {
    /// The file's name, without its ending.
    pub file: &'static str,
    /// Kinds of cases. A name that ends in `*` stands for every kind that begins so.
    pub kinds: &'static [&'static str],
    /// What in them.
    pub fields: &'static str,
}

/// Of each hook with the argument `interval`.
const INTERVAL_IS_A_NUMBER: Difference = Difference {
    what: "an `interval` that is no number",
    ours: "the hook is refused where it is configured",
    why: "the original raises in mid-training",
    recorded: Some(Recorded {
        file: "helpers",
        kinds: &["every_n_*"],
        fields: "raised",
    }),
};

/// One type of hook.
pub struct Kind {
    /// The name in `type = "…"`.
    pub type_name: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// The points that it subscribes to, or at which what it decides ahead acts.
    pub points: &'static [&'static str],
    /// What it does to the training.
    pub effect: &'static str,
    /// Its arguments.
    pub args: &'static [Arg],
    /// What a configuration to begin with says instead of the default: (argument, TOML).
    pub example: &'static [(&'static str, &'static str)],
    /// A trainer cannot ask for it.
    pub config_only: bool,
    /// What its page says.
    pub page: Page,
    /// Builds one. Errors: the text names the argument.
    pub build: fn(&mut Args<'_>) -> Result<Box<dyn Hook>, String>,
}

impl Kind {
    /// An argument's value in a configuration to begin with, as TOML; None: it is left out.
    pub fn example_of(&self, arg: &Arg) -> Option<&'static str> {
        let said = self.example.iter().find(|(name, _)| *name == arg.name);
        said.map(|(_, value)| *value)
            .or((arg.default != NONE).then_some(arg.default))
    }
}

/// The one list of hooks.
pub const LIST: &[Kind] = &[
    check_invalid_loss::KIND,
    memory_profiler::KIND,
    num_class_check::KIND,
    rule::KIND,
    set_epoch_info::KIND,
    sync_norm::KIND,
    sync_random_size::KIND,
    yolox_lr::KIND,
    yolox_mode_switch::KIND,
];

/// The types that this daemon has beside [`LIST`].
static ADDED: OnceLock<&'static [Kind]> = OnceLock::new();

/// Adds types of one's own, before anything else: configurations, trainers and `hookbus hooks` then know them as the built-in
/// ones. Errors: a type is there already, or types were added before.
pub fn add(own: &'static [Kind]) -> Result<(), String> {
    let mut before = LIST.iter().chain(own).enumerate();
    let twice = before.find(|(at, kind)| {
        let mut earlier = LIST.iter().chain(own).take(*at);
        earlier.any(|other| other.type_name == kind.type_name)
    });
    if let Some((_, kind)) = twice {
        return Err(format!(
            "there are two types of hooks of the name {}; give yours another",
            kind.type_name
        ));
    }
    for kind in own {
        let written = kind
            .args
            .iter()
            .filter(|arg| ![REQUIRED, NONE].contains(&arg.default));
        let is_json =
            |arg: &&Arg| serde_json::from_str::<serde::de::IgnoredAny>(arg.default).is_ok();
        if let Some(arg) = written.clone().find(|arg| !is_json(arg)) {
            return Err(format!(
                "the default of {}'s {} is {}, which is no JSON; texts stand in double quotes",
                kind.type_name, arg.name, arg.default
            ));
        }
    }
    let added = ADDED.set(own);
    added.map_err(|_| "types of hooks were added already; add all of them at once".to_owned())
}

/// Every type of hook that this daemon has: the built-in ones, then its own.
pub fn all() -> impl Iterator<Item = &'static Kind> + Clone {
    LIST.iter().chain(ADDED.get().copied().unwrap_or_default())
}

/// A hook that is ready to run.
pub struct Configured {
    /// By which operators and decisions name it.
    pub name: String,
    /// Its type.
    pub type_name: &'static str,
    /// Smaller first, as in MMEngine (NORMAL is 50); equal ones in the order of registration.
    pub priority: i32,
    /// What happens with its decisions.
    pub policy: Policy,
    /// Who asked for it.
    pub origin: Origin,
    /// As asked for, for `hookbus show`.
    pub args: Vec<(String, Value)>,
    /// What it wants to see.
    pub subscriptions: Vec<Subscription>,
    /// The hook itself.
    pub hook: Box<dyn Hook>,
}

/// Builds the hook that `request` asks for. Errors: one line that says what is wrong and what to do.
pub fn build(request: &HookRequest, origin: Origin) -> Result<Configured, String> {
    if origin == Origin::Trainer && request.args.contains_key("module") {
        return Err(format!(
            "a trainer cannot name a module: {:?} with its module belongs into the daemon's configuration",
            request.type_name
        ));
    }
    let Some(kind) = all().find(|kind| kind.type_name == request.type_name) else {
        let known: Vec<_> = all().map(|kind| kind.type_name).collect();
        return Err(format!(
            "there is no hook {:?}; there are: {}",
            request.type_name,
            known.join(", ")
        ));
    };
    if kind.config_only && origin == Origin::Trainer {
        return Err(format!(
            "a {} comes from the daemon's configuration, not from a trainer",
            kind.type_name.to_lowercase()
        ));
    }
    let mut args = Args::new(kind, &request.args);
    let priority = args.priority()?;
    let policy = args.policy()?;
    let panicked = |what| format!("{} panicked as it was made: {what}", kind.type_name);
    let hook = guarded(|| (kind.build)(&mut args)).map_err(panicked)??;
    args.finish()?;
    let subscriptions = guarded(|| hook.subscriptions()).map_err(panicked)?;
    Ok(Configured {
        name: request.name.clone(),
        type_name: kind.type_name,
        priority,
        policy,
        origin,
        args: request
            .args
            .iter()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
        subscriptions,
        hook,
    })
}

/// The list for people, or as JSON with the field names of `hookbus.v1.HookInfo`.
pub fn listed(json: bool) -> String {
    if json {
        let arg = |arg: &Arg| serde_json::json!({"name": arg.name, "default": arg.default, "help": arg.help});
        let each = all().map(|kind| {
            let args: Vec<_> = kind.args.iter().map(arg).collect();
            serde_json::json!({
                "type": kind.type_name, "summary": kind.summary, "points": kind.points, "effect": kind.effect, "args": args, "module": null,
            })
        });
        return format!("{}\n", serde_json::Value::Array(each.collect()));
    }
    let mut text = String::new();
    for kind in all() {
        text.push_str(&format!(
            "{}: {}\n  at {}; {}\n",
            kind.type_name,
            kind.summary,
            kind.points.join(", "),
            kind.effect
        ));
        for arg in kind.args {
            text.push_str(&format!("  {} = {}  {}\n", arg.name, arg.default, arg.help));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(type_name: &str, args: &[(&str, Value)]) -> HookRequest {
        let args = args
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.clone()));
        HookRequest {
            type_name: type_name.to_owned(),
            name: type_name.to_owned(),
            args: args.collect(),
        }
    }

    fn ahead(type_name: &str, args: &[(&str, Value)], facts: &Facts) -> Result<Ahead, String> {
        build(&request(type_name, args), Origin::Config)?
            .hook
            .ahead(facts, "digits")
    }

    /// What a hook decides ahead in the run "digits".
    pub(super) fn decided(type_name: &str, args: &[(&str, Value)], facts: &Facts) -> Ahead {
        ahead(type_name, args, facts).unwrap_or_else(|why| panic!("{type_name} {args:?}: {why}"))
    }

    /// Why it doesn't build, or doesn't work with `facts`.
    pub(super) fn refused(type_name: &str, args: &[(&str, Value)], facts: &Facts) -> String {
        let why = ahead(type_name, args, facts)
            .map(|ahead| panic!("{type_name} {args:?} decides {ahead:?}"));
        let why = why.expect_err("anything else panicked");
        assert!(!why.contains('\n'), "one line: {why:?}");
        why
    }

    #[test]
    fn a_trainer_names_neither_a_module_nor_a_type_of_one() {
        let module = [("module", Value::Text("my_hooks".to_owned()))];
        for type_name in ["MemoryProfilerHook", "MyHook"] {
            let why = build(&request(type_name, &module), Origin::Trainer).err();
            let why = why.expect("it is refused");
            assert!(why.starts_with("a trainer cannot name a module: "), "{why}");
        }
        let why = build(&request("MyHook", &[]), Origin::Trainer).err();
        assert!(why.is_some_and(|why| why.starts_with("there is no hook \"MyHook\"; there are: ")));
    }

    #[test]
    fn every_hook_builds_with_its_defaults_or_names_what_it_needs() {
        for kind in LIST {
            let required: Vec<_> = kind
                .args
                .iter()
                .filter(|arg| arg.default == REQUIRED)
                .map(|arg| arg.name)
                .collect();
            match build(&request(kind.type_name, &[]), Origin::Config) {
                Ok(_) => assert!(required.is_empty(), "{}: {required:?}", kind.type_name),
                Err(why) => assert!(
                    required
                        .iter()
                        .any(|name| why.contains(&format!("{name} is missing"))),
                    "{}: {why}",
                    kind.type_name
                ),
            }
        }
    }
}
