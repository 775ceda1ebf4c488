// What users of the client call. umbel.js is checked against it.

/** How far a channel was read. */
export interface Position {
  epoch: string;
  offset: number;
}

/** A publication. */
export interface Update {
  channel: string;
  offset: number;
  /** It is the newest of those in `(from, offset]`, and the others do not come. */
  from?: number;
  data: any;
  /** It removes its key from a state, and has no data. */
  removed?: true;
  /** Of a state: where it ends. It is whole again when the position has come there. */
  top?: number;
  /** The key and the name of the event with which it was published. */
  key?: string;
  event?: string;
  /** Of a state: how the application has resolved a conflict with it. */
  conflict?: Conflict;
  /** In channels with `sender=True`, who has published it. */
  sender?: { clientId: string; subject: string | null };
  gap?: undefined;
}

/** What will not come. */
export interface Gap {
  channel: string;
  epoch: string;
  /** After this offset, if it is known. */
  from: number | null;
  /** Up to this one. */
  to: number;
  /** A state begins anew: forget what you have of it. It is whole again when the position has come there. */
  top?: number;
  reason: string;
}

/** A gap, in its place in a stream. */
export interface Missed {
  channel: string;
  gap: Gap;
  offset?: undefined;
  data?: undefined;
}

/** Where a subscription is, and the newest offset of its channel. */
export interface Begun {
  position: Position;
  top: number;
  recovered?: boolean;
  /** It is a channel of mode `state`. */
  state?: boolean;
}

/** What is known of the connection. */
export interface Connection {
  readonly state: "idle" | "connecting" | "connected" | "waiting" | "closed";
  /** Those of the last close. */
  readonly code?: number;
  readonly reason?: string;
  /** It has failed many times in a row. */
  readonly failing?: boolean;
  /** When the next attempt is made, as `Date.now()` counts. */
  readonly at?: number;
  readonly clientId?: string;
  readonly subject?: string | null;
  /** What carries it. */
  readonly transport?: "websocket" | "stream";
  /** Whether it goes on with the session of the connection before. */
  readonly resumed?: boolean;
}

/** Milliseconds, where nothing else is said. */
export interface Limits {
  /** The first retry is within this time, until a server says otherwise: 1000. */
  window: number;
  /** Later ones are at a random moment within `base * factor ** failures`: 1000. */
  base: number;
  /** 2. */
  factor: number;
  /** The longest of these times: 30,000. */
  cap: number;
  /** How long a connection has to last so that the next retry is a first one: 10,000. */
  useful: number;
  /** The number of failures in a row that are reported as failing: 5. */
  failing: number;
  /** At most so many attempts: 5, */
  attempts: number;
  /** in any time of this length: 10,000. */
  attemptsIn: number;
  /** From asking for the token until the server lets the client in: 10,000. */
  attemptTimeout: number;
  /** In which a silent server has to answer: 10,000. */
  answerTimeout: number;
  /** In which it has to answer after the page was asleep, hidden or offline: 5000. */
  probeTimeout: number;
  /** A timer that is later than this says nothing about the server: 1000. */
  late: number;
  /** The number of requests that may wait to be sent: 1000. */
  queue: number;
  /** Their characters: 1,048,576. */
  queueSize: number;
  /** How long they may wait: 60,000. */
  queueAge: number;
}

export interface Options extends Partial<Limits> {
  /** Says who the client is: a function, because tokens expire. The signal aborts when the attempt has taken too long. */
  token?: string | null | ((signal: AbortSignal) => string | null | Promise<string | null>);
  /** Another class than the platform's. */
  WebSocket?: any;
  /**
   * Where sessions on streams begin, for networks that let no WebSocket through: `/api/v1/session` in the place of `/ws`. `false`: nowhere.
   */
  fallback?: string | URL | false;
  /** Returns numbers from 0 to 1, for the times between attempts. */
  random?: () => number;
}

export interface SubscribeOptions {
  /** Where to go on: one that was saved with the state. */
  position?: Position | null;
  onUpdate?: (update: Update) => void;
  /** All that came in one batch. */
  onUpdates?: (updates: Update[]) => void;
  onGap?: (gap: Gap) => void;
  /** At the beginning, and after each reconnect. */
  onBegun?: (begun: Begun) => void;
  /** No more comes. `error` is null if nothing went wrong. */
  onEnded?: (error: UmbelError | null, reason: string) => void;
}

export interface LatestOptions<K = any, V = any> extends Omit<SubscribeOptions, "onUpdate" | "onUpdates"> {
  /** Which of the values an update is. If left out, the key with which it was published. */
  key?: (data: V) => K;
  /** Called once for each batch. */
  onChange?: (latest: Latest<K, V>) => void;
}

