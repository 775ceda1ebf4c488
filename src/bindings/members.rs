//! `Members`: who is in which channel.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::channel::ChannelName;
use crate::presence::Present;
use crate::transport::client_id::ClientId;
use crate::transport::members::now;
use crate::transport::shared::Shared;

/// Public id, subject, whether it is active, whether it types, milliseconds since 1970, and JSON texts of what it works at and of its data.
type Member<'py> =
    (String, String, bool, bool, u64, Option<Bound<'py, PyBytes>>, Option<Bound<'py, PyBytes>>);

#[pyclass(frozen, module = "umbel._core")]
pub struct Members(pub(super) Arc<Shared>);

#[pymethods]
impl Members {
    #[pyo3(signature = (client, channel, number, subject, /))]
    fn know(&self, client: u64, channel: &str, number: u64, subject: Option<&str>) -> PyResult<()> {
        let channel = legal(channel)?;
        let id = self.0.member_id(ClientId(client));
        self.0.presence.know(&channel, id, number, subject, now(&self.0));
        Ok(())
    }

    #[pyo3(signature = (channel, /))]
    fn present<'py>(&self, py: Python<'py>, channel: &str) -> PyResult<Option<Vec<Member<'py>>>> {
        let channel = legal(channel)?;
        if self.0.rules.find_presence(channel.as_str()).is_none() {
            return Ok(None);
        }
        let present = py.detach(|| self.0.presence.present(&channel));
        let text = |text: Option<&str>| text.map(|text| PyBytes::new(py, text.as_bytes()));
        let member = |it: Present| {
            let (task, data) = (text(it.task.as_deref()), text(it.data.as_deref()));
            (it.client.to_string(), it.subject.to_string(), it.is_active, it.typing, it.seen, task, data)
        };
        Ok(Some(present.into_iter().map(member).collect()))
    }
}

fn legal(channel: &str) -> PyResult<ChannelName> {
    Ok(ChannelName::new(channel)?)
}
