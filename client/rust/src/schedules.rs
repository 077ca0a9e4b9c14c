//! Schedules as they come: chunks are put together, the hash is checked, and what comes out is ready to be looked up.

use std::collections::HashMap;

use bytes::Bytes;
use hookbus_proto::v1 as wire;
use prost::Message;
use sha2::{Digest, Sha256};

/// Schedules that may be under way at once; the state names two at most.
const UNDER_WAY: usize = 4;
/// A schedule has at most so many chunks: 2 GB.
const CHUNKS: usize = 8192;

/// A schedule that is complete.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Complete {
    pub(crate) id: String,
    pub(crate) hash: Vec<u8>,
    pub(crate) schedule: wire::Schedule,
}

#[derive(Debug)]
struct Parts {
    hash: Vec<u8>,
    parts: Vec<Option<Bytes>>,
    missing: usize,
}

/// Schedules that are under way.
#[derive(Debug, Default)]
pub(crate) struct Assembly(HashMap<String, Parts>);

impl Assembly {
    /// One more chunk. Ok(Some): the schedule is complete. Err: (id, why it cannot be installed).
    pub(crate) fn chunk(
        &mut self,
        chunk: wire::ScheduleChunk,
    ) -> Result<Option<Complete>, (String, String)> {
        let (index, count) = (chunk.index as usize, chunk.count as usize);
        let wrong = |why: &str| Err((chunk.id.clone(), why.to_owned()));
        if count == 0 || count > CHUNKS || index >= count {
            return wrong("a chunk of the schedule is out of its range");
        }
        if !self.0.contains_key(&chunk.id) && self.0.len() >= UNDER_WAY {
            return wrong("too many schedules are under way at once");
        }
        let parts = self.0.entry(chunk.id.clone()).or_insert_with(|| Parts {
            hash: chunk.hash.clone(),
            parts: vec![None; count],
            missing: count,
        });
        if parts.hash != chunk.hash || parts.parts.len() != count {
            self.0.remove(&chunk.id);
            return wrong("the chunks of the schedule do not fit together");
        }
        if parts.parts[index].replace(chunk.data).is_none() {
            parts.missing -= 1;
        }
        if parts.missing > 0 {
            return Ok(None);
        }
        let parts = self.0.remove(&chunk.id).expect("it is there");
        let bytes: Vec<u8> = parts.parts.into_iter().flatten().flatten().collect();
        if Sha256::digest(&bytes)[..] != parts.hash[..] {
            return wrong("the schedule's hash is not that of its bytes");
        }
        match wire::Schedule::decode(bytes.as_slice()) {
            Ok(schedule) => Ok(Some(Complete {
                id: chunk.id,
                hash: parts.hash,
                schedule,
            })),
            Err(error) => wrong(&format!("the schedule does not decode: {error}")),
        }
    }

    /// The connection broke: what was under way begins anew on the next one.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunks(schedule: &wire::Schedule, bytes: usize) -> Vec<wire::ScheduleChunk> {
        let data = Bytes::from(schedule.encode_to_vec());
        let hash = Sha256::digest(&data).to_vec();
        let count = data.len().div_ceil(bytes);
        let chunk = |index: usize| wire::ScheduleChunk {
            id: "s".into(),
            hash: hash.clone(),
            index: index as u32,
            count: count as u32,
            data: data.slice(index * bytes..data.len().min((index + 1) * bytes)),
        };
        (0..count).map(chunk).collect()
    }

    fn schedule() -> wire::Schedule {
        let curve = wire::LrCurve {
            first_iter: 0,
            values: (0..100).map(f64::from).collect(),
        };
        wire::Schedule {
            curves: vec![curve],
            group_curve: vec![0, 0],
            sizes: Vec::new(),
        }
    }

    #[test]
    fn chunks_in_any_order_and_twice_make_one_schedule() {
        let mut assembly = Assembly::default();
        let mut chunks = chunks(&schedule(), 100);
        chunks.reverse();
        assert!(chunks.len() > 3);
        let last = chunks.pop().expect("several");
        for chunk in chunks.iter().chain(&chunks) {
            assert_eq!(assembly.chunk(chunk.clone()), Ok(None));
        }
        let complete = assembly.chunk(last).expect("valid").expect("complete");
        assert_eq!(complete.schedule, schedule());
    }

    #[test]
    fn what_does_not_fit_is_refused_with_the_reason() {
        let mut assembly = Assembly::default();
        let good = chunks(&schedule(), 1 << 20).remove(0);
        for (change, says) in [
            (
                Box::new(|chunk: &mut wire::ScheduleChunk| chunk.hash[0] ^= 1)
                    as Box<dyn Fn(&mut wire::ScheduleChunk)>,
                "hash",
            ),
            (Box::new(|chunk| chunk.index = 7), "range"),
            (Box::new(|chunk| chunk.count = 0), "range"),
        ] {
            let mut bad = good.clone();
            change(&mut bad);
            let (id, why) = assembly.chunk(bad).expect_err(says);
            assert_eq!(id, "s");
            assert!(why.contains(says), "{why}");
        }
        assert!(assembly.chunk(good).expect("valid").is_some());
    }
}
