//! Runs: where they are, what they take, what was decided and done.

use super::page::{Buckets, Labels, Of, Page, plain, seconds};
use crate::domain::Outcome;
use crate::snapshot::{Phase, RankSnapshot, RunSnapshot};

pub(super) fn run(page: &mut Page, run: &RunSnapshot) {
    let id = run.id.to_string();
    let of_run = || vec![("run", id.clone())];
    page.info(
        plain("run", "A run's name and launch"),
        vec![
            ("run", id.clone()),
            ("name", run.id.name.to_string()),
            ("launch", run.id.launch.to_string()),
        ],
    );
    let first = run.ranks.values().next();
    let count = |number: Option<u64>| number.map(|number| number as f64);
    let is_running = run.phase == Phase::Running;
    let open = run.incidents.iter().filter(|(one, _)| one.open).count();
    for (of, value) in [
        (
            plain("run_running", "1 while a rank has not ended"),
            Some(f64::from(u8::from(is_running))),
        ),
        (
            plain("run_attempt", "Which start of the run, from 0"),
            Some(f64::from(run.attempt)),
        ),
        (
            plain("run_world_size", "Ranks that there shall be"),
            Some(f64::from(run.world_size)),
        ),
        (
            plain("run_ranks_connected", "Ranks with an open session"),
            Some(run.ranks.values().filter(|rank| rank.connected).count() as f64),
        ),
        (
            plain("run_max_epochs", "Epochs that the training shall have"),
            count(run.facts.max_epochs),
        ),
        (
            plain(
                "run_max_iterations",
                "Iterations that the training shall have",
            ),
            count(run.facts.max_iters),
        ),
        (
            plain("run_epoch", "Epoch of the lowest rank, from 0"),
            first.map(|rank| rank.position.epoch as f64),
        ),
        (
            plain("run_loss", "The last loss of the lowest rank"),
            first.and_then(|rank| rank.last.get("loss").copied()),
        ),
        (
            plain("incidents_open", "Things to look at"),
            Some(open as f64),
        ),
    ] {
        page.gauge(of, of_run(), value);
    }
    for rank in run.ranks.values() {
        self::rank(page, &id, rank);
    }
    for hook in &run.hooks {
        let labels = || vec![("run", id.clone()), ("hook", hook.name.clone())];
        let counts = &hook.counts;
        for (of, value) in [
            (
                plain("hook_calls", "Events that a hook has seen"),
                hook.calls as f64,
            ),
            (
                plain("hook_decisions", "Decisions that a hook has made"),
                hook.decisions as f64,
            ),
            (
                plain(
                    "hook_seconds",
                    "Time that a hook's calls took; of a provider's until the answers came",
                ),
                counts.time.as_secs_f64(),
            ),
            (
                plain(
                    "hook_errors",
                    "Calls in which a hook raised, and decisions that were not valid",
                ),
                counts.errors as f64,
            ),
            (
                plain("hook_timeouts", "Calls that a hook did not answer in time"),
                counts.timeouts as f64,
            ),
            (
                plain(
                    "hook_missed",
                    "Events that a hook was not called for: too many calls waited already",
                ),
                counts.missed as f64,
            ),
            (
                plain(
                    "hook_overruled",
                    "Decisions that a hook of a higher priority took otherwise",
                ),
                counts.overruled as f64,
            ),
            (
                plain(
                    "hook_withheld",
                    "Decisions that a hook's policy kept from the training",
                ),
                counts.withheld as f64,
            ),
        ] {
            page.counter(of, labels(), value);
        }
        page.gauge(
            plain(
                "hook_enabled",
                "0: it was switched off because it did not work",
            ),
            labels(),
            f64::from(u8::from(hook.disabled.is_none())),
        );
    }
    for ((kind, outcome), count) in &run.outcomes {
        let labels = vec![
            ("run", id.clone()),
            ("kind", kind.to_string()),
            ("outcome", word(*outcome).to_owned()),
        ];
        page.counter(
            plain(
                "commands",
                "What ranks did with states and commands that were sent to them",
            ),
            labels,
            *count as f64,
        );
    }
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Applied => "applied",
        Outcome::Rejected => "rejected",
        Outcome::Unsupported => "unsupported",
        Outcome::Failed => "failed",
        Outcome::Expired => "expired",
    }
}

pub(super) fn labels(run: &str, rank: &RankSnapshot) -> Labels {
    vec![("run", run.to_owned()), ("rank", rank.rank.to_string())]
}

/// With these labels too.
pub(super) fn with(labels: &Labels, more: &[(&'static str, &str)]) -> Labels {
    let more = more
        .iter()
        .map(|(name, value)| (*name, (*value).to_owned()));
    labels.iter().cloned().chain(more).collect()
}

fn rank(page: &mut Page, run: &str, rank: &RankSnapshot) {
    let of_rank = || labels(run, rank);
    let dropped = rank.dropped.values().sum::<u64>();
    let counters: [(Of, f64); 5] = [
        (plain("events", "Events received"), rank.events as f64),
        (
            plain(
                "events_dropped",
                "Events that a client dropped because its buffer was full",
            ),
            dropped.max(rank.heartbeat.dropped_events) as f64,
        ),
        (
            plain("gates", "Gates that hooks have answered"),
            rank.gates as f64,
        ),
        (
            plain("gate_timeouts", "Gates that no answer came for in time"),
            rank.heartbeat.gate_timeouts as f64,
        ),
        (
            seconds("gate_wait", "Time that the training waited in gates"),
            rank.heartbeat.gate_wait.as_secs_f64(),
        ),
    ];
    for (of, value) in counters {
        page.counter(of, of_rank(), value);
    }
    page.gauge(
        plain("run_iteration", "Iterations over the whole training"),
        of_rank(),
        rank.position.iter as f64,
    );
    for (name, help, times) in [
        (
            "step_duration",
            "From one after_train_iter to the next within an epoch",
            &rank.steps,
        ),
        (
            "data_wait",
            "From an after_train_iter to the before_train_iter that follows it at once: the loop waited for its next batch",
            &rank.data_waits,
        ),
    ] {
        if times.count() > 0 {
            let buckets = Buckets {
                sum_s: times.sum().as_secs_f64(),
                count: times.count(),
                each: times.buckets_s().collect(),
            };
            page.histogram(seconds(name, help), of_rank(), buckets);
        }
    }
}
