//! `Session.emit`: one builtin function, called with METH_FASTCALL so that no dict and no tuple is made. Names are found by
//! the pointer of their interned string.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::ffi::{c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hookbus_client::{Action, Given, Meeting, MetricId, PointId, Session, Signal, Ticket};

use crate::rates::Optimizers;
use crate::upcall;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use pyo3::{Borrowed, ffi};

/// Signals are looked at so often while a gate waits.
const SLICE: Duration = Duration::from_millis(50);
/// Names found by pointer; beyond this they are found by their text each time.
const CACHED: usize = 256;
/// Values of one event that need no heap.
const FIELDS: usize = 64;

#[derive(Clone, Copy)]
enum Key {
    Metric(MetricId),
    Epoch,
    Iter,
    InnerIter,
    /// Beyond the limit of names.
    None,
}

#[derive(Default)]
struct Caches {
    points: Vec<(Py<PyAny>, PointId)>,
    keys: Vec<(Py<PyAny>, Key)>,
    complained: HashSet<String>,
}

/// What `emit` works on. Lives as long as the process: a session is attached once or twice in a training.
pub(crate) struct Native {
    pub(crate) session: Session,
    apply: Mutex<Option<Py<PyAny>>>,
    /// Only touched with the GIL, and never across a call into Python.
    caches: RefCell<Caches>,
    /// Whether Python was asked for its facts when training began.
    prepared: Cell<bool>,
    /// Whether the ranks of the job were asked whether they agree.
    gathered: Cell<bool>,
    /// What has the collectives, where the ranks of a job may have to act together.
    ranks: Mutex<Option<Py<PyAny>>>,
    /// Whose learning rates are written.
    pub(crate) optimizers: Optimizers,
}

// SAFETY: the cells are only touched while the GIL is held (abi3 modules are not loaded by a free-threaded interpreter).
unsafe impl Sync for Native {}

struct MethodDef(ffi::PyMethodDef);

// SAFETY: it is never written to.
unsafe impl Sync for MethodDef {}

static EMIT: MethodDef = MethodDef(ffi::PyMethodDef {
    ml_name: c"emit".as_ptr(),
    ml_meth: ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: emit },
    ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
    ml_doc: c"emit(point, **fields): a point is reached. Never waits but in a gate, never raises but a stop.".as_ptr(),
});

