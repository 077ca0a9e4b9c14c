//! What operators see.

use std::time::{Duration, Instant};

use hookbus_proto::v1 as wire;

use super::follow::{rank_result, wanted};
use super::outgoing::position;
use super::{gpu, memory};
use crate::domain::{Clock, Incident, Rank};
use crate::hooks;
use crate::inspect::{About, Look};
use crate::providers::{Offered, Provider};
use crate::snapshot::{AttemptSeen, HookSnapshot, Phase, RankSnapshot, RunSnapshot};

pub(super) fn age_s(now: Instant, at: Instant) -> f64 {
    now.saturating_duration_since(at).as_secs_f64()
}

fn unix_s(clock: Clock, at: Instant) -> f64 {
    clock.unix_us(at) as f64 / 1e6
}

fn phase(phase: Phase) -> wire::RunPhase {
    match phase {
        Phase::Running => wire::RunPhase::Running,
        Phase::Finished => wire::RunPhase::Finished,
        Phase::Stopped => wire::RunPhase::Stopped,
        Phase::Failed => wire::RunPhase::Failed,
        Phase::Lost => wire::RunPhase::Lost,
    }
}

/// One line of `hookbus runs`.
pub(in crate::service) fn run_summary(
    run: &RunSnapshot,
    clock: Clock,
    now: Instant,
) -> wire::RunSummary {
    let first = run.ranks.values().next();
    wire::RunSummary {
        id: run.id.to_string(),
        name: run.id.name.to_string(),
        launch: run.id.launch.to_string(),
        attempt: run.attempt,
        world_size: run.world_size,
        connected: run.ranks.values().filter(|rank| rank.connected).count() as u32,
        phase: phase(run.phase).into(),
        position: first.map(|rank| position(rank.position)),
        max_epochs: run.facts.max_epochs,
        max_iters: run.facts.max_iters,
        loss: first.and_then(|rank| rank.last.get("loss").copied()),
        age_s: age_s(now, run.started),
        reason: run.reason.clone(),
        incidents: run
            .incidents
            .iter()
            .filter(|(incident, _)| incident.open)
            .count() as u32,
        started_unix_s: unix_s(clock, run.started),
        ended_unix_s: run.ended.map(|at| unix_s(clock, at)),
        archived: run.archived,
        iters_per_epoch: run.facts.iters_per_epoch,
        left_s: first.and_then(|rank| left_s(run, rank)),
    }
}

/// Until the training's end at the pace of the last steps. None: it does not go on, or end or pace are not known.
fn left_s(run: &RunSnapshot, rank: &RankSnapshot) -> Option<f64> {
    let end = run.facts.total_iters()?;
    let goes_on = run.phase == Phase::Running && rank.ended.is_none();
    let step = rank.step.filter(|_| goes_on)?;
    Some(end.saturating_sub(rank.position.iter) as f64 * step.as_secs_f64())
}

/// Every start of a run.
fn attempts(run: &RunSnapshot, clock: Clock) -> Vec<wire::Attempt> {
    let this = AttemptSeen {
        attempt: run.attempt,
        phase: run.phase,
        reason: run.reason.clone(),
        started: run.started,
        ended: run.ended,
        position: run
            .ranks
            .values()
            .map(|rank| rank.position)
            .max()
            .unwrap_or_default(),
    };
    run.before
        .iter()
        .chain([&this])
        .map(|seen| wire::Attempt {
            attempt: seen.attempt,
            phase: phase(seen.phase).into(),
            reason: seen.reason.clone(),
            started_unix_s: unix_s(clock, seen.started),
            ended_unix_s: seen.ended.map(|at| unix_s(clock, at)),
            position: Some(position(seen.position)),
        })
        .collect()
}

/// A run with its ranks, and every memory reading.
pub(in crate::service) fn snapshot(look: &Look) -> wire::SnapshotReply {
    snapshot_at(look, look.now)
}

