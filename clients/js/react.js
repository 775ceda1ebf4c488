/**
 * React hooks for Umbel: components that follow channels, runs and the connection.
 *
 * Rendering makes a client and opens nothing: effects do. So rendering on a server opens nothing, and strict mode, hot updates
 * and options that are written inline neither open a second socket nor subscribe twice.
 *
 * @module umbel/react
 */
import {
  createContext, createElement, useContext, useEffect, useInsertionEffect, useMemo, useRef, useState, useSyncExternalStore,
} from "react";
import { createClient } from "./umbel.js";

/** @import { Client, Connection, Gap, Member, Members, Options, Position, Run, SharedState, UmbelError, Update } from "./umbel.js" */
/** @import { ReactNode } from "react" */

// ----------------------------------------------------------------------------------------------------------------- client

/**
 * A client of the providers with one URL. A hot update of the file that has the provider finds it again.
 *
 * @typedef {{ client: Client, options: Options, users: number, closing?: ReturnType<typeof setTimeout> }} Shared
 */

/** @type {Map<string, Shared>} */
const known = new Map();

/** Milliseconds. Strict mode and hot updates take a component away and put it back at once. */
const LINGER = 100;

const Context = createContext(/** @type {Client | null} */ (null));

/**
 * @param {string | undefined} url
 * @returns {Shared}
 */
function share(url) {
  let shared = known.get(url ?? "");
  if (!shared || shared.client.connection.state === "closed") {
    const options = {};
    shared = { client: createClient(url, options), options, users: 0 };
    // On a server each rendering has its own, and it is never opened.
    if (typeof document === "object") known.set(url ?? "", shared);
  }
  return shared;
}

/**
 * Gives the hooks below it their client.
 *
 * @param {Options & { client?: Client, url?: string, children?: ReactNode }} props `client` is one that you have made and will
 *   close. Otherwise `url` and the options are those of `connect`; the client is closed with the last provider.
 */
export function UmbelProvider({ client, url, children, ...options }) {
  const [turn, setTurn] = useState(0);
  const shared = useMemo(() => (client ? null : share(url)), [client, url, turn]);
  useInsertionEffect(() => { if (shared) Object.assign(shared.options, options); });
  useEffect(() => {
    if (!shared) return undefined;
    // It was closed while this provider was hidden.
    if (shared.client.connection.state === "closed") return void setTurn(turn + 1);
    clearTimeout(shared.closing);
    shared.users += 1;
    return () => {
      shared.users -= 1;
      if (shared.users) return;
      shared.closing = setTimeout(() => {
        shared.client.close();
        if (known.get(url ?? "") === shared) known.delete(url ?? "");
      }, LINGER);
    };
  }, [shared, turn]);
  return createElement(Context.Provider, { value: client ?? shared?.client ?? null }, children);
}

/**
 * The client, for `publish` and `request`. Call them in effects and event handlers.
 *
 * @returns {Client}
 */
export function useClient() {
  const client = useContext(Context);
  if (!client) throw new Error("this hook needs an <UmbelProvider> around its component");
  return client;
}

// ----------------------------------------------------------------------------------------------------------------- stores

/** Milliseconds between two renders: at most 60 of them a second, whatever comes. */
const FRAME = 17;

/** @type {Set<Store<any>>} */
const changed = new Set();
let shown = 0;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let showing;

/** All that has changed is shown in one render. A timer and no frame: hidden pages have no frames. */
function show() {
  showing = undefined;
  shown = performance.now();
  const stores = [...changed];
  changed.clear();
  for (const store of stores) store.show();
}

/**
 * What components see of something that is followed for as long as one of them is there.
 *
 * @template T
 */
class Store {
  /** @type {Set<() => void>} */
  #listeners = new Set();
  /** @type {(() => void) | undefined} */
  #end;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #ending;
  #start;
  #present;

  /**
   * @param {T} first
   * @param {(store: Store<T>) => () => void} start
   * @param {(next: T) => T} [present] makes what is shown of what is known
   */
  constructor(first, start, present = (next) => next) {
    this.first = this.now = this.next = first;
    this.#start = start;
    this.#present = present;
  }

  read = () => this.now;
  readFirst = () => this.first;

