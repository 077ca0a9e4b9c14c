//! One learning rate that stands in the place of the trainer's own, and the way back. It never takes away what somebody
//! else has put there since.

use pyo3::intern;
use pyo3::prelude::*;

/// Where a learning rate is.
pub(crate) enum Place {
    /// In a parameter group, under "lr".
    Group(Py<PyAny>),
    /// In a tensor, which several groups may share.
    Tensor(Py<PyAny>),
}

impl Place {
    /// What tells it from every other place.
    pub(crate) fn object(&self) -> *mut pyo3::ffi::PyObject {
        let (Self::Group(object) | Self::Tensor(object)) = self;
        object.as_ptr()
    }
}

/// A value of ours for an iteration's steps.
pub(crate) struct Held {
    /// Those that step with it.
    optimizers: Vec<usize>,
    place: Place,
    ours: Py<PyAny>,
    /// It only stands there while an optimizer steps, so that nobody reads it as the trainer's own.
    in_steps: bool,
    /// The trainer's own: the group's object, or a copy of the tensor. None: the group had no learning rate.
    own: Option<Py<PyAny>>,
    stands: bool,
    /// How often the tensor had been written to when ours was there. None: it does not count.
    version: Option<u64>,
}

impl Held {
    /// Puts it there, unless it waits for steps. None: the trainer's own could not be kept, so it stays.
    pub(crate) fn put(
        py: Python<'_>,
        optimizer: usize,
        place: Place,
        ours: Bound<'_, PyAny>,
        in_steps: bool,
    ) -> Option<Self> {
        let mut held = Self {
            in_steps,
            optimizers: vec![optimizer],
            place,
            ours: ours.unbind(),
            own: None,
            stands: false,
            version: None,
        };
        if in_steps {
            return Some(held);
        }
        held.again(py);
        held.stands.then_some(held)
    }

    pub(crate) fn is_of(&self, optimizer: usize) -> bool {
        self.optimizers.contains(&optimizer)
    }

    /// Another group has the same place: one value can stand there, the later one.
    pub(crate) fn share(
        &mut self,
        py: Python<'_>,
        optimizer: usize,
        ours: Bound<'_, PyAny>,
        in_steps: bool,
    ) {
        if !self.is_of(optimizer) {
            self.optimizers.push(optimizer);
        }
        self.ours = ours.unbind();
        if self.stands {
            self.write(py);
        } else if !in_steps {
            self.in_steps = false;
            self.again(py);
        }
    }

    /// After it came back for a while in an iteration.
    pub(crate) fn again_between_steps(&mut self, py: Python<'_>) {
        if !self.in_steps {
            self.again(py);
        }
    }

    /// The trainer's own comes back, unless it, or somebody, has written there meanwhile.
    pub(crate) fn give_back(&mut self, py: Python<'_>) {
        if !std::mem::take(&mut self.stands) || !self.is_ours(py) {
            return;
        }
        let key = intern!(py, "lr");
        let back = match (&self.place, &self.own) {
            (Place::Group(group), Some(own)) => group.bind(py).set_item(key, own),
            (Place::Group(group), None) => group.bind(py).del_item(key),
            (Place::Tensor(tensor), Some(own)) => {
                let back = tensor.bind(py).call_method1(intern!(py, "copy_"), (own,));
                back.map(drop)
            }
            (Place::Tensor(_), None) => Ok(()),
        };
        self.say(py, back);
    }

    /// Ours stands there after this; what stood there is the trainer's own.
    pub(crate) fn again(&mut self, py: Python<'_>) {
        if self.stands && self.is_ours(py) {
            return;
        }
        self.own = match &self.place {
            Place::Group(group) => group.bind(py).get_item(intern!(py, "lr")).ok(),
            Place::Tensor(tensor) => match tensor.bind(py).call_method0(intern!(py, "clone")) {
                Ok(copy) => Some(copy),
                Err(error) => return self.say(py, Err(error)),
            },
        }
        .map(Bound::unbind);
        self.write(py);
    }

    fn write(&mut self, py: Python<'_>) {
        let put = match &self.place {
            Place::Group(group) => group.bind(py).set_item(intern!(py, "lr"), &self.ours),
            Place::Tensor(tensor) => {
                let put = tensor
                    .bind(py)
                    .call_method1(intern!(py, "fill_"), (&self.ours,));
                put.map(drop)
            }
        };
        self.stands = put.is_ok();
        self.version = self.version(py);
        self.say(py, put);
    }

    /// Whether what is there is what was written. A tensor is not read: that could wait for a device.
    fn is_ours(&self, py: Python<'_>) -> bool {
        match &self.place {
            Place::Group(group) => {
                let there = group.bind(py).get_item(intern!(py, "lr"));
                there.is_ok_and(|there| there.is(&self.ours))
            }
            Place::Tensor(_) => self.version(py) == self.version,
        }
    }

    fn version(&self, py: Python<'_>) -> Option<u64> {
        match &self.place {
            Place::Group(_) => None,
            Place::Tensor(tensor) => tensor
                .bind(py)
                .getattr(intern!(py, "_version"))
                .ok()?
                .extract()
                .ok(),
        }
    }

    fn say(&self, py: Python<'_>, done: PyResult<()>) {
        if let Err(error) = done {
            error.write_unraisable(py, None); // a group's text would be that of all its parameters
        }
    }
}
