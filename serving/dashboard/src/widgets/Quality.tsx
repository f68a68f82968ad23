/** What the last check of each expectation found: whether all are met, and if not, which and why. */
import type { Expectation, QualityAnswer } from "../api/contract";
import { useGet } from "../data/answers";
import { formatCount, formatFull } from "../format/numbers";
import { formatAge, formatTime } from "../format/times";
import { now, whoami } from "../state/store";
import { Body, Frame, NoPermission, State } from "./Frame";

const RANK = { error: 0, fail: 1, warn: 2, pass: 3 };
const TEXTS = { error: "Not checked", fail: "Failed", warn: "Warning", pass: "Met" };
const TONES = { error: "bad", fail: "bad", warn: "warn", pass: "good" };

export function Quality() {
  const isAllowed = whoami.value?.role !== "advertiser";
  const loaded = useGet<QualityAnswer>(isAllowed ? "v1/quality" : null);
  const all = loaded.data?.expectations ?? [];
  const newest = all.reduce<string | null>((at, one) => (at === null || one.checked_at > at ? one.checked_at : at), null);
  return (
    <Frame
      title="Data quality"
      subtitle={newest ? `Checked ${formatAge(newest, now.value)}` : undefined}
      isWaiting={isAllowed && loaded.isWaiting}
    >
      {!isAllowed ? (
        <NoPermission>Data quality is about all campaigns. Administrators and analysts see it.</NoPermission>
      ) : loaded.data && all.length === 0 ? (
        <State icon="inbox" title="Nothing was checked yet">
          A batch run checks its expectations before it publishes.
        </State>
      ) : (
        <Body loaded={loaded} isEmpty={() => false} isFilterable={false}>
          {() => <Expectations all={all} />}
        </Body>
      )}
    </Frame>
  );
}

function Expectations({ all }: { all: Expectation[] }) {
  const bad = all.filter((one) => one.status !== "pass");
  const isFailed = bad.some((one) => one.status !== "warn");
  const sorted = [...all].sort(
    (a, b) => RANK[a.status] - RANK[b.status] || a.expectation.localeCompare(b.expectation),
  );
  const refused = all.find((one) => one.decision === "refuse" && one.checked_at === lastCheck(all));
  const forced = all.find((one) => one.decision === "publish_anyway" && one.checked_at === lastCheck(all));
  return (
    <>
      <p class="quality-sum">
        <span class="status" data-tone={bad.length === 0 ? "good" : isFailed ? "bad" : "warn"} data-quality>
          {bad.length === 0 ? `All ${all.length} expectations are met` : `${bad.length} of ${all.length} are not met`}
        </span>
        {refused && <span class="block">Batch run {refused.run} was not published.</span>}
        {forced && (
          <span class="block">
            Batch run {forced.run} was published all the same, by {forced.decided_by}.
          </span>
        )}
      </p>
      <ul class="alarms" tabIndex={0} role="list" aria-label="Expectations">
        {sorted.map((one) => (
          <li key={one.expectation} class="expectation" data-expectation={one.expectation} data-status={one.status}>
            <p class="expectation-head">
              <strong>{one.expectation.replaceAll("_", " ")}</strong>
              <span class="status" data-tone={TONES[one.status]}>
                {TEXTS[one.status]}
              </span>
            </p>
            <p class="muted">
              {one.column ? `${one.table}.${one.column}` : one.table}, {one.kind.replaceAll("_", " ")}
            </p>
            {one.status !== "pass" && (
              <p>
                {reasonOf(one)}
                {one.description && <span class="block muted">{one.description}</span>}
                <span class="block muted">
                  Checked {formatTime(one.checked_at)}
                  {one.owner && `, owner ${one.owner}`}
                </span>
              </p>
            )}
          </li>
        ))}
      </ul>
    </>
  );
}

function lastCheck(all: Expectation[]): string {
  return all.reduce((at, one) => (one.checked_at > at ? one.checked_at : at), "");
}

/** For example `0.12 observed, at most 0.01 expected; 312 of 2,600 rows violate it`. */
function reasonOf(one: Expectation): string {
  const parts: string[] = [];
  if (one.observed !== null) parts.push(`${formatFull("count", Number(one.observed.toPrecision(4)))} observed`);
  if (one.expected) parts.push(`expected: ${one.expected}`);
  const texts = [parts.join(", ")].filter(Boolean);
  if (one.violating_rows) {
    const of = one.checked_rows ? ` of ${formatCount(one.checked_rows)}` : "";
    texts.push(`${formatCount(one.violating_rows)}${of} violate it`);
  }
  if (one.note) texts.push(one.note);
  return texts.join("; ");
}
