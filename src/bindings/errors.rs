//! Errors of the core as Python exceptions.

use pyo3::PyErr;
use pyo3::exceptions::{PyRuntimeError, PyValueError};

use crate::channel::NameError;
use crate::server::StartError;

impl From<StartError> for PyErr {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Io(error) => error.into(),
            StartError::Twice => PyRuntimeError::new_err(error.to_string()),
            StartError::Config(_) | StartError::Tls(_) => PyValueError::new_err(error.to_string()),
        }
    }
}

impl From<NameError> for PyErr {
    fn from(error: NameError) -> Self {
        PyValueError::new_err(error.to_string())
    }
}
