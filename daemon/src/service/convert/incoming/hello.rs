//! A session's first frame: who the trainer is, what it can do, and the hooks that it asks for. Whether the rank's
//! place is free, and whether such hooks exist, is not decided here.

use std::sync::Arc;

use hookbus_proto::v1::{self as wire, value::Kind};
use tonic::Status;

use super::field::{invalid, name, text};
use super::names::{POINTS, Table, add_name};
use crate::domain::{Hello, HookRequest, Names, ProcessIdentity, Rank, RunId, Value};
use crate::service::convert::{Limits, state};

/// How deep an argument may be nested.
const VALUE_DEPTH: usize = 16;

/// The first frame of a session.
pub(in crate::service) fn hello(
    hello: wire::Hello,
    limits: &Limits,
) -> Result<(Hello, Table), Status> {
    let mut names = Names::default();
    for point in hello.points {
        add_name("point", &mut names.points, None, point, POINTS, limits)?;
    }
    for metric in hello.metrics {
        add_name(
            "metric",
            &mut names.metrics,
            None,
            metric,
            limits.metrics,
            limits,
        )?;
    }
    let world_size = hello.world_size.max(1);
    if hello.rank >= world_size {
        return Err(invalid(format!(
            "rank {} is not below the world size {world_size}",
            hello.rank
        )));
    }
    let process = hello.process.unwrap_or_default();
    let hooks = hello
        .hooks
        .into_iter()
        .map(|hook| hook_request(hook, limits))
        .collect::<Result<_, _>>()?;
    let hello = Hello {
        run: RunId {
            name: name("Hello.run", hello.run, limits)?.into(),
            launch: name("Hello.launch", hello.launch, limits)?.into(),
        },
        attempt: hello.attempt,
        rank: Rank(hello.rank),
        world_size,
        local_rank: hello.local_rank,
        node: text("Hello.node", hello.node, limits)?,
        process: ProcessIdentity {
            ns_pids: process.ns_pids,
            start_ticks: process.start_ticks,
            boot_id: text("Hello.process.boot_id", process.boot_id, limits)?,
            command: text("Hello.process.command", process.command, limits)?,
        },
        session: name("Hello.session", hello.session, limits)?,
        points: names.points.iter().map(|point| point.to_string()).collect(),
        capabilities: hello.capabilities,
        next_seq: hello.next_seq.max(1),
        applied: hello.applied,
        state: hello.state.map(state::state),
        hooks,
        client: text("Hello.client", hello.client, limits)?,
    };
    Ok((hello, Table(Arc::new(names))))
}

/// A hook that is asked for, or offered.
pub(in crate::service::convert) fn hook_request(
    hook: wire::HookRequest,
    limits: &Limits,
) -> Result<HookRequest, Status> {
    let type_name = name("a hook's type", hook.r#type, limits)?;
    let args = hook
        .args
        .into_iter()
        .map(|(key, item)| Ok((key, value(item, limits, VALUE_DEPTH)?)));
    Ok(HookRequest {
        name: if hook.name.is_empty() {
            type_name.clone()
        } else {
            text("a hook's name", hook.name, limits)?
        },
        args: args.collect::<Result<_, Status>>()?,
        type_name,
    })
}

fn value(value: wire::Value, limits: &Limits, depth: usize) -> Result<Value, Status> {
    if depth == 0 {
        return Err(invalid(format!(
            "a hook's argument is nested deeper than {VALUE_DEPTH}"
        )));
    }
    Ok(match value.kind {
        None | Some(Kind::Null(_)) => Value::Null,
        Some(Kind::Boolean(value)) => Value::Boolean(value),
        Some(Kind::Integer(value)) => Value::Integer(value),
        Some(Kind::Number(value)) => Value::Number(value),
        Some(Kind::Text(value)) => Value::Text(text("a hook's argument", value, limits)?),
        Some(Kind::List(list)) => Value::List(
            list.items
                .into_iter()
                .map(|item| self::value(item, limits, depth - 1))
                .collect::<Result<_, _>>()?,
        ),
        Some(Kind::Map(map)) => {
            let items = map
                .items
                .into_iter()
                .map(|(key, item)| Ok((key, self::value(item, limits, depth - 1)?)));
            Value::Map(items.collect::<Result<_, Status>>()?)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::convert::incoming::LIMITS;

    #[test]
    fn an_identity_without_a_run_or_with_a_rank_too_high_is_refused() {
        let base = wire::Hello {
            run: "r".into(),
            launch: "l".into(),
            session: "s".into(),
            ..Default::default()
        };
        for (hello, text) in [
            (
                wire::Hello {
                    run: String::new(),
                    ..base.clone()
                },
                "Hello.run is empty",
            ),
            (
                wire::Hello {
                    rank: 2,
                    world_size: 2,
                    ..base.clone()
                },
                "rank 2 is not below the world size 2",
            ),
            (
                wire::Hello {
                    run: "x".repeat(65),
                    ..base.clone()
                },
                "limits.string_bytes is 64",
            ),
        ] {
            let status = self::hello(hello, &LIMITS).err().expect("it is wrong");
            assert!(
                status.message().contains(text),
                "{:?} does not say {text:?}",
                status.message()
            );
        }
    }
}
