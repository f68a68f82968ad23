/**
 * Answers by question, shared by all widgets that ask the same.
 *
 * An answer stays on the screen while a newer one is on its way, so that nothing flickers and
 * nothing loses hover or focus. On a new snapshot the answers that are shown are asked for again,
 * at most every five seconds.
 */
import { type Signal, signal } from "@preact/signals";
import { useEffect, useMemo, useRef } from "preact/hooks";
import { ApiError, ask, get } from "../api/client";
import type { Answer, Meta, Question } from "../api/contract";
import { asOf, currency, provisionalFrom, snapshot, zone } from "../state/store";

const REFRESH_MS_MIN = 5000;
const PARALLEL_MAX = 4;

interface State {
  data: unknown;
  error: ApiError | null;
  isLoading: boolean;
}

interface Entry {
  load: (abort: AbortSignal) => Promise<unknown>;
  state: Signal<State>;
  users: number;
  /** The stream keeps it up to date. */
  isLive: boolean;
  abort: AbortController | null;
  /** A newer snapshot came while it was asked for. */
  isOutrun: boolean;
}

const entries = new Map<string, Entry>();

/**
 * What a widget gets. While `isWaiting`, `data` is the answer to the question before, or `null`.
 * A refresh of the same question is not shown: its answer just takes the place of the old one.
 */
export interface Loaded<T> {
  data: T | null;
  error: ApiError | null;
  isWaiting: boolean;
}

/** Takes over what every answer says about itself. */
export function noteMeta(meta: Meta | undefined): void {
  if (!meta) return;
  if (meta.zone) zone.value = meta.zone;
  if (meta.currency) currency.value = meta.currency;
  if (meta.provisional_from !== undefined) provisionalFrom.value = meta.provisional_from;
  if (meta.as_of && (asOf.peek() === null || meta.as_of > asOf.peek()!)) asOf.value = meta.as_of;
}

const waiting: (() => void)[] = [];
let running = 0;

async function inTurn<T>(work: () => Promise<T>): Promise<T> {
  if (running >= PARALLEL_MAX) await new Promise<void>((resolve) => waiting.push(resolve));
  running++;
  try {
    return await work();
  } finally {
    running--;
    waiting.shift()?.();
  }
}

async function load(entry: Entry): Promise<void> {
  entry.abort?.abort();
  const abort = new AbortController();
  entry.abort = abort;
  entry.isOutrun = false;
  entry.state.value = { ...entry.state.peek(), isLoading: true };
  try {
    const data = await inTurn(async () => {
      abort.signal.throwIfAborted();
      return entry.load(abort.signal);
    });
    if (abort.signal.aborted) return;
    noteMeta((data as { meta?: Meta }).meta);
    entry.state.value = { data, error: null, isLoading: false };
  } catch (error) {
    if (abort.signal.aborted) return;
    const known = error instanceof ApiError ? error : new ApiError(0, { detail: String(error) });
    entry.state.value = { data: entry.state.peek().data, error: known, isLoading: false };
  }
  if (entry.isOutrun) scheduleRefresh();
}

function entryOf(key: string, loader: Entry["load"]): Entry {
  let entry = entries.get(key);
  if (!entry) {
    entry = {
      load: loader,
      state: signal<State>({ data: null, error: null, isLoading: true }),
      users: 0,
      isLive: false,
      abort: null,
      isOutrun: false,
    };
    entries.set(key, entry);
  }
  return entry;
}

export function keyOf(question: Question): string {
  return JSON.stringify(question);
}

/** Takes an answer that came by the stream. */
export function publishLive(question: Question, answer: Answer): void {
  const entry = entries.get(keyOf(question));
  noteMeta(answer.meta);
  if (!entry) return;
  entry.isLive = true;
  entry.abort?.abort();
  entry.state.value = { data: answer, error: null, isLoading: false };
}

/** The stream is gone: its answers are asked for like all others. */
export function endLive(): void {
  for (const entry of entries.values()) entry.isLive = false;
}

