// One scenario of the Node client `ws` against a running server; prints its findings as one JSON object.
//
//     node ws_client.mjs SCENARIO URL OPTIONS

import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import WebSocket from "ws";

const [scenario, url, options] = [process.argv[2], process.argv[3], JSON.parse(process.argv[4])];

const open = async (deflate = options.deflate ?? true) => {
  const socket = new WebSocket(url, options.protocol ? [options.protocol] : [], {
    perMessageDeflate: deflate ? { threshold: 0 } : false,
    maxPayload: 32 << 20,
  });
  const inbox = [];
  let wake = () => {};
  socket.on("message", (data, binary) => { inbox.push(binary ? data : data.toString()); wake(); });
  socket.on("close", () => wake());
  socket.receive = async () => {
    while (!inbox.length) {
      if (socket.readyState === WebSocket.CLOSED) throw new Error("closed");
      await new Promise((resolve) => { wake = resolve; });
    }
    return inbox.shift();
  };
  socket.expect = async (...types) => {
    for (;;) {
      const message = JSON.parse(await socket.receive());
      if (types.includes(message.type)) return message;
    }
  };
  await once(socket, "open");
  return socket;
};

const digest = (data) => createHash("sha256").update(data).digest("hex");

const scenarios = {
  // Subscribe on one connection, publish on another; returns all batches as they came.
  async fanout() {
    const [reader, writer] = [await open(), await open()];
    reader.send(JSON.stringify({ type: "subscribe_updates", channel: options.channel, id: 1 }));
    const start = await reader.expect("subscription_established");
    for (let number = 0; number < options.count; number += 1) {
      const data = { number, text: "payload ".repeat(50) };
      writer.send(JSON.stringify({ type: "publish", channel: options.channel, data }));
    }
    const batches = [];
    let seen = 0;
    while (seen < options.count) {
      batches.push(await reader.expect("batched_updates", "gap", "error"));
      seen += batches.at(-1).updates.length;
    }
    return {
      protocol: reader.protocol, extensions: reader.extensions, start, batches, bytes: reader._socket.bytesRead,
    };
  },

  // Text, binary and fragments of many sizes, several in flight.
  async echo() {
    const socket = await open();
    const payloads = [];
    for (const size of options.sizes) payloads.push("é".repeat(size / 2), Buffer.alloc(size, randomBytes(1024)));
    for (const payload of payloads) socket.send(payload);
    const same = [];
    for (const payload of payloads) same.push(digest(await socket.receive()) === digest(payload));
    const pieces = ["frag", "", "ment", "ed".repeat(1000)];
    pieces.forEach((piece, index) => socket.send(piece, { fin: index === pieces.length - 1 }));
    same.push((await socket.receive()) === pieces.join(""));
    return { extensions: socket.extensions, same };
  },

  async ping() {
    const socket = await open();
    const payload = randomBytes(125);
    socket.ping(payload);
    const [pong] = await once(socket, "pong");
    return { same: pong.equals(payload) };
  },

  async close() {
    const socket = await open();
    socket.close(options.code, "tschüss");
    const [code, reason] = await once(socket, "close");
    return { code, reason: reason.toString() };
  },

  async errors() {
    const socket = await open();
    await socket.expect("connection_established");
    const answers = [];
    for (const text of options.texts) {
      socket.send(text);
      answers.push(JSON.parse(await socket.receive()));
    }
    socket.send(Buffer.from("{}"));
    const [code] = await once(socket, "close");
    return { answers, code };
  },
};

const result = JSON.stringify(await scenarios[scenario]());
process.stdout.write(result, () => process.exit(0));
