// What is inside of umbel.js, stream.js, state.js and presence.js. It is neither served nor shipped.

import type {
  Begun, Client, Gap, Latest, LatestOptions, Limits, Members, Missed, Position, PresenceOptions, Run, RunStart, SharedState, StateOptions, Subscription,
  SubscribeOptions, Update, UmbelError,
} from "./umbel.js";

export interface Settings extends Limits {
  /** A token is asked for before each attempt, */
  askToken: boolean;
  /** or it is always this one. */
  token: string | null;
}

/** What the parts of the machine share: the connection of the present attempt, and what has to be done. */
export interface Line {
  actions: any[][];
  /** The number of the newest attempt to connect. */
  attempt: number;
  /** Whether the server has let the client in, on that attempt's socket. */
  connected: boolean;
  /** A number that was not used before: for messages, and for what the application asks for. */
  number(): number;
  act(...action: unknown[]): void;
  say(text: string): void;
  send(message: object): void;
}

/** What carries a session: a WebSocket, or a stream with the face of one. */
export interface Socket {
  readonly protocol: string;
  /** It was closed because nothing came through, and the next one may do better. */
  mute?: boolean;
  onopen: (() => void) | null;
  onmessage: ((event: { data: string }) => void) | null;
  onclose: ((event: { code: number; reason: string }) => void) | null;
  onerror: (() => void) | null;
  send(text: string): void;
  /** Nothing is passed on after it. Code 1000 ends the session. */
  close(code: number): void;
}

/** What is known of the way to a host. */
export interface Route {
  /** The next attempt is on a stream. */
  stream: boolean;
  /** The transport on which a server let the client in last. */
  proven: string;
  /** WebSockets in a row that were cut when they had got through. */
  cuts: number;
}

export interface Request {
  /** `request`, `publish`, `change` or `run`. */
  kind: string;
  text: string;
  expires: number;
  /** The application has given it up after it was sent. */
  given: boolean;
}

/** Sends requests in the order in which they were made, and settles each once. Those that can't be sent yet wait in a queue. */
export interface Requests {
  /** At most so many are unanswered. */
  window: number;
  add(now: number, kind: string, message: object, volatile?: boolean): number;
  cancel(key: number): void;
  flush(): void;
  /** Settles the request that a message answers. Returns whether there is one. */
  answered(message: any): boolean;
  /** Repeats what was sent in this session, or settles what was sent in another one. */
  connected(resumed: boolean): void;
  /** A connection has ended; at that time its session ends, too. */
  disconnected(lostAt: number): void;
  /** Settles what was sent: nobody will know whether it was done. */
  lose(): void;
  /** Settles everything. */
  dropAll(code: string): void;
  /** Settles what is too old. */
  expire(now: number): void;
  deadline(): number;
}

/** `attach` begins the subscription of a run, and returns its number; or stops the run. */
export type CreateRequests = (line: Line, options: Settings, attach: (message: any, stop: boolean) => number) => Requests;

export type Place = Position;

/** A subscription. */
export interface Reader {
  id: number;
  /** Empty: it has no position. */
  epoch: string;
  /** Below 0: it wants to be where the channel is. */
  offset: number;
  /** The application was told where it begins. */
  begun: boolean;
  /** Why it has lost its position. */
  reason: string;
}

export interface Channel {
  /** On the wire. The private channel is `@` and the client's id. */
  name: string;
  subscriptions: Reader[];
  epoch: string;
  offset: number;
  /** Updates continue the position. */
  live: boolean;
  /** The server has said that it is a state. */
  state?: boolean;
  /** The number of the message that asked for it and has no answer, 0 for the first of a connection. */
  asked: number | null;
  /** The position that was asked for. */
  named: Place | null;
  /** The server had a defect on this connection. */
  mended: boolean;
}

export interface Channels {
  /** The server failed to say whether some channels can be had: they have to be asked for later. */
  again: boolean;
  subscribe(name: string, position: Position): number;
  unsubscribe(id: number): void;
  /** Begins the subscription to a run, with the answer to its request. A run is read from its start. */
  attach(message: any, stop: boolean): number;
  /** Hands out updates. The positions move first. */
  batch(updates: any[]): void;
  gap(message: any): void;
  established(message: any): void;
  ended(message: any): void;
  /** A channel can't be had, or the server failed to say whether it can. */
  error(message: any): void;
  /** The positions for the first message of a connection, which asks for these channels. */
  resume(): Record<string, Position>;
  /** Asks for what the first message has not asked for. The positions of another subject are not kept. */
  connected(clientId: string, resuming: boolean, same: boolean): void;
  disconnected(): void;
  endAll(reason: object): void;
  /** Asks for all channels that need it. Many newcomers are one message. */
  askAll(): void;
}

