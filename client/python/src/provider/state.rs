//! The desired state of a training, as a dict. What is not there asks for nothing, and is None.

use hookbus_client::wire::{self, EffectiveWhen, lr_hold};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

/// The names are those of `hookbus.v1.State`.
pub(super) fn desired<'py>(py: Python<'py>, state: &wire::State) -> PyResult<Bound<'py, PyDict>> {
    let out = PyDict::new(py);
    out.set_item("generation", state.generation)?;
    let stop = state.stop.as_ref();
    out.set_item("stop", stop.map(|stop| self::stop(py, stop)).transpose()?)?;
    let lr = state.lr.as_ref();
    out.set_item("lr", lr.map(|lr| self::lr(py, lr)).transpose()?)?;
    let size = state.size.as_ref();
    out.set_item("size", size.map(|size| self::size(py, size)).transpose()?)?;
    let mode = state.mode.as_ref();
    out.set_item("mode", mode.map(|mode| self::mode(py, mode)).transpose()?)?;
    for (name, flag) in [
        ("set_epoch", &state.set_epoch),
        ("sync_norm", &state.sync_norm),
    ] {
        let flag = flag.as_ref();
        out.set_item(name, flag.map(|flag| self::flag(py, flag)).transpose()?)?;
    }
    Ok(out)
}

fn stop<'py>(py: Python<'py>, stop: &wire::StopState) -> PyResult<Bound<'py, PyDict>> {
    let out = PyDict::new(py);
    out.set_item("reason", &stop.reason)?;
    out.set_item("by", &stop.by)?;
    out.set_item("from", effective(stop.effective.as_ref()))?;
    Ok(out)
}

fn lr<'py>(py: Python<'py>, lr: &wire::LrState) -> PyResult<Bound<'py, PyDict>> {
    let holds = PyList::empty(py);
    for hold in &lr.holds {
        let one = PyDict::new(py);
        one.set_item("group", hold.group)?;
        match &hold.how {
            Some(lr_hold::How::Value(value)) => one.set_item("value", value)?,
            Some(lr_hold::How::Scale(scale)) => one.set_item("scale", scale)?,
            Some(lr_hold::How::Release(_)) => one.set_item("release", true)?,
            None => {}
        }
        one.set_item("by", &hold.by)?;
        one.set_item("from", effective(hold.effective.as_ref()))?;
        holds.append(one)?;
    }
    let out = PyDict::new(py);
    out.set_item("schedule", some(&lr.schedule))?;
    out.set_item("by", some(&lr.by))?;
    out.set_item("holds", holds)?;
    Ok(out)
}

fn size<'py>(py: Python<'py>, size: &wire::SizeState) -> PyResult<Bound<'py, PyDict>> {
    let holds = PyList::empty(py);
    for hold in &size.holds {
        let one = PyDict::new(py);
        one.set_item("height", hold.height)?;
        one.set_item("width", hold.width)?;
        one.set_item("by", &hold.by)?;
        one.set_item("from", effective(hold.effective.as_ref()))?;
        holds.append(one)?;
    }
    let out = PyDict::new(py);
    out.set_item("schedule", some(&size.schedule))?;
    out.set_item("by", some(&size.by))?;
    out.set_item("holds", holds)?;
    Ok(out)
}

fn mode<'py>(py: Python<'py>, mode: &wire::ModeState) -> PyResult<Bound<'py, PyDict>> {
    let out = PyDict::new(py);
    out.set_item("from_epoch", mode.from_epoch)?;
    out.set_item("skip_types", &mode.skip_types)?;
    out.set_item("by", &mode.by)?;
    Ok(out)
}

fn flag<'py>(py: Python<'py>, flag: &wire::FlagState) -> PyResult<Bound<'py, PyDict>> {
    let out = PyDict::new(py);
    out.set_item("on", flag.on)?;
    out.set_item("by", &flag.by)?;
    Ok(out)
}

fn some(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// "next", "now", "iter 120", "epoch 3".
fn effective(effective: Option<&wire::Effective>) -> String {
    let Some(effective) = effective else {
        return "next".to_owned();
    };
    match effective.when() {
        EffectiveWhen::Now => "now".to_owned(),
        EffectiveWhen::Iter => format!("iter {}", effective.iter),
        EffectiveWhen::Epoch => format!("epoch {}", effective.epoch),
        EffectiveWhen::Next | EffectiveWhen::Unspecified => "next".to_owned(),
    }
}
