//! What a server counts, as Prometheus reads it. No label has the name of a channel, a user or a client: there is no bound on them.

use std::fmt;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, NoLabelSet, prometheus_text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::close::CloseReason;
use crate::refusal::Refusal;
use crate::stats::{Distribution, Snapshot, Totals};
use crate::transport::events::Load;
use crate::transport::process::Process;
use crate::transport::shared::Shared;

pub(crate) use prometheus_text::CONTENT_TYPE;

/// All metrics of this moment, of a process that was `started` at this Unix time.
pub(crate) fn text(shared: &Shared, started: Option<f64>) -> String {
    let (mut registry, mut plain) = (Registry::with_prefix("umbel"), Registry::default());
    registry.register_collector(Box::new(Reading {
        snapshot: Snapshot::of(shared.counters.iter().map(|counters| &**counters)),
        totals: shared.broker.totals(),
        load: shared.inbox.load(),
    }));
    plain.register_collector(Box::new(Whole { process: Process::now(), started }));
    let mut text = String::new();
    for registry in [&registry, &plain] {
        // A string takes everything.
        let _ = prometheus_text::encode(&mut text, registry);
    }
    text
}

/// What was counted at one moment.
#[derive(Debug)]
struct Reading {
    snapshot: Snapshot,
    totals: Totals,
    load: Load,
}

impl Collector for Reading {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut to = Families(encoder);
        self.connections(&mut to)?;
        self.deliveries(&mut to)?;
        self.logs(&mut to)?;
        self.python(&mut to)
    }
}

impl Reading {
    fn connections(&self, to: &mut Families<'_>) -> fmt::Result {
        let it = &self.snapshot;
        to.version()?;
        to.gauge("connections", "Connections that are open now", it.connections)?;
        to.counter("connections_opened", "Connections that were accepted", it.accepted)?;
        let closed = CloseReason::labels().zip(it.closed);
        to.counters("connections_closed", "Connections that were accepted and have ended", "reason", closed)?;
        let refused = Refusal::LABELS.iter().copied().zip(it.refusals);
        to.counters("connections_refused", "Connections that were not let in", "reason", refused)?;
        to.gauge(
            "connections_blocked",
            "Clients whose socket does not take what waits for them",
            it.blocked,
        )?;
        to.gauge("subscriptions", "Subscriptions of all clients now", it.subscriptions)?;
        to.counter("messages_received", "Messages from clients", it.received)
    }

    fn deliveries(&self, to: &mut Families<'_>) -> fmt::Result {
        let it = &self.snapshot;
        to.counter("publications", "Publications in all channels", self.totals.published)?;
        to.counter(
            "updates_delivered",
            "Publications that were delivered, once for each client",
            it.delivered,
        )?;
        to.counter("batches", "Frames in which they were delivered, once for each client", it.frames)?;
        let payload = [("received", it.payload_received), ("sent", it.payload_sent)];
        to.counters(
            "payload_bytes",
            "JSON text of messages and of updates, uncompressed",
            "direction",
            payload,
        )?;
        let network = [("received", it.bytes_received), ("sent", it.bytes_sent)];
        to.counters("network_bytes", "Bytes that sockets gave and took, TLS included", "direction", network)?;
        to.histogram(
            "tick_duration_seconds",
            "From the begin of a tick until all readers were served",
            &it.tick_duration,
        )?;
        to.histogram("tick_lag_seconds", "By how much a tick began later than it should", &it.tick_lag)?;
        to.histogram(
            "delivery_lateness_seconds",
            "From publish to the write of the frame, for the oldest publication of each channel in it",
            &it.lateness,
        )?;
        to.counters("gaps", "Gaps that clients were told of", "reason", it.gaps_by_reason())?;
        to.counter("publications_lost", "Publications in these gaps, once for each client", it.lost)
    }

    fn logs(&self, to: &mut Families<'_>) -> fmt::Result {
        let it = &self.totals;
        to.gauge("logs", "Channels that have a log now", it.channels)?;
        to.gauge("log_bytes", "Bytes that all logs keep now, their names included", it.log_bytes)?;
        to.counter(
            "publications_trimmed",
            "Publications that were dropped because of max_log_bytes",
            it.trimmed,
        )?;
        to.counter("log_lines_dropped", "Lines of the log that were dropped", self.load.log_lines_dropped)?;
        to.counter("panics", "Bugs of the server that ended a connection", self.snapshot.panics)
    }

