// Where the tests of the client run: a server as a process, and a network between it and its clients that fails on demand.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { connect, createServer } from "node:net";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../../..", import.meta.url));
const PYTHON = process.env.PYTHON ?? `${ROOT}/.venv/bin/python`;

/** A port that nobody has. */
export async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

/** A server as a process. `stop` ends it, and `start` begins another life at the same port. */
export class Served {
  constructor(port, ...command) {
    Object.assign(this, { port, command, output: "" });
  }

  /** Starts served.py. */
  static async start(options = {}) {
    const port = await freePort();
    return new Served(port, fileURLToPath(new URL("served.py", import.meta.url)), String(port), JSON.stringify(options)).start();
  }

  /** Starts one of the examples. */
  static async example(name) {
    const port = await freePort();
    return new Served(port, "-m", "umbel", "run", `${name}:app`, "--port", String(port)).start();
  }

  async start() {
    this.process = spawn(PYTHON, this.command, { cwd: `${ROOT}/examples` });
    for (const stream of [this.process.stdout, this.process.stderr]) stream.on("data", (data) => { this.output += data; });
    for (const end = Date.now() + 20_000; Date.now() < end;) {
      if (this.process.exitCode !== null) break;
      const answer = await fetch(`http://127.0.0.1:${this.port}/readyz`).catch(() => null);
      if (answer?.ok) return this;
      await sleep(20);
    }
    throw new Error(`the server did not start:\n${this.output}`);
  }

  async stop(signal = "SIGTERM") {
    if (this.process.exitCode !== null) return;
    const ended = once(this.process, "exit");
    this.process.kill(signal);
    await ended;
  }

  url(path = "/ws") {
    return `ws://127.0.0.1:${this.port}${path}`;
  }
}

/** A network that passes bytes on until it is told to fail. */
export class Network {
  #links = new Set();

  constructor(target) {
    this.target = target;
    /** Called with each new link. */
    this.onlink = () => {};
  }

  static async to(target) {
    const network = new Network(target);
    network.server = createServer((near) => network.#link(near)).listen(0, "127.0.0.1");
    await once(network.server, "listening");
    network.port = network.server.address().port;
    return network;
  }

  get links() {
    return [...this.#links];
  }

  #link(near) {
    const far = connect(this.target, "127.0.0.1");
    const link = new Link(near, far);
    this.#links.add(link);
    near.on("close", () => this.#links.delete(link));
    this.onlink(link);
  }

  cut() {
    for (const link of this.#links) link.cut();
  }

  async close() {
    this.server.close();
    this.cut();
    await once(this.server, "close");
  }

  url(path = "/ws") {
    return `ws://127.0.0.1:${this.port}${path}`;
  }
}

class Link {
  /** Bytes after which it is cut, in both directions together. */
  left = Infinity;
  stalled = false;

  constructor(near, far) {
    Object.assign(this, { near, far });
    near.setNoDelay();
    far.setNoDelay();
    for (const [from, to] of [[near, far], [far, near]]) {
      from.on("data", (bytes) => {
        if (this.stalled) return;
        to.write(bytes.subarray(0, this.left));
        this.left -= bytes.length;
        if (this.left <= 0) this.cut();
      });
      from.on("error", () => {});
      from.on("close", () => { if (!this.stalled) to.destroy(); });
    }
  }

  /** Both ends are told at once, in the middle of a frame perhaps. */
  cut() {
    this.near.resetAndDestroy();
    this.far.resetAndDestroy();
  }

  /** Neither end is told, and nothing passes any more. */
  stall() {
    this.stalled = true;
  }
}

/** A WebSocket that does not get through. */
export class Blocked {
  constructor() { setTimeout(() => this.onclose?.({ code: 1006, reason: "" })); }
  close() {}
}

export const sleep = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

/** Waits until a condition holds. */
export async function until(condition, what, ms = 10_000) {
  for (const end = Date.now() + ms; ;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > end) throw new Error(`not within ${ms} ms: ${what}`);
    await sleep(5);
  }
}

/** Numbers in [0, 1) that are the same each time (xorshift32). */
export function numbers(seed) {
  let state = seed | 1;
  return () => {
    state ^= state << 13; state ^= state >>> 17; state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}
