// Several pages come to a room, say what they do there, and leave, on a network that is cut all the time, and lose their sessions at times.
// Who came and who left is always the difference of what is shown, and at the end all show who is there, as they said it last.
// PRESENCE_CUTS (25), CHAOS_SEED: as in chaos.test.mjs.

import assert from "node:assert/strict";
import { test } from "node:test";
import WebSocket from "ws";
import { connect } from "../umbel.js";
import { Network, numbers, Served, sleep, until } from "./place.mjs";

const CUTS = Number(process.env.PRESENCE_CUTS ?? 25);
const CLIENTS = 6;
const SEED = Number(process.env.CHAOS_SEED ?? Date.now() % 100_000);
const ROOM = "here:chaos";

const QUICK = {
  window: 20, base: 20, cap: 100, attempts: 1000, attemptTimeout: 1500, answerTimeout: 600, probeTimeout: 600, WebSocket, fallback: false,
};
const SETTINGS = {
  tick: 0.005, reconnect_window: 0.02, heartbeat: 0.5, max_messages_per_second: 0, presence_interval: 0.01, presence_grace: 0.1,
};

/** A page, and what it knows of the room. */
class Page {
  faults = [];
  /** What it has said since it came, and was answered. */
  said = {};
  sure = true;
  open = 0;

  constructor(url, number, random) {
    this.client = connect(url, { ...QUICK, random, token: () => `page ${number}` });
    this.client.on("warning", () => {});
  }

  async enter() {
    Object.assign(this, { keys: null, counted: false, said: {}, sure: true });
    this.coming = this.client.presence(ROOM, { onChange: (...news) => this.changed(...news), onEnded: () => { this.members = undefined; } });
    this.members = await this.coming.catch(() => undefined);
    this.coming = undefined;
  }

  changed(members, joined, left) {
    const keys = new Set(members.keys());
    const counted = members.count > 0 && !keys.size;
    if (this.keys && !counted && !this.counted) {
      const expected = new Set(this.keys);
      for (const { clientId } of left) if (!expected.delete(clientId)) this.faults.push(`${clientId} left and was not there`);
      for (const { clientId } of joined) {
        if (expected.has(clientId)) this.faults.push(`${clientId} joined and was there`);
        expected.add(clientId);
      }
      if ([...expected].sort().join() !== [...keys].sort().join()) this.faults.push("news are not the difference");
    }
    if (counted && joined.length + left.length) this.faults.push("news of a number");
    if (keys.size && keys.size !== members.count) this.faults.push(`${members.count} of ${keys.size}`);
    Object.assign(this, { keys, counted });
  }

  say(change) {
    const { typing, ...lasting } = change;
    const { said } = this;
    this.open += 1;
    this.members.update(change).then(() => Object.assign(said, lasting), () => { this.sure = false; }).finally(() => { this.open -= 1; });
  }
}

for (const limit of [3, 1000]) test(`${CUTS} cuts among ${CLIENTS} pages, at most ${limit} of them listed, seed ${SEED}`, { timeout: 60_000 + CUTS * 500 }, async (t) => {
  const random = numbers(SEED);
  const below = (bound) => Math.floor(random() * bound);
  const served = await Served.start({ settings: { ...SETTINGS, presence_limit: limit } });
  const network = await Network.to(served.port);
  const pages = Array.from({ length: CLIENTS }, (_, number) => new Page(network.url(), number, random));
  t.after(async () => {
    for (const { client } of pages) client.close();
    await network.close();
    await served.stop();
  });
  let cuts = 0;
  network.onlink = (link) => {
    if (cuts >= CUTS) return;
    if (random() < 0.1) setTimeout(() => link.stall(), random() * 400);
    else link.left = Math.floor(random() * 8000);
    link.near.on("close", () => { cuts += 1; });
  };
  network.cut();
  for (let number = 1; cuts < CUTS; number += 1) {
    for (const page of pages) {
      const dice = random();
      if (!page.members && !page.coming) {
        if (dice < 0.1) page.enter();
      } else if (page.members && dice < 0.02) {
        page.members.close();
        page.members = undefined;
      } else if (page.members && dice < 0.3 && page.open < 8) {
        page.say([{ currentTask: number }, { data: { number } }, { typing: random() < 0.5 }, { isActive: random() < 0.5 }][below(4)]);
      } else if (dice > 0.995) page.client.request("cut", 1012, { volatile: true }).catch(() => {});
    }
    await sleep(10);
  }
  // At last all of them lose their sessions, and what they knew is in no log any more.
  await served.stop();
  await served.start();
  for (const link of network.links) link.cut();
  await until(() => pages.every(({ open, coming, client }) => !open && !coming && client.connection.state === "connected"), "all are there");
  const there = pages.filter(({ members }) => members);
  const ids = () => there.map(({ client }) => client.connection.clientId).sort().join();
  const isRight = ({ client, said, sure }, members) => {
    const entry = members.get(client.connection.clientId);
    return entry && (!sure || Object.entries(said).every(([name, value]) => JSON.stringify(entry[name]) === JSON.stringify(value)));
  };
  await until(() => there.every(({ members }) => members.count === there.length
    && (!members.size || ([...members.keys()].sort().join() === ids() && there.every((page) => isRight(page, members))))), "all show the same");
  assert.deepEqual(pages.flatMap(({ faults }) => faults), []);
  if (limit > CLIENTS) assert.ok(there.every(({ members }) => members.size === there.length));
});
