/**
 * The state of the page as signals, kept in the address and in `localStorage`.
 *
 * Changing the view writes the address. "Back" and "forward" read it again.
 */
import { computed, effect, signal } from "@preact/signals";
import type { Campaign, FreshnessAnswer, WhoAmI } from "../api/contract";
import { parseLayout, printLayout } from "../grid/layout";
import { dayIn } from "./days";
import { type DayRange, resolveRange } from "./range";
import { parseView, printView } from "./url";
import { DEFAULT_VIEW, type View } from "./view";

const LAYOUT_NAME = "adlake.layout";
const THEME_NAME = "adlake.theme";

export function readStorage(name: string): string | null {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}

export function writeStorage(name: string, text: string | null): void {
  try {
    if (text === null) localStorage.removeItem(name);
    else localStorage.setItem(name, text);
  } catch {
    // Storage is full or forbidden: the address still holds the view.
  }
}

function storedBase(): View {
  const theme = readStorage(THEME_NAME);
  return {
    ...DEFAULT_VIEW,
    layout: parseLayout(readStorage(LAYOUT_NAME)) ?? DEFAULT_VIEW.layout,
    theme: theme === "light" || theme === "dark" ? theme : "system",
  };
}

export const view = signal<View>(parseView(new URLSearchParams(location.search), storedBase()));

/** Changes part of the view. `replace` keeps the history short while something is dragged. */
export function changeView(change: Partial<View>, replace = false): void {
  view.value = { ...view.peek(), ...change };
  if (change.layout) writeStorage(LAYOUT_NAME, printLayout(change.layout));
  if (change.theme) writeStorage(THEME_NAME, change.theme === "system" ? null : change.theme);
  const query = printView(view.peek()).toString();
  const address = query === "" ? location.pathname : `?${query}`;
  if (replace) history.replaceState(null, "", address);
  else history.pushState(null, "", address);
}

/** Opens a view that was saved or that the history holds. */
export function openView(query: string): void {
  view.value = parseView(new URLSearchParams(query), { ...DEFAULT_VIEW, theme: view.peek().theme });
}

addEventListener("popstate", () => openView(location.search));

export const whoami = signal<WhoAmI | null>(null);
export const campaigns = signal<Campaign[]>([]);
export const freshness = signal<FreshnessAnswer | null>(null);
export const isEditing = signal(false);

/** The newest snapshot that an answer or the stream named. Widgets ask again when it changes. */
export const snapshot = signal<string | null>(null);
export const asOf = signal<string | null>(null);
export const zone = signal("UTC");
export const currency = signal("USD");
export const provisionalFrom = signal<string | null>(null);

/** What is "now" to the data: the server's `as_of`, or the clock if the server is stale. */
export const now = computed(() => {
  const known = asOf.value;
  const isStale = freshness.value?.server.is_stale ?? false;
  return known === null || isStale ? new Date() : new Date(known);
});

export const today = computed(() => dayIn(zone.value, now.value));
export const range = computed<DayRange>(() => resolveRange(view.value.range, today.value));

const darkQuery = matchMedia("(prefers-color-scheme: dark)");
const systemIsDark = signal(darkQuery.matches);
darkQuery.addEventListener("change", () => (systemIsDark.value = darkQuery.matches));

export const isDark = computed(() => {
  const theme = view.value.theme;
  return theme === "system" ? systemIsDark.value : theme === "dark";
});

effect(() => {
  document.documentElement.dataset.theme = isDark.value ? "dark" : "light";
});

/** What the live region says next. */
export const announcement = signal("");

export function announce(text: string): void {
  // The same text twice is read twice only if the node changes in between.
  announcement.value = announcement.peek() === text ? `${text}\u00a0` : text;
}

export function campaignName(id: string): string {
  return campaigns.value.find((campaign) => campaign.campaign_id === id)?.name ?? id;
}