impl Native {
    /// The session's state and its builtin function.
    pub(crate) fn new(py: Python<'_>, session: Session) -> PyResult<(&'static Self, Py<PyAny>)> {
        let native: &'static Self = Box::leak(Box::new(Self {
            session,
            prepared: Cell::new(false),
            gathered: Cell::new(false),
            ranks: Mutex::default(),
            apply: Mutex::new(None),
            caches: RefCell::default(),
            optimizers: Optimizers::default(),
        }));
        let pointer = ptr::from_ref(native).cast_mut().cast::<c_void>();
        // SAFETY: the pointer is valid for ever, the definition is static, and both results are checked.
        unsafe {
            let holder = ffi::PyCapsule_New(pointer, ptr::null::<c_char>(), None);
            let holder = Bound::from_owned_ptr_or_err(py, holder)?;
            let definition = ptr::from_ref(&EMIT.0).cast_mut();
            let function = ffi::PyCFunction_NewEx(definition, holder.as_ptr(), ptr::null_mut());
            Ok((native, Bound::from_owned_ptr_or_err(py, function)?.unbind()))
        }
    }

    pub(crate) fn set_apply(&self, apply: Py<PyAny>) {
        *self.apply.lock().unwrap_or_else(PoisonError::into_inner) = Some(apply);
    }

    pub(crate) fn set_ranks(&self, ranks: Py<PyAny>) {
        *self.ranks.lock().unwrap_or_else(PoisonError::into_inner) = Some(ranks);
    }

    fn ranks<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        let ranks = self.ranks.lock().unwrap_or_else(PoisonError::into_inner);
        ranks.as_ref().map(|ranks| ranks.bind(py).clone())
    }

    /// The ranks of this job agree, or find that there is nothing to agree on. Errors: a signal's.
    #[cold]
    fn gather(&self, py: Python<'_>, training: bool) -> PyResult<()> {
        if !self.gathered.get()
            && let Some(ranks) = self.ranks(py)
        {
            self.gathered.set(training);
            upcall::call(&ranks.getattr(intern!(py, "gather"))?, (training,))?;
        }
        // Whatever happened there, nobody is asked for ever.
        self.session.still_gathers();
        if training {
            self.session.asked_ranks();
            self.session.alone(); // if nobody has agreed, or said that it is off
        }
        Ok(())
    }

    /// Training begins, with all that has to be there before it. Errors: a signal's.
    #[cold]
    pub(crate) fn begin(&self, py: Python<'_>, point: Borrowed<'_, '_, PyAny>) -> PyResult<()> {
        if !self.prepared.get() {
            self.prepare(py, point);
        }
        // A rank that follows need not wait for what its own daemon decides ahead.
        if self.session.rank().0 > 0 {
            self.gather(py, true)?;
        }
        while !py.detach(|| self.session.prepare(SLICE)) {
            py.check_signals()?;
        }
        self.gather(py, true)
    }

    /// All ranks meet, and go on. Errors: a signal's.
    #[inline(never)]
    fn meet(
        &self,
        py: Python<'_>,
        point: PointId,
        meeting: &Meeting,
        values: &[(MetricId, f64)],
        unknown: &[(MetricId, &str)],
    ) -> PyResult<Signal> {
        let Some(ranks) = self.ranks(py) else {
            self.session.part();
            return Ok(self.session.emit_met(point, meeting, &[], values, unknown));
        };
        let tag = meeting.tag(point);
        if meeting.exchange {
            upcall::call(&ranks.getattr(intern!(py, "exchange"))?, (tag,))?;
        }
        let mut lowest = Vec::new();
        if !meeting.held.is_empty() {
            let held = meeting.held.clone();
            lowest =
                upcall::call(&ranks.getattr(intern!(py, "lowest"))?, (tag, held))?.extract()?;
        }
        let mut signal = self
            .session
            .emit_met(point, meeting, &lowest, values, unknown);
        if meeting.is_asked(&lowest) {
            let mut verdict = Vec::new();
            if let Signal::Gate(ticket) = &mut signal {
                while !py.detach(|| self.session.wait(ticket, SLICE)) {
                    py.check_signals()?;
                }
                verdict = self.session.verdict(ticket);
            }
            let verdict = PyBytes::new(py, &verdict);
            let verdict: Vec<u8> =
                upcall::call(&ranks.getattr(intern!(py, "verdict"))?, (tag, verdict))?.extract()?;
            self.session.take_verdict(&verdict);
            signal = Signal::Pending;
        }
        Ok(signal)
    }

    /// Hands actions to Python. Errors: what `apply` raised.
    pub(crate) fn apply(&self, py: Python<'_>, actions: Vec<Action>, point: &str) -> PyResult<()> {
        if actions.is_empty() {
            return Ok(());
        }
        if actions
            .iter()
            .any(|action| matches!(action, Action::Stop { .. }))
        {
            self.optimizers.end(py); // whoever catches the stop, or hears of it, finds the trainer's own rates
        }
        // A handler that saves a checkpoint in the middle of an iteration finds the trainer's own, too.
        self.optimizers.give_back(py, None);
        let told = self.call(py, crate::actions(py, actions)?, point);
        self.optimizers.stand_again(py);
        told
    }

    /// The bus is closed: what it was given lives no longer than its owners want.
    pub(crate) fn let_go(&self, py: Python<'_>) {
        self.optimizers.set(py, Vec::new(), Vec::new());
        // Each is dropped after its lock: its destructor may run anything.
        let ranks = self
            .ranks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        drop(ranks);
        let apply = self
            .apply
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        drop(apply);
    }

    /// Training begins: what Python knows of its objects is read and told once more. A scheduler, say, is often made only
    /// after its optimizer was bound.
    #[cold]
    fn prepare(&self, py: Python<'_>, point: Borrowed<'_, '_, PyAny>) {
        self.prepared.set(true);
        let told = PyList::new(py, [("prepare",)])
            .and_then(|actions| self.call(py, actions, &crate::values::text(&point)?));
        if let Err(error) = told {
            error.write_unraisable(py, None); // it is no reason to end a training
        }
    }

    fn call(&self, py: Python<'_>, actions: Bound<'_, PyList>, point: &str) -> PyResult<()> {
        let apply = self
            .apply
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .map(|apply| apply.clone_ref(py));
        let Some(apply) = apply else { return Ok(()) };
        upcall::call(apply.bind(py), (actions, point)).map(drop)
    }

    #[inline]
    fn point(&self, name: Borrowed<'_, '_, PyAny>) -> Option<PointId> {
        let mut caches = self.caches.borrow_mut();
        if let Some((_, id)) = caches
            .points
            .iter()
            .find(|(known, _)| known.as_ptr() == name.as_ptr())
        {
            return Some(*id);
        }
        let id = self.session.point(&name.extract::<String>().ok()?)?;
        if caches.points.len() < CACHED {
            caches.points.push((name.to_owned().unbind(), id));
        }
        Some(id)
    }

    #[inline]
    fn key(&self, name: Borrowed<'_, '_, PyAny>) -> Key {
        let mut caches = self.caches.borrow_mut();
        if let Some((_, key)) = caches
            .keys
            .iter()
            .find(|(known, _)| known.as_ptr() == name.as_ptr())
        {
            return *key;
        }
        let Ok(text) = name.extract::<String>() else {
            return Key::None;
        };
        let key = match text.as_str() {
            "epoch" => Key::Epoch,
            "iter" => Key::Iter,
            "inner_iter" => Key::InnerIter,
            _ => self.session.metric(&text).map_or(Key::None, Key::Metric),
        };
        if caches.keys.len() < CACHED {
            caches.keys.push((name.to_owned().unbind(), key));
        }
        key
    }

    /// One clear line, once per cause.
    #[cold]
    fn complain(&self, cause: &str, text: String) {
        if self.caches.borrow_mut().complained.insert(cause.to_owned()) {
            self.session.say(Action::Error(text));
        }
    }

    /// A value that is no plain float. Err: why it is not known.
    #[cold]
    fn convert(
        &self,
        point: PointId,
        name: Borrowed<'_, '_, PyAny>,
        value: Borrowed<'_, '_, PyAny>,
    ) -> Result<f64, String> {
        let name = name.extract::<String>().unwrap_or_default();
        let on_device = !value.is_instance_of::<pyo3::types::PyInt>() && is_on_device(&value);
        if on_device && self.session.gate_field(point).as_deref() != Some(name.as_str()) {
            return Err("on device".to_owned());
        }
        // SAFETY: the object is borrowed from the caller's arguments; an error is fetched and cleared below.
        let number = unsafe { ffi::PyFloat_AsDouble(value.as_ptr()) };
        match PyErr::take(value.py()) {
            None => Ok(number),
            Some(error) => {
                let kind = value
                    .get_type()
                    .name()
                    .map(|name| name.to_string())
                    .unwrap_or_default();
                let text = format!(
                    "hookbus: {name} is a {kind} that is no single number ({error}); it is not sent. Pass a float, or {name}.item()"
                );
                self.complain(&name, text);
                Err(format!("not a number: {kind}"))
            }
        }
    }
}

