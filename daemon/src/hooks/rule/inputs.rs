//! What a rule reads at an event: where the training is, its metrics, memory. What is not known has no value.

use std::time::Duration;

use super::functions::Lately;
use crate::domain::near::nearest;
use crate::domain::{Position, Rank};
use crate::hooks::{Context, Seen};
use crate::store::Whose;
use crate::store::series::{Kind, Name};

/// Words for the position.
pub(super) const POSITION: [(&str, &str); 4] = [
    ("epoch", "the epoch, from 0"),
    ("iter", "the iteration over the whole training, from 0"),
    (
        "inner_iter",
        "the iteration within the epoch, validation or test, from 0",
    ),
    ("rank", "the rank whose event it is"),
];

/// One thing that a rule reads.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Input {
    Epoch,
    Iter,
    InnerIter,
    Rank,
    Metric(String),
    /// The newest number.
    Memory(Name),
    /// Of the last so long.
    Lately(Lately, Name, Duration),
}

impl Input {
    /// What a word means. Errors: it is near a known one, and was probably meant for it.
    pub(super) fn of(word: &str) -> Result<Self, String> {
        match word {
            "epoch" => return Ok(Self::Epoch),
            "iter" => return Ok(Self::Iter),
            "inner_iter" => return Ok(Self::InnerIter),
            "rank" => return Ok(Self::Rank),
            _ => {}
        }
        if let Some(name) = Name::of(word) {
            return Ok(Self::Memory(name));
        }
        let positions = ["epoch", "inner_iter"].into_iter();
        let of_memory = word.ends_with("_bytes") || word.ends_with("_percent");
        let near = if of_memory {
            near_memory(word)
        } else {
            nearest(word, positions).filter(|near| near.len().abs_diff(word.len()) <= 1)
        };
        let near = near.or((word == "iters" || word == "itr").then_some("iter"));
        match near {
            Some(near) => Err(format!(
                "there is no {word}; do you mean {near}? (a metric of this name is metric('{word}'))"
            )),
            None => Self::metric(word),
        }
    }

    /// A metric of this name. Errors: in a plan the name means something else.
    pub(super) fn metric(name: &str) -> Result<Self, String> {
        match name {
            "" => Err("a metric has a name".to_owned()),
            "*" => Err("\"*\" is every metric, and a rule reads each by its name".to_owned()),
            "rss_bytes" => Err(
                "rss_bytes is no metric; say process_rss_bytes, which the daemon reads itself"
                    .to_owned(),
            ),
            name => Ok(Self::Metric(name.to_owned())),
        }
    }

    /// Its value at this event; None: it is not known.
    pub(super) fn read(&self, cx: &Context<'_>, seen: &Seen<'_>) -> Option<f64> {
        let Position {
            epoch,
            iter,
            inner_iter,
        } = seen.position();
        match self {
            Self::Epoch => Some(epoch as f64),
            Self::Iter => Some(iter as f64),
            Self::InnerIter => Some(inner_iter as f64),
            Self::Rank => Some(f64::from(seen.rank.0)),
            Self::Metric(name) => seen.metric(name),
            Self::Memory(name) => largest(cx, seen.rank, *name, |whose| {
                cx.view.newest(whose, *name).ok()
            }),
            Self::Lately(what, name, last) => largest(cx, seen.rank, *name, |whose| {
                let lately = cx.view.lately(whose, *name, *last, cx.now).ok()?;
                Some(match what {
                    Lately::Mean => lately.mean,
                    Lately::Highest => lately.max,
                })
            }),
        }
    }
}

/// Of the GPUs that a rank uses the largest; where one of them is not known, none is.
fn largest(
    cx: &Context<'_>,
    rank: Rank,
    name: Name,
    read: impl Fn(Whose) -> Option<f64>,
) -> Option<f64> {
    match name.kind() {
        Kind::Host => read(Whose::Host),
        Kind::Rank => read(Whose::Rank(rank)),
        Kind::Gpu => {
            let gpus = cx.view.devices(rank).ok()?;
            let each: Option<Vec<f64>> = gpus.iter().map(|one| read(Whose::Gpu(one.gpu))).collect();
            each?.into_iter().reduce(f64::max)
        }
    }
}

/// The word of memory that was meant.
pub(super) fn near_memory(word: &str) -> Option<&'static str> {
    nearest(word, Name::ALL.into_iter().map(Name::word))
}