/// The same, as old as it is later.
pub(super) fn snapshot_at(look: &Look, now: Instant) -> wire::SnapshotReply {
    let mut reply = wire::SnapshotReply {
        host: Some(memory::host(&look.host, &look.host_shm, now)),
        gpus: look
            .gpus
            .iter()
            .flatten()
            .map(|card| gpu::card(card, &look.owners, now))
            .collect(),
        gpu_unknown: look.gpus.as_ref().err().cloned().unwrap_or_default(),
        probes: look.probes.iter().map(memory::probe).collect(),
        at_unix_s: unix_s(look.clock, now),
        ..Default::default()
    };
    let Some(run) = &look.run else { return reply };
    reply.run = Some(run_summary(run, look.clock, now));
    reply.attempts = attempts(run, look.clock);
    reply.ranks = run
        .ranks
        .values()
        .map(|seen| rank(seen, look, now))
        .collect();
    reply.hooks = run.hooks.iter().map(hook_status).collect();
    let refused = run
        .refused
        .iter()
        .map(|(what, reason, rank)| wire::Refused {
            what: what.clone(),
            reason: reason.clone(),
            rank: rank.0,
        });
    reply.refused = refused.collect();
    reply.results = run
        .results
        .iter()
        .map(|seen| rank_result(seen, age_s(now, seen.at)))
        .collect();
    reply.incidents = run
        .incidents
        .iter()
        .map(|(seen, at)| incident(seen, age_s(now, *at)))
        .collect();
    reply.wanted = run.wanted.iter().map(wanted).collect();
    let logs = run.logs.iter().map(|line| wire::LogSeen {
        rank: line.rank.0,
        at: Some(position(line.at)),
        text: line.text.clone(),
        by: line.by.clone(),
    });
    reply.logs = logs.collect();
    reply
}

pub(super) fn incident(incident: &Incident, age_s: f64) -> wire::Incident {
    wire::Incident {
        id: incident.id.clone(),
        kind: incident.kind.word().to_owned(),
        text: incident.text.clone(),
        open: incident.open,
        rank: incident.rank.map(|Rank(rank)| rank),
        at: Some(position(incident.at)),
        age_s,
    }
}

fn rank(seen: &RankSnapshot, look: &Look, now: Instant) -> wire::Rank {
    let beat = &seen.heartbeat;
    let sample = look.processes.get(&seen.rank);
    let mut memory = memory::process(seen, sample, now);
    gpu::of_rank(&mut memory, seen, sample, &look.gpus, now);
    wire::Rank {
        rank: seen.rank.0,
        local_rank: seen.local_rank,
        node: seen.node.clone(),
        connected: seen.connected,
        pid: seen.process.map(|(pid, _)| pid).unwrap_or_default(),
        position: Some(position(seen.position)),
        point: seen.point.to_string(),
        last: seen
            .last
            .iter()
            .map(|(name, value)| (name.to_string(), *value))
            .collect(),
        events: seen.events,
        acked: seen.acked,
        dropped: seen.dropped.values().sum::<u64>().max(beat.dropped_events),
        dropped_points: seen
            .dropped
            .iter()
            .map(|(point, count)| (point.to_string(), *count))
            .collect(),
        step_s: seen.step.as_ref().map(Duration::as_secs_f64),
        last_heard_s: age_s(now, seen.last_heard),
        reason: seen.ended.clone().unwrap_or_default(),
        memory: Some(memory),
        children: match sample {
            Some(Ok(sample)) => (sample.children.as_ref().ok()).map(|all| all.len() as u32),
            _ => memory::sent(seen).and_then(|(own, _)| own.children),
        },
        gates: seen.gates,
        gate_timeouts: beat.gate_timeouts,
        gate_wait_s: beat.gate_wait.as_secs_f64(),
        breaker_open: beat.breaker_open,
        peak_rss_bytes: seen.peak_rss_bytes,
        data_wait_s: seen.data_wait.as_ref().map(Duration::as_secs_f64),
    }
}

fn hook_status(hook: &HookSnapshot) -> wire::HookStatus {
    wire::HookStatus {
        name: hook.name.clone(),
        r#type: hook.type_name.clone(),
        origin: hook.origin.clone(),
        policy: hook.policy.clone(),
        priority: hook.priority,
        calls: hook.calls,
        decisions: hook.decisions,
        disabled: hook.disabled.clone().unwrap_or_default(),
        args: hook.args.iter().cloned().collect(),
        time_s: hook.counts.time.as_secs_f64(),
        errors: hook.counts.errors,
        timeouts: hook.counts.timeouts,
        missed: hook.counts.missed,
        overruled: hook.counts.overruled,
        withheld: hook.counts.withheld,
        last_withheld: hook.counts.last_withheld.clone().unwrap_or_default(),
        module: hook.module.clone().unwrap_or_default(),
        away: hook.away.clone().unwrap_or_default(),
    }
}

