//! `Core`: one server.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

use crate::bindings::bridge::{Bridge, to_tuple};
use crate::bindings::members::Members;
use crate::bindings::position::Position;
use crate::bindings::publications::{Entry, allowed, check_size, expected, named, receipt, text, to_entry};
use crate::bindings::receipt::Receipt;
use crate::bindings::seconds::duration;
use crate::bindings::stats::Stats;
use crate::bindings::verifier::{Verifier, rights};
use crate::change::Op;
use crate::channel::ChannelName;
use crate::close::{CloseCode, CloseReason};
use crate::config::Config;
use crate::error_code::ErrorCode;
use crate::identity::Identity;
use crate::protocol::frame::LONGEST_REASON;
use crate::publication::Content;
use crate::server::{Server, StartError};
use crate::session::{Answer, Decision};
use crate::transport::Page;
use crate::transport::client_id::ClientId;
use crate::transport::commands::ClientCommand;
use crate::transport::events::{Function, Functions, Load};

/// Runs, and of each function its name, its calls, their seconds and the longest of them.
type Told = (u64, Vec<(String, u64, f64, f64)>);

/// The headers of a page, its body, and its body for clients that accept gzip.
type PageParts = (Vec<(String, String)>, Vec<u8>, Option<Vec<u8>>);

#[pyclass(frozen, module = "umbel._core")]
pub struct Core {
    server: Server,
    bridge: Arc<Bridge>,
}

