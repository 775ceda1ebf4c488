//! What arrives: bytes to frames, frames to counts.

use std::io::Read;

use crate::load::connection::{self, Phase};
use crate::load::frame::{self, Header};
use crate::load::run::Run;
use crate::load::socket::Socket;
use crate::load::verify::{Inflater, Subscribed};
use crate::load::{asking, clock, elsewhere, message, opening, socket, stream, updates};

/// Reads what has arrived. Edge-triggered: a read that fills less than was offered has emptied the socket, and new data
/// gives a new event; only a hang-up must be read to its end.
pub fn receive(run: &mut Run<'_>, index: usize, hang_up: bool) {
    let mut buffer = std::mem::take(&mut run.buffer);
    loop {
        let connection = &mut run.connections[index];
        let Some(socket) = &mut connection.socket else { break };
        run.report.counters.receives += 1;
        let unfinished = match connection.phase {
            Phase::Upgrading => None,
            _ => frame_bytes_missing(&connection.partial, connection.is_stream),
        };
        let (result, offered) = match unfinished {
            Some(missing) => (fill(socket, &mut connection.partial, missing), missing),
            None => {
                let kept = connection.partial.len();
                if kept == buffer.len() {
                    opening::close(run, index, "an answer without an end");
                    break;
                }
                buffer[..kept].copy_from_slice(&connection.partial);
                (socket.read(&mut buffer[kept..]), buffer.len() - kept)
            }
        };
        match result {
            Ok(0) => {
                opening::close(run, index, "closed by the server");
                break;
            }
            Ok(got) => {
                match unfinished {
                    Some(_) => continued(run, index),
                    None => arrived(run, index, &buffer, got),
                }
                if got < offered && !hang_up {
                    break;
                }
            }
            Err(error) if socket::would_block(&error) => break,
            Err(error) => {
                opening::close(run, index, &format!("receive: {error}"));
                break;
            }
        }
    }
    run.buffer = buffer;
    opening::flush(run, index);
}

/// Looks whether the unfinished frame is whole now.
fn continued(run: &mut Run<'_>, index: usize) {
    let mut partial = std::mem::take(&mut run.connections[index].partial);
    if consume(run, index, &partial, clock::now()) == 0 {
        run.connections[index].partial = partial;
    } else {
        partial.clear();
        run.spare.push(partial);
    }
}

/// Takes what is in the buffer: what was kept of the last read, and `got` new bytes.
fn arrived(run: &mut Run<'_>, index: usize, buffer: &[u8], got: usize) {
    let now = clock::now();
    let mut partial = std::mem::take(&mut run.connections[index].partial);
    let filled = &buffer[..partial.len() + got];
    partial.clear();
    let used = consume(run, index, filled, now);
    if used < filled.len() {
        if partial.capacity() == 0 {
            partial = run.spare.pop().unwrap_or_default();
        }
        partial.extend_from_slice(&filled[used..]);
        run.connections[index].partial = partial;
    } else if partial.capacity() > 0 {
        run.spare.push(partial);
    }
}

/// Takes whole frames off the front; returns how many bytes they were.
fn consume(run: &mut Run<'_>, index: usize, bytes: &[u8], now: u64) -> usize {
    let mut used = 0;
    if run.connections[index].phase == Phase::Upgrading {
        let answer = if run.connections[index].is_stream {
            stream::read_head(bytes).map(|length| length.map(|length| (length, false)))
        } else {
            connection::read_upgrade(bytes, run.config.sessions)
        };
        match answer {
            Ok(None) => return 0,
            Ok(Some((length, deflate))) => {
                used = length;
                run.report.deflate_agreed += u64::from(deflate);
                opening::upgraded(run, index);
            }
            Err(reason) => {
                opening::close(run, index, &reason);
                return bytes.len();
            }
        }
    }
    while let Some(header) = parse(&bytes[used..], run.connections[index].is_stream) {
        if header.masked || header.payload_bytes > LONGEST_MESSAGE {
            opening::close(run, index, "no frame of a WebSocket server");
            return bytes.len();
        }
        let start = used + header.header_bytes;
        let end = start + header.payload_bytes;
        if end > bytes.len() {
            break;
        }
        frame(run, index, header, &bytes[start..end], now);
        used = end;
        if run.connections[index].socket.is_none() || run.connections[index].phase == Phase::Connecting {
            return bytes.len();
        }
    }
    used
}

