//! What the codecs and the log cost: `cargo bench --no-default-features --bench codec`. Each result is asserted before it is timed.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use umbel::broker::Log;
use umbel::channel::ChannelName;
use umbel::json::push_string;
use umbel::moment::Moment;
use umbel::position::{Epoch, Position};
use umbel::protocol::deflate::{Compressor, Inflater, Parameters, stored};
use umbel::protocol::frame::{self, Opcode};
use umbel::protocol::mask::unmask;
use umbel::protocol::message::{Timestamp, batch_suffix, parse};
use umbel::protocol::utf8::Validator;
use umbel::protocol::websocket::{Incoming, WebSocket};
use umbel::publication::{Content, Publication, prefix};
use umbel::rules::{Mode, Retention};

/// A batch as it goes over the wire: updates that resemble each other, with numbers that do not.
fn batch(bytes: usize) -> Vec<u8> {
    let mut out = b"{\"type\":\"batched_updates\",\"updates\":[".to_vec();
    let mut state = 7_u32;
    for offset in 1.. {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let data = format!(
            "{{\"type\":\"task_update\",\"id\":\"t-{state:08x}\",\"title\":\"Task {}\"}}",
            state % 997
        );
        Publication::new(
            &prefix("task:board-17"),
            offset,
            &Content::new(data.as_bytes(), None),
            Moment::default(),
        )
        .write(offset - 1, None, &mut out);
        if out.len() >= bytes {
            break;
        }
        out.push(b',');
    }
    batch_suffix(1, Timestamp::from_unix_millis(1_795_418_145_042), &mut out);
    out
}

fn masked_frames(payload: &[u8], compressed: bool, count: usize) -> Vec<u8> {
    let mask = [1, 2, 3, 4];
    let mut frame = Vec::new();
    frame::encode_header(Opcode::Text, compressed, true, payload.len(), &mut frame);
    frame[1] |= 0x80;
    frame.extend(mask);
    let start = frame.len();
    frame.extend_from_slice(payload);
    unmask(&mut frame[start..], mask, 0);
    frame.repeat(count)
}

fn frames(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frames");
    let mut bytes = vec![0x5a; 64 * 1024];
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("unmask 64 KiB", |bencher| {
        bencher.iter(|| unmask(black_box(&mut bytes), [1, 2, 3, 4], 1))
    });

    let payload = br#"{"type":"publish","id":12345,"channel":"task:board-17","data":{"title":"Task 812"}}"#;
    let read = masked_frames(payload, false, 100);
    group.throughput(Throughput::Elements(100));
    group.bench_function("receive 100 masked texts of 84 bytes", |bencher| {
        let (mut websocket, mut inflater) = (WebSocket::new(65_536, None), Inflater::default());
        bencher.iter_batched_ref(
            || read.clone(),
            |read| {
                let mut input = &mut read[..];
                let mut count = 0;
                while let Ok((taken, Some(event))) = websocket.receive(input, &mut inflater) {
                    assert!(matches!(event, Incoming::Text(_)));
                    count += 1;
                    input = &mut input[taken..];
                }
                assert_eq!(count, 100);
            },
            criterion::BatchSize::SmallInput,
        );
    });

    let mut out = Vec::with_capacity(64);
    group.throughput(Throughput::Elements(1));
    group.bench_function("encode a header", |bencher| {
        bencher.iter(|| {
            out.clear();
            frame::encode_header(Opcode::Text, true, true, black_box(1000), &mut out);
        });
    });
    group.finish();
}

