//! Plain words of a training run, as the daemon uses them. No I/O, no clock, no wire.

pub mod allocator;
pub mod clock;
pub mod command;
pub mod counting;
pub mod description;
pub mod devices;
pub mod event;
pub mod every;
pub mod gpu;
pub mod hex;
pub mod ids;
pub mod incident;
pub mod memory;
pub mod near;
pub mod plan;
pub mod role;
pub mod sample;
pub mod schedule;
pub mod state;
pub mod state_text;
pub mod step_times;
pub mod trainer;
pub mod value;

pub use allocator::AllocatorSample;
pub use clock::Clock;
pub use command::{Command, Deed, LogLevel, LogLine, Outcome, TrainerResult};
pub use counting::Interval;
pub use description::{Classes, Dataset, Description, Module, NumClasses};
pub use devices::{DeviceUse, Owners, VisibleDevice};
pub use event::{Batch, Event, GateRequest, Names, Position, UnknownField};
pub use every::{Base, Every};
pub use gpu::{GpuProcess, GpuSample, MigSample, Pid};
pub use ids::{Rank, RunId};
pub use incident::{Incident, IncidentKind};
pub use memory::{
    CgroupSample, ChildSample, Detail, OwnMemory, ProcessRole, ProcessSample, ShmSample,
};
pub use plan::{Otherwise, Plan, Subscription, Way, When};
pub use role::{Role, Roles};
pub use sample::{HostSample, ProbeCost, Reading};
pub use schedule::{Curve, EncodedSchedule, Schedule, Size, SizeFrom, SizeStep, Standing};
pub use state::{
    DesiredState, Effective, Flag, Hold, LrHold, Mode, ScheduleRef, SizeHold, Stop, Wanted,
};
pub use state_text::StateText;
pub use step_times::StepTimes;
pub use trainer::{Facts, Heartbeat, Hello, Hole, ParamGroup, ProcessIdentity};
pub use value::{HookRequest, Value};
