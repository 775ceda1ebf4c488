// clients/vectors over sessions on streams: the machine, the transport of stream.js, and a server in memory. What the vectors say that a
// socket does is done by the server, and what the machine says has to reach it.

import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { numbers } from "./place.mjs";
import { FakeServer, URL_OF_SESSIONS } from "./streams.mjs";
import { camel, check, machineOf, read, VECTORS } from "./vectors.mjs";

/** What this transport can't do is done without it. These vectors have such steps. */
const BESIDE = {
  "back-off.json": "a connection fails before it is open: a stream is open at once, and fails afterwards",
  "close-codes.json": "a connection ends before it is open",
  "close-in-any-state.json": "a connection fails before it is open",
  "flapping.json": "a connection ends before it is open",
  "old-server.json": "a server speaks the older subprotocol, in which nobody says who he is",
  "refused-for-good.json": "a connection fails before it is open; a server speaks another subprotocol",
  "requests-given-up.json": "connections fail before they are open",
};

const { fetch: own } = globalThis;
afterEach(() => { globalThis.fetch = own; });

let pages = 0;

/** stream.js as a page has it, on which streams are whole, or come in parts. */
async function load(inParts) {
  const { createStream } = await import(`../stream.js?vectors=${pages += 1}`);
  if (inParts) {
    const mute = createStream(URL_OF_SESSIONS);
    mute.send('{"type":"authenticate"}');
    mute.close(4408);
  }
  return createStream;
}

const settled = async (condition) => { for (let turns = 0; turns < 100 && !condition(); turns += 1) await turn(); };

class Line {
  open = false;
  over = false;
  /** What the machine has said, and the stream that has to hear it. */
  sent = [];
  stream = null;
  /** What the transport has passed on. */
  heard = [];

  constructor(socket) {
    this.socket = socket;
    socket.onopen = () => { this.open = true; };
    socket.onmessage = ({ data }) => this.heard.push(["received", data]);
    socket.onclose = ({ code, reason }) => this.heard.push(["closed", code, reason]);
  }

  get arrived() {
    if (!this.stream) return [];
    const { part, ...first } = this.stream.first;
    return [first, ...this.stream.said];
  }
}

async function play(vector, inParts) {
  const server = new FakeServer(numbers(vector.steps.length));
  const createStream = await load(inParts);
  globalThis.fetch = server.fetch;
  const machine = machineOf(vector);
  const lines = new Map();
  let beside = false;

  /** What becomes of a step: inputs of the machine, or nothing. */
  const happens = async ([name, ...given]) => {
    const line = lines.get(given[0]);
    const [attempt, ...values] = given;
    if (!["opened", "received", "closed", "failed"].includes(name)) return [[name, ...given]];
    if (!line || line.over) return [];
    if (name === "opened" && values[0] === line.socket.protocol) {
      await settled(() => line.open);
      assert.ok(line.open);
      return [[name, ...given]];
    }
    if (name === "received" && line.stream) line.stream.say(values[0]);
    else if (name === "closed" && line.stream) {
      if (values[0] === 1006) line.stream.break();
      else line.stream.close(...values);
    } else {
      beside = true;
      if (name === "received") values[0] = JSON.stringify(values[0]);
      return [[name, attempt, ...values]];
    }
    await settled(() => line.heard.length);
    // A stream that breaks off has a reason of its own.
    return line.heard.splice(0).map(([input, ...told]) => [input, attempt, ...(told[0] === 1006 ? values : told)]);
  };

  for (const [index, step] of vector.steps.entries()) {
    const where = `step ${index + 1}: ${JSON.stringify(step.do)}`;
    const inputs = await happens(step.do);
    assert.ok(inputs.length <= 1, where);
    let returned;
    for (const [name, ...given] of inputs) returned = machine[camel(name)](step.at, ...given);
    for (const [name, attempt, value] of check(machine, step, returned, where)) {
      const line = lines.get(attempt);
      if (name === "open") lines.set(attempt, new Line(createStream(URL_OF_SESSIONS)));
      else if (name === "send") {
        line.sent.push(JSON.parse(value));
        line.socket.send(value);
      } else if (name === "drop") {
        if (!line) continue;
        line.socket.close(value);
        line.over = true;
        if (value !== 1000 || !line.stream?.letIn) continue;
        await settled(() => line.stream.over);
        assert.ok(line.stream.over, "the server hears of the end");
      }
    }
    if (step.do[0] === "closed" && lines.has(step.do[1])) lines.get(step.do[1]).over = true;
    const line = [...lines.values()].at(-1);
    if (line?.sent.length && !line.over && !beside) {
      line.stream ??= await settled(() => server.last?.first.type === line.sent[0].type && !server.last.known).then(() => server.last);
      line.stream.known = true;
      await settled(() => line.arrived.length === line.sent.length);
      assert.deepEqual(line.arrived, line.sent, where);
    }
  }
  for (const { over, socket, stream } of lines.values()) {
    assert.ok(!stream || !over || stream.ended || stream.aborted, "what is over is cut");
    socket.close(4400);
  }
  return beside;
}

for (const name of VECTORS) {
  const vector = read(name);
  for (const inParts of [false, true]) {
    test(`${name}${inParts ? " in parts" : ""}: ${vector.about}`, async () => {
      assert.equal(await play(vector, inParts), name in BESIDE);
    });
  }
}

test("a wrong vector is noticed, and so is what does not arrive", async () => {
  const vector = read("requests.json");
  const steps = structuredClone(vector.steps);
  steps.at(-1).expect.push(["open", 9]);
  await assert.rejects(play({ ...vector, steps }, false), /step/);
  const { take } = FakeServer.prototype;
  FakeServer.prototype.take = () => new Response(null, { status: 202 });
  try {
    await assert.rejects(play(vector, false), /step/);
  } finally {
    FakeServer.prototype.take = take;
  }
});
