//! Things to look at in one run. Each opens once and closes on recovery.

use std::time::Instant;

use crate::domain::{Incident, IncidentKind, Position, Rank};

/// The newest that are kept.
const KEPT: usize = 256;

#[derive(Default)]
pub(super) struct Incidents(Vec<(Incident, Instant)>);

impl Incidents {
    /// Opens one. Returns it where it was not open already.
    pub(super) fn open(
        &mut self,
        id: String,
        kind: IncidentKind,
        text: String,
        rank: Option<Rank>,
        at: Position,
        now: Instant,
    ) -> Option<&Incident> {
        if let Some(place) = self.0.iter().position(|(incident, _)| incident.id == id) {
            let (incident, _) = &mut self.0[place];
            let was_open = std::mem::replace(&mut incident.open, true);
            return (!was_open).then_some(incident);
        }
        if self.0.len() >= KEPT {
            self.0.remove(0);
        }
        let incident = Incident {
            id,
            kind,
            text,
            open: true,
            rank,
            at,
        };
        self.0.push((incident, now));
        self.0.last().map(|(incident, _)| incident)
    }

    /// Closes one. Returns it where it was open.
    pub(super) fn close(&mut self, id: &str) -> Option<&Incident> {
        let (incident, _) = self
            .0
            .iter_mut()
            .find(|(incident, _)| incident.id == id && incident.open)?;
        incident.open = false;
        Some(incident)
    }

    /// Those of a kind that are open, and since when.
    pub(super) fn open_of(&self, kind: IncidentKind) -> Vec<(Incident, Instant)> {
        let is_it = |(one, _): &&(Incident, Instant)| one.open && one.kind == kind;
        self.0.iter().filter(is_it).cloned().collect()
    }

    /// As another daemon wrote it down.
    pub(super) fn restore(&mut self, incident: Incident, at: Instant) {
        if self.0.len() >= KEPT {
            self.0.remove(0);
        }
        self.0.push((incident, at));
    }

    /// For readers.
    pub(super) fn all(&self) -> Vec<(Incident, Instant)> {
        self.0.clone()
    }
}
