//! What the daemon says, as tuples: ("calls", [...]), ("opened", ...). The types are in `hookbus.hooks._event` and in the
//! stub of the native module.

use std::collections::HashMap;

use hookbus_client::provider::Heard;
use hookbus_client::wire::{self, daemon_frame::Frame, value::Kind};
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyNone, PyString, PyTuple};

use super::state;

/// Beyond so many the names begin anew.
const MOST_NAMES: usize = 4096;

/// Texts that come again with each call, as one object each.
#[derive(Default)]
pub(super) struct Names(HashMap<String, Py<PyString>>);

impl Names {
    fn get<'py>(&mut self, py: Python<'py>, name: &str) -> Bound<'py, PyString> {
        if let Some(known) = self.0.get(name) {
            return known.bind(py).clone();
        }
        if self.0.len() >= MOST_NAMES {
            self.0.clear();
        }
        let made = PyString::intern(py, name);
        self.0.insert(name.to_owned(), made.clone().unbind());
        made
    }
}

/// A list of tuples whose first item says what it is.
pub(super) fn frames<'py>(
    py: Python<'py>,
    names: &mut Names,
    heard: Vec<Heard>,
) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for one in heard {
        let tuple = match one {
            Heard::Connected => ("connected",).into_pyobject(py)?,
            Heard::Lost(why) => ("lost", why).into_pyobject(py)?,
            Heard::Ended(why) => ("ended", why).into_pyobject(py)?,
            Heard::Frame(frame) => match frame_of(py, names, *frame)? {
                Some(tuple) => tuple,
                None => continue,
            },
        };
        list.append(tuple)?;
    }
    Ok(list)
}

fn frame_of<'py>(
    py: Python<'py>,
    names: &mut Names,
    frame: Frame,
) -> PyResult<Option<Bound<'py, PyTuple>>> {
    Ok(Some(match frame {
        Frame::Calls(calls) => {
            let list = PyList::empty(py);
            for one in calls.calls {
                list.append(call(py, names, one)?)?;
            }
            ("calls", list).into_pyobject(py)?
        }
        Frame::Assignment(assignment) => {
            let hooks = PyList::empty(py);
            for request in assignment.hooks {
                hooks.append(hook_request(py, request)?)?;
            }
            ("assignment", hooks).into_pyobject(py)?
        }
        Frame::Accepted(accepted) => {
            let refused = accepted.refused.into_iter();
            let refused: Vec<_> = refused.map(|one| (one.what, one.reason)).collect();
            ("accepted", refused).into_pyobject(py)?
        }
        Frame::Opened(opened) => {
            let facts = opened.facts.map(|known| facts(py, &known)).transpose()?;
            let states = PyDict::new(py);
            for one in opened.states {
                states.set_item(one.hook, one.json)?;
            }
            let (attempt, world_size) = (opened.attempt, opened.world_size.max(1));
            let who = (opened.run, opened.name, opened.run_id, attempt, world_size);
            ("opened", who, facts, states).into_pyobject(py)?
        }
        Frame::Facts(known) => {
            let said = facts(py, &known.facts.unwrap_or_default())?;
            ("facts", known.run, said).into_pyobject(py)?
        }
        Frame::Closed(closed) => ("closed", closed.run).into_pyobject(py)?,
        Frame::Fence(_) => return Ok(None), // the link itself ends with it
    }))
}

