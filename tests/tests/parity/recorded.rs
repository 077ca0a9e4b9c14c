//! Reading recorded cases, and putting them to the real hooks.

use std::time::{Duration, Instant};

use hookbus_client::plan::is_due;
use hookbus_client::wire;
use hookbusd::domain::{
    Base, DeviceUse, Event, Every, HookRequest, HostSample, Names, Position, ProcessSample, Rank,
    Value,
};
use hookbusd::hooks::{Configured, Context, Decision, Origin, Seen, build};
use hookbusd::store::series::{Lately, Name};
use hookbusd::store::{Said, View, Whose};
use serde_json::Value as Json;

/// What became of a case. An error is a failure: the text says what differs.
pub(super) type Outcome = Result<Verdict, String>;

pub(super) enum Verdict {
    Matched,
    /// As meant: there is a row in the list of differences.
    Differing,
}

/// The hook that a case configures. Errors: why it is refused.
pub(super) fn hook(type_name: &str, config: &Json) -> Result<Configured, String> {
    build(&request(type_name, config), Origin::Trainer)
}

pub(super) fn request(type_name: &str, config: &Json) -> HookRequest {
    let args = config.as_object().into_iter().flatten();
    HookRequest {
        type_name: type_name.into(),
        name: type_name.into(),
        args: args
            .map(|(key, value)| (key.clone(), argument(value)))
            .collect(),
    }
}

fn argument(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(flag) => Value::Boolean(*flag),
        Json::Number(number) => number.as_i64().map_or_else(
            || Value::Number(number.as_f64().unwrap_or(f64::NAN)),
            Value::Integer,
        ),
        Json::String(text) => match text.as_str() {
            "nan" | "inf" | "-inf" => Value::Number(number(json)),
            _ => Value::Text(text.clone()),
        },
        Json::Array(items) => Value::List(items.iter().map(argument).collect()),
        Json::Object(items) => Value::Map(
            items
                .iter()
                .map(|(key, item)| (key.clone(), argument(item)))
                .collect(),
        ),
    }
}

/// Daemon and client must agree on what is due.
pub(super) fn due(every: Every, at: Position) -> bool {
    let base = match every.base {
        Base::Always => wire::Base::Unspecified,
        Base::Iter => wire::Base::Iter,
        Base::InnerIter => wire::Base::InnerIter,
        Base::Epoch => wire::Base::Epoch,
    };
    let ours = hookbus_client::Position {
        epoch: at.epoch,
        iter: at.iter,
        inner_iter: at.inner_iter,
    };
    let theirs = is_due(
        &wire::Every {
            base: base.into(),
            n: every.n,
            start: every.start,
        },
        ours,
    );
    assert_eq!(
        every.is_due(at),
        theirs,
        "daemon and client disagree on {every:?} at {at:?}"
    );
    theirs
}

pub(super) fn number(value: &Json) -> f64 {
    match (value.as_str(), value.as_bool()) {
        (Some("nan"), _) => f64::NAN,
        (Some("inf"), _) => f64::INFINITY,
        (Some("-inf"), _) => f64::NEG_INFINITY,
        (Some(other), _) => panic!("no number: {other:?}"),
        (None, Some(flag)) => f64::from(u8::from(flag)),
        (None, None) => value
            .as_f64()
            .unwrap_or_else(|| panic!("no number: {value}")),
    }
}

/// A whole number of a case; a float without a fraction is one, and as in Python True is 1.
pub(super) fn whole(json: &Json, key: &str) -> Result<i64, String> {
    let value = &json[key];
    value
        .as_i64()
        .or_else(|| value.as_bool().map(i64::from))
        .or_else(|| {
            value
                .as_f64()
                .filter(|n| n.fract() == 0.0)
                .map(|n| n as i64)
        })
        .ok_or_else(|| format!("{key} is {value}, no whole number"))
}

/// A whole number from 0 on.
pub(super) fn count(json: &Json, key: &str) -> Result<u64, String> {
    u64::try_from(whole(json, key)?).map_err(|_| format!("{key} is {}, negative", json[key]))
}

/// None: null or absent.
pub(super) fn optional_count(json: &Json, key: &str) -> Result<Option<u64>, String> {
    if json[key].is_null() {
        Ok(None)
    } else {
        count(json, key).map(Some)
    }
}

pub(super) fn list<'a>(json: &'a Json, key: &str) -> Result<&'a Vec<Json>, String> {
    json[key]
        .as_array()
        .ok_or_else(|| format!("{key} is {}, no list", json[key]))
}

pub(super) fn integers(value: &Json) -> Vec<u64> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .map(|item| item.as_u64().expect("an integer"))
        .collect()
}

pub(super) fn equal<T: PartialEq + std::fmt::Debug>(
    what: &str,
    ours: T,
    recorded: T,
) -> Result<(), String> {
    if ours == recorded {
        Ok(())
    } else {
        Err(format!("{what}: {ours:?}, recorded {recorded:?}"))
    }
}

pub(super) struct Fixed(pub(super) Result<HostSample, String>);

impl View for Fixed {
    fn host(&self) -> Result<HostSample, String> {
        self.0.clone()
    }

    fn process(&self, _: Rank) -> Result<ProcessSample, String> {
        Err("not sampled".to_owned())
    }

    fn said(&self, _: Rank) -> Option<Said> {
        None
    }

    fn devices(&self, _: Rank) -> Result<Vec<DeviceUse>, String> {
        Err("there is none here".to_owned())
    }

    fn newest(&self, _: Whose, _: Name) -> Result<f64, String> {
        Err("not sampled".to_owned())
    }

    fn lately(&self, _: Whose, _: Name, _: Duration, _: Instant) -> Result<Lately, String> {
        Err("not sampled".to_owned())
    }
}

pub(super) fn call(
    configured: &mut Configured,
    point: &str,
    event: &Event,
    names: &Names,
    view: &Fixed,
) -> Vec<Decision> {
    let seen = Seen {
        rank: Rank(0),
        point,
        event,
        names,
        description: None,
        held_on: &[],
    };
    configured.hook.on_event(
        &Context {
            now: Instant::now(),
            view,
        },
        &seen,
    )
}
