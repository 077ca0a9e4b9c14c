//! Learning rates in the optimizers' own parameter groups: read, written and given back without a Python frame. What is
//! written is decided elsewhere.

use std::cell::{Cell, RefCell};

use hookbus_client::Session;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFloat, PyList};

/// Parameter groups of the plain case.
const PLAIN: usize = 16;

/// What a parameter group has as its learning rate.
enum Own<'py> {
    /// A number, as the object that it is.
    Number(Bound<'py, PyAny>),
    /// A tensor, which is written in place. It is not read: that could wait for a device.
    Tensor(Bound<'py, PyAny>),
    Nothing,
}

/// What gives a value of the trainer's back.
enum Owed {
    /// Into this group, this object.
    Number(Py<PyAny>, Py<PyAny>),
    /// Into this tensor, what this copy holds.
    Tensor(Py<PyAny>, Py<PyAny>),
}

/// Optimizers in the order in which the daemon counts their groups, and what is owed to them.
#[derive(Default)]
pub(crate) struct Optimizers {
    each: RefCell<Vec<Py<PyAny>>>,
    /// The trainer's own values, while others stand in their place.
    owed: RefCell<Vec<Owed>>,
    owes: Cell<bool>,
}

impl Optimizers {
    pub(crate) fn set(&self, optimizers: Vec<Py<PyAny>>) {
        *self.each.borrow_mut() = optimizers;
    }

    /// Whether values are to be given back.
    #[inline]
    pub(crate) fn owe(&self) -> bool {
        self.owes.get()
    }

    /// The top of an iteration. Never raises: an optimizer of another shape has no groups, which is then reported.
    pub(crate) fn write(&self, py: Python<'_>, session: &Session) {
        self.give_back(py);
        if self.write_plain(py, session).is_some() {
            return;
        }
        let Some(groups) = self.groups(py) else {
            // Nothing is bound that could: said once, by the session.
            session.rates(&mut []);
            return;
        };
        let key = intern!(py, "lr");
        let mut rates = Vec::with_capacity(groups.len());
        let mut own = Vec::with_capacity(groups.len());
        for group in &groups {
            let (number, value) = match group.get_item(key) {
                Err(_) => (None, Own::Nothing),
                Ok(value) => match value.cast::<PyFloat>().map(|float| float.value()) {
                    Ok(number) => (Some(number), Own::Number(value)),
                    Err(_) if value.hasattr(intern!(py, "fill_")).unwrap_or(false) => {
                        (None, Own::Tensor(value))
                    }
                    Err(_) => (value.extract().ok(), Own::Number(value)),
                },
            };
            rates.push(number.unwrap_or(f64::NAN));
            own.push(value);
        }
        let written = session.rates(&mut rates);
        if !written.any {
            return;
        }
        let mut owed = self.owed.borrow_mut();
        for ((group, own), rate) in groups.into_iter().zip(own).zip(rates) {
            if rate.is_nan() {
                continue; // a share of what is not known here
            }
            let put = match own {
                Own::Tensor(tensor) => {
                    let copy = written
                        .give_back
                        .then(|| tensor.call_method0(intern!(py, "clone")));
                    if let Some(Ok(copy)) = copy {
                        owed.push(Owed::Tensor(tensor.clone().unbind(), copy.unbind()));
                    }
                    tensor.call_method1(intern!(py, "fill_"), (rate,)).map(drop)
                }
                Own::Number(value) => {
                    if written.give_back {
                        owed.push(Owed::Number(group.clone().unbind(), value.unbind()));
                    }
                    group.set_item(key, PyFloat::new(py, rate))
                }
                Own::Nothing => group.set_item(key, PyFloat::new(py, rate)),
            };
            if let Err(error) = put {
                error.write_unraisable(py, Some(&group));
            }
        }
        self.owes.set(!owed.is_empty());
    }

    /// What nearly every training has: one optimizer, few groups, each a dict with a float. Without a heap. None: it is
    /// something else, and nothing was asked or written.
    fn write_plain(&self, py: Python<'_>, session: &Session) -> Option<()> {
        let each = self.each.borrow();
        let [optimizer] = each.as_slice() else {
            return None;
        };
        let groups = optimizer
            .bind(py)
            .getattr(intern!(py, "param_groups"))
            .ok()?;
        let groups = groups.cast_exact::<PyList>().ok()?;
        let count = groups.len();
        if count == 0 || count > PLAIN {
            return None;
        }
        let key = intern!(py, "lr");
        let mut own = [0.0; PLAIN];
        for (at, own) in own.iter_mut().enumerate().take(count) {
            let group = groups.get_item(at).ok()?;
            let value = group.cast_exact::<PyDict>().ok()?.get_item(key).ok()??;
            *own = value.cast_exact::<PyFloat>().ok()?.value();
        }
        let mut rates = own;
        let written = session.rates(&mut rates[..count]);
        if !written.any {
            return Some(());
        }
        let mut owed = self.owed.borrow_mut();
        for at in 0..count {
            let Ok(group) = groups.get_item(at) else {
                continue; // a float's place is not made smaller by writing floats
            };
            if written.give_back {
                let own = PyFloat::new(py, own[at]).into_any();
                owed.push(Owed::Number(group.clone().unbind(), own.unbind()));
            }
            if let Err(error) = group.set_item(key, PyFloat::new(py, rates[at])) {
                error.write_unraisable(py, Some(&group));
            }
        }
        self.owes.set(!owed.is_empty());
        Some(())
    }

    /// The trainer's own values come back.
    pub(crate) fn give_back(&self, py: Python<'_>) {
        if !self.owes.replace(false) {
            return;
        }
        let owed = self.owed.take();
        for owed in owed {
            let (put, whose) = match owed {
                Owed::Number(group, own) => {
                    let group = group.into_bound(py);
                    (group.set_item(intern!(py, "lr"), own), group)
                }
                Owed::Tensor(tensor, copy) => {
                    let tensor = tensor.into_bound(py);
                    let put = tensor.call_method1(intern!(py, "copy_"), (copy,));
                    (put.map(drop), tensor)
                }
            };
            if let Err(error) = put {
                error.write_unraisable(py, Some(&whose));
            }
        }
    }

    fn groups<'py>(&self, py: Python<'py>) -> Option<Vec<Bound<'py, PyAny>>> {
        let each = self.each.borrow();
        let mut groups = Vec::new();
        for optimizer in each.iter() {
            // Read each time: loading a checkpoint makes new ones.
            let own = optimizer
                .bind(py)
                .getattr(intern!(py, "param_groups"))
                .ok()?;
            match own.cast::<PyList>() {
                Ok(list) => groups.extend(list.iter()),
                Err(_) => groups.extend(own.try_iter().ok()?.flatten()),
            }
        }
        (!groups.is_empty()).then_some(groups)
    }
}
