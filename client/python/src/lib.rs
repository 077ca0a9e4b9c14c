//! The native half of the Python package: a session's hot path as one builtin function, everything else as methods.
//! What it never does: raise into a training loop, but what `apply` raises and a signal during a gate.

mod emit;
mod held;
mod provider;
mod rates;
mod upcall;
mod values;

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use hookbus_client::access::AccessFiles;
use hookbus_client::wire::{Facts, Outcome, ParamGroup};
use hookbus_client::{Goodbye, Options, Position, attach as attach_session};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};

use emit::Native;

/// One rank's session.
#[pyclass(module = "hookbus._native", frozen)]
struct Session {
    native: &'static Native,
    emit: Py<PyAny>,
}

#[pymethods]
impl Session {
    #[getter]
    fn emit(&self, py: Python<'_>) -> Py<PyAny> {
        self.emit.clone_ref(py)
    }

    fn set_apply(&self, apply: Py<PyAny>) {
        self.native.set_apply(apply);
    }

    /// What has the collectives of this job's ranks: gather(training), exchange(tag), lowest(tag, held),
    /// verdict(tag, bytes).
    fn set_ranks(&self, ranks: Py<PyAny>) {
        self.native.set_ranks(ranks);
    }

    fn is_gathering(&self) -> bool {
        self.native.session.is_gathering()
    }

    fn rank(&self) -> (u32, u32) {
        self.native.session.rank()
    }

    fn run_name(&self) -> &str {
        self.native.session.run_name()
    }

    fn alone(&self) {
        self.native.session.alone();
    }

    fn agree(&self, leads: bool, every: u64, evaluates: bool) {
        self.native.session.agree(leads, every, evaluates);
    }

    fn part(&self) {
        self.native.session.part();
    }

    fn off(&self, py: Python<'_>, reason: &str) -> PyResult<()> {
        let lines = py.detach(|| self.native.session.off(reason));
        self.native.apply(py, lines, "close")
    }

