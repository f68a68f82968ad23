/**
 * Sends requests to the server that served the page.
 *
 * Who has signed in has a session, in a cookie that scripts cannot read. The page keeps no key and
 * no password. The newest snapshot that was seen is sent with each request, so that no answer is older than the one
 * before. An answer "not yet" (429, 503 with `Retry-After`) is retried a few times.
 */
import { signal } from "@preact/signals";
import type { Answer, Credentials, Problem, Question } from "./contract";
import { fromApi, toApi } from "./traffic";

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

/** True once the server asked to sign in, until somebody has. */
export const isSignInNeeded = signal(false);

let lastSnapshot: string | null = null;

export function requestHeaders(accept: string): Headers {
  const headers = new Headers({ accept });
  if (lastSnapshot !== null) headers.set("x-adlake-snapshot", lastSnapshot);
  return headers;
}

/** Turns a failed response into an error, and notes that one must sign in. */
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
    if (response.status === 204) return null;
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

export async function ask(question: Question, abort?: AbortSignal): Promise<Answer> {
  const answer = await send("v1/query", { method: "POST", body: JSON.stringify(toApi(question)) }, abort);
  return fromApi(question, answer as Answer);
}

/** Does something: silences or acknowledges an alarm. */
export function post(path: string, body: unknown): Promise<unknown> {
  return send(path, { method: "POST", body: JSON.stringify(body) });
}

/** Begins a session. */
export function signIn(credentials: Credentials): Promise<unknown> {
  lastSnapshot = null;
  return send("v1/session", { method: "POST", body: JSON.stringify(credentials) });
}

/** Ends the session. */
export function endSession(): Promise<unknown> {
  lastSnapshot = null;
  return send("v1/session", { method: "DELETE" });
}