/// Compressed messages as a connection takes them: whole in a read, and cut into segments of TCP.
fn receive_compressed(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("receive compressed");
    let small = br#"{"type":"publish","id":12345,"channel":"task:board-17","data":{"title":"Task 812"}}"#;
    let mut compressor = Compressor::new(1, 15);
    for (name, text, count, piece) in [
        ("100 texts of 84 bytes", small.to_vec(), 100, usize::MAX),
        ("8 KiB whole", batch(8 * 1024), 1, usize::MAX),
        ("8 KiB in pieces of 500 bytes", batch(8 * 1024), 1, 500),
        ("512 KiB in pieces of 1460 bytes", batch(512 * 1024), 1, 1460),
    ] {
        let mut wire = Vec::new();
        compressor.message(&text, &mut wire);
        let read = masked_frames(&wire, true, count);
        let (mut websocket, mut inflater) =
            (WebSocket::new(1 << 20, Some(Parameters::default())), Inflater::default());
        group.throughput(Throughput::Bytes((text.len() * count) as u64));
        group.bench_function(name, |bencher| {
            bencher.iter_batched_ref(
                || read.clone(),
                |read| {
                    let mut received = 0;
                    for mut input in read.chunks_mut(piece.min(wire.len() * count * 2)) {
                        while let Ok((taken, Some(event))) = websocket.receive(input, &mut inflater) {
                            assert!(
                                matches!(event, Incoming::Text(received) if received.len() == text.len())
                            );
                            received += 1;
                            input = &mut input[taken..];
                        }
                    }
                    assert_eq!(received, count);
                },
                criterion::BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

fn text(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("text");
    let json = batch(8 * 1024);
    group.throughput(Throughput::Bytes(json.len() as u64));
    group.bench_function("validate 8 KiB in pieces of 1 KiB", |bencher| {
        bencher.iter(|| {
            let mut validator = Validator::default();
            for piece in json.chunks(1024) {
                assert!(validator.push(black_box(piece)).is_ok());
            }
        });
    });
    let plain = std::str::from_utf8(&json).expect("a batch is text");
    let mut out = Vec::with_capacity(2 * json.len());
    group.bench_function("escape 8 KiB", |bencher| {
        bencher.iter(|| {
            out.clear();
            push_string(black_box(plain), &mut out);
        });
    });
    let small = r#"{"type":"publish","id":12345,"channel":"task:board-17","data":{"title":"Task 812"}}"#;
    let large = format!(r#"{{"type":"publish","channel":"a","data":{plain}}}"#);
    for (name, message) in [("parse publish of 84 bytes", small), ("parse publish of 8 KiB", &large)] {
        assert!(parse(message).is_ok());
        group.throughput(Throughput::Bytes(message.len() as u64));
        group.bench_function(name, |bencher| bencher.iter(|| parse(black_box(message)).is_ok()));
    }
    group.finish();
}

/// The message that a client's compressed payload becomes.
fn inflated(payload: &[u8], length: usize) -> Vec<u8> {
    let mut websocket = WebSocket::new(length, Some(Parameters::default()));
    match websocket.receive(&mut masked_frames(payload, true, 1), &mut Inflater::default()) {
        Ok((_, Some(Incoming::Text(text)))) => text.as_bytes().to_vec(),
        other => panic!("{other:?}"),
    }
}

fn deflate(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("deflate");
    for (name, size) in [("0", 0), ("1 KiB", 1024), ("8 KiB", 8 * 1024)] {
        let data = if size == 0 { Vec::new() } else { batch(size) };
        for level in [1, 3, 6] {
            for window_bits in [12, 15] {
                let mut compressor = Compressor::new(level, window_bits);
                let mut out = Vec::with_capacity(16 * 1024);
                compressor.message(&data, &mut out);
                assert_eq!(inflated(&out, data.len()), data);
                let id = BenchmarkId::new(
                    format!("message {name}"),
                    format!("level {level} window {window_bits}"),
                );
                println!(
                    "message {name} level {level} window {window_bits}: {} to {} bytes",
                    data.len(),
                    out.len()
                );
                group.throughput(Throughput::Bytes(data.len().max(1) as u64));
                group.bench_function(id, |bencher| {
                    bencher.iter(|| {
                        out.clear();
                        compressor.message(black_box(&data), &mut out);
                    });
                });
            }
        }
    }
    let data = batch(8 * 1024);
    group.throughput(Throughput::Bytes(data.len() as u64));
    let mut out = Vec::with_capacity(16 * 1024);
    group.bench_function("stored 8 KiB", |bencher| {
        bencher.iter(|| {
            out.clear();
            stored(black_box(&data), &mut out);
        });
    });
    group.finish();
}

/// An append that replaces the publication of a random key, in a log of so many keys.
fn replace(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("replace a random key");
    group.throughput(Throughput::Elements(1));
    for count in [100, 10_000, 100_000] {
        let all = usize::MAX;
        let retention = Retention { mode: Mode::Latest, count: all, bytes: all, ..Retention::default() };
        let start = Position { epoch: Epoch::new(1), offset: 0 };
        let log = Log::new(&ChannelName::new("board:17").expect("a legal name"), start, retention);
        let keys: Vec<_> = (0..count).map(|number| format!("key-{number:012}")).collect();
        let data = format!("{{\"title\":\"{}\"}}", "x".repeat(88));
        let set = |key: &str| log.append(&Content::new(data.as_bytes(), Some(key)), Moment::default()).0;
        for key in &keys {
            set(key).expect("there is room");
        }
        let mut state = 7_u64;
        group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
            bencher.iter(|| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                set(&keys[(state >> 33) as usize % count])
            });
        });
        assert!(log.held().bytes < count * 700 + 4096, "each key once: {}", log.held().bytes / count);
    }
    group.finish();
}

criterion_group! {
    name = codec;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600))
        .without_plots();
    targets = frames, receive_compressed, text, deflate, replace
}
criterion_main!(codec);
