/** How current the page is: live, reconnecting, or stale since when. */
import { liveState } from "../data/live";
import { formatRecent, formatTimeFully } from "../format/times";
import { asOf, freshness } from "../state/store";

export function LiveBadge() {
  const server = freshness.value?.server;
  const state = liveState.value;
  const known = asOf.value;
  let kind: string = state;
  let text = "Live";
  if (server?.is_stale) {
    kind = "stale";
    text = server.stale_since ? `Stale since ${formatRecent(server.stale_since, new Date())}` : "Stale";
  } else if (state === "reconnecting") text = "Reconnecting…";
  else if (state === "connecting") text = "Connecting…";
  else if (state === "off") text = "Not live";
  return (
    <p class="live-badge" data-state={kind} role="status" title={known ? `As of ${formatTimeFully(known)}` : undefined}>
      <span class="live-dot" aria-hidden="true" />
      <span>{text}</span>
      {known && (
        <span class="live-time">
          <span class="visually-hidden">, </span>as of {formatRecent(known, new Date())}
        </span>
      )}
    </p>
  );
}
