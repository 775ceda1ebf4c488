//! A place in a channel's log.

use pyo3::prelude::*;

#[pyclass(frozen, eq, hash, module = "umbel")]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Position(pub crate::position::Position);

#[pymethods]
impl Position {
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