#[pymethods]
impl Core {
    #[new]
    #[pyo3(signature = (config, pages, verifier = None, /))]
    fn new(config: &[u8], pages: HashMap<String, PageParts>, verifier: Option<&Verifier>) -> PyResult<Self> {
        let config = Config::from_json(config).map_err(StartError::from)?;
        let bridge = Arc::new(Bridge::new(config.event_queue)?);
        let pages = pages
            .into_iter()
            .map(|(path, (headers, body, gzip))| (path, Page { headers, body, gzip }))
            .collect();
        let verifier = verifier.map(|verifier| Arc::clone(&verifier.0));
        let server = Server::new(config, pages, Arc::clone(&bridge) as _, verifier)?;
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

    #[pyo3(signature = (channel, data, key = None, event = None, /))]
    fn publish(
        &self,
        channel: &str,
        data: &[u8],
        key: Option<&str>,
        event: Option<&str>,
    ) -> PyResult<Receipt> {
        check_size(data, key)?;
        receipt(self.server.publish(channel, Content::new(data, key).named(named(event)?))?)
    }

    #[pyo3(signature = (channel, key, data, event, version, is_patch, /))]
    fn change_state(
        &self,
        channel: &str,
        key: &str,
        data: Option<&[u8]>,
        event: Option<&str>,
        version: Option<&Bound<'_, PyAny>>,
        is_patch: bool,
    ) -> PyResult<Receipt> {
        check_size(data.unwrap_or_default(), Some(key))?;
        let op = match data {
            None => Op::Delete,
            Some(_) if is_patch => Op::Patch,
            Some(_) => Op::Set,
        };
        let content = Content::new(data.unwrap_or_default(), Some(key)).named(named(event)?);
        receipt(self.server.change_state(channel, Content { op, expected: expected(version)?, ..content })?)
    }

    #[pyo3(signature = (channel, key = None, /))]
    fn entries<'py>(&self, py: Python<'py>, channel: &str, key: Option<&str>) -> PyResult<Vec<Entry<'py>>> {
        let state = py.detach(|| self.server.entries(channel, key))?;
        Ok(state.iter().map(|(position, entry, millis)| to_entry(py, *position, entry, *millis)).collect())
    }

    #[pyo3(signature = (client, data, key = None, /))]
    fn send(&self, client: u64, data: &[u8], key: Option<&str>) -> PyResult<Option<Receipt>> {
        check_size(data, key)?;
        Ok(self.server.send(ClientId(client), data, key).map(Receipt))
    }

    #[pyo3(signature = (channel, after, limit, /))]
    fn history<'py>(
        &self,
        py: Python<'py>,
        channel: &str,
        after: Option<&Position>,
        limit: usize,
    ) -> PyResult<(bool, Vec<Entry<'py>>)> {
        let (history, dates) = py.detach(|| self.server.history(channel, after.map(|it| it.0), limit))?;
        let Some(top) = history.top else { return Ok((history.gap, Vec::new())) };
        let entries = history.entries.iter().zip(dates);
        let entries = entries.map(|(entry, millis)| to_entry(py, top.at(entry.offset), entry, millis));
        Ok((history.gap, entries.collect()))
    }

    #[pyo3(signature = (channel, /))]
    fn position(&self, channel: &str) -> PyResult<Position> {
        Ok(Position(self.server.position(channel)?))
    }

    #[pyo3(signature = (channel, /))]
    fn subscribers(&self, channel: &str) -> PyResult<u64> {
        Ok(self.server.subscribers(channel)?)
    }

    fn members(&self) -> Members {
        Members(self.server.shared())
    }

    #[pyo3(signature = (channel, number, /))]
    fn when_room(&self, channel: &str, number: u64) -> PyResult<bool> {
        Ok(self.server.when_room(channel, number)?)
    }

    #[pyo3(signature = (client, number, /))]
    fn when_client_room(&self, client: u64, number: u64) -> bool {
        self.server.when_client_room(ClientId(client), number)
    }

    #[pyo3(signature = (client, message_type, message_id, data, /))]
    fn reply(&self, client: u64, message_type: String, message_id: Option<&[u8]>, data: &[u8]) -> bool {
        let data = Bytes::copy_from_slice(data);
        answer(self, client, Answer::Result { message_type, data }, message_id)
    }

    #[pyo3(signature = (client, code, message, message_id = None, details = None, is_fault = false, /))]
    fn reply_error(
        &self,
        client: u64,
        code: String,
        message: String,
        message_id: Option<&[u8]>,
        details: Option<&[u8]>,
        is_fault: bool,
    ) -> bool {
        let details = details.map(text);
        answer(self, client, Answer::Error { code, message, details, is_fault }, message_id)
    }

    #[pyo3(signature = (client, text, /))]
    fn send_text(&self, client: u64, text: &str) -> Option<usize> {
        self.server.send_route(ClientId(client), true, Bytes::copy_from_slice(text.as_bytes()))
    }

    #[pyo3(signature = (client, data, /))]
    fn send_binary(&self, client: u64, data: &[u8]) -> Option<usize> {
        self.server.send_route(ClientId(client), false, Bytes::copy_from_slice(data))
    }

    #[pyo3(signature = (client, subject, expires, claims = None, /))]
    fn admit(
        &self,
        client: u64,
        subject: &str,
        expires: Option<u64>,
        claims: Option<&[u8]>,
    ) -> PyResult<bool> {
        let rights = claims.filter(|_| self.server.uses_claims()).map(rights).transpose()?;
        let identity = Arc::new(Identity::of_application(subject, expires, rights));
        Ok(self.tell(client, ClientCommand::Admit(identity, claims.map(|claims| text(claims).into()))))
    }

    fn keys_settled(&self) {
        self.server.keys_settled();
    }

    #[pyo3(signature = (wanted, /))]
    fn set_debug(&self, wanted: bool) {
        self.server.set_debug(wanted);
    }

    fn admin_url(&self) -> Option<String> {
        self.server.admin_url()
    }

    #[pyo3(signature = (running, called, called_for, busy, log_lines_dropped, functions = None, /))]
    fn note_load(
        &self,
        running: u64,
        called: u64,
        called_for: f64,
        busy: f64,
        log_lines_dropped: u64,
        functions: Option<Told>,
    ) -> PyResult<bool> {
        let (called_for, busy) = (duration(called_for)?, duration(busy)?);
        let load = Load { running, called, called_for, busy, log_lines_dropped, ..Load::default() };
        let is_watched = self.bridge.note_load(load);
        if let Some((runs, slowest)) = functions.filter(|_| is_watched) {
            let function = |(name, calls, seconds, longest)| Function { name, calls, seconds, longest };
            self.bridge
                .note_functions(Functions { runs, slowest: slowest.into_iter().map(function).collect() });
        }
        self.server.batch_over();
        Ok(is_watched)
    }

    #[pyo3(signature = (seconds, /))]
    fn advance_clock(&self, python: Python<'_>, seconds: f64) -> PyResult<()> {
        let by = duration(seconds)?;
        python.detach(|| self.server.advance_clock(by));
        Ok(())
    }

    #[pyo3(signature = (client, code, reason, /))]
    fn close(&self, client: u64, code: u16, reason: String) -> PyResult<bool> {
        let legal = CloseCode::new(code).ok_or_else(|| {
            let text = format!(
                "{code} can't be sent as a close code: use 1000 to 1003, 1007 to 1014, or 3000 to 4999"
            );
            PyValueError::new_err(text)
        })?;
        if reason.len() > LONGEST_REASON {
            let text = format!("the reason has {} bytes; a close frame holds {LONGEST_REASON}", reason.len());
            return Err(PyValueError::new_err(text));
        }
        Ok(self.tell(client, ClientCommand::Close(legal, reason)))
    }

    #[pyo3(signature = (client, /))]
    fn give_way(&self, client: u64) -> bool {
        self.tell(client, ClientCommand::GiveWay)
    }

    #[pyo3(signature = (subject, code, reason, /))]
    fn end_subject(&self, subject: &str, code: u16, reason: String) -> PyResult<()> {
        let code = CloseCode::new(code).ok_or_else(|| PyValueError::new_err("not a close code"))?;
        self.server.end_subject(subject, &CloseReason::Application { code, text: reason });
        Ok(())
    }

    #[pyo3(signature = (subject, claims, expires, origin, /))]
    fn ticket(
        &self,
        subject: &str,
        claims: &[u8],
        expires: Option<u64>,
        origin: Option<&str>,
    ) -> PyResult<String> {
        let rights = self.server.uses_claims().then(|| rights(claims)).transpose()?;
        let identity = Identity::of_application(subject, expires, rights);
        Ok(self.server.ticket(identity, &text(claims), origin)?)
    }

    #[pyo3(signature = (client, channel, message_id = None, number = None, /))]
    fn subscribe(
        &self,
        client: u64,
        channel: &str,
        message_id: Option<&[u8]>,
        number: Option<u64>,
    ) -> PyResult<bool> {
        let message_id = message_id.map(text);
        Ok(self.server.subscribe(ClientId(client), channel, message_id, number)?)
    }

    #[pyo3(signature = (channel, /))]
    fn finish(&self, channel: &str) -> PyResult<()> {
        Ok(self.server.finish(channel)?)
    }

    #[pyo3(signature = (channel, /))]
    fn forget(&self, channel: &str) -> PyResult<()> {
        Ok(self.server.forget(channel)?)
    }

    #[pyo3(signature = (client, channel, reason, /))]
    fn unsubscribe(&self, client: u64, channel: &str, reason: String) -> PyResult<bool> {
        let channel = ChannelName::new(channel).map_err(|error| PyValueError::new_err(error.to_string()))?;
        Ok(self.tell(client, ClientCommand::Unsubscribe(channel, reason)))
    }

    #[pyo3(signature = (client, question, data = None, version = None, conflict = None, /))]
    fn allow(
        &self,
        client: u64,
        question: u64,
        data: Option<&[u8]>,
        version: Option<&Position>,
        conflict: Option<&str>,
    ) -> PyResult<bool> {
        check_size(data.unwrap_or_default(), None)?;
        Ok(self.tell(client, ClientCommand::Decide(question, allowed(data, version, conflict))))
    }

    #[pyo3(signature = (client, question, code, message, details = None, /))]
    fn deny(
        &self,
        client: u64,
        question: u64,
        code: String,
        message: String,
        details: Option<&[u8]>,
    ) -> bool {
        let decision = match ErrorCode::from_name(&code) {
            Some(code) => Decision::Deny { code, message },
            None => {
                let details = details.map(text);
                Decision::Reject { code, message, details }
            }
        };
        self.tell(client, ClientCommand::Decide(question, decision))
    }

    #[pyo3(signature = (client, /))]
    fn begin_reading(&self, client: u64) -> bool {
        self.tell(client, ClientCommand::BeginReading)
    }

    #[pyo3(signature = (log_lines_dropped, /))]
    fn stats(&self, log_lines_dropped: u64) -> Stats {
        let (snapshot, totals) = self.server.stats();
        Stats::new(&snapshot, totals, self.bridge.log_lines_dropped() + log_lines_dropped)
    }

    fn reread_certificate(&self, py: Python<'_>) -> bool {
        py.detach(|| self.server.reread_certificate())
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

impl Core {
    fn tell(&self, client: u64, command: ClientCommand) -> bool {
        self.server.tell(ClientId(client), command)
    }
}

fn answer(core: &Core, client: u64, answer: Answer, message_id: Option<&[u8]>) -> bool {
    core.tell(client, ClientCommand::Answer(answer, message_id.map(text)))
}
