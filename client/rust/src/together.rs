//! What a job's ranks do together, on the training thread: the caller has the collectives, the session says what goes
//! through them and takes what comes out.

use std::sync::atomic::Ordering;

use hookbus_proto::v1 as wire;
use prost::Message;

use crate::position::Position;
use crate::ranks::{self, Meeting, Standing};
use crate::session::{Session, Signal, Ticket};
use crate::shared::{MEETS, Stage, lock};
use crate::{Action, MetricId, PointId};

impl Session {
    /// Whether the ranks of this job have yet to agree.
    pub fn is_gathering(&self) -> bool {
        !self.is_forked() && lock(&self.shared.ranks).standing == Standing::Gathering
    }

    /// Rank and number of ranks, as the launcher says.
    pub fn rank(&self) -> (u32, u32) {
        let identity = &self.shared.options.identity;
        (identity.rank, identity.world_size)
    }

    /// The run's name.
    pub fn run_name(&self) -> &str {
        &self.shared.options.identity.run
    }

    /// Not known yet: it is looked at again where training begins.
    pub fn still_gathers(&self) {
        self.shared.gathers.store(false, Ordering::Relaxed);
    }

    /// Training begins, and the ranks were asked: from now on nothing waits for it.
    pub fn asked_ranks(&self) {
        self.shared.unasked.store(false, Ordering::Relaxed);
        self.still_gathers();
    }

    /// This rank shares no process group: it takes what its own daemon says.
    pub fn alone(&self) {
        self.still_gathers();
        if !self.is_gathering() {
            return;
        }
        let shared = &*self.shared;
        let mut ranks = lock(&shared.ranks);
        let waited = ranks.offer();
        ranks.standing = Standing::Alone;
        // Locked all the while: what the daemon says next comes after it.
        if let Some(share) = waited {
            self.apply(share);
        }
        drop(ranks);
        shared.install_again();
    }

    /// All ranks of the job have agreed to meet: every `every` iterations, where an epoch begins and ends, and at their
    /// hooks' gates; at those of a validation too where `evaluates`. What concerns the job comes from `leads` from now on.
    pub fn agree(&self, leads: bool, every: u64, evaluates: bool) {
        let shared = &*self.shared;
        self.still_gathers();
        let plan = shared.plan();
        lock(&shared.ranks).agree(leads, every, evaluates, plan.as_ref());
        shared.install_again();
        self.say_standing();
    }

    /// The ranks cannot meet any more. What is in force stays, on all of them.
    pub fn part(&self) {
        self.still_gathers();
        let lost = lock(&self.shared.ranks).part();
        self.shared.refuse_parted(lost);
        self.shared.install_again();
        self.say_standing();
    }

    /// The daemon addresses orders by it.
    fn say_standing(&self) {
        self.shared.beat.store(true, Ordering::Relaxed);
        self.shared.wake.notify_one();
    }

    /// hookbus is off in this process from now on: the ranks did not agree. Says goodbye with the reason. Returns the log
    /// lines that still waited.
    pub fn off(&self, reason: &str) -> Vec<Action> {
        if self.is_forked() {
            return Vec::new();
        }
        self.still_gathers();
        let lost = lock(&self.shared.ranks).part();
        self.shared.refuse_parted(lost);
        let connected = self.status().connected;
        let lines = if connected {
            self.close(reason, true)
        } else {
            Vec::new()
        };
        self.shared.switch_off();
        self.shared
            .update(|status| status.stage = Stage::Fenced(reason.to_owned()));
        lines
    }

    /// Whether its ranks meet: what concerns them is then taken where all are.
    pub(crate) fn meets(&self) -> bool {
        let standing = lock(&self.shared.ranks).standing;
        matches!(standing, Standing::Leads | Standing::Follows)
    }

    /// What rank 0 hands over at a meeting; empty: nothing is new.
    pub fn offer(&self) -> Vec<u8> {
        let offered = lock(&self.shared.ranks).offer();
        offered
            .map(|share| share.encode_to_vec())
            .unwrap_or_default()
    }

