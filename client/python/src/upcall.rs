//! A call from here into Python. While it runs, the interpreter may end: until 3.14 it then ends each other thread that
//! wants the GIL, by an unwinding that Rust turns into the abort of the whole process. Such a thread stands still instead.

use std::mem;

use pyo3::IntoPyObjectExt;
use pyo3::ffi::PyObject;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

unsafe extern "C-unwind" {
    /// As pyo3 has it, but for the unwinding, which pyo3 says cannot be.
    fn PyObject_CallObject(callable: *mut PyObject, args: *mut PyObject) -> *mut PyObject;
}

/// Dropped by an unwinding only. It goes no further.
struct StandStill;

impl Drop for StandStill {
    fn drop(&mut self) {
        loop {
            std::thread::park();
        }
    }
}

/// Calls it. Errors: what it raises.
pub(crate) fn call<'py>(
    callable: &Bound<'py, PyAny>,
    args: impl IntoPyObject<'py, Target = PyTuple, Output = Bound<'py, PyTuple>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = callable.py();
    let args = args.into_pyobject_or_pyerr(py)?;
    let stand_still = StandStill;
    // SAFETY: both objects live until it returns; it returns a new reference, or null with an error set.
    let result = unsafe {
        let result = PyObject_CallObject(callable.as_ptr(), args.as_ptr());
        Bound::from_owned_ptr_or_err(py, result)
    };
    mem::forget(stand_still);
    result
}
