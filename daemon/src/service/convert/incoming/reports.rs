//! What a trainer reports beside its events: facts about the training, holes in what it sent, results of what was asked. No
//! report is judged against what the run knows.

use std::collections::BTreeMap;

use hookbus_proto::v1 as wire;
use tonic::Status;

use super::field::{invalid, name, position, seconds, text};
use crate::domain::{Facts, Hole, Outcome, OwnMemory, ParamGroup, TrainerResult};
use crate::service::convert::Limits;

pub(super) fn hole(hole: wire::Hole) -> Result<Hole, Status> {
    if hole.first_seq == 0 || hole.last_seq < hole.first_seq {
        return Err(invalid(format!(
            "a hole from {} to {} is none",
            hole.first_seq, hole.last_seq
        )));
    }
    Ok(Hole {
        first_seq: hole.first_seq,
        last_seq: hole.last_seq,
        points: hole.points.into_iter().collect::<BTreeMap<_, _>>(),
    })
}

pub(super) fn own_memory(said: wire::OwnMemory, limits: &Limits) -> Result<OwnMemory, Status> {
    let cgroup = text("OwnMemory.cgroup", said.cgroup, limits)?;
    Ok(OwnMemory {
        age: seconds(said.age_s),
        rss_bytes: said.rss_bytes,
        children_rss_bytes: said.children_rss_bytes,
        children: said.children,
        cgroup: (!cgroup.is_empty()).then_some(cgroup),
        cgroup_limit_bytes: said.cgroup_limit_bytes,
        cgroup_current_bytes: said.cgroup_current_bytes,
        cgroup_working_set_bytes: said.cgroup_working_set_bytes,
        shm_total_bytes: said.shm_total_bytes,
        shm_used_bytes: said.shm_used_bytes,
    })
}

pub(super) fn facts(facts: wire::Facts, limits: &Limits) -> Result<Facts, Status> {
    let groups = facts.groups.into_iter().map(|group| {
        Ok(ParamGroup {
            base_lr: group.base_lr,
            name: text("a group's name", group.name, limits)?,
        })
    });
    Ok(Facts {
        max_epochs: facts.max_epochs,
        max_iters: facts.max_iters,
        iters_per_epoch: facts.iters_per_epoch,
        groups: groups.collect::<Result<_, Status>>()?,
        position: position(facts.position),
        own_scheduler: facts
            .own_scheduler
            .unwrap_or(false)
            .then(|| text("Facts.scheduler", facts.scheduler, limits))
            .transpose()?,
        seed: facts.seed,
        process_group: facts.process_group.unwrap_or(false),
        world_size: 0, // Hello said it
        size_multiple: facts.size_multiple,
    })
}

pub(super) fn result(result: wire::Result, limits: &Limits) -> Result<TrainerResult, Status> {
    let outcome = match result.outcome() {
        wire::Outcome::Applied => Outcome::Applied,
        wire::Outcome::Rejected => Outcome::Rejected,
        wire::Outcome::Unsupported => Outcome::Unsupported,
        wire::Outcome::Expired => Outcome::Expired,
        wire::Outcome::Failed | wire::Outcome::Unspecified => Outcome::Failed,
    };
    Ok(TrainerResult {
        id: name("Result.id", result.id, limits)?,
        outcome,
        at: position(result.at),
        point: text("Result.point", result.point, limits)?,
        old: result
            .old
            .map(|old| text("Result.old", old, limits))
            .transpose()?,
        new: result
            .new
            .map(|new| text("Result.new", new, limits))
            .transpose()?,
        reason: text("Result.reason", result.reason, limits)?,
    })
}
