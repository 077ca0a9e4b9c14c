//! Learning rates in the optimizers' own parameter groups: read, written and given back without a Python frame. What is
//! written is decided elsewhere.
//!
//! What a schedule plans replaces the trainer's own values. What an operator holds only stands in their place, during each
//! step of an iteration; where steps are not noticed, or the rate is a tensor (a replayed graph calls no step), from the top
//! of the iteration to its end. [`crate::held`] has those values.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::collections::hash_map::Entry;

use hookbus_client::Session;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFloat, PyList};

use crate::held::{Held, Place};

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

/// A parameter group, and whose it is.
struct Group<'py> {
    optimizer: usize,
    group: Bound<'py, PyAny>,
}

/// Optimizers in the order in which the daemon counts their groups, and what is held in them.
#[derive(Default)]
pub(crate) struct Optimizers {
    each: RefCell<Vec<Py<PyAny>>>,
    /// Of each, whether its steps are noticed.
    watched: RefCell<Vec<bool>>,
    /// Taken out while Python is called: what runs meanwhile finds nothing held.
    held: RefCell<Vec<Held>>,
    holds: Cell<bool>,
    /// The lists of groups that have their base learning rates.
    based: RefCell<Vec<Py<PyAny>>>,
}

impl Optimizers {
    pub(crate) fn set(&self, py: Python<'_>, optimizers: Vec<Py<PyAny>>, watched: Vec<bool>) {
        self.end(py);
        self.watched.replace(watched);
        drop(self.each.replace(optimizers));
        drop(self.based.take());
    }

    fn is_watched(&self, optimizer: usize) -> bool {
        self.watched.borrow().get(optimizer).is_some_and(|is| *is)
    }

    /// Whether an iteration is under way in which values are held.
    #[inline]
    pub(crate) fn hold(&self) -> bool {
        self.holds.get()
    }

    /// The top of an iteration. Never raises: an optimizer of another shape has no groups, which is then reported.
    pub(crate) fn write(&self, py: Python<'_>, session: &Session) {
        self.end(py);
        if self.write_plain(py, session).is_some() {
            return;
        }
        let Some((lists, groups)) = self.groups(py) else {
            // Nothing is bound that could: said once, by the session.
            session.rates(&mut []);
            return;
        };
        let key = intern!(py, "lr");
        let mut own_rates = Vec::with_capacity(groups.len());
        let mut own = Vec::with_capacity(groups.len());
        for Group { group, .. } in &groups {
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
            own_rates.push(number.unwrap_or(f64::NAN));
            own.push(value);
        }
        let mut rates = own_rates.clone();
        let written = session.rates(&mut rates);
        if !written.any {
            return;
        }
        if !written.give_back && !self.has_base(&lists) {
            for (Group { group, .. }, own) in groups.iter().zip(&own) {
                let base = match own {
                    Own::Number(value) => Ok(value.clone()),
                    Own::Tensor(tensor) => tensor.call_method0(intern!(py, "clone")),
                    Own::Nothing => continue,
                };
                base.into_iter().for_each(|base| leave_base(group, &base));
            }
            self.remember_base(lists);
        }
        let mut held: Vec<Held> = Vec::new();
        let mut places = HashMap::new();
        for (((of, own), own_rate), rate) in groups.into_iter().zip(own).zip(own_rates).zip(rates) {
            if rate.is_nan() || rate.to_bits() == own_rate.to_bits() {
                continue; // a share of what is not known here; or the trainer's own value
            }
            let Group { optimizer, group } = of;
            let ours = PyFloat::new(py, rate).into_any();
            if written.give_back {
                let (place, in_steps) = match own {
                    Own::Tensor(tensor) => (Place::Tensor(tensor.unbind()), false),
                    Own::Number(_) | Own::Nothing => {
                        (Place::Group(group.unbind()), self.is_watched(optimizer))
                    }
                };
                match places.entry(place.object()) {
                    Entry::Occupied(at) => {
                        let shared: &mut Held = &mut held[*at.get()];
                        shared.share(py, optimizer, ours, in_steps);
                    }
                    Entry::Vacant(at) => {
                        if let Some(put) = Held::put(py, optimizer, place, ours, in_steps) {
                            at.insert(held.len());
                            held.push(put);
                        }
                    }
                }
                continue;
            }
            let put = match own {
                Own::Tensor(tensor) => tensor.call_method1(intern!(py, "fill_"), (ours,)).map(drop),
                Own::Number(_) | Own::Nothing => group.set_item(key, ours),
            };
            if let Err(error) = put {
                error.write_unraisable(py, None);
            }
        }
        self.keep(held);
    }

    /// What nearly every training has: one optimizer, few groups, each a dict with a float. Without a heap, unless values
    /// are held. None: it is something else, and nothing was asked or written.
    fn write_plain(&self, py: Python<'_>, session: &Session) -> Option<()> {
        let optimizer = match self.each.borrow().as_slice() {
            [optimizer] => optimizer.bind(py).clone(), // nothing is borrowed while Python runs
            _ => return None,
        };
        let groups = optimizer.getattr(intern!(py, "param_groups")).ok()?;
        let groups = groups.cast_exact::<PyList>().ok()?;
        let count = groups.len();
        if count == 0 || count > PLAIN {
            return None;
        }
        let key = intern!(py, "lr");
        let mut rates = [0.0; PLAIN];
        let rates = &mut rates[..count];
        for (at, rate) in rates.iter_mut().enumerate() {
            let group = groups.get_item(at).ok()?;
            let value = group.cast_exact::<PyDict>().ok()?.get_item(key).ok()??;
            *rate = value.cast_exact::<PyFloat>().ok()?.value();
        }
        let written = session.rates(rates);
        if !written.any {
            return Some(());
        }
        if written.give_back {
            self.hold_plain(groups, rates);
            return Some(());
        }
        if !self.has_base(std::slice::from_ref(groups.as_any())) {
            self.base_plain(groups);
        }
        for (at, rate) in rates.iter().enumerate() {
            let Ok(group) = groups.get_item(at) else {
                continue; // a float's place is not made smaller by writing floats
            };
            let rate = PyFloat::new(py, *rate);
            let put = match group.cast_exact::<PyDict>() {
                Ok(group) => group.set_item(key, rate),
                Err(_) => group.set_item(key, rate),
            };
            if let Err(error) = put {
                error.write_unraisable(py, None);
            }
        }
        Some(())
    }