/// In the order of `hookbus.hooks._event.Call`.
fn call<'py>(
    py: Python<'py>,
    names: &mut Names,
    call: wire::Call,
) -> PyResult<Bound<'py, PyTuple>> {
    let at = call.at.unwrap_or_default();
    let fields = PyDict::new(py);
    for (name, value) in &call.fields {
        fields.set_item(names.get(py, name), *value)?;
    }
    let unknown = PyDict::new(py);
    for (name, why) in &call.unknown {
        unknown.set_item(names.get(py, name), names.get(py, why))?;
    }
    let rss_bytes = match call.rss_bytes {
        Some(bytes) => PyInt::new(py, bytes).into_any(),
        None => PyNone::get(py).to_owned().into_any(),
    };
    let memory = PyList::empty(py);
    for number in call.memory {
        let reading = number.reading.unwrap_or_default();
        let series = names.get(py, &number.name);
        let source = names.get(py, &reading.source);
        let known = (reading.value, reading.unknown, reading.age_s, source);
        memory.append((series, number.gpu, known.0, known.1, known.2, known.3))?;
    }
    let desired = match &call.desired {
        Some(desired) => state::desired(py, desired)?.into_any(),
        None => PyNone::get(py).to_owned().into_any(),
    };
    PyTuple::new(
        py,
        [
            PyInt::new(py, call.id).into_any(),
            PyInt::new(py, call.run).into_any(),
            names.get(py, &call.hook).into_any(),
            PyInt::new(py, call.rank).into_any(),
            names.get(py, &call.point).into_any(),
            PyInt::new(py, at.epoch).into_any(),
            PyInt::new(py, at.iter).into_any(),
            PyInt::new(py, at.inner_iter).into_any(),
            fields.into_any(),
            unknown.into_any(),
            rss_bytes,
            PyBool::new(py, call.gate).to_owned().into_any(),
            PyInt::new(py, call.deadline_ms).into_any(),
            PyList::new(py, call.held_on)?.into_any(),
            memory.into_any(),
            desired,
        ],
    )
}

/// What a trainer has said of itself; what it has not said is not there.
fn facts<'py>(py: Python<'py>, facts: &wire::Facts) -> PyResult<Bound<'py, PyDict>> {
    let known = PyDict::new(py);
    let numbers = [
        ("max_epochs", facts.max_epochs),
        ("max_iters", facts.max_iters),
        ("iters_per_epoch", facts.iters_per_epoch),
        ("seed", facts.seed),
        ("loader_workers", facts.loader_workers.map(u64::from)),
    ];
    for (name, number) in numbers {
        if let Some(number) = number {
            known.set_item(name, number)?;
        }
    }
    let flags = [
        ("own_scheduler", facts.own_scheduler),
        ("persistent_workers", facts.persistent_workers),
        ("process_group", facts.process_group),
    ];
    for (name, flag) in flags {
        if let Some(flag) = flag {
            known.set_item(name, flag)?;
        }
    }
    if !facts.scheduler.is_empty() {
        known.set_item("scheduler", &facts.scheduler)?;
    }
    let groups = facts.groups.iter();
    let groups: Vec<_> = groups.map(|group| (group.base_lr, &group.name)).collect();
    known.set_item("groups", groups)?;
    if facts.size_multiple > 0 {
        known.set_item("size_multiple", facts.size_multiple)?;
    }
    if let Some(at) = &facts.position {
        known.set_item("position", (at.epoch, at.iter, at.inner_iter))?;
    }
    Ok(known)
}

/// As in a config: `dict(type=..., name=..., interval=50)`.
fn hook_request<'py>(py: Python<'py>, request: wire::HookRequest) -> PyResult<Bound<'py, PyDict>> {
    let hook = PyDict::new(py);
    for (name, argument) in request.args {
        hook.set_item(name, value(py, argument)?)?;
    }
    if !request.name.is_empty() {
        hook.set_item("name", request.name)?;
    }
    hook.set_item("type", request.r#type)?;
    Ok(hook)
}

fn value(py: Python<'_>, value: wire::Value) -> PyResult<Bound<'_, PyAny>> {
    match value.kind {
        None | Some(Kind::Null(_)) => Ok(PyNone::get(py).to_owned().into_any()),
        Some(Kind::Boolean(flag)) => flag.into_bound_py_any(py),
        Some(Kind::Integer(number)) => number.into_bound_py_any(py),
        Some(Kind::Number(number)) => Ok(PyFloat::new(py, number).into_any()),
        Some(Kind::Text(text)) => text.into_bound_py_any(py),
        Some(Kind::List(items)) => {
            let list = PyList::empty(py);
            for item in items.items {
                list.append(self::value(py, item)?)?;
            }
            Ok(list.into_any())
        }
        Some(Kind::Map(items)) => {
            let map = PyDict::new(py);
            for (key, item) in items.items {
                map.set_item(key, self::value(py, item)?)?;
            }
            Ok(map.into_any())
        }
    }
}
