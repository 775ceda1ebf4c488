//! Times that Python gives in seconds.

use std::time::Duration;

use pyo3::PyResult;
use pyo3::exceptions::PyValueError;

pub fn duration(seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| PyValueError::new_err(format!("{seconds} is not a number of seconds from 0 on")))
}
