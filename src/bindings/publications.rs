//! Publications and receipts on their way between Python and the core.

use bytes::Bytes;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::bindings::position::Position;
use crate::bindings::receipt::Receipt;
use crate::broker::{self, PublishError};
use crate::change::Expected;
use crate::position;
use crate::publication::{EventName, KEY_BYTES, Publication};
use crate::session::Decision;

/// Position, key, data, milliseconds since 1970, sender.
pub type Entry<'py> =
    (Position, Option<String>, Option<Bound<'py, PyBytes>>, u64, Option<Bound<'py, PyBytes>>);

pub fn to_entry<'py>(
    py: Python<'py>,
    position: position::Position,
    entry: &Publication,
    millis: u64,
) -> Entry<'py> {
    let key = entry.key().map(str::to_owned);
    let [data, sender] = [entry.data(), entry.sender()].map(|text| text.map(|text| PyBytes::new(py, text)));
    (Position(position), key, data, millis, sender)
}

pub fn named(event: Option<&str>) -> PyResult<Option<EventName<'_>>> {
    event.map(|name| EventName::new(name).ok_or_else(|| bad_event(name))).transpose()
}

/// The version that a change is to replace: a position, or 0 where nothing is to be.
pub fn expected(version: Option<&Bound<'_, PyAny>>) -> PyResult<Expected> {
    let Some(version) = version else { return Ok(Expected::Any) };
    match version.cast::<Position>() {
        // As clients say it: a state has nothing at its beginning.
        Ok(position) if position.get().0.offset == 0 => Ok(Expected::Absent),
        Ok(position) => Ok(Expected::At(position.get().0)),
        Err(_) if version.extract::<u64>().is_ok_and(|number| number == 0) => Ok(Expected::Absent),
        Err(_) => Err(PyValueError::new_err(
            "a version is the position of the entry as it was read, or 0 if it was not there",
        )),
    }
}

/// JSON text of Python, which is UTF-8.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What the application lets a client do, or makes of a conflict.
pub fn allowed(data: Option<&[u8]>, version: Option<&Position>, conflict: Option<&str>) -> Decision {
    match (data.map(Bytes::copy_from_slice), conflict) {
        (data, Some(conflict)) => {
            Decision::Resolve { version: version.map(|it| it.0), data, conflict: conflict.into() }
        }
        (Some(data), None) => Decision::Publish(data),
        (None, None) => Decision::Allow,
    }
}

/// What is refused at once is raised: nobody has to look at a receipt.
pub fn receipt(receipt: broker::Receipt) -> PyResult<Receipt> {
    match receipt.outcome() {
        Some(Err(error @ PublishError::Refused(_))) => Err(error.into()),
        _ => Ok(Receipt(receipt)),
    }
}

/// In bytes. Every publication is copied to the socket of every subscriber. Larger data belong into a file, and its address into
/// the publication.
const LONGEST_PUBLICATION: usize = 16 << 20;

fn bad_event(name: &str) -> PyErr {
    let text =
        "is no name for an event: it has 1 to 64 letters, digits and _-.: and is no event of the protocol";
    PyValueError::new_err(format!("{name:?} {text}"))
}

pub fn check_size(data: &[u8], key: Option<&str>) -> PyResult<()> {
    let key = key.map_or(0, str::len);
    let text = if data.len() > LONGEST_PUBLICATION {
        format!("a publication has at most {LONGEST_PUBLICATION} bytes of JSON; this one has {}", data.len())
    } else if key > KEY_BYTES {
        format!("a key has at most {KEY_BYTES} bytes; this one has {key}")
    } else {
        return Ok(());
    };
    Err(PyValueError::new_err(text))
}
