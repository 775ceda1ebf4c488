//! Errors of the core as Python exceptions.

use pyo3::PyErr;
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};

use crate::broker::PublishError;
use crate::change::{StateError, StateRefusal};
use crate::channel::NameError;
use crate::config::ConfigError;
use crate::server::StartError;
use crate::ticket::IssueError;
use exceptions::{ConfigurationError, Conflict, MaybePublished, NotPublished, StateFull};

impl From<StartError> for PyErr {
    fn from(error: StartError) -> Self {
        match error {
            // With the number or the kind, so that Python makes the subclass of OSError that people catch.
            StartError::Bind { ref source, .. } => match source.raw_os_error() {
                Some(number) => PyOSError::new_err((number, error.to_string())),
                None => std::io::Error::new(source.kind(), error.to_string()).into(),
            },
            StartError::Io(error) => error.into(),
            StartError::Twice => PyRuntimeError::new_err(error.to_string()),
            StartError::Config(error @ ConfigError::NoToken(_)) => {
                ConfigurationError::new_err(error.to_string())
            }
            StartError::Config(_) | StartError::Tls(_) => PyValueError::new_err(error.to_string()),
        }
    }
}

impl From<PublishError> for PyErr {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::NotPublished(reason) => NotPublished::new_err(reason),
            PublishError::MaybePublished(reason) => MaybePublished::new_err(reason),
            PublishError::Refused(
                refusal @ (StateRefusal::NoState
                | StateRefusal::NoKey
                | StateRefusal::Large
                | StateRefusal::Patch(_)),
            ) => PyValueError::new_err(refusal.to_string()),
            PublishError::Refused(StateRefusal::Conflict) => {
                Conflict::new_err(StateRefusal::Conflict.to_string())
            }
            PublishError::Refused(refusal) => StateFull::new_err(refusal.to_string()),
        }
    }
}

impl From<IssueError> for PyErr {
    fn from(error: IssueError) -> Self {
        let text = error.to_string();
        match error {
            IssueError::Nobody | IssueError::Ended | IssueError::TooLong { .. } | IssueError::NoJson => {
                PyValueError::new_err(text)
            }
            IssueError::OfSubject(_) | IssueError::Full(_) | IssueError::Random => {
                PyRuntimeError::new_err(text)
            }
        }
    }
}

impl From<StateError> for PyErr {
    fn from(error: StateError) -> Self {
        PyValueError::new_err(error.to_string())
    }
}

impl From<NameError> for PyErr {
    fn from(error: NameError) -> Self {
        PyValueError::new_err(error.to_string())
    }
}

mod exceptions {
    pyo3::import_exception!(umbel, Conflict);
    pyo3::import_exception!(umbel, NotPublished);
    pyo3::import_exception!(umbel, StateFull);
    pyo3::import_exception!(umbel, MaybePublished);
    pyo3::import_exception!(umbel, ConfigurationError);
}
