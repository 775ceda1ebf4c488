//! The receiving half of the client: bytes to frames, frames to counts.

use crate::client::Client;
use crate::connection::{self, Phase, Role};
use crate::frame::{self, Header};
use crate::verify::{Inflater, Subscribed, gap_size};
use crate::{clock, message, socket, stream};

impl Client<'_> {
    /// Reads what has arrived. Edge-triggered: a read that fills less than was offered has emptied the socket, and new data
    /// gives a new event; only a hang-up must be read to its end.
    pub(crate) fn receive(&mut self, index: usize, hang_up: bool) {
        let mut buffer = std::mem::take(&mut self.buffer);
        loop {
            let connection = &mut self.connections[index];
            let Some(fd) = connection.fd() else { break };
            self.report.counters.receives += 1;
            let unfinished = match connection.phase {
                Phase::Upgrading => None,
                _ => frame_bytes_missing(&connection.partial, self.options.streams),
            };
            let (result, offered) = match unfinished {
                Some(missing) => (fill(fd, &mut connection.partial, missing), missing),
                None => {
                    let kept = connection.partial.len();
                    buffer[..kept].copy_from_slice(&connection.partial);
                    (socket::receive(fd, &mut buffer[kept..]), buffer.len() - kept)
                }
            };
            match result {
                Ok(0) => {
                    self.close(index, "closed by the server");
                    break;
                }
                Ok(got) => {
                    match unfinished {
                        Some(_) => self.continued(index),
                        None => self.arrived(index, &buffer, got),
                    }
                    if got < offered && !hang_up {
                        break;
                    }
                }
                Err(error) if socket::would_block(&error) => break,
                Err(error) => {
                    self.close(index, &format!("receive: {error}"));
                    break;
                }
            }
        }
        self.buffer = buffer;
        self.send_requests(index);
    }

    /// Looks whether the unfinished frame is whole now.
    fn continued(&mut self, index: usize) {
        let mut partial = std::mem::take(&mut self.connections[index].partial);
        if self.consume(index, &partial, clock::now()) == 0 {
            self.connections[index].partial = partial;
        } else {
            partial.clear();
            self.spare.push(partial);
        }
    }

    /// Takes what is in the buffer: what was kept of the last read, and `got` new bytes.
    fn arrived(&mut self, index: usize, buffer: &[u8], got: usize) {
        let now = clock::now();
        let mut partial = std::mem::take(&mut self.connections[index].partial);
        let filled = &buffer[..partial.len() + got];
        partial.clear();
        let used = self.consume(index, filled, now);
        if used < filled.len() {
            if partial.capacity() == 0 {
                partial = self.spare.pop().unwrap_or_default();
            }
            partial.extend_from_slice(&filled[used..]);
            self.connections[index].partial = partial;
        } else if partial.capacity() > 0 {
            self.spare.push(partial);
        }
    }

    /// Takes whole frames off the front; returns how many bytes they were.
    fn consume(&mut self, index: usize, bytes: &[u8], now: u64) -> usize {
        let mut used = 0;
        if self.connections[index].phase == Phase::Upgrading {
            let answer = if self.options.streams {
                stream::read_head(bytes).map(|length| length.map(|length| (length, false)))
            } else {
                connection::read_upgrade(bytes, self.options.sessions)
            };
            match answer {
                Ok(None) => return 0,
                Ok(Some((length, deflate))) => {
                    used = length;
                    self.report.deflate_agreed += u64::from(deflate);
                    self.upgraded(index);
                }
                Err(reason) => {
                    self.close(index, &reason);
                    return bytes.len();
                }
            }
        }
        while let Some(header) = parse(&bytes[used..], self.options.streams) {
            let start = used + header.header_bytes;
            let end = start + header.payload_bytes;
            if end > bytes.len() {
                break;
            }
            self.frame(index, header, &bytes[start..end], now);
            used = end;
            if self.connections[index].socket.is_none() || self.connections[index].phase == Phase::Connecting
            {
                return bytes.len();
            }
        }
        used
    }

    fn frame(&mut self, index: usize, header: Header, payload: &[u8], now: u64) {
        if self.options.streams {
            let wire_bytes = header.header_bytes + payload.len();
            return self.message(index, stream::message(payload), wire_bytes, now);
        }
        match header.opcode {
            frame::TEXT | frame::BINARY if header.fin => {
                let wire_bytes = header.header_bytes + payload.len();
                self.data(index, header.compressed, payload, wire_bytes, now);
            }
            frame::TEXT | frame::BINARY => {
                self.connections[index].fragments = Some(Box::new((header.compressed, payload.to_vec())));
            }
            frame::CONTINUATION => {
                let Some(mut fragments) = self.connections[index].fragments.take() else {
                    return self.report.fault("a continuation of nothing");
                };
                fragments.1.extend_from_slice(payload);
                if header.fin {
                    let wire_bytes = fragments.1.len() + header.header_bytes;
                    self.data(index, fragments.0, &fragments.1, wire_bytes, now);
                } else {
                    self.connections[index].fragments = Some(fragments);
                }
            }
            frame::PING => {
                self.report.counters.pings += 1;
                let mut pong = Vec::with_capacity(payload.len() + 6);
                frame::write_masked(&mut pong, frame::PONG, payload);
                self.send(index, &pong);
            }
            frame::PONG => {
                if let Ok(sent) = payload.try_into() {
                    self.report.pong.record(now.saturating_sub(u64::from_be_bytes(sent)));
                }
            }
            frame::CLOSE => {
                let code = payload.get(..2).map_or(1005, |code| u16::from_be_bytes([code[0], code[1]]));
                if code >= 4500 {
                    // It may not come back.
                    self.connections[index].session = None;
                }
                self.close(index, &format!("closed by the server with {code}"));
            }
            opcode => self.report.fault(&format!("opcode {opcode}")),
        }
    }

    fn data(&mut self, index: usize, compressed: bool, payload: &[u8], wire_bytes: usize, now: u64) {
        let connection = &mut self.connections[index];
        let live = connection.phase == Phase::Live;
        if live {
            self.report.counters.compressed_frames += u64::from(compressed);
        }
        if compressed && live && connection.verifier.is_none() {
            // Not looked into: the sampled connections say what such frames hold.
            connection.position = UNKNOWN;
            self.report.counters.frames += 1;
            self.report.counters.bytes += wire_bytes as u64;
        } else if compressed {
            let mut inflater = self.inflater.take().unwrap_or_else(Inflater::new);
            match inflater.inflate(payload) {
                Ok(()) => self.message(index, &inflater.output, wire_bytes, now),
                Err(reason) => self.report.fault(&reason),
            }
            self.inflater = Some(inflater);
        } else {
            self.message(index, payload, wire_bytes, now);
        }
    }

    fn message(&mut self, index: usize, text: &[u8], wire_bytes: usize, now: u64) {
        if text.starts_with(message::BATCH) {
            self.report.counters.frames += 1;
            self.report.counters.bytes += wire_bytes as u64;
            return self.batch(index, text, now);
        }
        let phase = self.connections[index].phase;
        if self.options.in_flight > 0 && phase == Phase::Live {
            self.answered(index, text, now);
        } else if text.starts_with(message::GAP) {
            self.gap(index, text, now);
        } else if text.starts_with(message::ESTABLISHED) {
            if phase == Phase::Greeting {
                self.greeted(index, text, now);
            }
        } else if text.starts_with(message::SUBSCRIBED) {
            self.subscribed(index, text, now);
        } else if text.starts_with(message::PUBLISHED) {
            self.report.counters.published_answers += 1;
        } else if text.starts_with(message::ERROR) {
            let reason = format!("error: {}", String::from_utf8_lossy(&text[..text.len().min(200)]));
            self.report.fault(&reason);
        }
    }

    fn greeted(&mut self, index: usize, text: &[u8], now: u64) {
        let comes_back = self.connections[index].comes_back();
        let Some(session) = &mut self.connections[index].session else { return self.established(index) };
        match session.greeted(text) {
            Err(reason) => self.report.fault(&reason),
            Ok(resumed) if comes_back => self.let_in_again(index, resumed, now),
            Ok(_) => self.established(index),
        }
    }

    fn subscribed(&mut self, index: usize, text: &[u8], now: u64) {
        let connection = &mut self.connections[index];
        let begun = match Subscribed::read(text) {
            Ok(begun) => begun,
            Err(reason) => return self.report.fault(&reason),
        };
        let comes_back = connection.comes_back();
        let mut missed = begun.missed(comes_back.then_some(connection.position));
        if let Some(verifier) = &mut connection.verifier {
            let checked = verifier.subscribed(&begun, comes_back);
            if connection.follows_several || checked.is_err() {
                missed = checked;
            }
        }
        connection.position = begun.offset;
        if let Some(session) = &mut connection.session {
            session.top = begun.top;
            session.epoch = begun.epoch;
        }
        match missed {
            Ok(missed) => self.report.counters.lost += self.report.returns.began(&missed, begun.recovered),
            Err(reason) => self.report.fault(&reason),
        }
        match &mut self.connections[index].phase {
            Phase::Subscribing { missing: 1 } => self.opened(index, now),
            Phase::Subscribing { missing } => *missing -= 1,
            _ => self.report.fault("a subscription that was not asked for"),
        }
    }

    fn batch(&mut self, index: usize, text: &[u8], now: u64) {
        let Some(batch) = message::read_batch(text) else {
            return self.report.fault("a batch that cannot be read");
        };
        let is_other = self.connections[index].role == Role::Other;
        let counters = &mut self.report.counters;
        *if is_other { &mut counters.others_messages } else { &mut counters.messages } += batch.count;
        counters.counted_frames += 1;
        if self.report.recording && is_other {
            self.report.others.record(now.saturating_sub(batch.first_time));
        } else if self.report.recording {
            for (histogram, time) in
                [(&mut self.report.oldest, batch.first_time), (&mut self.report.newest, batch.last_time)]
            {
                if time > 0 {
                    histogram.record(now.saturating_sub(time));
                }
            }
        }
        if !self.connections[index].follows_several {
            self.follow(index, batch);
        }
        self.check(index, text, now, batch.count);
        self.look_caught_up(index, now);
    }

    /// One channel: the first update must continue the position, and the count must lead to the last. Of keys, others but the first
    /// may have been replaced.
    fn follow(&mut self, index: usize, batch: message::Batch) {
        let connection = &mut self.connections[index];
        let position = std::mem::replace(&mut connection.position, batch.last_offset);
        let folded = batch.first_offset != batch.before + 1;
        if self.options.keys == 0 && !folded && batch.last_offset - batch.before != batch.count {
            self.report.fault("count and offsets disagree");
        }
        if batch.before == position || position == UNKNOWN {
            return;
        }
        if self.options.lossy {
            self.report.counters.missing += batch.before.saturating_sub(position);
        } else {
            self.report.fault(if batch.before > position { "updates missing" } else { "updates repeated" });
        }
    }

    /// The full check, on sampled connections.
    fn check(&mut self, index: usize, text: &[u8], now: u64, count: u64) {
        let Some(mut verifier) = self.connections[index].verifier.take() else { return };
        let report = &mut self.report;
        let (every, recording) = (&mut report.every, report.recording);
        let checked = verifier.batch(text, |time| {
            if recording {
                every.record(now.saturating_sub(time));
            }
        });
        match checked {
            Ok(checked) if checked.updates == count => report.counters.checked_updates += count,
            Ok(_) => report.fault("the cheap look miscounted"),
            Err(_) if self.options.lossy => {}
            Err(reason) => report.fault(&reason),
        }
        self.connections[index].verifier = Some(verifier);
    }

    fn gap(&mut self, index: usize, text: &[u8], now: u64) {
        let connection = &mut self.connections[index];
        self.report.counters.gaps += 1;
        let from = message::number_field(text, br#""from":"#).unwrap_or(0);
        let to = message::number_field(text, br#""to":"#).unwrap_or(0);
        let size = match &mut connection.verifier {
            Some(verifier) => verifier.gap(text).map(|checked| checked.lost),
            None if !connection.follows_several && connection.position != UNKNOWN => {
                gap_size(connection.position, from, to)
            }
            // With several channels, or after compressed frames, positions are followed on sampled connections only.
            None => Ok(to.saturating_sub(from)),
        };
        connection.position = to;
        if let Some(session) = &mut connection.session
            && let Some(epoch) = message::text_field(text, br#""epoch":""#)
        {
            session.epoch = epoch.into();
        }
        match size {
            Ok(lost) => self.report.counters.lost += lost,
            Err(reason) => self.report.fault(&reason),
        }
        self.look_caught_up(index, now);
    }
}

/// Position of a connection after a frame that was not looked into.
pub(crate) const UNKNOWN: u64 = u64::MAX;

/// Longest header of a frame from the server.
const LONGEST_HEADER: usize = 10;

/// How much of the unfinished frame is missing; `None` when there is none, or its header is not certain to be whole.
fn frame_bytes_missing(partial: &[u8], streams: bool) -> Option<usize> {
    if partial.len() < LONGEST_HEADER {
        return None;
    }
    let header = parse(partial, streams)?;
    (header.header_bytes + header.payload_bytes).checked_sub(partial.len())
}

/// Reads the header of a frame, or of what is one on an event stream.
#[inline]
fn parse(bytes: &[u8], streams: bool) -> Option<Header> {
    if streams { stream::parse(bytes) } else { frame::parse(bytes) }
}

/// Appends up to `missing` bytes, so that a large frame is copied once however many reads it takes.
fn fill(fd: i32, partial: &mut Vec<u8>, missing: usize) -> std::io::Result<usize> {
    let old = partial.len();
    partial.resize(old + missing, 0);
    let result = socket::receive(fd, &mut partial[old..]);
    partial.truncate(old + *result.as_ref().unwrap_or(&0));
    result
}
