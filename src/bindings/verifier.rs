//! Says whether tokens count: the keys and rules of one `umbel.JWT`.

use std::fmt::Display;
use std::sync::Arc;

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::bindings::seconds::duration;
use crate::jwt::{self, Needs, Source};
use crate::rights::Rights;

/// Whom a token names: subject, claims as JSON text, and the end in seconds of Unix time.
pub type Named<'py> = (String, Bound<'py, PyBytes>, Option<f64>);

#[pyclass(frozen, module = "umbel._core")]
pub struct Verifier(pub Arc<jwt::Verifier>);

#[pymethods]
impl Verifier {
    #[new]
    #[pyo3(signature = (options, keys, jwks, /))]
    fn new(
        options: &[u8],
        keys: Option<Vec<(Option<String>, Vec<u8>)>>,
        jwks: Option<Vec<u8>>,
    ) -> PyResult<Self> {
        let options = serde_json::from_slice(options).map_err(|error| wrong(&error))?;
        let source = match (&keys, &jwks) {
            (Some(keys), _) => Source::Keys(keys),
            (None, Some(set)) => Source::Set(set),
            (None, None) => Source::Elsewhere,
        };
        let verifier = jwt::Verifier::new(options, source).map_err(|error| wrong(&error))?;
        Ok(Self(Arc::new(verifier)))
    }

    #[pyo3(signature = (token, now, /))]
    fn verify<'py>(&self, py: Python<'py>, token: &str, now: f64) -> PyResult<Named<'py>> {
        let today = millis(now)?;
        let verified = py.detach(|| self.0.verify(token, today));
        let verified = verified.map_err(|error| PyValueError::new_err(error.text()))?;
        Ok(named(py, &verified))
    }

    #[pyo3(signature = (subject, now, /))]
    fn revoke(&self, subject: &str, now: f64) -> PyResult<()> {
        let today = millis(now)?;
        self.0.revoke(subject, today).map_err(|error| PyRuntimeError::new_err(error.to_string()))
    }

    #[pyo3(signature = (token, now, /))]
    fn needs_keys(&self, token: &str, now: f64) -> PyResult<bool> {
        Ok(self.0.needs(token, millis(now)?) == Needs::Keys)
    }

    #[pyo3(signature = (jwks, now, /))]
    fn replace_keys(&self, jwks: &[u8], now: f64) -> PyResult<()> {
        let today = millis(now)?;
        self.0.replace_keys(jwks, today).map_err(|error| wrong(&error))
    }

    #[pyo3(signature = (now, /))]
    fn has_keys(&self, now: f64) -> PyResult<bool> {
        Ok(self.0.has_keys(millis(now)?))
    }

    fn keys_come(&self) {
        self.0.wanted().begin();
    }

    fn keys_settled(&self) {
        self.0.wanted().settle();
    }

    #[pyo3(signature = (at_most, /))]
    fn wait_wanted(&self, py: Python<'_>, at_most: f64) -> PyResult<()> {
        let at_most = duration(at_most)?;
        py.detach(|| self.0.wanted().wait(at_most));
        Ok(())
    }

    fn __repr__(&self) -> &'static str {
        "<Verifier>"
    }
}

fn wrong(error: &dyn Display) -> PyErr {
    PyValueError::new_err(error.to_string())
}

fn millis(now: f64) -> PyResult<u64> {
    Ok(duration(now)?.as_millis() as u64)
}

pub fn named<'py>(py: Python<'py>, verified: &jwt::Verified) -> Named<'py> {
    let expires = verified.identity.expires().map(|millis| millis as f64 / 1000.0);
    (verified.identity.subject.to_string(), PyBytes::new(py, verified.claims.as_bytes()), expires)
}

/// What the claims of an identity say of channels.
pub fn rights(claims: &[u8]) -> PyResult<Rights> {
    let claims: serde_json::Value =
        serde_json::from_slice(claims).map_err(|error| PyValueError::new_err(error.to_string()))?;
    let claim = |name: &str| claims.get(name).filter(|claim| !claim.is_null());
    Rights::new(claim("channels"), claim("publish")).ok_or_else(|| {
        PyValueError::new_err(
            "the claims channels and publish are lists of at most 256 names of channels; only the last character of \
             each may be a *",
        )
    })
}
