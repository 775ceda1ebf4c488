// A server that speaks what the dashboard reads, for tests: its page, and the snapshots that a test wants.

import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { snapshot, STARTED } from "./dashboard_snapshots.mjs";

const FOLDER = new URL("../../python/umbel/_serving/dashboard/", import.meta.url);
const TYPES = { html: "text/html", css: "text/css", js: "text/javascript", svg: "image/svg+xml" };
const HEADERS = {
  "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
  "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
};

export class Fixture {
  #server = null;
  #streams = new Set();

  constructor() {
    this.port = 0;
    this.token = null;
    /** The `Authorization` of each request for snapshots. */
    this.asked = [];
    this.life = { pid: 12, started: STARTED };
    this.second = 0;
    /** What a test does to each snapshot before it is sent. */
    this.change = () => {};
  }

  get url() { return `http://127.0.0.1:${this.port}/dashboard`; }

  async start() {
    this.#server = createServer((request, response) => this.#answer(request, response).catch(() => response.destroy()));
    this.#server.listen(this.port, "127.0.0.1");
    await once(this.#server, "listening");
    this.port = this.#server.address().port;
  }

  /** Sends this many snapshots, one each so many milliseconds. */
  async send(many, every = 0) {
    for (let sent = 0; sent < many; sent += 1) {
      const text = this.#next();
      for (const stream of this.#streams) if (!stream.write(text)) await once(stream, "drain");
      await new Promise((resolve) => { if (every) setTimeout(resolve, every); else setImmediate(resolve); });
    }
  }

  #next() {
    this.second += 1;
    const next = snapshot(this.second, this.life);
    this.change(next);
    return `data: ${JSON.stringify(next)}\n\n`;
  }

  async #answer({ url, headers }, response) {
    const [path] = url.split("?");
    if (path === "/stats") {
      this.asked.push(headers.authorization ?? null);
      if (this.token !== null && headers.authorization !== `Bearer ${this.token}`) return response.writeHead(401, HEADERS).end();
      response.writeHead(200, { ...HEADERS, "Content-Type": "text/event-stream" });
      response.write(this.#next());
      this.#streams.add(response);
      // Without a word each second the page takes the server for gone, however long a test takes.
      const timer = setInterval(() => response.write(": here\n\n"), 1000);
      response.on("close", () => {
        clearInterval(timer);
        this.#streams.delete(response);
      });
      return;
    }
    const name = path === "/dashboard" ? "index.html" : path.replace(/^\/dashboard\//, "");
    const body = await readFile(new URL(name, FOLDER));
    response.writeHead(200, { ...HEADERS, "Content-Type": `${TYPES[name.split(".").at(-1)]}; charset=utf-8` }).end(body);
  }

  /** Is gone, until it is started again. */
  async stop() {
    this.#server.close();
    this.#server.closeAllConnections();
    await once(this.#server, "close");
  }
}
