//! A place in a channel's log.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::position::NotAnEpoch;

#[pyclass(frozen, eq, hash, module = "umbel")]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Position(pub crate::position::Position);

#[pymethods]
impl Position {
    #[new]
    fn new(epoch: &str, offset: u64) -> PyResult<Self> {
        let epoch = epoch.parse().map_err(|error: NotAnEpoch| PyValueError::new_err(error.to_string()))?;
        Ok(Self(crate::position::Position { epoch, offset }))
    }

    #[getter]
    fn epoch(&self) -> String {
        self.0.epoch.to_string()
    }

    #[getter]
    fn offset(&self) -> u64 {
        self.0.offset
    }

    pub fn __repr__(&self) -> String {
        format!("Position(epoch='{}', offset={})", self.0.epoch, self.0.offset)
    }
}