    #[cold]
    fn hold_plain(&self, groups: &Bound<'_, PyList>, rates: &[f64]) {
        let py = groups.py();
        let mut held = Vec::new();
        for (group, rate) in groups.iter().zip(rates) {
            let own = group
                .get_item(intern!(py, "lr"))
                .and_then(|own| own.extract::<f64>());
            if own.is_ok_and(|own| own.to_bits() != rate.to_bits()) {
                let ours = PyFloat::new(py, *rate).into_any();
                let place = Place::Group(group.unbind());
                held.extend(Held::put(py, 0, place, ours, self.is_watched(0)));
            }
        }
        self.keep(held);
    }

    #[cold]
    fn base_plain(&self, groups: &Bound<'_, PyList>) {
        for group in groups {
            if let Ok(own) = group.get_item(intern!(groups.py(), "lr")) {
                leave_base(&group, &own);
            }
        }
        self.remember_base(vec![groups.as_any().clone()]);
    }

    /// The iteration is over: the trainer's own values come back, and no step finds others any more.
    pub(crate) fn end(&self, py: Python<'_>) {
        if !self.holds.replace(false) {
            return;
        }
        for mut held in self.held.take() {
            held.give_back(py);
        }
    }

    /// The trainer's own values come back, of one optimizer or of all, until a step.
    pub(crate) fn give_back(&self, py: Python<'_>, optimizer: Option<&Bound<'_, PyAny>>) {
        self.each_held(optimizer, |held| held.give_back(py));
    }

    /// Values that came back for a while in an iteration stand there again, but those that only do during steps.
    pub(crate) fn stand_again(&self, py: Python<'_>) {
        self.each_held(None, |held| held.again_between_steps(py));
    }

    /// Before a step: what is held stands there, whatever came back or was set since.
    pub(crate) fn write_again(&self, py: Python<'_>, optimizer: &Bound<'_, PyAny>) {
        self.each_held(Some(optimizer), |held| held.again(py));
    }

    fn each_held(&self, optimizer: Option<&Bound<'_, PyAny>>, mut change: impl FnMut(&mut Held)) {
        if !self.holds.get() {
            return;
        }
        let of = |optimizer| {
            self.each
                .borrow()
                .iter()
                .position(|each| each.is(optimizer))
        };
        let whose = match optimizer.map(of) {
            Some(None) => return, // bound no more
            Some(whose) => whose,
            None => None,
        };
        let mut held = self.held.take();
        for held in &mut held {
            if whose.is_none_or(|whose| held.is_of(whose)) {
                change(held);
            }
        }
        self.keep(held);
    }

    fn keep(&self, held: Vec<Held>) {
        self.holds.set(!held.is_empty());
        drop(self.held.replace(held));
    }

    /// Whether these very lists have their bases. Loading a checkpoint makes new ones.
    #[inline]
    fn has_base(&self, lists: &[Bound<'_, PyAny>]) -> bool {
        let based = self.based.borrow();
        based.len() == lists.len() && based.iter().zip(lists).all(|(known, list)| known.is(list))
    }

    #[cold]
    fn remember_base(&self, lists: Vec<Bound<'_, PyAny>>) {
        let lists = lists.into_iter().map(Bound::unbind).collect();
        drop(self.based.replace(lists));
    }

    /// Every optimizer's list of groups, and all groups in their order.
    fn groups<'py>(&self, py: Python<'py>) -> Option<(Vec<Bound<'py, PyAny>>, Vec<Group<'py>>)> {
        let each: Vec<_> = self
            .each
            .borrow()
            .iter()
            .map(|each| each.clone_ref(py))
            .collect();
        let (mut lists, mut groups) = (Vec::new(), Vec::new());
        for (optimizer, each) in each.iter().enumerate() {
            // Read each time: loading a checkpoint makes new ones.
            let own = each.bind(py).getattr(intern!(py, "param_groups")).ok()?;
            let of = |group: Bound<'py, PyAny>| {
                let writes = group.hasattr(intern!(py, "__setitem__")).unwrap_or(false);
                writes.then_some(Group { optimizer, group })
            };
            match own.cast::<PyList>() {
                Ok(list) => groups.extend(list.iter().filter_map(of)),
                Err(_) => groups.extend(own.try_iter().ok()?.flatten().filter_map(of)),
            }
            lists.push(own);
        }
        (!groups.is_empty()).then_some((lists, groups))
    }
}

/// A schedule takes a group over: what its rate was stays beside it, as mmcv's and PyTorch's schedulers do, so that a
/// training that resumes from its checkpoint begins the curve at the same base.
#[cold]
fn leave_base(group: &Bound<'_, PyAny>, base: &Bound<'_, PyAny>) {
    let py = group.py();
    // A group that has no setdefault is no dict, and no checkpoint of it is known.
    let _ = group.call_method1(intern!(py, "setdefault"), (intern!(py, "initial_lr"), base));
}