    /// What rank 0 hands over; empty: nothing is new.
    fn offer<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.native.session.offer())
    }

    /// Takes what rank 0 handed over; returns what is wrong with it.
    fn take_share(&self, bytes: &[u8]) -> Option<String> {
        self.native.session.take_share(bytes).err()
    }

    /// What comes before training is done now, at the first point of a validation say.
    fn begin(&self, py: Python<'_>, point: Bound<'_, PyAny>) -> PyResult<()> {
        if self.native.session.is_forked() {
            return Ok(());
        }
        self.native.begin(py, point.as_borrowed())
    }

    /// A stop that is due where the next epoch begins is taken at after_train_epoch.
    fn ends_epochs(&self) {
        self.native.session.ends_epochs();
    }

    fn wants_description(&self, point: &str) -> bool {
        let session = &self.native.session;
        !session.is_forked()
            && session
                .point(point)
                .is_some_and(|point| session.wants_description(point))
    }

    fn result(
        &self,
        id: &str,
        outcome: &str,
        #[pyo3(from_py_with = values::optional_text)] old: Option<String>,
        #[pyo3(from_py_with = values::optional_text)] new: Option<String>,
        #[pyo3(from_py_with = values::text)] reason: String,
    ) {
        let outcome = match outcome {
            "applied" => Outcome::Applied,
            "rejected" => Outcome::Rejected,
            "unsupported" => Outcome::Unsupported,
            _ => Outcome::Failed,
        };
        self.native.session.result(id, outcome, old, new, &reason);
    }

    #[pyo3(signature = (**known))]
    fn facts(&self, known: Option<&Bound<'_, PyDict>>) -> PyResult<()> {
        let mut facts = Facts::default();
        for (key, value) in known.into_iter().flatten() {
            match key.extract::<String>()?.as_str() {
                "max_epochs" => facts.max_epochs = value.extract()?,
                "max_iters" => facts.max_iters = value.extract()?,
                "iters_per_epoch" => facts.iters_per_epoch = value.extract()?,
                "groups" => {
                    let groups: Vec<(f64, Bound<'_, PyAny>)> = value.extract()?;
                    let group = |(base_lr, name)| {
                        let name = values::text(&name)?;
                        Ok(ParamGroup { base_lr, name })
                    };
                    facts.groups = groups.into_iter().map(group).collect::<PyResult<_>>()?;
                }
                "persistent_workers" => facts.persistent_workers = value.extract()?,
                "loader_workers" => facts.loader_workers = value.extract()?,
                "own_scheduler" => facts.own_scheduler = value.extract()?,
                "scheduler" => {
                    facts.scheduler = value.extract::<Option<String>>()?.unwrap_or_default()
                }
                "seed" => facts.seed = value.extract()?,
                "process_group" => facts.process_group = value.extract()?,
                "size_multiple" => {
                    facts.size_multiple = value.extract::<Option<u32>>()?.unwrap_or_default()
                }
                _ => {}
            }
        }
        let Position {
            epoch,
            iter,
            inner_iter,
        } = self.native.session.position();
        facts.position = Some(hookbus_client::wire::Position {
            epoch,
            iter,
            inner_iter,
        });
        self.native.session.facts(facts);
        Ok(())
    }

    /// Every module that has `num_classes`, in the order of `named_modules()`, and the datasets by phase.
    fn describe<'py>(
        &self,
        model_class: String,
        modules: Vec<values::Head<'py>>,
        datasets: HashMap<String, (String, Bound<'py, PyAny>)>,
    ) -> PyResult<()> {
        let description = values::description(model_class, modules, datasets)?;
        self.native.session.describe(description);
        Ok(())
    }

    /// Objects with `param_groups`, in the order in which the daemon counts groups, and of each whether
    /// `write_rates_again` and `give_rates_back` are called around its steps.
    fn set_optimizers(&self, py: Python<'_>, optimizers: Vec<Py<PyAny>>, watched: Vec<bool>) {
        self.native.optimizers.set(py, optimizers, watched);
        self.native.session.add_capability("lr");
    }

    /// The trainer's own values come back until the next step: of an optimizer that has stepped; or all, before the
    /// trainer's own scheduler steps.
    #[pyo3(signature = (optimizer=None))]
    fn give_rates_back(&self, py: Python<'_>, optimizer: Option<&Bound<'_, PyAny>>) {
        self.native.optimizers.give_back(py, optimizer);
    }

    /// What is held stands in this optimizer again: it steps now.
    fn write_rates_again(&self, py: Python<'_>, optimizer: &Bound<'_, PyAny>) {
        if self.native.session.is_forked() {
            self.native.optimizers.end(py); // no iteration's end will be seen here
            return;
        }
        self.native.optimizers.write_again(py, optimizer);
    }

    fn add_capability(&self, name: &str) {
        self.native.session.add_capability(name);
    }

    fn position(&self) -> (u64, u64, u64) {
        let Position {
            epoch,
            iter,
            inner_iter,
        } = self.native.session.position();
        (epoch, iter, inner_iter)
    }

    fn set_position(&self, epoch: u64, iter: u64, inner_iter: u64) {
        self.native.session.set_position(Position {
            epoch,
            iter,
            inner_iter,
        });
    }

    fn status<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let session = &self.native.session;
        let status = session.status();
        let out = PyDict::new(py);
        out.set_item("connected", status.connected)?;
        out.set_item("verdict", &status.verdict)?;
        out.set_item("run_id", &status.run_id)?;
        out.set_item("warnings", session.warnings())?;
        let refused: Vec<_> = status
            .refused
            .iter()
            .chain(&status.refused_ahead)
            .map(|(what, why)| format!("{what}: {why}"))
            .collect();
        out.set_item("refused", refused)?;
        out.set_item("dropped", status.dropped)?;
        out.set_item("gate_timeouts", session.gate_timeouts())?;
        out.set_item("buffered_bytes", status.buffered_bytes)?;
        out.set_item("acked", status.acked)?;
        Ok(out)
    }

    fn wants(&self, point: &str) -> bool {
        let session = &self.native.session;
        !session.is_forked()
            && session
                .point(point)
                .is_some_and(|point| session.wants(point))
    }

    fn flush(&self, py: Python<'_>, timeout_s: f64) -> bool {
        let timeout = Duration::try_from_secs_f64(timeout_s).unwrap_or_default();
        py.detach(|| self.native.session.flush(timeout))
    }

    /// From here on nothing of the trainer's is written or kept alive.
    fn close(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = values::text)] reason: String,
        failed: bool,
    ) -> PyResult<()> {
        close(py, &[(self.native, reason, failed)])
    }
}