/// The one list of hooks.
pub(in crate::service) fn hooks(providers: &[Provider]) -> wire::HooksReply {
    let provided = providers.iter().flat_map(|provider| {
        let hooks = provider.hooks.iter().flat_map(|hooks| hooks.iter());
        hooks.map(|hook| provided(&provider.module, hook))
    });
    let hooks = hooks::all().map(|kind| wire::HookInfo {
        r#type: kind.type_name.to_owned(),
        summary: kind.summary.to_owned(),
        points: kind
            .points
            .iter()
            .map(|point| (*point).to_owned())
            .collect(),
        args: kind
            .args
            .iter()
            .map(|arg| wire::HookArg {
                name: arg.name.to_owned(),
                default_value: arg.default.to_owned(),
                help: arg.help.to_owned(),
            })
            .collect(),
        effect: kind.effect.to_owned(),
        module: String::new(),
    });
    wire::HooksReply {
        hooks: hooks.chain(provided).collect(),
    }
}

/// A hook of a provider, with the arguments that it was given.
fn provided(module: &str, hook: &Offered) -> wire::HookInfo {
    let mut points: Vec<_> = (hook.subscriptions.iter())
        .map(|wish| wish.point.clone())
        .collect();
    points.dedup();
    let args = hook.request.args.iter().map(|(name, value)| wire::HookArg {
        name: name.clone(),
        default_value: value.to_string(),
        help: "as it was given".to_owned(),
    });
    wire::HookInfo {
        r#type: hook.request.type_name.clone(),
        summary: hook.summary.clone(),
        points,
        args: args.collect(),
        effect: format!(
            "what its code decides; its name is {}, its policy {}",
            hook.request.name,
            hook.policy.word()
        ),
        module: module.to_owned(),
    }
}

