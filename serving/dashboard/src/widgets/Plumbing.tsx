/** Widgets about the data itself: how fresh it is, and what was rejected. */
import type { DeadLettersAnswer, FreshnessAnswer } from "../api/contract";
import { useGet } from "../data/answers";
import { formatCount } from "../format/numbers";
import { formatAge, formatTime } from "../format/times";
import { now, whoami } from "../state/store";
import { Body, Frame, NoPermission, State } from "./Frame";

/** A table whose newest event is older than this is late. */
const LATE_SECONDS = 3600;

function isLate(instant: string | null): boolean {
  return instant === null || (now.value.getTime() - Date.parse(instant)) / 1000 > LATE_SECONDS;
}

export function Freshness() {
  const loaded = useGet<FreshnessAnswer>("v1/freshness");
  const server = loaded.data?.server;
  return (
    <Frame
      title="Freshness"
      subtitle={server && (server.is_stale ? "The server is stale" : `Snapshot of ${formatTime(server.as_of)}`)}
      isWaiting={loaded.isWaiting}
    >
      <Body loaded={loaded} isEmpty={(data) => data.tables.length === 0} isFilterable={false}>
        {(data) => (
          <div class="table-scroll" tabIndex={0} role="region" aria-label="Freshness">
            <table class="table">
              <thead>
                <tr>
                  <th scope="col">Table</th>
                  <th scope="col">State</th>
                  <th scope="col" class="number">
                    Newest event
                  </th>
                  <th scope="col" class="number">
                    Rows
                  </th>
                </tr>
              </thead>
              <tbody>
                {data.tables.map((table) => {
                  const late = isLate(table.newest_event_time);
                  return (
                    <tr key={table.table} data-table={table.table}>
                      <th scope="row">{table.table.replace(/^raw\//, "").replaceAll("_", " ")}</th>
                      <td>
                        <span class="status" data-tone={late ? "warn" : "good"}>
                          {late ? "Late" : "On time"}
                        </span>
                      </td>
                      <td class="number" title={formatTime(table.newest_event_time)}>
                        {formatAge(table.newest_event_time, now.value)}
                      </td>
                      <td class="number">{formatCount(table.rows)}</td>
                    </tr>
                  );
                })}
              </tbody>
            </table>
          </div>
        )}
      </Body>
    </Frame>
  );
}

export function DeadLetters() {
  const isAdmin = whoami.value?.role === "admin";
  const loaded = useGet<DeadLettersAnswer>(isAdmin ? "v1/dead_letters" : null);
  return (
    <Frame title="Dead letters" subtitle="Records that were rejected" isWaiting={isAdmin && loaded.isWaiting}>
      {!isAdmin ? (
        <NoPermission>Only administrators see rejected records.</NoPermission>
      ) : loaded.data?.reasons.length === 0 ? (
        <State icon="check" title="No record was rejected" />
      ) : (
        <Body loaded={loaded} isEmpty={() => false} isFilterable={false}>
          {(data) => (
            <div class="table-scroll" tabIndex={0} role="region" aria-label="Dead letters">
              <table class="table">
                <thead>
                  <tr>
                    <th scope="col">Reason</th>
                    <th scope="col" class="number">
                      Records
                    </th>
                  </tr>
                </thead>
                <tbody>
                  {data.reasons.map((reason) => (
                    <tr key={`${reason.table} ${reason.reason}`}>
                      <th scope="row">
                        {reason.reason.replaceAll("_", " ")}
                        <small class="muted block">
                          {reason.table.replace(/^raw\//, "").replaceAll("_", " ")}, last{" "}
                          {formatAge(reason.newest_ingested_at, now.value)}
                        </small>
                      </th>
                      <td class="number">{formatCount(reason.records)}</td>
                    </tr>
                  ))}
                </tbody>
              </table>
            </div>
          )}
        </Body>
      )}
    </Frame>
  );
}