export interface StateOptions<V = any> {
  /** Called when something else is shown, with the keys; and with none when the map has become whole, or is so no more. */
  onChange?: (state: SharedState<V>, keys: string[]) => void;
  /** Called when the application has decided between two who changed an entry at the same time: anybody's. What counts is shown. */
  onConflict?: (state: SharedState<V>, key: string, conflict: Conflict) => void;
  /** No more comes. `error` is null if nothing went wrong. */
  onEnded?: (error: UmbelError | null, reason: string) => void;
  /** The name that the changes of this map have as events of streams. */
  event?: string;
  /** Closes the map. */
  signal?: AbortSignal;
}

/** How a conflict about an entry was resolved. */
export interface Conflict {
  /** The name of the application's function. */
  resolution: string;
  /** The members that differed, with the value that was there and the one that was proposed; `field` is null for values that are no objects. */
  conflictedChanges: { field: string | null; current?: unknown; proposed?: unknown }[];
}

export interface PresenceOptions {
  /**
   * Called when something else is shown, once for each batch, with who came and who left since the last call. Who was there already did not
   * come; and where the server tells a number instead of members, nobody comes or leaves.
   */
  onChange?: (members: Members, joined: Member[], left: Member[]) => void;
  /** No more comes. `error` is null if nothing went wrong. */
  onEnded?: (error: UmbelError | null, reason: string) => void;
  /** Closes the map. */
  signal?: AbortSignal;
}

/** A client that is in a channel. */
export interface Member {
  clientId: string;
  /** Who it is, as the server says. */
  subject: string | null;
  /** It is connected, and says so. */
  isActive: boolean;
  /** When it has changed something of this, or lost its connection. It does not tick. */
  lastSeen: string;
  currentTask: string | number | null;
  typing: boolean;
  data: any;
}

/** What a client says of itself in a channel. */
export interface Presence {
  /** It is at work; at first it is. */
  isActive?: boolean | null;
  /** What it works at: at most 255 bytes of JSON. */
  currentTask?: string | number | null;
  /** It writes something. That ends after six seconds. */
  typing?: boolean | null;
  /** At most 4 KiB of JSON. */
  data?: unknown;
}

/** Where a change of a state is in its log. */
export interface Changed extends Position {
  /** The application has decided a conflict, perhaps for another value. */
  resolved?: true;
}

export interface RequestOptions {
  /** Is not done if it can't be sent now. */
  volatile?: boolean;
  /** Gives it up. */
  signal?: AbortSignal;
}

/** What `attach` needs to read a run again. */
export interface RunStart {
  channel: string;
  epoch: string;
}

export interface Events {
  /** The connection has changed. */
  connection: Connection;
  /** A subscription has missed something. */
  gap: Gap;
  /** Something that nobody asked about. The console shows it when nobody listens. */
  warning: string;
}

/** Why something that was asked for was not done. `code` is one of the protocol, or of the client: see docs/client-js.md. */
export class UmbelError extends Error {
  constructor(answer: { code: string; message?: string; details?: unknown });
  code: string;
  details: unknown;
}

/**
 * A channel that is followed: `for await (const update of subscription)`, or the functions that it was made with.
 *
 * In the stream a gap has its place, too: an item whose `gap` says what was missed.
 */
export interface Subscription {
  readonly channel: string;
  /** How far the application has read: with it, another subscription goes on here. */
  position: Position | null;
  /** Follows the channel no longer. What was not read is dropped. */
  close(): void;
  [Symbol.asyncIterator](): AsyncGenerator<Update | Missed, void>;
}

/** The newest value of each key in a channel of mode `latest`. */
export interface Latest<K, V> extends Map<K, V> {
  /** How far it has read. */
  readonly position: Position | null;
  /** Follows the channel no longer. The map stays as it is. */
  close(): void;
}

/**
 * A channel of mode `state`: a map that all its subscribers have. What it has is what the server has, with your changes on top until they
 * are there, too. Do not change values that you got from it.
 *
 * A change is shown at once. It is rejected with an `UmbelError` and shown no more when the server refuses it; `state_conflict` says that
 * the entry is not what you saw when you called. Changes of one key are sent one after another.
 */
export interface SharedState<V = any> extends Omit<ReadonlyMap<string, V>, "forEach"> {
  readonly channel: string;
  /** All of the state is here. Not so while it comes anew, or while the client has some catching up to do. */
  readonly whole: boolean;
  /** Sets a key, if it is what you see. */
  set(key: string, data: V): Promise<Changed>;
  /** Changes members of an entry, whatever the others are now: a JSON merge patch, in which `null` removes a member. */
  patch(key: string, patch: object): Promise<Changed>;
  /** Removes a key, if it is what you see. */
  delete(key: string): Promise<Changed>;
  /** Sets a key to what a function makes of its value. It is called again when somebody else was faster. */
  update(key: string, apply: (value: V | undefined) => V): Promise<Changed>;
  /** Follows the channel no longer. The map stays as it is. What was not sent is rejected. */
  close(): void;
}

/** Who is in a channel, by `clientId`; this client, too. */
export interface Members extends Omit<ReadonlyMap<string, Member>, "forEach"> {
  readonly channel: string;
  /** How many there are. Where they are too many to be listed, the map is empty. */
  readonly count: number;
  /**
   * Says what others see of this client. What is left out stays, and `null` clears it. It is said again when the session was lost, without
   * `typing`: who types says so every three seconds.
   */
  update(change: Presence, options?: RequestOptions): Promise<void>;
  /** Follows the channel no longer. The map stays as it is. */
  close(): void;
}

