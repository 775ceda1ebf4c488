//! The HTTP request that opened a connection.

use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::bindings::verifier::{Named, named};
use crate::transport::events::Opening;

#[pyclass(frozen, module = "umbel._core")]
pub struct Handshake(pub Opening);

#[pymethods]
impl Handshake {
    #[getter]
    fn path(&self) -> &str {
        self.0.request.path()
    }

    #[getter]
    fn query(&self) -> &str {
        self.0.request.query().unwrap_or_default()
    }

    #[getter]
    fn headers(&self) -> Vec<(String, String)> {
        self.0
            .request
            .all_headers()
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect()
    }

    #[getter]
    fn peer(&self) -> &str {
        &self.0.peer
    }

    #[getter]
    fn secure(&self) -> bool {
        self.0.secure
    }

    #[getter]
    fn route(&self) -> Option<usize> {
        self.0.route
    }

    #[getter]
    fn params<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.0.params)
    }

    #[getter]
    fn token(&self) -> Option<&str> {
        self.0.token.as_deref()
    }

    #[getter]
    fn identity<'py>(&self, py: Python<'py>) -> Option<Named<'py>> {
        self.0.verified.as_ref().map(|verified| named(py, verified))
    }

    #[getter]
    fn other_credential(&self) -> bool {
        self.0.other_credential
    }

    #[getter]
    fn is_caller(&self) -> bool {
        self.0.is_caller
    }

    #[getter]
    fn client_id(&self) -> &str {
        &self.0.public_id
    }

    #[getter]
    fn connection(&self) -> u32 {
        self.0.connection
    }

    fn __repr__(&self) -> String {
        format!("Handshake(path={:?}, peer={:?})", self.0.request.path(), self.0.peer)
    }
}