/**
 * Whether it may be asked for again. A request that is running is left to end: if every refresh began it
 * anew, an answer that takes longer than a refresh would never arrive.
 */
function isDue(entry: Entry, isForced: boolean): boolean {
  return entry.users > 0 && (isForced || !entry.state.peek().isLoading);
}

/** Asks again for everything that is shown. `isForced` also ends requests that are running. */
export function refreshAll(isForced = false): void {
  for (const entry of entries.values()) {
    if (isDue(entry, isForced) && !entry.isLive) void load(entry);
  }
}

/** Asks again for the addresses that begin with a text: those that change without a new snapshot. */
export function refresh(prefix: string, isForced = false): void {
  for (const [key, entry] of entries) {
    if (isDue(entry, isForced) && key.startsWith(prefix)) void load(entry);
  }
}

/** Whether the answer is of the snapshot already. */
function isOf(data: unknown, newest: string | null): boolean {
  const answers = (Array.isArray(data) ? data : [data]) as ({ meta?: Meta } | null)[];
  return newest !== null && answers.every((answer) => answer?.meta?.snapshot === newest);
}

let lastRefresh = 0;
let timer: number | undefined;

function scheduleRefresh(): void {
  if (timer !== undefined) return;
  const delay = Math.max(0, lastRefresh + REFRESH_MS_MIN - Date.now());
  timer = window.setTimeout(() => {
    timer = undefined;
    lastRefresh = Date.now();
    for (const entry of entries.values()) {
      const isCurrent = entry.isLive || isOf(entry.state.peek().data, snapshot.peek());
      if (isCurrent || entry.users === 0) continue;
      if (entry.state.peek().isLoading) entry.isOutrun = true;
      else void load(entry);
    }
  }, delay);
}

snapshot.subscribe((newest) => {
  if (newest !== null) scheduleRefresh();
});

/** Widgets ask when they are drawn: the next refresh is not due at once. */
export function skipFirstRefresh(): void {
  lastRefresh = Date.now();
}

function useEntry<T>(key: string | null, loader: Entry["load"]): Loaded<T> {
  const shown = useRef<T | null>(null);
  const entry = useMemo(() => (key === null ? null : entryOf(key, loader)), [key]);
  useEffect(() => {
    if (!entry || key === null) return undefined;
    // An entry that nobody used for a while was dropped: put it back.
    entries.set(key, entry);
    entry.users++;
    const { data, error } = entry.state.peek();
    if (entry.abort === null || (data === null && error !== null)) void load(entry);
    return () => {
      entry.users--;
      setTimeout(() => {
        if (entry.users > 0) return;
        entry.abort?.abort();
        // Whoever takes it up again asks again.
        entry.abort = null;
        entries.delete(key);
      }, 0);
    };
  }, [entry]);
  if (!entry) {
    shown.current = null;
    return { data: null, error: null, isWaiting: false };
  }
  const { data, error, isLoading } = entry.state.value;
  if (data !== null) shown.current = data as T;
  return { data: error !== null && data === null ? null : shown.current, error, isWaiting: isLoading && data === null };
}

/** The answer to a question; `null` asks nothing. */
export function useAnswer(question: Question | null): Loaded<Answer> {
  return useEntry<Answer>(question && keyOf(question), (abort) => ask(question!, abort));
}

/** The answer of an address; `null` asks nothing. */
export function useGet<T>(path: string | null): Loaded<T> {
  return useEntry<T>(path, (abort) => get(path!, abort));
}

/** The answers of some addresses together; `null` asks nothing. */
export function useGetAll<T>(paths: string[] | null): Loaded<T[]> {
  const load = (abort: AbortSignal) => Promise.all(paths!.map((path) => get(path, abort))) as Promise<unknown>;
  return useEntry<T[]>(paths && paths.join(" "), load);
}

/** The cell of a column, by the column's name. */
export function cell(answer: Answer, row: (string | number | null)[] | null | undefined, name: string) {
  const at = answer.columns.findIndex((column) => column.name === name);
  return at < 0 ? undefined : row?.[at];
}
