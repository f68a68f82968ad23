/**
 * Sends requests to the server that served the page.
 *
 * The key is kept in `sessionStorage` and sent in a header, never in an address. The newest
 * snapshot that was seen is sent with each request, so that no answer is older than the one
 * before. An answer "not yet" (429, 503 with `Retry-After`) is retried a few times.
 */
import { signal } from "@preact/signals";
import type { Problem, Question } from "./contract";

const KEY_NAME = "adlake.key";
const ATTEMPTS_MAX = 3;
const RETRY_AFTER_SECONDS_MAX = 5;

/** Why there is no answer. `status` is 0 if the server could not be reached. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly problem: Problem,
  ) {
    super(problem.detail ?? problem.title ?? `the server answered ${status}`);
  }

  /** The key may not see this. A campaign that it may not see answers 404. */
  get isForbidden(): boolean {
    return this.status === 403 || this.status === 404;
  }
}

/** True once the server asked for a key, until a key is accepted. */
export const isSignInNeeded = signal(false);

let lastSnapshot: string | null = null;

function readKey(): string | null {
  try {
    return sessionStorage.getItem(KEY_NAME);
  } catch {
    return null;
  }
}

export const hasKey = signal(readKey() !== null);

export function setKey(key: string | null): void {
  try {
    if (key === null) sessionStorage.removeItem(KEY_NAME);
    else sessionStorage.setItem(KEY_NAME, key);
  } catch {
    // Without storage the key cannot be kept: the form asks again after a reload.
  }
  lastSnapshot = null;
  hasKey.value = key !== null;
}

export function requestHeaders(accept: string): Headers {
  const headers = new Headers({ accept });
  const key = readKey();
  if (key !== null) headers.set("authorization", `Bearer ${key}`);
  if (lastSnapshot !== null) headers.set("x-adlake-snapshot", lastSnapshot);
  return headers;
}

/** Turns a failed response into an error, and notes that a key is needed. */
export async function toError(response: Response): Promise<ApiError> {
  let problem: Problem = {};
  try {
    problem = (await response.json()) as Problem;
  } catch {
    // No problem document: the status has to do.
  }
  if (response.status === 401) isSignInNeeded.value = true;
  return new ApiError(response.status, problem);
}

export function rememberSnapshot(snapshot: string | null | undefined): void {
  if (snapshot) lastSnapshot = snapshot;
}

function retryDelaySeconds(response: Response): number | null {
  if (response.status !== 429 && response.status !== 503) return null;
  const seconds = Number(response.headers.get("retry-after") ?? "nothing");
  return Number.isFinite(seconds) && seconds <= RETRY_AFTER_SECONDS_MAX ? seconds : null;
}

async function send(path: string, init: RequestInit, abort?: AbortSignal): Promise<unknown> {
  for (let attempt = 1; ; attempt++) {
    let response: Response;
    const headers = requestHeaders("application/json");
    if (init.body) headers.set("content-type", "application/json");
    try {
      response = await fetch(path, { ...init, headers, ...(abort ? { signal: abort } : {}) });
    } catch (error) {
      if (abort?.aborted) throw error;
      throw new ApiError(0, { detail: "The server cannot be reached." });
    }
    if (response.ok) {
      rememberSnapshot(response.headers.get("x-adlake-snapshot"));
      return response.json();
    }
    const delay = retryDelaySeconds(response);
    if (delay === null || attempt === ATTEMPTS_MAX) throw await toError(response);
    await new Promise((resolve) => setTimeout(resolve, Math.max(0.2, delay) * 1000));
  }
}

export function get(path: string, abort?: AbortSignal): Promise<unknown> {
  return send(path, { method: "GET" }, abort);
}

export function ask(question: Question, abort?: AbortSignal): Promise<unknown> {
  return send("v1/query", { method: "POST", body: JSON.stringify(question) }, abort);
}
