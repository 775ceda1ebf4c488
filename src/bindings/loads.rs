//! The load generator, for Python.

use std::sync::Arc;

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use crate::load::{self, Config, Control};

/// One load.
#[pyclass(module = "umbel._core", frozen)]
pub struct Load {
    config: Config,
    control: Arc<Control>,
}

#[pymethods]
impl Load {
    #[new]
    #[pyo3(signature = (config, /))]
    fn new(config: &str) -> PyResult<Self> {
        let config: Config =
            serde_json::from_str(config).map_err(|error| PyValueError::new_err(error.to_string()))?;
        let config = config.check().map_err(PyValueError::new_err)?;
        Ok(Self { config, control: Arc::default() })
    }

    fn run(&self, py: Python<'_>) -> PyResult<String> {
        let report = py.detach(|| load::run(&self.config, &self.control));
        let report = report.map_err(PyRuntimeError::new_err)?;
        Ok(report.to_string())
    }

    fn go(&self) {
        self.control.go();
    }

    fn stop(&self) {
        self.control.stop();
    }

    #[pyo3(signature = (known, /))]
    fn progress(&self, known: usize) -> PyResult<String> {
        serde_json::to_string(&self.control.progress(known))
            .map_err(|error| PyRuntimeError::new_err(error.to_string()))
    }
}
