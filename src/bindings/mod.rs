//! The core as Python sees it. This is the only layer that knows pyo3. `python/umbel/_core.pyi` says what each class and method
//! promises.

mod bridge;
mod core;
mod errors;
mod handshake;
mod loads;
mod members;
mod position;
mod publications;
mod receipt;
mod seconds;
mod stats;
mod verifier;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::close::{CloseCode, CloseReason};
use crate::config::Config;
use crate::error_code::{ErrorCode, Fault};
use crate::protocol::message::validate;
use crate::server::StartError;
use crate::token_error::TokenError;
use crate::transport::policy::check_admin;

/// `umbel._core`.
#[pymodule]
#[pyo3(name = "_core")]
mod module {
    use super::*;

    #[pymodule_export]
    use super::bridge::Credit;
    #[pymodule_export]
    use super::core::Core;
    #[pymodule_export]
    use super::handshake::Handshake;
    #[pymodule_export]
    use super::loads::Load;
    #[pymodule_export]
    use super::members::Members;
    #[pymodule_export]
    use super::position::Position;
    #[pymodule_export]
    use super::receipt::Receipt;
    #[pymodule_export]
    use super::stats::Stats;
    #[pymodule_export]
    use super::verifier::Verifier;

    #[pyfunction]
    #[pyo3(signature = (path, /))]
    fn is_reserved_path(path: &str) -> bool {
        crate::own_path::is_reserved_path(path)
    }

    #[pyfunction]
    #[pyo3(signature = (config, /))]
    fn check_config(config: &[u8]) -> PyResult<()> {
        let checked = Config::from_json(config).and_then(|config| check_admin(&config));
        Ok(checked.map_err(StartError::from)?)
    }

    #[pyfunction]
    #[pyo3(signature = (text, /))]
    fn check_json(text: &[u8]) -> PyResult<()> {
        let wrong =
            |error: &dyn std::fmt::Display| PyValueError::new_err(format!("not acceptable JSON: {error}"));
        let text = std::str::from_utf8(text).map_err(|error| wrong(&error))?;
        validate(text, 0).map(drop).map_err(|error| wrong(&error))
    }

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        module.add("HIGH_WATER", crate::transport::HIGH_WATER)?;
        module.add("LONGEST_REASON", crate::protocol::frame::LONGEST_REASON)?;
        module.add("NAME_BYTES", crate::channel::NAME_BYTES)?;
        module.add("SUBPROTOCOLS", crate::protocol::handshake::SUBPROTOCOLS)?;
        let table: Vec<_> = crate::close::TABLE
            .iter()
            .map(|row| (row.code.get(), row.name, row.meaning, row.come_back == crate::close::Return::Yes))
            .collect();
        module.add("CLOSE_CODES", table)?;
        let codes = ErrorCode::ALL.iter();
        let table: Vec<_> =
            codes.map(|code| (code.name(), code.meaning(), code.fault() == Fault::Client)).collect();
        module.add("ERROR_CODES", table)?;
        let table: Vec<_> = TokenError::ALL
            .iter()
            .map(|error| (error.name(), error.text(), error.close_code().get()))
            .collect();
        module.add("TOKEN_ERRORS", table)?;
        let reasons = CloseReason::OURS.iter().filter(|(_, _, text)| !text.is_empty());
        let table: Vec<_> = reasons
            .map(|(code, cause, text)| (code.map(CloseCode::get), *text, format!("{cause:?}").to_lowercase()))
            .collect();
        module.add("CLOSE_REASONS", table)?;
        for (name, kind) in bridge::KINDS {
            module.add(*name, kind)?;
        }
        Ok(())
    }
}
