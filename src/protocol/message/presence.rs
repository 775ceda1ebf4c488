//! What a client says of itself in a channel.

use super::fields::{ParseError, wrong};

/// What a client changes of what others see of it. What is `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PresenceChange {
    /// It is at work.
    pub is_active: Option<bool>,
    /// It writes something at the moment.
    pub typing: Option<bool>,
    /// What it works at: JSON text, `null` for nothing.
    pub current_task: Option<Box<str>>,
    /// Whatever the application wants to show: JSON text, `null` for nothing.
    pub data: Option<Box<str>>,
}

impl PresenceChange {
    /// Bytes that it keeps.
    pub fn size(&self) -> usize {
        [&self.current_task, &self.data].into_iter().flatten().map(|text| text.len()).sum()
    }
}

/// The JSON texts of the fields that only `presence_update` has.
#[derive(Default)]
pub(super) struct PresenceFields<'a> {
    is_active: Option<&'a str>,
    typing: Option<&'a str>,
    current_task: Option<&'a str>,
}

impl<'a> PresenceFields<'a> {
    /// Takes a field, if it is one of these.
    pub fn take(&mut self, key: &str, value: &'a str) {
        match key {
            "isActive" => self.is_active = Some(value),
            "typing" => self.typing = Some(value),
            "currentTask" => self.current_task = Some(value),
            _ => {}
        }
    }

    /// Reads them, and `data`. All of them were validated as JSON.
    pub fn read(&self, data: Option<&str>) -> Result<PresenceChange, ParseError> {
        let task = self.current_task.map(|task| match task.as_bytes() {
            [b'{' | b'[' | b't' | b'f', ..] => Err(wrong("currentTask", TASK)),
            text if text.len() > TASK_BYTES => Err(wrong("currentTask", TASK)),
            _ => Ok(task.into()),
        });
        if data.is_some_and(|data| data.len() > DATA_BYTES) {
            return Err(wrong("data", "at most 4 KiB of JSON"));
        }
        Ok(PresenceChange {
            is_active: truth("isActive", self.is_active, true)?,
            typing: truth("typing", self.typing, false)?,
            current_task: task.transpose()?,
            data: data.map(Into::into),
        })
    }
}

fn truth(field: &'static str, json: Option<&str>, cleared: bool) -> Result<Option<bool>, ParseError> {
    match json {
        None => Ok(None),
        Some("true") => Ok(Some(true)),
        Some("false") => Ok(Some(false)),
        Some("null") => Ok(Some(cleared)),
        Some(_) => Err(wrong(field, "true, false or null")),
    }
}

const TASK: &str = "a string or a number of at most 255 bytes of JSON, or null";

/// Of JSON text.
const TASK_BYTES: usize = 255;

/// Of JSON text.
const DATA_BYTES: usize = 4096;