fn close(py: Python<'_>, each: &[(&'static Native, String, bool)]) -> PyResult<()> {
    for (native, _, _) in each {
        native.optimizers.end(py);
    }
    let goodbyes: Vec<_> = each
        .iter()
        .map(|(native, reason, failed)| Goodbye {
            session: &native.session,
            reason,
            failed: *failed,
        })
        .collect();
    let lines = py.detach(|| hookbus_client::close_all(&goodbyes));
    let mut told = Ok(());
    for ((native, _, _), lines) in each.iter().zip(lines) {
        told = told.and(native.apply(py, lines, "close"));
        native.let_go(py);
    }
    told
}

/// Closes several sessions with a reason and whether an error left the training, all within a second.
#[pyfunction]
fn close_all(
    py: Python<'_>,
    each: Vec<(PyRef<'_, Session>, Bound<'_, PyAny>, bool)>,
) -> PyResult<()> {
    let each = each
        .into_iter()
        .map(|(session, reason, failed)| Ok((session.native, values::text(&reason)?, failed)));
    close(py, &each.collect::<PyResult<Vec<_>>>()?)
}

/// Attaches, as `place` (rank, number of ranks) where no launcher says it; waits at most `timeout_s`, without the GIL, and only where a daemon can be.
#[pyfunction]
#[pyo3(signature = (*, run, address, token_file, ca_file, hooks, capabilities, allow, gathers, place, timeout_s))]
#[expect(clippy::too_many_arguments, reason = "each is a keyword in Python")]
fn attach(
    py: Python<'_>,
    run: &str,
    address: Option<&str>,
    token_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    hooks: &Bound<'_, PyAny>,
    capabilities: Vec<String>,
    allow: Option<Vec<String>>,
    gathers: bool,
    place: Option<(u32, u32)>,
    timeout_s: f64,
) -> PyResult<Session> {
    let files = AccessFiles::resolve(token_file.as_deref(), ca_file.as_deref());
    let mut options = Options::showing(run, address, &files)
        .unwrap_or_else(|mistake| Options::alone(run, &mistake));
    for hook in hooks.try_iter()? {
        options.hooks.push(values::hook_request(&hook?)?);
    }
    options.capabilities = capabilities;
    options.gathers = gathers;
    if let Some((rank, world_size)) = place {
        options.place(rank, world_size);
    }
    options.allow = allow.map(|allow| allow.into_iter().collect());
    options.timeout = Duration::try_from_secs_f64(timeout_s).unwrap_or_default();
    options.client = format!("hookbus-python {}", env!("CARGO_PKG_VERSION"));
    let session = py.detach(|| attach_session(options));
    let (native, emit) = Native::new(py, session)?;
    Ok(Session { native, emit })
}

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<Session>()?;
    module.add_class::<provider::ProviderLink>()?;
    module.add_function(wrap_pyfunction!(attach, module)?)?;
    module.add_function(wrap_pyfunction!(close_all, module)?)
}

/// What `apply` gets.
fn actions<'py>(
    py: Python<'py>,
    actions: Vec<hookbus_client::Action>,
) -> PyResult<Bound<'py, PyList>> {
    use hookbus_client::Action;
    let list = PyList::empty(py);
    for action in actions {
        let tuple: Bound<'py, PyTuple> = match action {
            Action::Log { id, level, text } => ("log", id, level, text).into_pyobject(py)?,
            Action::Stop { id, by, reason } => ("stop", id, by, reason).into_pyobject(py)?,
            Action::Checkpoint { id, tag } => ("checkpoint", id, tag).into_pyobject(py)?,
            Action::Custom { id, name, json } => ("custom", id, name, json).into_pyobject(py)?,
            Action::Size { id, height, width } => ("size", id, height, width).into_pyobject(py)?,
            Action::Mode { id, skip_types } => ("mode", id, skip_types).into_pyobject(py)?,
            Action::SetEpoch { id, epoch, quiet } => {
                ("set_epoch", id, epoch, quiet).into_pyobject(py)?
            }
            Action::SyncNorm { id, quiet } => ("sync_norm", id, quiet).into_pyobject(py)?,
            Action::Warning(text) => ("warning", text).into_pyobject(py)?,
            Action::Error(text) => ("error", text).into_pyobject(py)?,
        };
        list.append(tuple)?;
    }
    Ok(list)
}
