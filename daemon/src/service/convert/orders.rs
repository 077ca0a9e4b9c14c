//! Operators' orders, checked for what needs no knowledge of the run, and what becomes of them.

use std::collections::BTreeSet;
use std::time::Duration;

use hookbus_proto::v1::{self as wire, lr_order::How, order::What};
use tonic::Status;

use super::outgoing::result;
use super::state::effective;
use super::{Limits, incoming};
use crate::bus::Asked;
use crate::domain::{Deed, Effective, Hold, LogLevel, LogLine, Rank, Size};
use crate::steering::OrderUpdate;

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
const LONGEST_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

/// An order without who gives it.
#[derive(Debug)]
pub(in crate::service) struct Ordered {
    pub(in crate::service) asked: Asked,
    pub(in crate::service) effective: Effective,
    pub(in crate::service) ranks: BTreeSet<Rank>,
    pub(in crate::service) timeout: Duration,
}

/// The order's own id and who gives it; both go into the state of every rank.
pub(in crate::service) fn named(
    order: &wire::Order,
    limits: &Limits,
) -> Result<(String, String), Status> {
    Ok((
        incoming::text("Order.id", order.id.clone(), limits)?,
        incoming::text("Order.by", order.by.clone(), limits)?,
    ))
}

/// What an operator asks for. Errors: INVALID_ARGUMENT, with what to write instead.
pub(in crate::service) fn order(order: wire::Order, limits: &Limits) -> Result<Ordered, Status> {
    let invalid = |text: &str| Err(Status::invalid_argument(text));
    let effective = effective(order.effective);
    let asked = match order.what {
        None => {
            return invalid(
                "this order has nothing in it that this daemon knows; it knows stop, lr, size, mode, checkpoint, log and custom",
            );
        }
        Some(What::Stop(stop)) => Asked::Stop(if stop.reason.is_empty() {
            "stopped by an operator".to_owned()
        } else {
            incoming::text("the reason", stop.reason, limits)?
        }),
        Some(What::Lr(lr)) => Asked::Lr {
            group: lr.group,
            hold: match lr.how {
                Some(How::Value(value)) => Hold::Value(value),
                Some(How::Scale(scale)) => Hold::Scale(scale),
                Some(How::Release(_)) => Hold::Release,
                None => return invalid("a learning-rate order has a value, a scale or a release"),
            },
        },
        Some(What::Size(size)) => Asked::Size(Size {
            height: size.height,
            width: size.width,
        }),
        Some(What::Mode(mode)) => Asked::Mode(
            mode.skip_types
                .into_iter()
                .map(|name| incoming::text("a pipeline step's type", name, limits))
                .collect::<Result<_, _>>()?,
        ),
        Some(What::Checkpoint(save)) => Asked::Command(Deed::Checkpoint {
            tag: incoming::text("the checkpoint's tag", save.tag, limits)?,
        }),
        Some(What::Log(line)) => Asked::Command(Deed::Log(LogLine {
            level: match line.level() {
                wire::LogLevel::Debug => LogLevel::Debug,
                wire::LogLevel::Info | wire::LogLevel::Unspecified => LogLevel::Info,
                wire::LogLevel::Warning => LogLevel::Warning,
                wire::LogLevel::Error => LogLevel::Error,
            },
            text: incoming::name("the line", line.text, limits)?,
        })),
        Some(What::Custom(custom)) => {
            if !custom.json.is_empty()
                && let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(&custom.json)
            {
                return invalid(&format!("custom {}: this is no JSON: {error}", custom.name));
            }
            Asked::Command(Deed::Custom {
                name: incoming::name("the custom command's name", custom.name, limits)?,
                json: incoming::text("the custom command's JSON", custom.json, limits)?,
            })
        }
    };
    let is_command = matches!(asked, Asked::Command(_));
    if !order.ranks.is_empty() && !is_command {
        return invalid(&format!(
            "{} is for every rank: what only some ranks do deadlocks a distributed training; name ranks for checkpoint, log and custom only",
            asked.word()
        ));
    }
    if effective == Effective::Now && !is_command && !matches!(asked, Asked::Stop(_)) {
        return invalid(&format!(
            "{} holds from a boundary: from the next one, or from an iteration or epoch",
            asked.word()
        ));
    }
    Ok(Ordered {
        asked,
        effective,
        ranks: order.ranks.into_iter().map(Rank).collect(),
        timeout: Duration::try_from_secs_f64(order.timeout_s)
            .ok()
            .filter(|timeout| !timeout.is_zero())
            .map_or(DEFAULT_TIMEOUT, |timeout| timeout.min(LONGEST_TIMEOUT)),
    })
}

/// What became of an order.
pub(in crate::service) fn order_update(update: OrderUpdate) -> wire::OrderUpdate {
    let (rank, result) = update
        .result
        .map_or((0, None), |(rank, done)| (rank.0, Some(result(done))));
    wire::OrderUpdate {
        id: update.id,
        waiting: update.waiting.into_iter().map(|rank| rank.0).collect(),
        rank,
        result,
    }
}
