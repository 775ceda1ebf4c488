/**
 * A session on a stream, with the face of a WebSocket: what is heard is the response to a request, and what is said is posted. umbel.js
 * loads this file where WebSockets don't get through; docs/protocol.md describes what goes over the wire.
 *
 * @module
 */
/** @import { Socket } from "./machine.d.ts" */

/** Something on the way passes a response on only when it has ended, as it seems: the next stream comes in parts. */
let inParts = false;

/** Cookies of a page of another origin. Where the server lets every page in, browsers let no cookie out. @type {RequestCredentials} */
let credentials = "include";

/** @type {(url: string) => Socket} */
export const createStream = (url) => {
  const stop = new AbortController();
  const messages = url.replace(/(?=\?|$)/, "/messages");
  /** Ends the timers of what is posted. @type {Set<() => void>} */
  const ends = new Set();
  /** What was said and not posted yet. @type {string[]} */
  const queue = [];
  /** Nothing is passed on any more. */
  let over = false;
  /** The server has let the client in. */
  let open = false;
  let posting = false;
  /** The end of the session was posted. */
  let ended = false;
  let token = "";
  let attempt = 0;
  /** Of the newest list. */
  let number = 0;
  let most = MOST;
  // Nothing was heard, or nothing since the first list although the server has taken one.
  let mute = true;
  // What was said came through when it was said: after the first list, or some time after the first word.
  let lively = false;

  const leave = () => {
    over = true;
    stop.abort();
    for (const end of ends) end();
  };

  /** @type {(code: number, reason: string) => void} */
  const end = (code, reason) => {
    if (over) return;
    leave();
    if (socket.onclose) socket.onclose({ code, reason });
  };

  /** The server has no stream for this attempt. @type {(status: number, text: string) => void} */
  const refused = (status, text) => {
    let newest = 0;
    if (status === 409) {
      try {
        newest = JSON.parse(text).details.attempt;
      } catch (error) {
        // Not of an Umbel server.
      }
    }
    if (newest > attempt) end(4502, "the session has another connection");
    else if (status === 413) end(1009, "the message is too long");
    else end(1006, `no session on a stream (status ${status})`);
  };

  // ---- what is heard

  /** @type {(body: string) => Promise<Response>} */
  const ask = async (body) => {
    const call = () => fetch(url, { method: "POST", headers: JSON_ONLY, body, credentials, signal: stop.signal });
    try {
      return await call();
    } catch (error) {
      if (over || credentials !== "include" || !isForeign(url)) throw error;
      // Nothing was asked: the browser has refused to send cookies there.
      credentials = "same-origin";
      try {
        return await call();
      } catch (again) {
        // It was the network.
        credentials = "include";
        throw again;
      }
    }
  };

  /** @type {(name: string, data: string) => void} */
  const hear = (name, data) => {
    if (name === "closed") {
      const { code, reason } = JSON.parse(data);
      return end(code, reason);
    }
    if (name === "connection_established") {
      const { resumed, session } = JSON.parse(data);
      if (!resumed) {
        ({ token } = session);
        attempt = 0;
      }
      open = true;
      Promise.resolve().then(flush);
    }
    if (socket.onmessage) socket.onmessage({ data });
  };

  /** Reads a response. Returns whether another part follows. @type {(response: Response) => Promise<boolean>} */
  const read = async ({ body }) => {
    const reader = /** @type {ReadableStream<Uint8Array>} */ (body).getReader();
    const decoder = new TextDecoder();
    let [rest, name, data, follows, size, began] = ["", "", "", false, 0, 0];
    for (;;) {
      const { done, value } = await reader.read();
      if (over || done) return follows;
      const now = performance.now();
      began = began || now;
      size += value.length;
      lively = lively || number > 0 || now - began > LATER;
      mute = false;
      const lines = decoder.decode(value, { stream: true }).split("\n");
      lines[0] = rest + lines[0];
      rest = /** @type {string} */ (lines.pop());
      for (const line of lines) {
        if (line.startsWith("event:")) name = line.slice(6).trim();
        else if (line.startsWith("data:")) data += line.slice(5);
        else if (line === "" || line === "\r") {
          if (name === "part_ended") {
            follows = true;
            // What was said came before the end of its part: nothing holds it back. It was only a bad moment of the network.
            if (size < SMALL && now - began > AHEAD) inParts = false;
          } else if (data) hear(name, data);
          if (over) return false;
          name = data = "";
        }
      }
    }
  };

  /** @type {(first: string) => Promise<void>} */
  const listen = async (first) => {
    try {
      for (let part = 1, body = first; ; body = JSON.stringify({ type: "resume", session: token, attempt, part, positions: {} })) {
        const response = await ask(body);
        const { status, headers } = response;
        if (!/^text\/event-stream/i.test(headers.get("Content-Type") || "")) return refused(status, await response.text());
        if (!(await read(response)) || over) break;
        part += 1;
      }
      end(1006, "the stream broke off");
    } catch (error) {
      end(1006, String(error));
    }
  };

  // ---- what is said

  /** Posts a body until it has an answer: a list is taken once, however often it comes. @type {(body: string) => Promise<[number, string]>} */
  const post = async (body) => {
    const headers = { ...JSON_ONLY, Authorization: `Umbel-Session ${token}` };
    // At the end, which may be that of the page.
    const keepalive = over && body.length < SHORT;
    const most = over ? LAST_TURNS : TURNS;
    for (let turn = 0, pause = PAUSE; ; turn += 1, pause *= 2) {
      /** @type {[number, string]} */
      let answer = [0, ""];
      const call = new AbortController();
      const abort = () => call.abort();
      const timer = setTimeout(abort, PATIENCE);
      const undo = () => {
        clearTimeout(timer);
        abort();
      };
      ends.add(undo);
      try {
        const response = await fetch(messages, { method: "POST", headers, body, credentials, keepalive, signal: call.signal });
        answer = [response.status, await response.text()];
      } catch (error) {
        // Nobody knows whether it was taken.
      }
      ends.delete(undo);
      clearTimeout(timer);
      const [status] = answer;
      if (ANSWERS.includes(status) || turn === most || stop.signal.aborted) return answer;
      await new Promise((resolve) => {
        const wake = () => {
          clearTimeout(timer);
          ends.delete(wake);
          resolve(0);
        };
        const timer = setTimeout(wake, pause);
        ends.add(wake);
      });
      if (stop.signal.aborted) return answer;
    }
  };

  const deliver = (/** @type {string[]} */ list) => post(`{"attempt":${attempt},"number":${number += 1},"messages":[${list}]}`);

  const flush = async () => {
    if (posting || !open) return;
    posting = true;
    while (queue.length && !stop.signal.aborted) {
      let count = 0;
      for (let size = 0; count < Math.min(queue.length, most); count += 1) {
        size += queue[count].length;
        if (count && size > LONG) break;
      }
      const list = queue.splice(0, count);
      const [status, text] = await deliver(list);
      if (status === 202) mute = mute || !lively;
      else if (status !== 413 || count === 1) refused(status, text);
      else {
        // It was not looked at. Each of them alone may not be too long.
        most = 1;
        number -= 1;
        queue.unshift(...list);
      }
    }
    posting = false;
    if (over) finish();
  };

  /** Ends the session, and with it what the server has not acted on. */
  const finish = () => {
    if (ended || stop.signal.aborted) return;
    ended = true;
    if (queue.length) deliver(queue.splice(0));
    post(`{"attempt":${attempt},"end":true}`).then(leave);
  };

  /** @type {Socket} */
  const socket = {
    protocol: "umbel.v1.first",
    mute: false,
    onopen: null,
    onmessage: null,
    onclose: null,
    onerror: null,
    send(text) {
      if (over) return;
      if (!begun) {
        begun = true;
        const message = JSON.parse(text);
        ({ attempt = 0, session: token = "" } = message);
        listen(inParts ? JSON.stringify({ ...message, part: 1 }) : text);
        return;
      }
      queue.push(text);
      // What is said at once is one list.
      Promise.resolve().then(flush);
    },
    close(code) {
      if (over) return;
      over = true;
      if (code === MUTE && mute && !inParts) inParts = socket.mute = true;
      if (code !== 1000 || !open) return leave();
      // What was said before comes first, if that takes not too long.
      const timer = setTimeout(finish, FAREWELL);
      ends.add(() => clearTimeout(timer));
      flush();
    },
  };
  let begun = false;
  // A page that is left can wait for nothing. Its client has closed this a moment before.
  if (typeof addEventListener === "function") addEventListener("pagehide", () => { if (over) finish(); }, { signal: stop.signal });
  Promise.resolve().then(() => { if (!over && socket.onopen) socket.onopen(); });
  return socket;
};

/** @type {(url: string) => boolean} */
const isForeign = (url) => typeof location === "object" && new URL(url).origin !== location.origin;

const JSON_ONLY = { "Content-Type": "application/json" };

/** What a server answers to a list. With any other status, nobody knows whether it was taken. */
const ANSWERS = [202, 400, 404, 409, 413];

/** The code with which what has been silent for too long is closed. */
const MUTE = 4408;

/** Messages of a list, and their characters. */
const MOST = 500;
const LONG = 1 << 16;

/** A part of so few bytes that comes in pieces, so many milliseconds apart, was sent so: its end comes 50 ms after what it says. */
const SMALL = 4096;
const AHEAD = 25;

/** Milliseconds after which what is heard was hardly said with the first word. */
const LATER = 1000;

/** Milliseconds for what was said before the end. */
const FAREWELL = 1000;

/** Characters that a page may send while it is left: browsers allow 64 KiB. */
const SHORT = 20_000;

/** Milliseconds until what was posted counts as lost, and until it is posted again; that doubles with each turn. */
const PATIENCE = 10_000;
const PAUSE = 100;

/** After so many, the stream is given up, and after so many the end of its session. */
const TURNS = 6;
const LAST_TURNS = 2;
