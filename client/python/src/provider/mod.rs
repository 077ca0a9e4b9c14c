//! A provider's link to the daemon, as `hookbus.serving` uses it: frames come in batches, without the GIL; calls are plain
//! tuples, answers too.
//!
//! | file | idea |
//! |---|---|
//! | here | the class |
//! | `heard` | what the daemon says, as tuples |
//! | `said` | tuples as what a provider says |
//! | `state` | the desired state, as a dict |

mod heard;
mod said;
mod state;

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hookbus_client::access::{Access, AccessFiles};
use hookbus_client::address::{ADDRESS_VARIABLE, Address};
use hookbus_client::provider::{Link, Options, Sending};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyList;

use heard::Names;

/// Between two looks at signals.
const SLICE: Duration = Duration::from_millis(50);

/// A link, used by one thread; dropped, it closes.
#[pyclass(module = "hookbus._native", frozen)]
pub(crate) struct ProviderLink {
    link: Mutex<Link>,
    names: Mutex<Names>,
    address: String,
}

#[pymethods]
impl ProviderLink {
    /// Dials the daemon at `address`, by default HOOKBUS_ADDRESS, else the default socket. Errors: ValueError where it is
    /// no address, or what is to be shown to it cannot be.
    #[new]
    #[pyo3(signature = (*, module, address=None, ticket="", token_file=None, ca_file=None))]
    fn new(
        module: &str,
        address: Option<&str>,
        ticket: &str,
        token_file: Option<PathBuf>,
        ca_file: Option<PathBuf>,
    ) -> PyResult<Self> {
        let wrong = |error: &dyn std::fmt::Display| PyValueError::new_err(error.to_string());
        let address = Address::resolve(address).map_err(|error| wrong(&error))?;
        let address = address.ok_or_else(|| {
            PyValueError::new_err(format!(
                "no daemon is named: address=, or {ADDRESS_VARIABLE}, and there is no default socket"
            ))
        })?;
        let files = AccessFiles::resolve(token_file.as_deref(), ca_file.as_deref());
        let access = Access::load(&address, &files).map_err(|error| wrong(&error))?;
        let named = address.to_string();
        let link = Link::open(Options {
            address,
            access,
            module: module.to_owned(),
            ticket: ticket.to_owned(),
            client: format!("hookbus-python {}", env!("CARGO_PKG_VERSION")),
        });
        Ok(Self {
            link: Mutex::new(link.map_err(PyRuntimeError::new_err)?),
            names: Mutex::default(),
            address: named,
        })
    }

    /// Where the daemon is.
    #[getter]
    fn address(&self) -> &str {
        &self.address
    }

    /// What has come, of one connection; waits at most `timeout_s` for the first. Raises what a signal raises.
    fn next<'py>(&self, py: Python<'py>, timeout_s: f64) -> PyResult<Bound<'py, PyList>> {
        let timeout = Duration::try_from_secs_f64(timeout_s).unwrap_or_default();
        let until = Instant::now() + timeout;
        loop {
            let slice = until.saturating_duration_since(Instant::now()).min(SLICE);
            let heard = py.detach(|| lock(&self.link).next(slice));
            if !heard.is_empty() {
                return heard::frames(py, &mut lock(&self.names), heard);
            }
            py.check_signals()?;
            if Instant::now() >= until {
                return Ok(PyList::empty(py));
            }
        }
    }

    /// Which hooks there are, and which do not hold.
    fn offer(
        &self,
        py: Python<'_>,
        hooks: &Bound<'_, PyList>,
        refused: Vec<(String, String)>,
    ) -> PyResult<()> {
        let offer = said::offer(hooks, refused)?;
        send(py, || lock(&self.link).offer(offer))
    }

    /// Answers calls of the last batch. What is said over a connection that is gone is dropped.
    fn answer(&self, py: Python<'_>, answers: &Bound<'_, PyList>) -> PyResult<()> {
        let answers = said::answers(answers)?;
        send(py, || lock(&self.link).answer(answers))
    }
}

fn send(py: Python<'_>, begin: impl FnOnce() -> Sending + Send) -> PyResult<()> {
    let mut sending = py.detach(begin);
    while !py.detach(|| sending.wait(SLICE)) {
        py.check_signals()?;
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