fn frame(run: &mut Run<'_>, index: usize, header: Header, payload: &[u8], now: u64) {
    if run.connections[index].is_stream {
        let wire_bytes = header.header_bytes + payload.len();
        return message(run, index, stream::message(payload), wire_bytes, now);
    }
    if header.opcode >= frame::CLOSE {
        run.show(index, "←", header.opcode, payload);
    }
    match header.opcode {
        frame::TEXT | frame::BINARY if header.fin => {
            let wire_bytes = header.header_bytes + payload.len();
            data(run, index, header.compressed, payload, wire_bytes, now);
        }
        frame::TEXT | frame::BINARY => {
            run.connections[index].fragments = Some(Box::new((header.compressed, payload.to_vec())));
        }
        frame::CONTINUATION => {
            let Some(mut fragments) = run.connections[index].fragments.take() else {
                return run.report.fault("a continuation of nothing");
            };
            fragments.1.extend_from_slice(payload);
            if fragments.1.len() > LONGEST_MESSAGE {
                opening::close(run, index, "a message without an end");
            } else if header.fin {
                let wire_bytes = fragments.1.len() + header.header_bytes;
                data(run, index, fragments.0, &fragments.1, wire_bytes, now);
            } else {
                run.connections[index].fragments = Some(fragments);
            }
        }
        frame::PING => {
            run.report.counters.pings += 1;
            let mut pong = Vec::with_capacity(payload.len() + 6);
            frame::write_masked(&mut pong, frame::PONG, payload);
            run.send(index, &pong);
        }
        frame::PONG => {
            if let Ok(sent) = payload.try_into() {
                run.report.pong.record(now.saturating_sub(u64::from_be_bytes(sent)));
            }
        }
        frame::CLOSE => {
            let code = frame::close_code(payload);
            if code >= 4500 {
                // It may not come back.
                run.connections[index].session = None;
            }
            opening::close(run, index, &format!("closed by the server with {code}"));
        }
        opcode => opening::close(run, index, &format!("a frame with the opcode {opcode}")),
    }
}

fn data(run: &mut Run<'_>, index: usize, compressed: bool, payload: &[u8], wire_bytes: usize, now: u64) {
    let connection = &mut run.connections[index];
    let live = connection.phase == Phase::Live;
    if live {
        run.report.counters.compressed_frames += u64::from(compressed);
    }
    if compressed && live && connection.verifier.is_none() {
        // Not looked into: the sampled connections say what such frames hold.
        connection.position = updates::UNKNOWN;
        run.report.counters.frames += 1;
        run.report.counters.bytes += wire_bytes as u64;
    } else if compressed {
        let mut inflater = run.inflater.take().unwrap_or_else(Inflater::new);
        match inflater.inflate(payload) {
            Ok(()) => message(run, index, &inflater.output, wire_bytes, now),
            Err(reason) => run.report.fault(&reason),
        }
        run.inflater = Some(inflater);
    } else {
        message(run, index, payload, wire_bytes, now);
    }
}

fn message(run: &mut Run<'_>, index: usize, text: &[u8], wire_bytes: usize, now: u64) {
    run.show(index, "←", frame::TEXT, text);
    if let Some(marker) = run.marker.clone() {
        return elsewhere::message(run, index, &marker, text, wire_bytes, now);
    }
    if text.starts_with(message::BATCH) {
        run.report.counters.frames += 1;
        run.report.counters.bytes += wire_bytes as u64;
        return updates::batch(run, index, text, now);
    }
    let phase = run.connections[index].phase;
    if run.config.in_flight > 0 && phase == Phase::Live && !text.starts_with(message::ERROR) {
        asking::answered(run, index, text, now);
    } else if text.starts_with(message::GAP) {
        updates::gap(run, index, text, now);
    } else if text.starts_with(message::ESTABLISHED) {
        if phase == Phase::Greeting {
            greeted(run, index, text, now);
        }
    } else if text.starts_with(message::SUBSCRIBED) {
        subscribed(run, index, text, now);
    } else if text.starts_with(message::PUBLISHED) {
        run.report.counters.published_answers += 1;
    } else if text.starts_with(message::ERROR) {
        run.report.counters.errors += 1;
        if matches!(phase, Phase::Subscribing { .. }) {
            let code = message::text_field(text, br#""code":""#).unwrap_or("?");
            return opening::close(run, index, &format!("its subscription is refused: {code}"));
        }
        asking::refused(run, index, message::number_field(text, br#""id":"#), now);
        let field = |name: &[u8]| message::text_field(text, name).unwrap_or("?");
        let reason = format!("error {}: {}", field(br#""code":""#), field(br#""message":""#));
        run.report.fault(&reason);
    }
}

fn greeted(run: &mut Run<'_>, index: usize, text: &[u8], now: u64) {
    let comes_back = run.connections[index].comes_back();
    let Some(session) = &mut run.connections[index].session else { return opening::established(run, index) };
    match session.greeted(text) {
        Err(reason) => run.report.fault(&reason),
        Ok(resumed) if comes_back => opening::let_in_again(run, index, resumed, now),
        Ok(_) => opening::established(run, index),
    }
}

fn subscribed(run: &mut Run<'_>, index: usize, text: &[u8], now: u64) {
    let connection = &mut run.connections[index];
    let begun = match Subscribed::read(text) {
        Ok(begun) => begun,
        Err(reason) => return run.report.fault(&reason),
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
        Ok(missed) => run.report.counters.lost += run.report.returns.began(&missed, begun.recovered),
        Err(reason) => run.report.fault(&reason),
    }
    match &mut run.connections[index].phase {
        Phase::Subscribing { missing: 1 } => opening::opened(run, index, now),
        Phase::Subscribing { missing } => *missing -= 1,
        _ => run.report.fault("a subscription that was not asked for"),
    }
}

/// Bytes. What is longer is no message, and its length may be garbage.
const LONGEST_MESSAGE: usize = 1 << 26;

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
fn fill(socket: &mut Socket, partial: &mut Vec<u8>, missing: usize) -> std::io::Result<usize> {
    let old = partial.len();
    partial.resize(old + missing, 0);
    let result = socket.read(&mut partial[old..]);
    partial.truncate(old + *result.as_ref().unwrap_or(&0));
    result
}
