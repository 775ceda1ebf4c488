//! `Receipt`: what became of a publication.
#![expect(clippy::disallowed_methods, reason = "a thread that waits has a time limit")]

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use pyo3::exceptions::{PyRuntimeError, PyStopIteration, PyTimeoutError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::bindings::position::Position;
use crate::bindings::seconds::duration;
use crate::broker::{self, Outcome};

#[pyclass(frozen, module = "umbel._core")]
pub struct Receipt(pub broker::Receipt);

#[pymethods]
impl Receipt {
    #[getter]
    fn position(&self) -> Option<Position> {
        self.0.position().map(Position)
    }

    #[pyo3(signature = (timeout = None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Position> {
        let timeout = timeout.map(duration).transpose()?;
        if runs_event_loop(py)? {
            let text = "this thread runs an event loop, and wait() would block it: use `await receipt`";
            return Err(PyRuntimeError::new_err(text));
        }
        let outcome = match self.0.outcome() {
            Some(outcome) => outcome,
            None => self.wait_outcome(py, timeout)?,
        };
        Ok(Position(outcome?))
    }

    fn __await__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if let Some(outcome) = self.0.outcome() {
            return Ok(Bound::new(py, Known(outcome))?.into_any());
        }
        // A future of its own for each `await`: one that is cancelled ends no other.
        let event_loop = py.import("asyncio")?.call_method0("get_running_loop")?;
        let future = event_loop.call_method0("create_future")?;
        let (event_loop, waiting, receipt) = (event_loop.unbind(), future.clone().unbind(), self.0.clone());
        self.0.when_known(move |_| {
            // Neither an interpreter nor a loop that has ended waits for anything.
            Python::try_attach(|py| {
                let settle = wrap_pyfunction!(settle, py)?;
                event_loop.call_method1(py, "call_soon_threadsafe", (settle, waiting, Receipt(receipt)))
            });
        });
        future.call_method0("__await__")
    }

    fn __repr__(&self) -> String {
        match self.0.outcome() {
            None => "Receipt(pending)".to_owned(),
            Some(Ok(position)) => format!("Receipt({})", Position(position).__repr__()),
            Some(Err(error)) => format!("Receipt({error})"),
        }
    }
}

impl Receipt {
    /// Waits without the interpreter, which looks for signals now and then.
    fn wait_outcome(&self, py: Python<'_>, timeout: Option<Duration>) -> PyResult<Outcome> {
        let (tell, mut told) = mpsc::channel();
        self.0.when_known(move |outcome| drop(tell.send(outcome)));
        let began = Instant::now();
        loop {
            let left = timeout.map_or(SIGNALS, |timeout| timeout.saturating_sub(began.elapsed()));
            // A receiver is for one thread at a time.
            let told = &mut told;
            match py.detach(move || told.recv_timeout(left.min(SIGNALS))) {
                Ok(outcome) => return Ok(outcome),
                Err(RecvTimeoutError::Timeout) if left.is_zero() => {
                    return Err(PyTimeoutError::new_err("the broker has not answered in time"));
                }
                Err(_) => py.check_signals()?,
            }
        }
    }
}

/// What `await` iterates over when there is nothing to wait for.
#[pyclass(frozen, module = "umbel._core")]
struct Known(Outcome);

#[pymethods]
impl Known {
    fn __iter__(own: PyRef<'_, Self>) -> PyRef<'_, Self> {
        own
    }

    fn __next__(&self) -> PyResult<()> {
        Err(PyStopIteration::new_err((Position(self.0.clone()?),)))
    }
}

/// Ends the wait of one `await`, on its loop. The future may have been cancelled meanwhile.
#[pyfunction]
fn settle(py: Python<'_>, future: &Bound<'_, PyAny>, receipt: &Receipt) -> PyResult<()> {
    if future.call_method0("done")?.is_truthy()? {
        return Ok(());
    }
    match receipt.0.outcome() {
        Some(Ok(position)) => future.call_method1("set_result", (Position(position),))?,
        Some(Err(error)) => future.call_method1("set_exception", (PyErr::from(error).into_value(py),))?,
        None => return Ok(()),
    };
    Ok(())
}

fn runs_event_loop(py: Python<'_>) -> PyResult<bool> {
    static RUNNING_LOOP: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let running_loop = RUNNING_LOOP.import(py, "asyncio", "_get_running_loop")?;
    Ok(!running_loop.call0()?.is_none())
}

/// How often a wait looks for signals, Ctrl-C among them.
const SIGNALS: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use std::ffi::CString;
    use std::sync::Mutex;
    use std::thread;

    use pyo3::types::PyDict;

    use super::*;
    use crate::broker::{Confirmation, PublishError};
    use crate::position::{self, Epoch};

    /// A broker that answers on a thread of its own.
    #[pyclass(frozen)]
    struct Broker(Mutex<Option<Confirmation>>);

    #[pymethods]
    impl Broker {
        fn confirm(&self, offset: u64) {
            self.answer(Some(Ok(position::Position { epoch: Epoch::new(1), offset })));
        }

        fn refuse(&self) {
            self.answer(Some(Err(PublishError::NotPublished("the broker is full".into()))));
        }

        fn forget(&self) {
            self.answer(None);
        }
    }

    impl Broker {
        fn answer(&self, outcome: Option<Outcome>) {
            let confirmation = self.0.lock().unwrap().take().expect("a broker answers once");
            thread::spawn(move || match outcome {
                Some(outcome) => confirmation.resolve(outcome),
                None => drop(confirmation),
            });
        }
    }

    #[pyfunction]
    fn pending() -> (Receipt, Broker) {
        let (receipt, confirmation) = broker::Receipt::pending();
        (Receipt(receipt), Broker(Mutex::new(Some(confirmation))))
    }

    #[test]
    fn pending_receipts_can_be_awaited_and_waited_for() {
        Python::initialize();
        Python::attach(|py| {
            let module = PyModule::new(py, "late_broker").unwrap();
            module.add_function(wrap_pyfunction!(pending, py).unwrap()).unwrap();
            let modules = py.import("sys").unwrap().getattr("modules").unwrap();
            modules.set_item("late_broker", module).unwrap();
            let script = CString::new(include_str!("../../tests/rust/receipts.py")).unwrap();
            py.run(&script, Some(&PyDict::new(py)), None).unwrap_or_else(|error| {
                error.print(py);
                panic!("{error}");
            });
        });
    }
}
