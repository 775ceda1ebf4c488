// The page of the React tests: components as applications write them, and what a test asks of them.

import { StrictMode, createElement, useState } from "react";
import { flushSync } from "react-dom";
import { createRoot, hydrateRoot } from "react-dom/client";
import { UmbelProvider, useChannel, useClient, useConnection, useLatest, usePresence, useRun, useSharedState, useTyping } from "umbel/react";

const notes = { renders: [], seen: [], set: {}, client: null };
Object.assign(globalThis, { notes });

function Messages({ channel }) {
  const { data, state, gap } = useChannel(channel, {
    // Written inline, as everybody does.
    initial: { count: 0, last: null },
    reduce: ({ count }, updates) => ({ count: count + updates.length, last: updates.at(-1).data }),
    onUpdates: (updates) => { for (const { channel, offset } of updates) notes.seen.push([channel, offset]); },
  });
  notes.renders.push([channel, data.last, data.count]);
  return createElement("p", { id: "messages" }, `${state} ${data.count}${gap ? ` gap ${gap.reason}` : ""}`);
}

function Newest({ channel }) {
  const { data } = useChannel(channel, { keep: 3 });
  return createElement("ul", { id: "newest" }, data.map(({ offset, data }) => createElement("li", { key: offset }, JSON.stringify(data))));
}

function Prices() {
  const prices = useLatest("latest:prices", ({ symbol }) => symbol);
  return createElement("p", { id: "prices" }, [...prices].map(([symbol, { value }]) => `${symbol}=${value}`).join(" "));
}

function Answer() {
  const { text, status, start, cancel } = useRun();
  Object.assign(notes.set, { ask: (words) => void start("recite", words), cancel });
  return createElement("p", { id: "answer" }, `${status}: ${text}`);
}

function Board({ board, id = "board" }) {
  const { data, state, error, set, patch, update, ...others } = useSharedState(board);
  notes.board = { set, patch, remove: others.delete, update };
  return createElement("p", { id }, `${state} ${JSON.stringify([...data])}${error ? ` ${error.code}` : ""}`);
}

function Here({ room }) {
  const { members, count, state, error, update } = usePresence(room);
  const [typing, type] = useTyping(room);
  Object.assign(notes, { update, type });
  const names = [...members.values()].map(({ subject, currentTask }) => `${subject}:${currentTask}`).sort();
  return createElement("p", { id: "here" }, `${state} ${count} ${names} typing ${typing.map(({ subject }) => subject)}${error ? ` ${error.code}` : ""}`);
}

function State() {
  const connection = useConnection();
  notes.client = useClient();
  return createElement("p", { id: "state" }, JSON.stringify(connection));
}

function App({ url, hydrating = false }) {
  const [channel, setChannel] = useState("react:a");
  const [turn, setTurn] = useState(0);
  const [board, setBoard] = useState("board:react");
  const [same, setSame] = useState(false);
  const [room, setRoom] = useState(null);
  Object.assign(notes.set, { channel: setChannel, turn: setTurn, board: setBoard, same: setSame, room: setRoom });
  return createElement(UmbelProvider, { url, base: 20, window: 20 },
    createElement(State),
    createElement(Messages, { channel, turn }),
    ...(hydrating ? [] : [createElement(Newest, { channel }), createElement(Prices), createElement(Board, { board }), same && createElement(Board, { board, id: "same" }), room && createElement(Here, { room }), createElement(Answer)]));
}

let root;

/** Shows the application in strict mode. */
globalThis.mount = (url) => {
  root = createRoot(document.getElementById("root"));
  root.render(createElement(StrictMode, null, createElement(App, { url })));
};

/** A hot update whose hooks have changed: every component is another one, at the same place. */
globalThis.hotUpdate = (url) => {
  const Fresh = (props) => App(props);
  flushSync(() => root.render(createElement(StrictMode, null, createElement(Fresh, { url }))));
};

globalThis.renderAgain = (times) => {
  for (let turn = 1; turn <= times; turn += 1) flushSync(() => notes.set.turn(turn));
};

globalThis.hydrate = (url) => {
  root = hydrateRoot(document.getElementById("root"), createElement(App, { url, hydrating: true }), {
    onRecoverableError(error) { notes.renders.push(["mismatch", String(error)]); },
  });
};

globalThis.unmount = () => root.unmount();

export { App };