    /// What rank 0 has handed over, on every rank. Errors: it does not fit what came before; the ranks are to part.
    pub fn take_share(&self, bytes: &[u8]) -> Result<(), String> {
        let share =
            wire::Share::decode(bytes).map_err(|error| format!("a share that is none: {error}"))?;
        let shared = &*self.shared;
        let mut ranks = lock(&shared.ranks);
        ranks.take(&share)?;
        let (gates, follows) = (share.gates.is_some(), ranks.standing == Standing::Follows);
        drop(ranks);
        if follows && let Some(state) = &share.state {
            *lock(&shared.job_state) = Some(state.clone());
        }
        self.apply(share);
        if gates {
            shared.install_again();
        }
        Ok(())
    }

    fn apply(&self, share: wire::Share) {
        let shared = &*self.shared;
        for whole in share.schedules {
            lock(&shared.steered).complete(ranks::complete(whole));
        }
        if let Some(state) = share.state {
            shared.put_state(state);
        }
        for command in share.commands {
            shared.put_command(command);
        }
        shared.look_ahead();
    }

    /// Whether the ranks meet at this point.
    #[inline(never)]
    pub(crate) fn meeting(
        &self,
        point: PointId,
        at: Position,
        values: &[(MetricId, f64)],
        unknown: &[(MetricId, &str)],
    ) -> Option<Meeting> {
        let shared = &*self.shared;
        let ranks = lock(&shared.ranks);
        let mut hot = lock(&shared.hot);
        let name = hot.points.get(point.0 as usize)?;
        let is_not_finite = |field: &str| {
            let of_field = |(id, value): &(MetricId, f64)| {
                !value.is_finite()
                    && hot
                        .metrics
                        .get(id.0 as usize)
                        .is_some_and(|name| name == field)
            };
            values.iter().any(of_field)
        };
        let meeting = ranks.meeting((point.0, name), at, is_not_finite)?;
        let ids = values.iter().map(|(id, _)| id);
        let ids = ids.chain(unknown.iter().map(|(id, _)| id));
        let there: Vec<_> = ids
            .filter_map(|id| hot.metrics.get(id.0 as usize))
            .collect();
        let missed = meeting.gates.iter().find_map(|job| {
            let field = job.gate.not_finite.as_ref()?;
            (!there.contains(&field)).then(|| (job.gate.hook.clone(), field.clone()))
        });
        if let Some((hook, field)) = missed {
            hot.missed.note(&hook, &field);
        }
        Some(meeting)
    }

    /// Goes on where [`Session::emit`] said to meet. `lowest`: for each of the meeting's `held` the lowest rank where it
    /// holds. A gate that this gives is for all ranks: [`Session::wait`] for it, hand [`Session::verdict`] over, and
    /// give what came out to [`Session::take_verdict`], on every rank.
    pub fn emit_met(
        &self,
        point: PointId,
        meeting: &Meeting,
        lowest: &[Option<u32>],
        values: &[(MetricId, f64)],
        unknown: &[(MetricId, &str)],
    ) -> Signal {
        let shared = &*self.shared;
        let interest = shared.interest[point.0 as usize].load(Ordering::Relaxed) & !MEETS;
        let leads = lock(&shared.ranks).standing == Standing::Leads;
        let (gates, held_on) = meeting.asked(lowest);
        let job = (leads && !gates.is_empty()).then_some((gates.as_slice(), held_on));
        match self.record(interest, point, meeting.at, values, unknown, job) {
            Some(ticket) => Signal::Gate(ticket),
            None => self.pending(point, meeting.at),
        }
    }

    /// What rank 0's daemon, or the gate's `otherwise`, has decided for all.
    pub fn verdict(&self, ticket: &Ticket) -> Vec<u8> {
        ticket
            .answer
            .as_ref()
            .map(Message::encode_to_vec)
            .unwrap_or_default()
    }

    /// What was decided for all, on every rank. What there is to do is in [`Session::take_actions`].
    pub fn take_verdict(&self, bytes: &[u8]) {
        if bytes.is_empty() {
            return; // nothing was decided
        }
        if let Ok(answer) = wire::GateAnswer::decode(bytes) {
            self.put_answer(answer);
        }
    }
}
