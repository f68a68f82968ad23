/** What was wrong in the range that is shown. */
import type { AlarmHistoryAnswer, Trouble } from "../api/contract";
import { alarmName, ALARMS, concerns } from "../data/alarms";
import { useGet } from "../data/answers";
import { rangeQuery } from "../data/questions";
import { formatRecent, formatSeconds, formatTime } from "../format/times";
import { now, range, view } from "../state/store";
import { Body, State } from "./Frame";

export const HISTORY_MAX = 500;

/** The address of the history of the range. Every part of the page asks for the same. */
export function historyPath(): string {
  return `${ALARMS}/history?${rangeQuery(range.value)}&limit=${HISTORY_MAX}`;
}

export function PastAlarms() {
  const loaded = useGet<AlarmHistoryAnswer>(historyPath());
  const shown = (loaded.data?.alarms ?? []).filter((one) => one.is_told && concerns(view.value.filters, one.group));
  if (loaded.data !== null && shown.length === 0) {
    return <State icon="check" title="Nothing was wrong on these days" />;
  }
  return (
    <Body loaded={loaded} isEmpty={() => false} isFilterable={false}>
      {(data) => (
        <div class="alarms" tabIndex={0} role="region" aria-label="Past alarms">
          <TroubleList troubles={shown} hasNames />
          {data.truncated && <p class="hint">Only the newest {HISTORY_MAX} are shown.</p>}
        </div>
      )}
    </Body>
  );
}

export function TroubleList({ troubles, hasNames }: { troubles: Trouble[]; hasNames: boolean }) {
  return (
    <ol class="troubles">
      {troubles.map((one) => (
        <li key={one.id} data-trouble={one.id}>
          <p>
            {hasNames && <strong class="block">{alarmName(one)}</strong>}
            {formatTime(one.from)} – {one.to === null ? "now" : formatRecent(one.to, new Date(one.from))}
            <span class="muted">, {lengthOf(one)}</span>
            <span class="tag">{stateOf(one)}</span>
          </p>
          {one.cause && <p class="muted">Cause: {one.cause}</p>}
          <ol class="changes">
            {one.changes.map((change) => (
              <li key={`${change.at} ${change.state}`}>
                <span class="muted">{formatRecent(change.at, new Date(one.from))}</span>{" "}
                {change.state === "ACKED" ? `${change.by} looks after it` : sentence(change.state, change.why)}
              </li>
            ))}
          </ol>
        </li>
      ))}
    </ol>
  );
}

export function stateOf(one: Trouble): string {
  if (one.to !== null) return "Over";
  return one.state === "NO DATA" ? "No data" : "Firing";
}

function lengthOf(one: Trouble): string {
  const end = one.to === null ? now.value.getTime() : Date.parse(one.to);
  return formatSeconds(Math.max(0, end - Date.parse(one.from)) / 1000);
}

function sentence(state: string, why: string): string {
  const name = state === "OK" ? "Over" : state === "NO DATA" ? "No data" : "Firing";
  return why === "" ? name : `${name}: ${why}`;
}