/// The daemon itself.
pub(in crate::service) fn about(about: &About) -> wire::AboutReply {
    let findings = about.findings.iter().map(|finding| wire::Finding {
        what: finding.what.to_string(),
        ok: finding.text.is_ok(),
        text: match &finding.text {
            Ok(text) | Err(text) => text.clone(),
        },
        mend: if finding.text.is_ok() {
            String::new()
        } else {
            finding.mend.to_owned()
        },
    });
    wire::AboutReply {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        uptime_s: about.uptime.as_secs_f64(),
        findings: findings.collect(),
        listening: about.listening.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Detail, OwnMemory, ProcessSample, Reading};

    fn rank_at(iter: u64, step_ms: Option<u64>) -> RankSnapshot {
        RankSnapshot {
            rank: Rank(0),
            local_rank: None,
            node: String::new(),
            connected: true,
            process: None,
            process_unknown: String::new(),
            position: crate::domain::Position {
                iter,
                ..Default::default()
            },
            point: "".into(),
            last: Default::default(),
            events: 0,
            acked: 0,
            dropped: Default::default(),
            step: step_ms.map(Duration::from_millis),
            data_wait: Some(Duration::from_millis(3)),
            last_heard: Instant::now(),
            heartbeat: Default::default(),
            own_rss_bytes: None,
            own_memory: None,
            allocator: None,
            steps: Default::default(),
            data_waits: Default::default(),
            peak_rss_bytes: None,
            gates: 0,
            ended: None,
        }
    }

    fn run_in(phase: Phase, facts: crate::domain::Facts) -> RunSnapshot {
        RunSnapshot {
            id: crate::domain::RunId {
                name: "digits".into(),
                launch: "1".into(),
            },
            attempt: 0,
            world_size: 1,
            phase,
            reason: String::new(),
            started: Instant::now(),
            ended: None,
            archived: false,
            before: Vec::new(),
            facts,
            ranks: Default::default(),
            hooks: Vec::new(),
            refused: Vec::new(),
            wanted: Vec::new(),
            results: Default::default(),
            outcomes: Default::default(),
            incidents: Vec::new(),
            logs: Default::default(),
        }
    }

    #[test]
    fn the_time_left_is_what_is_to_do_at_the_pace_of_the_last_steps() {
        let facts = crate::domain::Facts {
            max_epochs: Some(2),
            iters_per_epoch: Some(50),
            ..Default::default()
        };
        let run = |phase| run_in(phase, facts.clone());
        let running = run(Phase::Running);
        assert_eq!(left_s(&running, &rank_at(60, Some(500))), Some(20.0));
        assert_eq!(left_s(&running, &rank_at(130, Some(500))), Some(0.0));
        assert_eq!(left_s(&running, &rank_at(60, None)), None);
        assert_eq!(left_s(&run(Phase::Lost), &rank_at(60, Some(500))), None);
        let mut endless = run(Phase::Running);
        endless.facts.iters_per_epoch = None;
        assert_eq!(left_s(&endless, &rank_at(60, Some(500))), None);
        let look = nothing();
        let seen = rank(&rank_at(60, None), &look, look.now);
        assert_eq!((seen.step_s, seen.data_wait_s), (None, Some(0.003)));
    }

    fn nothing() -> Look {
        let now = Instant::now();
        let unix = Duration::ZERO;
        Look {
            now,
            clock: Clock { at: now, unix },
            run: None,
            host: Err("there is no /proc".to_owned()),
            host_shm: Err("there is no /proc".to_owned()),
            probes: Vec::new(),
            processes: Default::default(),
            gpus: Err("no driver".to_owned()),
            owners: Default::default(),
        }
    }

    #[test]
    fn a_rank_of_which_there_is_nothing_new_is_not_sent_again() {
        let mut run = run_in(Phase::Running, Default::default());
        let heard = RankSnapshot {
            own_rss_bytes: Some((500, Instant::now())),
            ..rank_at(60, Some(500))
        };
        run.ranks.insert(Rank(0), heard.clone().into());
        let mut before = nothing();
        before.run = Some(run.clone().into());
        let mut later = nothing();
        later.now = before.now + Duration::from_secs(7);
        later.clock = before.clock;
        later.run = before.run.clone();
        let sent = super::super::changes::since(&before, &later);
        assert!(sent.changes);
        assert_eq!(sent.ranks, []);
        let more = RankSnapshot { events: 1, ..heard };
        run.ranks.insert(Rank(0), more.into());
        later.run = Some(run.into());
        let sent = super::super::changes::since(&before, &later);
        assert_eq!(sent.ranks.len(), 1);
        let age = sent.ranks[0].last_heard_s;
        assert!(age >= 7.0, "it is as old as it is: {age}");
    }

    #[test]
    fn how_many_children_there_are_is_absent_where_it_is_not_known() {
        let mut look = nothing();
        let now = look.now;
        let counts = |seen: &RankSnapshot, look: &Look| {
            let sent = rank(seen, look, now);
            (sent.children, sent.memory.and_then(|memory| memory.workers))
        };
        let mut seen = rank_at(60, None);
        assert_eq!(counts(&seen, &look), (None, None));
        let own = OwnMemory {
            children: Some(3),
            ..Default::default()
        };
        seen.own_memory = Some((own, now));
        assert_eq!(counts(&seen, &look), (Some(3), None));
        seen.ended = Some("finished".to_owned());
        assert_eq!(counts(&seen, &look), (None, None));
        let mut sample = ProcessSample {
            rss_bytes: Reading::known(1.0, now, "statm"),
            detail: Detail::unknown("not read", now, "smaps"),
            children: Err("no right to see them".to_owned()),
            children_at: now,
            cgroup: Err("no cgroup".to_owned()),
            shm: Err("no /dev/shm".to_owned()),
            visible_devices: None,
        };
        look.processes.insert(Rank(0), Ok(sample.clone()));
        assert_eq!(counts(&seen, &look), (None, None));
        sample.children = Ok([].into());
        look.processes.insert(Rank(0), Ok(sample));
        assert_eq!(counts(&seen, &look), (Some(0), Some(0)));
    }

    #[test]
    fn what_is_not_known_has_no_value_and_a_reason() {
        let reply = snapshot(&nothing());
        let total = reply
            .host
            .and_then(|host| host.total_bytes)
            .expect("a reading is always there");
        assert_eq!(
            (total.value, total.unknown.as_str()),
            (None, "there is no /proc")
        );
        assert_eq!(reply.gpu_unknown, "no driver");
    }
}
