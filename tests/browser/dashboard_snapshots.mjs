// Snapshots as a server sends them to the dashboard: those of a calm server of two shards with 50 publications a second for 1,000 readers.

/** Upper bounds of the buckets, in milliseconds. */
export const BOUNDS = Array.from({ length: 15 }, (_, index) => 0.256 * 2 ** index);

export const STARTED = 1_800_000_000_000;

/** A histogram in which so many of each second lie in the buckets that end at 4, 8 and 16 ms, about. */
function histogram(...parts) {
  const counts = new Array(BOUNDS.length + 1).fill(0);
  parts.forEach((part, index) => { counts[4 + index] = part; });
  return { bounds: BOUNDS, counts };
}

/** The snapshot of this second of the server's life. */
export function snapshot(second, { pid = 12, started = STARTED } = {}) {
  const wave = 1 + 0.2 * Math.sin(second / 9);
  const delivered = 50_000 * second;
  return {
    version: "0.1.0", time: started + 1000 * second, uptimeSeconds: second, started, pid,
    connections: 1000, mostConnections: 20_000, sessionsAway: 12, maxAway: 20_000, subscriptions: 3000, draining: false, accepted: 1200 + second, refused: { unauthenticated: 3 }, closed: { client: 200 + second, broken: 3 }, blocked: 0,
    publications: 50 * second, delivered, frames: 50_000 * second, received: 20 * second,
    payloadSent: 4_000_000 * second, bytesSent: 1_000_000 * second, bytesReceived: 1000 * second, payloadReceived: 900 * second,
    lateness: histogram(20_000 * second, 20_000 * second, 10_000 * second), tickLag: histogram(60 * second, 0, 0), tickDuration: histogram(30 * second, 30 * second, 0),
    gaps: { overrun: 0, burst: 0, memory: 0, epoch: 0 }, lost: 0, trimmed: 0, recovered: 40 + second, unrecovered: 2,
    logs: 24, logBytes: 5_000_000, maxLogBytes: 1 << 30, heldBytes: 0, maxHeldBytes: 256 << 20,
    process: { cpuSeconds: 0.5 * second, residentBytes: Math.round(80e6 * wave), openFiles: 1040, maxFiles: 65_536 },
    python: {
      queueEvents: Math.round(3 * wave), queueBytes: 300, queueAge: 1, silent: 200, running: 2, runs: 2, called: 20 * second, calledSeconds: 0.2 * second, busySeconds: 0.05 * second,
      slowest: [{ name: "pay", calls: 10 * second, seconds: 0.1 * second, max: 80 }, { name: "look_up", calls: 10 * second, seconds: 0.02 * second, max: 9 }],
    },
    shards: [0, 1].map((index) => ({
      connections: 500, delivered: delivered / 2, frames: delivered / 2, bytesSent: 500_000 * second, busy: (0.2 + 0.02 * index) * second, blocked: 0, ticks: 60 * second, tickLagSeconds: 0.12 * second, tickSeconds: 0.1 * second, silent: 0,
    })),
    channels: Array.from({ length: 20 }, (_, index) => ({ name: `ch:${index}`, readers: 1000 - 40 * index, published: Math.round((50 * second) / (index + 1)), rate: 50 / (index + 1), bytes: 60_000 })),
    slow: [], logLinesDropped: 0, panics: 0,
  };
}
