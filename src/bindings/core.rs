//! `Core`: one server.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

use crate::bindings::bridge::{Bridge, to_tuple};
use crate::bindings::receipt::Receipt;
use crate::bindings::seconds::duration;
use crate::bindings::stats::Stats;
use crate::close::CloseCode;
use crate::config::Config;
use crate::error_code::ErrorCode;
use crate::protocol::frame::LONGEST_REASON;
use crate::publication::KEY_BYTES;
use crate::server::{Server, StartError};
use crate::session::Decision;
use crate::transport::Page;
use crate::transport::client_id::ClientId;

#[pyclass(frozen, module = "umbel._core")]
pub struct Core {
    server: Server,
    bridge: Arc<Bridge>,
}

#[pymethods]
impl Core {
    #[new]
    fn new(config: &[u8], pages: HashMap<String, (String, Vec<u8>)>) -> PyResult<Self> {
        let config = Config::from_json(config).map_err(StartError::from)?;
        let bridge = Arc::new(Bridge::new(config.event_queue)?);
        let pages = pages
            .into_iter()
            .map(|(path, (content_type, body))| (path, Page { content_type, body }))
            .collect();
        let server = Server::new(config, pages, Arc::clone(&bridge) as _)?;
        Ok(Self { server, bridge })
    }

    fn start(&self) -> PyResult<Vec<String>> {
        Ok(self.server.start()?)
    }

    fn fileno(&self) -> i32 {
        self.bridge.descriptor()
    }

    #[pyo3(signature = (limit, /))]
    fn drain<'py>(&self, py: Python<'py>, limit: usize) -> PyResult<Bound<'py, PyList>> {
        let (events, room) = self.bridge.take(limit);
        if room {
            self.server.room();
        }
        let tuples = events
            .into_iter()
            .map(|event| to_tuple(event, py))
            .collect::<PyResult<Vec<Bound<'py, PyTuple>>>>();
        PyList::new(py, tuples?)
    }

    #[pyo3(signature = (channel, data, key = None, /))]
    fn publish(&self, channel: &str, data: &[u8], key: Option<&str>) -> PyResult<Receipt> {
        check_size(data, key)?;
        Ok(Receipt(self.server.publish(channel, data, key)?))
    }

    #[pyo3(signature = (client, data, key = None, /))]
    fn send(&self, client: u64, data: &[u8], key: Option<&str>) -> PyResult<Option<Receipt>> {
        check_size(data, key)?;
        Ok(self.server.send(ClientId(client), data, key).map(Receipt))
    }

    #[pyo3(signature = (client, message, /))]
    fn reply_error(&self, client: u64, message: &[u8]) -> bool {
        self.server.reply_error(ClientId(client), Bytes::copy_from_slice(message))
    }

    #[pyo3(signature = (client, message, /))]
    fn reply(&self, client: u64, message: &[u8]) -> bool {
        self.server.reply(ClientId(client), Bytes::copy_from_slice(message))
    }

    #[pyo3(signature = (client, text, /))]
    fn send_text(&self, client: u64, text: &str) -> Option<usize> {
        self.server.send_route(ClientId(client), true, Bytes::copy_from_slice(text.as_bytes()))
    }

    #[pyo3(signature = (client, data, /))]
    fn send_binary(&self, client: u64, data: &[u8]) -> Option<usize> {
        self.server.send_route(ClientId(client), false, Bytes::copy_from_slice(data))
    }

    #[pyo3(signature = (client, /))]
    fn admit(&self, client: u64) -> bool {
        self.server.admit(ClientId(client))
    }

    #[pyo3(signature = (client, code, reason, /))]
    fn close(&self, client: u64, code: u16, reason: String) -> PyResult<bool> {
        let legal = CloseCode::new(code).ok_or_else(|| {
            let text = format!(
                "{code} can't be sent as a close code: use 1000, 1001, 1003, 1007 to 1014, or 3000 to 4999"
            );
            PyValueError::new_err(text)
        })?;
        if reason.len() > LONGEST_REASON {
            let text = format!("the reason has {} bytes; a close frame holds {LONGEST_REASON}", reason.len());
            return Err(PyValueError::new_err(text));
        }
        Ok(self.server.close(ClientId(client), legal, reason))
    }

    #[pyo3(signature = (client, channel, message_id = None, /))]
    fn subscribe(&self, client: u64, channel: &str, message_id: Option<&[u8]>) -> PyResult<bool> {
        let message_id = message_id.map(|id| String::from_utf8_lossy(id).into_owned());
        Ok(self.server.subscribe(ClientId(client), channel, message_id)?)
    }

    #[pyo3(signature = (client, channel, reason, /))]
    fn unsubscribe(&self, client: u64, channel: String, reason: String) -> bool {
        self.server.unsubscribe(ClientId(client), channel, reason)
    }

    #[pyo3(signature = (client, question, allowed, code, message, /))]
    fn decide(
        &self,
        client: u64,
        question: u64,
        allowed: bool,
        code: String,
        message: String,
    ) -> PyResult<bool> {
        let decision = if allowed {
            Decision::Allow
        } else {
            let code = ErrorCode::from_name(&code)
                .ok_or_else(|| PyValueError::new_err(format!("{code:?} is no error code of the protocol")))?;
            Decision::Deny { code, message }
        };
        Ok(self.server.decide(ClientId(client), question, decision))
    }

    #[pyo3(signature = (client, /))]
    fn pause_reading(&self, client: u64) -> bool {
        self.server.pause_reading(ClientId(client))
    }

    #[pyo3(signature = (client, /))]
    fn resume_reading(&self, client: u64) -> bool {
        self.server.resume_reading(ClientId(client))
    }

    #[pyo3(signature = (log_lines_dropped, /))]
    fn stats(&self, log_lines_dropped: u64) -> Stats {
        let (snapshot, totals) = self.server.stats();
        Stats::new(&snapshot, totals, self.bridge.log_lines_dropped() + log_lines_dropped)
    }

    #[pyo3(signature = (within, /))]
    fn stop(&self, within: f64) -> PyResult<()> {
        self.server.stop(duration(within)?);
        Ok(())
    }

    #[pyo3(signature = (timeout, /))]
    fn join(&self, py: Python<'_>, timeout: f64) -> PyResult<bool> {
        let timeout = duration(timeout)?;
        Ok(py.detach(|| self.server.join(timeout)))
    }
}

/// In bytes. Every publication is copied to the socket of every subscriber. Larger data belong into a file, and its address into
/// the publication.
const LONGEST_PUBLICATION: usize = 16 << 20;

fn check_size(data: &[u8], key: Option<&str>) -> PyResult<()> {
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