  /** @param {() => void} listener */
  subscribe = (listener) => {
    this.#listeners.add(listener);
    clearTimeout(this.#ending);
    this.#end ??= this.#start(this);
    return () => {
      this.#listeners.delete(listener);
      if (this.#listeners.size) return;
      this.#ending = setTimeout(() => { this.#end?.(); this.#end = undefined; this.now = this.next = this.first; }, LINGER);
    };
  };

  /** @param {Partial<T>} change */
  set(change) {
    this.replace({ ...this.next, ...change });
  }

  /** @param {T} next */
  replace(next) {
    this.next = next;
    changed.add(this);
    showing ??= setTimeout(show, Math.max(0, shown + FRAME - performance.now()));
  }

  show() {
    this.now = this.#present(this.next);
    for (const listener of this.#listeners) listener();
  }
}

/**
 * @template T
 * @param {Store<T>} store
 * @returns {T}
 */
const useStore = (store) => useSyncExternalStore(store.subscribe, store.read, store.readFirst);

/**
 * The newest value, for functions that are called later.
 *
 * @template T
 * @param {T} value
 */
function useNewest(value) {
  const newest = useRef(value);
  useInsertionEffect(() => { newest.current = value; });
  return newest;
}

// ------------------------------------------------------------------------------------------------------------------ hooks

/**
 * Follows a channel.
 *
 * `reduce` makes the state of the updates: it is called once with all that came since the last render, outside of rendering.
 * Without it, `data` are the newest `keep` updates. `gap` is the newest one: let an effect that depends on it load your state
 * again. With another channel in the next render, nothing of the former is shown.
 *
 * @template [T=Update[]]
 * @param {string | null | undefined} channel nothing is followed without one
 * @param {{ reduce?: (state: T, updates: Update[]) => T, initial?: T, keep?: number, position?: Position,
 *   onUpdates?: (updates: Update[]) => void, onGap?: (gap: Gap) => void }} [options] those of the newest render count
 * @returns {{ data: T, state: "waiting" | "live" | "ended", gap: Gap | null, error: UmbelError | null }}
 */
export function useChannel(channel, options = {}) {
  const client = useClient();
  const newest = useNewest(options);
  const store = useMemo(() => {
    const { initial = /** @type {any} */ ([]), position } = options;
    /** @type {{ data: T, state: "waiting" | "live" | "ended", gap: Gap | null, error: UmbelError | null }} */
    const first = { data: initial, state: "waiting", gap: null, error: null };
    return new Store(first, (store) => {
      if (!channel) return () => {};
      const subscription = client.subscribe(channel, {
        position,
        onBegun() { store.set({ state: "live" }); },
        onUpdates(updates) {
          const { reduce = newestOf, keep = 1000, onUpdates } = newest.current;
          store.set({ data: /** @type {any} */ (reduce)(store.next.data, updates, keep) });
          onUpdates?.(updates);
        },
        onGap(gap) {
          store.set({ gap });
          newest.current.onGap?.(gap);
        },
        onEnded(error) { store.set({ state: "ended", error }); },
      });
      return () => subscription.close();
    });
  }, [client, channel]);
  return useStore(store);
}

/**
 * @param {Update[]} before
 * @param {Update[]} updates
 * @param {number} keep
 */
const newestOf = (before, updates, keep) => [...before, ...updates].slice(-keep);

/**
 * Follows a channel of mode `latest`.
 *
 * @template {string | number} K
 * @template V
 * @param {string | null | undefined} channel nothing is followed without one
 * @param {(data: V) => K} [key] which of the values an update is; the key with which it was published if left out
 * @returns {ReadonlyMap<K, V>} the newest value of each key; another map when something has changed
 */
export function useLatest(channel, key) {
  const client = useClient();
  const newest = useNewest(key);
  const store = useMemo(() => new Store({ values: /** @type {Map<K, V>} */ (new Map()) }, (store) => {
    if (!channel) return () => {};
    const latest = client.latest(channel, {
      key: newest.current && ((/** @type {V} */ data) => /** @type {(data: V) => K} */ (newest.current)(data)),
      onChange() { store.set({ values: latest }); },
    });
    return () => latest.close();
  }, (next) => ({ values: new Map(next.values) })), [client, channel]);
  return useStore(store).values;
}

/**
 * Follows a channel of mode `state`, and changes it.
 *
 * @template [V=any]
 * @param {string | null | undefined} channel nothing is followed without one
 * @returns {{ data: ReadonlyMap<string, V>, state: "waiting" | "live" | "ended", error: unknown } & Pick<SharedState<V>, Changes>} `data` is
 *   another map when something has changed. `waiting`: not all of the state is here. The functions are those of the map that
 *   `client.state` makes: what is called before it is here waits for it
 */
export function useSharedState(channel) {
  return useMap("state", channel);
}

/**
 * Says who is in a channel, and what this client does there.
 *
 * @param {string | null | undefined} channel nothing is followed without one
 * @returns {{ members: ReadonlyMap<string, Member>, count: number, state: "waiting" | "live" | "ended", error: unknown } & Pick<Members, "update">}
 *   `members`, by `clientId`, is another map when something has changed, and empty where only the number is told: `count`
 */
export function usePresence(channel) {
  const { data: members, count, state, error, update } = useMap("presence", channel);
  return { members, count, state, error, update };
}

/** Milliseconds: so often who types says so, and so long after the last key it is over. */
const TYPING = 3000;

/**
 * Says who else writes something in a channel, and that this client does.
 *
 * @param {string | null | undefined} channel nothing is followed without one
 * @returns {[Member[], (on?: unknown) => void]} the function is called with each key, and with `false` when what was written is sent
 */
export function useTyping(channel) {
  const client = useClient();
  const { members, update } = usePresence(channel);
  const type = useMemo(() => {
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    let pause;
    let said = -Infinity;
    // Nobody waits for it, and without a connection nobody sees it.
    const say = (/** @type {boolean} */ typing) => { update({ typing }, { volatile: true }).catch(() => {}); };
    return (/** @type {unknown} */ on) => {
      clearTimeout(pause);
      const now = performance.now();
      if (on !== false) {
        pause = setTimeout(type, TYPING, false);
        if (now < said + TYPING) return;
        said = now;
        say(true);
      } else if (said > -Infinity) {
        said = -Infinity;
        say(false);
      }
    };
  }, [update]);
  useEffect(() => () => type(false), [type]);
  return [[...members.values()].filter(({ typing, clientId }) => typing && clientId !== client.connection.clientId), type];
}

/** @typedef {"set" | "patch" | "delete" | "update"} Changes */

/** What is followed, by client, kind and channel: all of a state comes again for one more map, so components share it. @type {WeakMap<Client, Map<string, any>>} */
const followed = new WeakMap();

/**
 * A live map of the client.
 *
 * @param {"state" | "presence"} kind
 * @param {string | null | undefined} channel
 * @returns {any}
 */
const useMap = (kind, channel) => {
  const client = useClient();
  const { store, calls } = useMemo(() => {
    const those = followed.get(client) || new Map();
    followed.set(client, those);
    return those.get(`${kind} ${channel}`) || follow(client, kind, channel, those);
  }, [client, kind, channel]);
  return { ...useStore(store), ...calls };
};

/**
 * @param {Client} client
 * @param {"state" | "presence"} kind
 * @param {string | null | undefined} channel
 * @param {Map<string, any>} those
 */
const follow = (client, kind, channel, those) => {
  const name = `${kind} ${channel}`;
  /** @type {Promise<any>} */
  let opened;
  const first = { data: new Map(), count: 0, state: "waiting", error: /** @type {unknown} */ (null) };
  const store = new Store(first, (store) => {
    if (!channel) return () => {};
    those.set(name, it);
    const stop = new AbortController();
    const end = (/** @type {unknown} */ error) => { if (!stop.signal.aborted) store.set({ state: "ended", error }); };
    opened = client[kind](channel, {
      signal: stop.signal,
      onChange(/** @type {any} */ map) { store.set({ data: map, count: map.count, state: map.whole === false ? "waiting" : "live" }); },
      onEnded: end,
    });
    opened.catch(end);
    return () => {
      stop.abort();
      those.delete(name);
    };
  }, (next) => ({ ...next, data: new Map(next.data) }));
  /** @type {(name: Changes) => (...given: any) => Promise<any>} */
  const call = (name) => async (...given) => {
    if (!opened) throw new Error("nothing is followed: the component is not there, or has no channel");
    const state = await opened;
    return /** @type {any} */ (state[name])(...given);
  };
  const it = { store, calls: { set: call("set"), patch: call("patch"), delete: call("delete"), update: call("update") } };
  if (channel) those.set(name, it);
  return it;
};

/**
 * One run at a time: an answer that arrives in pieces.
 *
 * @returns {{ text: string, status: Run["status"] | "idle", error: unknown, run: Run | null,
 *   start: (type: string, data?: unknown) => Run, cancel: () => void }} `start` also takes the place of a run before
 */
export function useRun() {
  const client = useClient();
  const store = useMemo(() => new Store(
    { text: "", status: /** @type {Run["status"] | "idle"} */ ("idle"), error: /** @type {unknown} */ (null), run: /** @type {Run | null} */ (null) },
    (store) => () => store.next.run?.close(),
  ), [client]);
  const calls = useMemo(() => ({
    /**
     * @param {string} type
     * @param {unknown} [data]
     */
    start(type, data) {
      store.next.run?.close();
      const run = client.run(type, data);
      const see = (/** @type {unknown} */ error = null) => {
        if (store.next.run === run) store.set({ text: run.text, status: run.status, error });
      };
      store.set({ text: "", status: run.status, error: null, run });
      (async () => { for await (const _ of run) see(); })().then(() => see(), see);
      return run;
    },
    cancel() { store.next.run?.cancel(); },
  }), [client, store]);
  return { ...useStore(store), ...calls };
}

/**
 * What the client says about its connection.
 *
 * @returns {Connection}
 */
export function useConnection() {
  const client = useClient();
  const store = useMemo(() => new Store(/** @type {Connection} */ ({ state: "idle" }), (store) => {
    client.open();
    store.replace(client.connection);
    return client.on("connection", (connection) => store.replace(connection));
  }), [client]);
  return useStore(store);
}
