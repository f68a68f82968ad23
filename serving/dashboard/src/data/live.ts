/**
 * The stream of `GET /v1/live`: tiles follow it at once, and it tells all others of new snapshots.
 *
 * A stream that ends is opened again, after a pause that doubles up to half a minute.
 */
import { signal } from "@preact/signals";
import { ApiError, rememberSnapshot, requestHeaders, toError } from "../api/client";
import type { Answer, Question } from "../api/contract";
import { readEvents } from "../api/events";
import { fromApi, toApi } from "../api/traffic";
import { snapshot } from "../state/store";
import { endLive, keyOf, publishLive } from "./answers";

const PAUSE_MS_MIN = 1000;
const PAUSE_MS_MAX = 30_000;

export type LiveState = "connecting" | "live" | "reconnecting" | "off";

export const liveState = signal<LiveState>("connecting");

let abort: AbortController | null = null;
let hurry: (() => void) | null = null;

function pause(ms: number, ended: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    hurry = () => {
      clearTimeout(timer);
      resolve();
    };
    ended.addEventListener("abort", hurry, { once: true });
  });
}

/** Ends the pause before the next try, for example since the network is back. */
export function hurryReconnect(): void {
  hurry?.();
}

async function openOnce(question: Question, lastId: string | null, ended: AbortSignal, onId: (id: string) => void) {
  const headers = requestHeaders("text/event-stream");
  if (lastId !== null) headers.set("last-event-id", lastId);
  const response = await fetch(`v1/live?query=${encodeURIComponent(keyOf(toApi(question)))}`, {
    headers,
    signal: ended,
    cache: "no-store",
  });
  if (!response.ok) throw await toError(response);
  liveState.value = "live";
  await readEvents(response, (event) => {
    const answer = JSON.parse(event.data) as Partial<Answer>;
    if (!answer.columns || !answer.rows || !answer.meta) return;
    if (event.id) onId(event.id);
    rememberSnapshot(event.id);
    publishLive(question, fromApi(question, answer as Answer));
    snapshot.value = event.id ?? answer.meta.snapshot ?? null;
  });
}

async function follow(question: Question, ended: AbortSignal): Promise<void> {
  let lastId: string | null = null;
  let pauseMs = PAUSE_MS_MIN;
  liveState.value = liveState.peek() === "live" ? "live" : "connecting";
  while (!ended.aborted) {
    try {
      await openOnce(question, lastId, ended, (id) => {
        lastId = id;
        pauseMs = PAUSE_MS_MIN;
      });
    } catch (error) {
      if (ended.aborted) return;
      if (error instanceof ApiError && error.status >= 400 && error.status < 500 && error.status !== 429) {
        liveState.value = "off";
        endLive();
        return;
      }
    }
    if (ended.aborted) return;
    liveState.value = "reconnecting";
    endLive();
    await pause(pauseMs * (0.8 + 0.4 * Math.random()), ended);
    pauseMs = Math.min(PAUSE_MS_MAX, pauseMs * 2);
  }
}

/** Follows the question until the next call, or until `stopLive`. */
export function startLive(question: Question): void {
  stopLive();
  abort = new AbortController();
  void follow(question, abort.signal);
}

export function stopLive(): void {
  abort?.abort();
  abort = null;
  endLive();
}