/** An answer that arrives in pieces: `for await (const text of run)`. The loop ends with the run, and `status` says how. */
export interface Run {
  /** `lost`: the server no longer has it, or a part of it. */
  status: "waiting" | "running" | "complete" | "cancelled" | "error" | "lost";
  /** All that has come so far. */
  text: string;
  /** What `attach` needs to read it again. */
  start: RunStart | null;
  /** The number under which the log of the application has the error. */
  incident: string | number | undefined;
  /** Stops the run, also before it has begun. What has come stays. */
  cancel(): void;
  /** Reads no further. The run goes on. */
  close(): void;
  [Symbol.asyncIterator](): AsyncGenerator<string, void>;
}

/** A connection to an Umbel server that comes back by itself. */
export interface Client {
  /** What is known of the connection; another object after each change. */
  readonly connection: Connection;
  /** Calls a function at each event. Returns what ends that. */
  on<E extends keyof Events>(event: E, handler: (value: Events[E]) => void): () => void;
  /** Connects. `connect` does so, and all that needs a connection. */
  open(): void;
  /** Connects at once if it waits, and demands an answer if it is connected: for a button, or a hint that the network is back. */
  retry(): void;
  /** Ends the session. All that waits is settled, and no socket, timer or listener is left. */
  close(): void;
  /** Follows a channel, for as long as it may. Without `onUpdate` and `onUpdates` it is read with `for await`. */
  subscribe(channel: string, options?: SubscribeOptions | ((update: Update) => void)): Subscription;
  /** Follows a channel of mode `latest`: the newest value of each key. */
  latest<K = any, V = any>(channel: string, options?: LatestOptions<K, V>): Latest<K, V>;
  /** Follows a channel of mode `state`, and resolves with the map when all of it is here. It is rejected when the channel can't be had, or is no state. */
  state<V = any>(channel: string, options?: StateOptions<V>): Promise<SharedState<V>>;
  /**
   * Subscribes to a channel that tells who is in it, and resolves with the members when all of them are here. It is rejected when the channel
   * can't be had, or does not tell.
   */
  presence(channel: string, options?: PresenceOptions): Promise<Members>;
  /**
   * Sends a message to the application, and resolves with the result. It is rejected with an `UmbelError` when there is none:
   * `outcome_unknown` says that nobody knows whether the message was handled.
   */
  request(type: string, data?: unknown, options?: RequestOptions): Promise<any>;
  /** Publishes to a channel, and resolves with the place of the publication in it. */
  publish(channel: string, data: unknown, options?: RequestOptions & { key?: string }): Promise<{ channel: string; offset: number }>;
  /**
   * Says what others see of this client in a channel that tells who is in it. What is left out stays, and `null` clears it. A lost session
   * forgets it. One that types says so every three seconds: `volatile` is for that.
   */
  present(channel: string, change: Presence, options?: RequestOptions): Promise<void>;
  /** Starts a run: an answer that arrives in pieces. */
  run(type: string, data?: unknown): Run;
  /** Reads a run again from its start, after a reload of the page for example. */
  attach(start: RunStart): Run;
}

/**
 * Connects to a server, and comes back to it until `close`.
 *
 * @param url by default the path `/ws` of the server that this file or this page is from
 */
export function connect(url?: string | URL, options?: Options): Client;

/** Makes a client that connects when it is opened, or when something is asked of it. */
export function createClient(url?: string | URL, options?: Options): Client;

/** What a client does, without sockets, clocks and chance: docs/protocol.md describes its events and actions. */
export interface Machine {
  actions: any[][];
  /** When `tick` is due; `Infinity` when nothing is. */
  readonly deadline: number;
  /** Bytes of each update of the newest message, about. */
  share: number;
  connect(now: number): void;
  close(now: number): void;
  subscribe(now: number, channel: string, position?: Position | null): number;
  unsubscribe(now: number, id: number): void;
  request(now: number, type: string, data: unknown, volatile?: boolean): number;
  publish(now: number, channel: string, data: unknown, key?: string | null, volatile?: boolean): number;
  present(now: number, channel: string, change: Presence, volatile?: boolean): number;
  change(now: number, message: object): number;
  run(now: number, type: string, data: unknown): number;
  cancel(now: number, key: number): void;
  token(now: number, ticket: number, value?: string | null): void;
  tokenFailed(now: number, ticket: number, error: string): void;
  opened(now: number, attempt: number, protocol: string): void;
  received(now: number, attempt: number, text: string): void;
  closed(now: number, attempt: number, code: number, reason: string): void;
  failed(now: number, attempt: number, reason: string, fatal: boolean): void;
  probe(now: number): void;
  tick(now: number): void;
}

export function createMachine(options: object, random: () => number): Machine;
