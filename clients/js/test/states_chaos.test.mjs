// Several pages change one state on a network that is cut all the time, and lose their sessions at times: no change is done twice, none
// takes the place of one that its user has not seen, and at the end all have the same map. STATE_CUTS (60), CHAOS_SEED: as in chaos.test.mjs.

import assert from "node:assert/strict";
import { test } from "node:test";
import WebSocket from "ws";
import { connect } from "../umbel.js";
import { Network, numbers, Served, sleep, until } from "./place.mjs";

const CUTS = Number(process.env.STATE_CUTS ?? 60);
const CLIENTS = 6;
const SEED = Number(process.env.CHAOS_SEED ?? Date.now() % 100_000);
const BOARD = "board:chaos";

const QUICK = {
  window: 20, base: 20, cap: 100, attempts: 1000, attemptTimeout: 1500, answerTimeout: 600, probeTimeout: 600, WebSocket, fallback: false,
};
const SETTINGS = { tick: 0.005, reconnect_window: 0.02, heartbeat: 0.5, session_ttl: 60, max_messages_per_second: 0 };

test(`${CUTS} cuts among ${CLIENTS} pages with one state, seed ${SEED}`, { timeout: 60_000 + CUTS * 500 }, async (t) => {
  const random = numbers(SEED);
  const below = (bound) => Math.floor(random() * bound);
  const served = await Served.start({ settings: SETTINGS, board_history: 2 });
  const network = await Network.to(served.port);
  const clients = Array.from({ length: CLIENTS }, () => connect(network.url(), { ...QUICK, random }));
  t.after(async () => {
    for (const client of clients) client.close();
    await network.close();
    await served.stop();
  });
  for (const client of clients) client.on("warning", () => {});
  const states = await Promise.all(clients.map((client) => client.state(BOARD)));
  let cuts = 0;
  network.onlink = (link) => {
    if (cuts >= CUTS) return;
    if (random() < 0.1) setTimeout(() => link.stall(), random() * 400);
    else link.left = Math.floor(random() * 8000);
    link.near.on("close", () => { cuts += 1; });
  };
  network.cut();

  /** What was done: what was shown before, what is there afterwards, and where that is in the log. 0 is nothing. */
  const deeds = [];
  let open = 0;
  let last = 0;
  const act = (state, page) => {
    const deed = { page, key: "nxyp"[below(4)], before: 0, after: last += 1, offset: 0, outcome: "" };
    const { key, after } = deed;
    let change;
    if (key === "n") change = state.update(key, (n = 0) => n + 1);
    else if (key === "p") change = state.update(key, (value = {}) => ({ ...value, [`of ${page}`]: after }));
    else {
      deed.before = state.get(key) ?? 0;
      deed.removes = random() < 0.3;
      if (deed.removes) deed.after = 0;
      change = deed.removes ? state.delete(key) : state.set(key, after);
    }
    deeds.push(deed);
    open += 1;
    change.then(({ offset }) => { Object.assign(deed, { outcome: "done", offset }); }, ({ code, message }) => { deed.outcome = code ?? message; })
      .finally(() => { open -= 1; });
  };
  let lost = 0;
  while (cuts < CUTS) {
    for (const [page, state] of states.entries()) if (open < 40 && random() < 0.3) act(state, page);
    if (random() < 0.05) network.links[below(network.links.length)]?.cut();
    if (random() < 0.02) {
      lost += 1;
      clients[below(CLIENTS)].request("cut").catch(() => {});
    }
    await sleep(10);
  }
  network.onlink = () => {};
  network.cut();
  await until(() => open === 0, "every change is settled", 30_000);
  const other = connect(served.url(), { WebSocket, fallback: false });
  clients.push(other);
  const final = await other.state(BOARD);
  const plain = (map) => Object.fromEntries([...map].sort());
  await until(() => states.every((state) => JSON.stringify(plain(state)) === JSON.stringify(plain(final))), "all have the same map", 20_000);

  const count = (outcome, key) => deeds.filter((deed) => deed.outcome === outcome && (!key || deed.key === key)).length;
  t.diagnostic(`${cuts} cuts, ${lost} lost sessions: ${count("done")} done, ${count("outcome_unknown")} unknown, ${count("state_conflict")} conflicts`);
  assert.equal(count("done") + count("outcome_unknown") + count("state_conflict"), deeds.length, JSON.stringify(deeds.map(({ outcome }) => outcome)));
  const counted = final.get("n") ?? 0;
  assert.ok(count("done", "n") <= counted && counted <= count("done", "n") + count("outcome_unknown", "n"), `${counted}`);
  for (const key of ["x", "y"]) {
    const unknown = new Set(deeds.filter((deed) => deed.key === key && deed.outcome === "outcome_unknown").map(({ after }) => after));
    let before = 0;
    const done = deeds.filter((deed) => deed.key === key && deed.outcome === "done").sort((one, next) => one.offset - next.offset);
    while (done.length) {
      // One has this place. To remove what somebody else has removed is no conflict, and has the place of what was last.
      const [{ offset, after }] = done;
      const those = done.splice(0, done.filter((deed) => deed.offset === offset).length);
      const right = those.some((deed) => deed.before === before || unknown.has(deed.before));
      assert.ok(right || (those.every(({ removes }) => removes) && (!before || unknown.has(0))), JSON.stringify([those, before]));
      before = after;
    }
    const there = final.get(key) ?? 0;
    assert.ok(there === before || unknown.has(there), `${key}: ${there}, ${before}`);
  }
  const fields = final.get("p") ?? {};
  for (let page = 0; page < CLIENTS; page += 1) {
    const own = deeds.filter((deed) => deed.key === "p" && deed.page === page && deed.outcome !== "state_conflict");
    const sure = own.map(({ outcome }) => outcome).lastIndexOf("done");
    if (sure >= 0) assert.ok(own.slice(sure).some(({ after }) => after === fields[`of ${page}`]), `page ${page}`);
  }
});