fn is_on_device(value: &Bound<'_, PyAny>) -> bool {
    let kind = value
        .getattr("device")
        .and_then(|device| device.getattr("type"))
        .and_then(|kind| kind.extract::<String>());
    kind.is_ok_and(|kind| kind != "cpu")
}

unsafe extern "C" fn emit(
    holder: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    nargs: ffi::Py_ssize_t,
    kwnames: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: Python calls this with the GIL, and with the capsule that `Native::new` made.
    let (py, native) = unsafe {
        let pointer = ffi::PyCapsule_GetPointer(holder, ptr::null::<c_char>());
        (Python::assume_attached(), &*pointer.cast::<Native>())
    };
    // SAFETY: as CPython's calling convention says, `args` holds `nargs` positional values and then one per name.
    let reached = catch_unwind(AssertUnwindSafe(|| unsafe {
        reached(py, native, args, nargs, kwnames)
    }));
    match reached {
        // A panic of ours is printed by its hook and costs an event; unwinding into C would end the training.
        Ok(Ok(())) | Err(_) => py.None().into_ptr(),
        Ok(Err(error)) => {
            error.restore(py);
            ptr::null_mut()
        }
    }
}

/// What an event carries.
#[derive(Default)]
struct Fields<'a> {
    given: Given,
    values: &'a [(MetricId, f64)],
    /// And why each is not known.
    unknown: Vec<(MetricId, String)>,
}

