// The task board: two clients in this page, side by side. Each has a connection of its own, which can be cut off.

import { connect } from "/umbel/client.js";
import { $, keepPlace, toast, write } from "./text.js";

const CHANNEL = "demo:board";
const LABELS = { title: "Title", status: "Status" };
const FIELDS = Object.keys(LABELS);

/** Milliseconds. The server forgets after six seconds that somebody types. */
const TYPES_AGAIN = 3000;

/** Milliseconds: what is saved without a connection may wait so long. */
const HOUR = 3_600_000;

const NAMES = [
  "Angelica", "Anise", "Caraway", "Carrot", "Celery", "Chervil", "Cicely", "Coriander", "Cumin", "Dill", "Fennel", "Hogweed", "Lovage",
  "Masterwort", "Parsley", "Parsnip", "Pignut", "Samphire", "Sanicle", "Skirret",
];

/** A client whose connection a person can cut: who comes back needs the token, and that waits for the person. */
function createLine(name) {
  let socket = null;
  let gate = Promise.resolve();
  let open = null;
  class Socket extends WebSocket {
    constructor(...where) {
      super(...where);
      socket = this;
    }
  }
  const token = async () => {
    await gate;
    return name;
  };
  const umbel = connect(undefined, { token, WebSocket: Socket, fallback: false, queueAge: HOUR });
  umbel.on("warning", (text) => { if (!open) toast(text); });
  return {
    umbel,
    isCut: () => open !== null,
    cut() {
      gate = new Promise((resolve) => { open = resolve; });
      socket?.close(4400, "cut by hand");
    },
    bringBack() {
      open();
      open = null;
      if (umbel.connection.state === "waiting") umbel.retry();
    },
  };
}

// -------------------------------------------------------------------------------------------------------- one client

async function openPane(name) {
  const pane = $("pane").content.cloneNode(true).firstElementChild;
  const find = (selector) => pane.querySelector(selector);
  $("panes").append(pane);
  pane.setAttribute("aria-label", `Board of ${name}`);
  write(find("h3"), name);

  const line = createLine(name);
  const { umbel } = line;
  const showConnection = () => {
    const { state } = umbel.connection;
    const is = line.isCut() || state === "closed" ? "off" : state === "connected" ? "live" : "wait";
    pane.dataset.is = find(".state").dataset.is = is;
    write(find(".state"), { off: state === "closed" ? "Closed" : "Cut off", live: "Connected", wait: "Connecting" }[is]);
    write(find("button"), line.isCut() ? "Bring back" : "Cut off");
    for (const row of rows.values()) row.show();
  };
  find("button").addEventListener("click", () => {
    if (line.isCut()) line.bringBack();
    else if (umbel.connection.state === "connected") line.cut();
    showConnection();
  });

  // What others see of this client.
  const doing = { currentTask: null, typing: false };
  let told = 0;
  const tell = (change) => {
    const isNews = Object.keys(change).some((name) => change[name] !== doing[name]);
    if (!isNews && !(doing.typing && performance.now() - told > TYPES_AGAIN)) return;
    Object.assign(doing, change);
    told = performance.now();
    // Without a connection nobody hears it. Then it is told when the connection is back.
    members?.update(doing, { volatile: true }).catch(() => {});
  };

  const rows = new Map();
  let members = null;
  const showMembers = () => {
    const isSelf = ({ clientId }) => clientId === umbel.connection.clientId;
    const all = [...members.values()].sort((one, other) => isSelf(other) - isSelf(one) || one.subject.localeCompare(other.subject));
    find(".members").replaceChildren(...all.map((member) => {
      const item = document.createElement("li");
      const is = isSelf(member) ? "self" : !member.isActive ? "away" : member.typing ? "typing" : "here";
      item.dataset.is = is;
      item.textContent = member.subject + { self: " (this side)", away: " is cut off", typing: " is typing…", here: "" }[is];
      return item;
    }));
    const others = all.filter((member) => member.isActive && !isSelf(member));
    for (const [key, row] of rows) row.showOthers(others.filter(({ currentTask }) => currentTask === key));
  };

  const state = umbel.state(CHANNEL, {
    onChange(board, keys) {
      // While all of the board comes again, a task may not be there yet.
      for (const key of keys.filter((each) => board.has(each))) {
        if (!rows.has(key)) {
          rows.set(key, createRow(board, key, name, tell, line));
          pane.append(...[...rows.keys()].sort().map((each) => rows.get(each).form));
        }
        rows.get(key).show();
      }
    },
    onConflict: (board, key, conflict) => rows.get(key)?.tell(conflict),
  });
  umbel.on("connection", ({ state }) => {
    showConnection();
    if (state === "connected") members?.update({ ...doing, typing: false }, { volatile: true }).catch(() => {});
  });
  const presence = umbel.presence(CHANNEL, {
    onChange(those) {
      members = those;
      showMembers();
    },
  });
  await Promise.all([state, presence]);
}

