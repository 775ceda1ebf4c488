//! Says whether tokens count: the keys and rules of one `umbel.JWT`.

use std::sync::Arc;

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::bindings::seconds::duration;
use crate::jwt;

/// Whom a token names: subject, claims as JSON text, and the end in seconds of Unix time.
pub type Named<'py> = (String, Bound<'py, PyBytes>, Option<f64>);

#[pyclass(frozen, module = "umbel._core")]
pub struct Verifier(pub Arc<jwt::Verifier>);

#[pymethods]
impl Verifier {
    #[new]
    #[pyo3(signature = (options, keys, jwks, /))]
    fn new(options: &[u8], keys: Vec<(Option<String>, Vec<u8>)>, jwks: Option<Vec<u8>>) -> PyResult<Self> {
        let wrong = |error: &dyn std::fmt::Display| PyValueError::new_err(error.to_string());
        let options = serde_json::from_slice(options).map_err(|error| wrong(&error))?;
        let verifier = jwt::Verifier::new(options, &keys, jwks.as_deref()).map_err(|error| wrong(&error))?;
        Ok(Self(Arc::new(verifier)))
    }

    #[pyo3(signature = (token, now, /))]
    fn verify<'py>(&self, py: Python<'py>, token: &str, now: f64) -> PyResult<Named<'py>> {
        let today = duration(now)?.as_millis() as u64;
        let verified = py.detach(|| self.0.verify(token, today));
        let verified = verified.map_err(|error| PyValueError::new_err(error.text()))?;
        Ok(named(py, &verified))
    }

    #[pyo3(signature = (subject, now, /))]
    fn revoke(&self, subject: &str, now: f64) -> PyResult<()> {
        let today = duration(now)?.as_millis() as u64;
        self.0.revoke(subject, today).map_err(|error| PyRuntimeError::new_err(error.to_string()))
    }

    fn __repr__(&self) -> &'static str {
        "<Verifier>"
    }
}

pub fn named<'py>(py: Python<'py>, verified: &jwt::Verified) -> Named<'py> {
    let expires = verified.identity.expires().map(|millis| millis as f64 / 1000.0);
    (verified.identity.subject.to_string(), PyBytes::new(py, verified.claims.as_bytes()), expires)
}