export type CreateChannels = (line: Line) => Channels;

export type Settled = (ok: boolean, value: any) => void;

export interface End {
  code?: string;
  reason: string;
}

/** What subscriptions and runs may ask of the client. */
export interface Port {
  subscribe(channel: string, position: Position | null | undefined, handlers: object): number;
  /** Takes over a subscription that the machine has made. */
  adopt(id: number, handlers: object): void;
  unsubscribe(id: number): void;
  ask(input: any, settled: Settled): number;
  cancel(key: number): void;
  stop(runId: string): Promise<unknown>;
  /** Bytes of an update of the newest message, about. */
  share(): number;
  missed(gap: Gap): void;
  /** Calls a function of the application, if there is one. */
  call(handler: Function | undefined, ...values: unknown[]): void;
  error(answer: { code: string; message?: string; details?: unknown }): UmbelError;
  /** What the application is told of an end. */
  failure(end: End): UmbelError | null;
}

/** What loops read. */
export interface Tape {
  over: boolean;
  failure: unknown;
  /** Something has come. */
  ring(): void;
  end(failure?: unknown): void;
  /** Reads what `take` returns. It is nothing when there is nothing now. */
  read<T>(take: () => T | undefined, leave?: () => void): AsyncGenerator<T, void>;
}

/** One of what waits for a reader. */
export interface Item {
  item?: Update | Missed;
  /** The position after it. */
  epoch?: string;
  to?: number;
  bytes?: number;
  next?: Item;
}

export type CreateSubscription = (port: Port, channel: string, options: SubscribeOptions) => Subscription;
export type CreateLatest = (client: Client, channel: string, options: LatestOptions) => Latest<any, any>;
export type CreateRun = (port: Port, start: RunStart | null, input?: unknown[]) => Run;
export type CreateState = (port: Port, channel: string, options: StateOptions) => Promise<SharedState>;
export type CreatePresence = (port: Port, client: Client, channel: string, options: PresenceOptions) => Promise<Members>;

/** What a state has for a key. */
export interface Entry {
  /** The offset of its last change; 0 if there is none. */
  version: number;
  value: any;
}

/** The entry that a change is made on top of. */
export interface Base extends Entry {
  /** Where a channel has nothing, there is none. */
  epoch?: string;
}

/** A change of a key of a state. */
export interface Change {
  number: number;
  /** `set`, `patch`, `delete` or `update`. */
  kind: string;
  key: string;
  /** `confirmed` until the entries of the server have it, then `read`; `failed` if it was rejected. */
  state: "queued" | "sent" | "confirmed" | "read" | "failed";
  /** The change of the same key that it was made on top of, until it is sent. */
  before?: Change;
  /** What its user has seen. */
  seen?: unknown;
  /** The same without changes before; after a conflict, what there is. */
  base?: Base;
  /** What it makes of the entry: the patch of a `patch`. */
  value?: unknown;
  /** The function of an update, and the value with which it was called last. */
  apply?: (value: unknown) => unknown;
  start?: { value: unknown };
  /** How often an update was tried again, when it was refused first, and when it was sent last, or is to be sent again. */
  round: number;
  since: number;
  at: number;
  /** Where it is in the log, once it is confirmed. */
  epoch?: string;
  offset?: number;
  /** The application has made something else of it. */
  resolved?: boolean;
}

/** What is shown of a state. docs/protocol.md describes its events and actions. */
export interface StateMachine {
  actions: any[][];
  readonly shown: Map<string, any>;
  /** All of the state is here, as it is at the position. */
  readonly whole: boolean;
  readonly deadline: number;
  begun(now: number, detail: Begun): void;
  gap(now: number, gap: Omit<Gap, "channel">): void;
  updates(now: number, updates: Update[]): void;
  /** Returns the number of the change. */
  call(now: number, kind: string, key: string, value?: unknown): number;
  settled(now: number, number: number, ok: boolean, value: any): void;
  tick(now: number): void;
  ended(now: number, reason: End): void;
}

export type CreateStateMachine = (channel: string, random: () => number) => StateMachine;
