// A server of sessions on streams, behind a `fetch` of its own. What it says comes in pieces of any size, and it loses on demand what
// comes or what it answers.

import { setImmediate as turn } from "node:timers/promises";

export const URL_OF_SESSIONS = "https://test.example/api/v1/session";

const ENCODER = new TextEncoder();

/** A stream as the server sees it: also one that comes in parts. */
export class FakeStream {
  /** The lists that were taken, and the messages of all of them. */
  lists = [];
  said = [];
  number = 0;
  letIn = false;
  /** It brings no more. */
  ended = false;
  /** Its client has ended the session. */
  over = false;
  /** The client has cut it. */
  aborted = false;
  part = 0;
  #waiting = [];
  #controller = null;

  constructor(server, first) {
    Object.assign(this, { server, first, attempt: first.attempt ?? 0, token: first.session ?? "" });
  }

  /** A response, or the next part of it. */
  respond(signal, part) {
    this.part = part;
    const body = new ReadableStream({
      start: (controller) => { this.#controller = controller; },
      cancel: () => { this.aborted = true; },
    });
    signal.addEventListener("abort", () => {
      this.aborted = true;
      this.#finish((controller) => controller.error(signal.reason));
    });
    if (part) this.#next();
    return new Response(body, { headers: { "Content-Type": "text/event-stream" } });
  }

  #finish(how) {
    const controller = this.#controller;
    this.#controller = null;
    if (controller) how(controller);
  }

  #next() {
    if (!this.#controller || !this.#waiting.length) return;
    for (const text of this.#waiting.splice(0)) this.write(text);
    const present = this.#controller;
    const end = () => {
      if (this.#controller !== present) return;
      this.write(event("part_ended", '{"type":"part_ended"}', this.server.random));
      this.#finish((controller) => controller.close());
    };
    if (this.server.partSeconds) setTimeout(end, this.server.partSeconds * 1000);
    else end();
  }

  /** Bytes, cut anywhere. */
  write(text) {
    const { random } = this.server;
    for (let rest = ENCODER.encode(text); rest.length && this.#controller;) {
      const length = random() < 0.5 ? Math.ceil(random() * 5) : Math.ceil(random() * rest.length);
      this.#controller.enqueue(rest.subarray(0, length));
      rest = rest.subarray(length);
    }
  }

  say(message) {
    const text = typeof message === "string" ? message : JSON.stringify(message);
    const { type } = typeof message === "string" ? {} : message;
    if (type === "connection_established") this.letIn = true;
    if (type === "connection_established" && !message.resumed) {
      this.token = message.session?.token ?? "none";
      this.attempt = 0;
    }
    const named = { batched_updates: "", error: "server_error" }[type] ?? type ?? "";
    const written = event(named, text, this.server.random);
    if (!this.part) return this.write(written);
    this.#waiting.push(written);
    this.#next();
  }

  /** Ends it as a server does. */
  close(code, reason = "") {
    this.ended = true;
    const last = event("closed", JSON.stringify({ type: "closed", code, reason, reconnect: code < 4500 }), this.server.random);
    for (const text of this.#waiting.splice(0)) this.write(text);
    this.write(last);
    this.#finish((controller) => controller.close());
  }

  /** It breaks off, in the middle of an event perhaps. */
  break(how = "close") {
    this.ended = true;
    this.write('data: {"type":"half');
    this.#finish((controller) => (how === "close" ? controller.close() : controller.error(new TypeError("network"))));
  }
}

export class FakeServer {
  /** @type {FakeStream[]} */
  streams = [];
  /** All requests: path, headers, body. */
  requests = [];
  /** How long a part goes on after something was said. */
  partSeconds = 0;
  /** How the next requests are answered: a function of each, which returns a response, or nothing. */
  answers = [];

  constructor(random = Math.random) {
    this.random = random;
    this.fetch = this.fetch.bind(this);
  }

  get last() {
    return this.streams.at(-1);
  }

  /** What was posted to sessions. */
  get posted() {
    return this.requests.filter(({ path }) => path.endsWith("/messages")).map(({ body }) => body);
  }

  async fetch(url, options) {
    const { signal, headers, keepalive, credentials, method } = options;
    const request = { path: new URL(url).pathname, url, method, headers, keepalive, credentials, body: JSON.parse(options.body) };
    this.requests.push(request);
    await turn();
    if (signal.aborted) throw signal.reason;
    const response = await (this.answers.shift()?.(request, signal) ?? this.answer(request, signal));
    if (signal.aborted) throw signal.reason;
    return response;
  }

  answer({ path, body, headers }, signal) {
    if (path.endsWith("/messages")) return this.take(body, headers.Authorization);
    if (body.part > 1) {
      const stream = this.streams.find(({ token, attempt, part, ended, aborted }) =>
        !ended && !aborted && token === body.session && attempt === body.attempt && part === body.part - 1);
      return stream ? stream.respond(signal, body.part) : refusal(409, "superseded", { attempt: body.attempt });
    }
    const stream = new FakeStream(this, body);
    this.streams.push(stream);
    return stream.respond(signal, body.part ?? 0);
  }

  take({ attempt, number, messages, end }, authorization) {
    const stream = this.streams.findLast(({ token }) => authorization === `Umbel-Session ${token}`);
    if (!stream || stream.over) return refusal(404, "session_lost");
    if (end && (number || messages)) return refusal(400, "bad_message");
    if (end && stream.attempt === attempt) {
      stream.over = stream.ended = true;
      return new Response(null, { status: 202 });
    }
    if (stream.attempt !== attempt || stream.ended) return refusal(409, "superseded", { attempt: stream.attempt });
    if (number > stream.number + 1) return refusal(409, "out_of_order", { expected: stream.number + 1 });
    if (number === stream.number + 1) {
      stream.number += 1;
      stream.lists.push(messages);
      stream.said.push(...messages);
    }
    return new Response(null, { status: 202 });
  }
}

export const refusal = (status, code, details) =>
  new Response(JSON.stringify({ type: "error", code, message: code, details }), { status, headers: { "Content-Type": "application/json" } });

/** What a server that refuses a client answers: events, and no more. */
export const refusedStream = (status, ...events) =>
  new Response(events.map(([name, message]) => event(name, JSON.stringify(message), Math.random)).join(""),
    { status, headers: { "Content-Type": "text/event-stream; charset=utf-8" } });

/** An event, as any server or proxy may write it. */
function event(name, text, random) {
  const end = random() < 0.5 ? "\n" : "\r\n";
  const comment = random() < 0.2 ? `:${end}${end}` : "";
  const space = random() < 0.5 ? " " : "";
  return `${comment}${name && `event:${space}${name}${end}`}data:${space}${text}${end}${end}`;
}
