/**
 * The life of the page with the server: who the user is, which campaigns there are, how fresh the
 * data is, and the stream.
 */
import { computed, effect, signal, untracked } from "@preact/signals";
import { ApiError, endSession, get, isSignInNeeded } from "../api/client";
import type { CampaignsAnswer, FreshnessAnswer, Question, WhoAmI } from "../api/contract";
import { asOf, campaigns, freshness, range, snapshot, view, whoami } from "../state/store";
import { keyOf, noteMeta, refresh, refreshAll, skipFirstRefresh } from "./answers";
import { knownNames } from "./metrics";
import { hurryReconnect, startLive, stopLive } from "./live";
import { tilesQuestion } from "./questions";

const FRESHNESS_MS = 30_000;
/** Alarms change without a new snapshot: time passes, and people acknowledge them. */
const ALARMS_MS = 10_000;
/** More campaigns than this are found by the server's search only. */
export const CAMPAIGNS_MAX = 1000;

export type Phase = "starting" | "ready" | "sign_in" | "forbidden" | "failed";

export const phase = signal<Phase>("starting");
export const startError = signal<ApiError | null>(null);

/** Reads freshness now. It is the only sign of a stale server, so a failure is shown too. */
export async function readFreshness(): Promise<void> {
  try {
    const answer = (await get("v1/freshness")) as FreshnessAnswer;
    noteMeta(answer.meta);
    if (asOf.peek() === null || answer.server.as_of > asOf.peek()!) asOf.value = answer.server.as_of;
    const isBack = freshness.peek()?.server.is_stale && !answer.server.is_stale;
    freshness.value = answer;
    if (isBack) refreshAll();
    if (snapshot.peek() !== null && snapshot.peek() !== answer.server.snapshot) {
      snapshot.value = answer.server.snapshot;
    }
  } catch {
    // The stream shows that the server is away.
  }
}

async function readCampaigns(): Promise<void> {
  const answer = (await get(`v1/campaigns?limit=${CAMPAIGNS_MAX}`)) as CampaignsAnswer;
  noteMeta(answer.meta);
  campaigns.value = answer.campaigns;
}

/** A server without the catalogue is taken to know everything. */
async function readMetrics(): Promise<void> {
  try {
    const answer = (await get("v1/metrics")) as { metrics?: { name?: string }[] };
    const names = (answer.metrics ?? []).map((metric) => metric.name).filter((name) => name !== undefined);
    if (names.includes("spend")) knownNames.value = new Set(names);
  } catch (error) {
    if (error instanceof ApiError && error.status === 401) throw error;
  }
}

/** Campaigns that the server finds are known by name from then on. */
export async function findCampaigns(search: string): Promise<void> {
  const answer = (await get(`v1/campaigns?search=${encodeURIComponent(search)}&limit=100`)) as CampaignsAnswer;
  const known = new Set(campaigns.peek().map((campaign) => campaign.campaign_id));
  const found = answer.campaigns.filter((campaign) => !known.has(campaign.campaign_id));
  if (found.length > 0) campaigns.value = [...campaigns.peek(), ...found];
}

export async function start(): Promise<void> {
  phase.value = "starting";
  startError.value = null;
  try {
    whoami.value = (await get("v1/whoami")) as WhoAmI;
    isSignInNeeded.value = false;
    await Promise.all([readFreshness(), readCampaigns(), readMetrics()]);
    skipFirstRefresh();
    phase.value = "ready";
  } catch (error) {
    const known = error instanceof ApiError ? error : new ApiError(0, { detail: String(error) });
    startError.value = known;
    phase.value = known.status === 401 ? "sign_in" : known.isForbidden ? "forbidden" : "failed";
  }
}

export async function signOut(): Promise<void> {
  stopLive();
  try {
    await endSession();
  } catch {
    // The session ends by itself: what matters is that the page shows nothing more.
  }
  whoami.value = null;
  campaigns.value = [];
  await start();
}

/** A session that ends while the page is open leads back to the form. */
effect(() => {
  if (isSignInNeeded.value && phase.peek() === "ready") {
    stopLive();
    phase.value = "sign_in";
  }
});

/** As text, so that a change of the view that leaves the question as it is keeps the stream. */
const liveKey = computed(() => keyOf(tilesQuestion(view.value, range.value)));

effect(() => {
  if (phase.value !== "ready") return;
  const question = JSON.parse(liveKey.value) as Question;
  untracked(() => startLive(question));
});

setInterval(() => {
  if (phase.peek() === "ready" && document.visibilityState === "visible") void readFreshness();
}, FRESHNESS_MS);

setInterval(() => {
  if (phase.peek() === "ready" && document.visibilityState === "visible") refresh("v1/alarms");
}, ALARMS_MS);

addEventListener("online", () => {
  hurryReconnect();
  // Requests of the network that went away may never end.
  if (phase.peek() === "ready") refreshAll(true);
});