    fn python(&self, to: &mut Families<'_>) -> fmt::Result {
        let it = &self.load;
        to.gauge("python_queue_events", "Events that wait for Python", it.events)?;
        to.gauge("python_queue_bytes", "Bytes of these events", it.bytes)?;
        to.gauge(
            "python_queue_age_seconds",
            "Since when they wait and Python took none",
            it.age.as_secs_f64(),
        )?;
        to.gauge(
            "python_functions_running",
            "Functions of the application that are being awaited",
            it.running,
        )?;
        to.counter("python_functions", "Functions of the application that have ended", it.called)?;
        to.counter(
            "python_function_seconds",
            "From their calls to their ends, waiting included",
            it.called_for.as_secs_f64(),
        )?;
        to.counter(
            "python_busy_seconds",
            "Time in which the event loop took events and called functions",
            it.busy.as_secs_f64(),
        )
    }
}

/// What the system says of the process, Python included.
#[derive(Debug)]
struct Whole {
    process: Process,
    started: Option<f64>,
}

/// The names, types and meanings are those that every client library of Prometheus has, so they have no prefix.
impl Collector for Whole {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (mut to, it) = (Families(encoder), &self.process);
        if let Some(seconds) = it.cpu {
            let help = "Processor time of the process, Python included, in user and in system mode";
            to.counter("process_cpu_seconds", help, seconds)?;
        }
        let gauges = [
            ("process_resident_memory_bytes", "Memory that the process occupies", it.resident_bytes),
            ("process_virtual_memory_bytes", "Addresses that the process has mapped", it.virtual_bytes),
            ("process_open_fds", "File descriptors that are open", it.files),
            ("process_max_fds", "File descriptors that may be open", it.most_files),
        ];
        for (name, help, value) in gauges {
            if let Some(value) = value {
                to.gauge(name, help, value)?;
            }
        }
        if let Some(time) = self.started {
            to.gauge("process_start_time_seconds", "When the process was started, as Unix time", time)?;
        }
        Ok(())
    }
}

/// Writes one family of metrics after the other. Counters get `_total` at their end.
struct Families<'a>(DescriptorEncoder<'a>);

impl Families<'_> {
    fn version(&mut self) -> fmt::Result {
        let mut info =
            self.0.encode_descriptor("build", "The version of the server", None, MetricType::Info)?;
        info.encode_info(&[("version", env!("CARGO_PKG_VERSION"))])
    }

    fn gauge<V: EncodeGaugeValue>(&mut self, name: &str, help: &str, value: V) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
    }

    fn counter<V: EncodeCounterValue>(&mut self, name: &str, help: &str, value: V) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        metric.encode_counter::<NoLabelSet, V, u64>(&value, None)
    }

    /// One counter for each value of a label. The values are few, and known when the server is built.
    fn counters<L: AsRef<str>>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (text, value) in values {
            let labels = [(label, text.as_ref())];
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, u64, u64>(&value, None)?;
        }
        Ok(())
    }

    fn histogram(&mut self, name: &str, help: &str, it: &Distribution) -> fmt::Result {
        let mut before = 0;
        let bounds = POWERS.map(|power| {
            let below = it.below(power);
            let count = below - std::mem::replace(&mut before, below);
            (Duration::from_micros(1 << power).as_secs_f64(), count)
        });
        let rest = (f64::INFINITY, it.count() - before);
        let buckets: Vec<_> = bounds.into_iter().chain([rest]).collect();
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        metric.encode_histogram::<NoLabelSet>(it.sum.as_secs_f64(), it.count(), &buckets, None)
    }
}

/// Bounds of the buckets: 2 to these powers, in µs. They are bounds of [`Distribution`], too. The third is a tick of 16 ms.
const POWERS: [u32; 8] = [8, 10, 12, 14, 16, 18, 20, 22];