/// Reads the fields; `kwnames` is a tuple of strings.
#[inline]
unsafe fn fields<'a>(
    py: Python<'_>,
    native: &Native,
    point: PointId,
    args: *const *mut ffi::PyObject,
    kwnames: *mut ffi::PyObject,
    room: &'a mut [(MetricId, f64); FIELDS],
) -> Fields<'a> {
    let mut given = Given::NOTHING;
    let mut count = 0;
    let mut unknown: Vec<(MetricId, String)> = Vec::new();
    // SAFETY: see the caller.
    for at in 0..unsafe { ffi::PyTuple_Size(kwnames) } {
        // SAFETY: both indices are within what Python passed.
        let (name, value) = unsafe {
            let name: Borrowed<'_, '_, PyAny> =
                Borrowed::from_ptr(py, ffi::PyTuple_GetItem(kwnames, at));
            let value: Borrowed<'_, '_, PyAny> = Borrowed::from_ptr(py, *args.offset(1 + at));
            (name, value)
        };
        match native.key(name) {
            Key::Metric(id) => {
                // SAFETY: an exact float is read as it is.
                let exact = unsafe { ffi::PyFloat_CheckExact(value.as_ptr()) } != 0;
                // SAFETY: as above.
                let number = if exact { Ok(unsafe { ffi::PyFloat_AsDouble(value.as_ptr()) }) } else { native.convert(point, name, value) };
                match number {
                    Ok(number) if count < FIELDS => {
                        room[count] = (id, number);
                        count += 1;
                    }
                    Ok(_) => native.complain("fields", format!("hookbus: more than {FIELDS} fields in one event; the rest is not sent")),
                    Err(why) => unknown.push((id, why)),
                }
            }
            Key::None => native.complain("metrics", "hookbus: more than 1024 metric names in one run; the new ones are not sent".to_owned()),
            place => match value.extract::<u64>() {
                Ok(number) => match place {
                    Key::Epoch => given.epoch = Some(number),
                    Key::Iter => given.iter = Some(number),
                    _ => given.inner_iter = Some(number),
                },
                Err(_) => native.complain("position", "hookbus: epoch, iter and inner_iter are whole numbers from 0; others are counted instead".to_owned()),
            },
        }
    }
    Fields {
        given,
        values: &room[..count],
        unknown,
    }
}

#[inline]
unsafe fn reached(
    py: Python<'_>,
    native: &Native,
    args: *const *mut ffi::PyObject,
    nargs: ffi::Py_ssize_t,
    kwnames: *mut ffi::PyObject,
) -> PyResult<()> {
    if native.session.is_forked() {
        return Ok(());
    }
    if nargs != 1 {
        native.complain("arguments", format!("hookbus: event() takes a point and named fields, it got {nargs} unnamed ones; nothing is sent"));
        return Ok(());
    }
    // SAFETY: see the caller.
    let point = unsafe { native.point(Borrowed::from_ptr(py, *args)) };
    let Some(point) = point else {
        native.complain(
            "point",
            "hookbus: a point's name is a string, and there are at most 256; nothing is sent"
                .to_owned(),
        );
        return Ok(());
    };
    let mut room; // made only where there are fields: it is larger than all else here
    let Fields {
        given,
        values,
        unknown,
    } = if kwnames.is_null() {
        Fields::default()
    } else {
        room = [(MetricId::default(), 0.0); FIELDS];
        // SAFETY: see the caller.
        unsafe { fields(py, native, point, args, kwnames, &mut room) }
    };
    // SAFETY: see the caller.
    let name: Borrowed<'_, '_, PyAny> = unsafe { Borrowed::from_ptr(py, *args) };
    let borrowed: Vec<_>;
    let unknown = if unknown.is_empty() {
        &[]
    } else {
        let each = unknown.iter().map(|(id, why)| (*id, why.as_str()));
        borrowed = each.collect();
        borrowed.as_slice()
    };
    let signal = loop {
        match native.session.emit(point, &given, values, unknown) {
            Signal::Prepare => native.begin(py, name)?,
            Signal::Gather => native.gather(py, false)?,
            Signal::Meet(meeting) => break native.meet(py, point, &meeting, values, unknown)?,
            signal => break signal,
        }
    };
    let top = point == PointId::BEFORE_TRAIN_ITER;
    if native.optimizers.hold() && (top || point == PointId::AFTER_TRAIN_ITER) {
        native.optimizers.end(py);
    }
    match signal {
        Signal::Quiet | Signal::Prepare | Signal::Gather | Signal::Meet(_) => {}
        Signal::Pending => act(py, native, point, name, None)?,
        Signal::Gate(ticket) => act(py, native, point, name, Some(ticket))?,
    }
    // After the actions: a handler that saves a checkpoint finds the trainer's own rates, and a stop ends it here.
    if top && native.session.steers_rates() {
        native.optimizers.write(py, &native.session);
    }
    Ok(())
}

/// Waits for a gate, and applies what is due at the point.
#[inline(never)]
fn act(
    py: Python<'_>,
    native: &Native,
    point: PointId,
    name: Borrowed<'_, '_, PyAny>,
    gate: Option<Ticket>,
) -> PyResult<()> {
    if let Some(mut ticket) = gate {
        while !py.detach(|| native.session.wait(&mut ticket, SLICE)) {
            py.check_signals()?;
        }
    }
    let actions = native.session.take_actions(point);
    if actions.is_empty() {
        return Ok(());
    }
    native.apply(py, actions, &crate::values::text(&name)?)
}