// -------------------------------------------------------------------------------------------------------- one task

function createRow(board, key, name, tell, line) {
  const form = $("task").content.cloneNode(true).firstElementChild;
  form.setAttribute("aria-label", `Task ${key}`);
  const { elements } = form;
  const [button, others, news] = ["button", ".others", ".news"].map((selector) => form.querySelector(selector));
  /** What the fields had last from the board. Where they have something else, a person is at work. */
  const shown = { title: "", status: "to do" };
  /** What was there when the person began. */
  const begun = { ...shown };
  const drafts = () => FIELDS.filter((field) => elements[field].value !== shown[field]);
  /** The change that has no answer yet. */
  let saving = null;
  /** What the news are about: they go when the task has become another one. */
  let about = "";

  const say = (is, ...parts) => {
    news.dataset.is = is;
    about = JSON.stringify(board.get(key));
    // Who listens to the page does not hear the same again.
    if (parts.length > 1 || news.textContent !== (parts[0] ?? "")) news.replaceChildren(...parts);
  };

  const row = {
    form,
    show() {
      if (!board.has(key)) return;
      const task = board.get(key);
      for (const field of FIELDS) {
        if (elements[field].value === shown[field]) begun[field] = elements[field].value = task[field];
        shown[field] = task[field];
      }
      const [changed] = drafts().filter((field) => begun[field] !== task[field]);
      if (saving) say("waiting", line.isCut() ? "Kept here. It is sent when the connection is back." : "");
      else if (changed) say("meanwhile", `${task.by || "Somebody"} has made it “${task[changed]}” meanwhile. Save puts yours in its place.`);
      else if (news.dataset.is === "meanwhile" || about !== JSON.stringify(task)) say("");
      button.setAttribute("aria-disabled", Boolean(saving) || !drafts().length);
    },

    showOthers(members) {
      write(others, members.map(({ subject, typing }) => `${subject} ${typing ? "is typing…" : "is here"}`).join(", "));
    },

    /** Two have changed it at the same time. */
    async tell({ resolution, conflictedChanges }) {
      // As long as the own change has no answer, the board shows that one.
      await saving;
      const task = board.get(key);
      const by = conflictedChanges.find(({ field }) => field === "by") ?? { current: task.by, proposed: task.by };
      const list = document.createElement("ul");
      for (const { field, current, proposed } of conflictedChanges) {
        if (!FIELDS.includes(field)) continue;
        const item = document.createElement("li");
        item.textContent = task[field] === proposed
          ? `${LABELS[field]}: ${by.proposed}’s “${proposed}” takes the place of “${current}”`
          : `${LABELS[field]}: ${by.current}’s “${current}” stays`;
        list.append(item);
      }
      say("conflict", `${by.current} and ${by.proposed} have changed it at the same time. Resolved by ${resolution}:`, list);
    },
  };

  const save = async () => {
    const task = { title: elements.title.value.trim() || shown.title, status: elements.status.value, by: name };
    Object.assign(elements.title, { value: task.title });
    let failure = "";
    // It is shown at once, and names what was shown before: nothing that came meanwhile is overwritten.
    saving = board.set(key, task).catch((error) => { failure = error.message; });
    row.show();
    await saving;
    saving = null;
    say("");
    row.show();
    if (failure) say("failed", `Not saved: ${failure}`);
  };

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    tell({ typing: false });
    if (!saving && board.has(key) && drafts().length) save();
  });
  form.addEventListener("input", ({ target }) => {
    tell({ currentTask: key, typing: target === elements.title });
    row.show();
  });
  form.addEventListener("focusin", () => tell({ currentTask: key, typing: false }));
  form.addEventListener("focusout", ({ relatedTarget }) => {
    if (!form.contains(relatedTarget)) tell({ currentTask: null, typing: false });
  });
  return row;
}

// -------------------------------------------------------------------------------------------------------- both

const first = Math.floor(Math.random() * NAMES.length);
const second = (first + 1 + Math.floor(Math.random() * (NAMES.length - 1))) % NAMES.length;
Promise.all([first, second].map((index) => openPane(NAMES[index]))).then(keepPlace, (error) => toast(`${CHANNEL}: ${error.message}`));
