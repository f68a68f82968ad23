/** An alarm in full: its series with what was expected, why, whose it is, and what can be done about it. */
import { useId, useState } from "preact/hooks";
import type { ComponentChildren } from "preact";
import { ApiError } from "../api/client";
import type { Alarm, AlarmHistoryAnswer, AlarmSeriesAnswer } from "../api/contract";
import { acknowledge, ALARMS, isOfFurtherGroups, runbookAddress, silence } from "../data/alarms";
import { useGet } from "../data/answers";
import { formatTime } from "../format/times";
import { announce } from "../state/store";
import { AlarmChart } from "./AlarmChart";
import { Failure, Select, Skeleton, TableToggle } from "./Frame";
import { TroubleList } from "./PastAlarms";

interface Props {
  alarm: Alarm;
  mayAct: boolean;
  runbooks: string[];
}

export function AlarmDetails({ alarm, mayAct, runbooks }: Props) {
  const address = runbookAddress(alarm.runbook, runbooks);
  return (
    <div class="alarm-details">
      <Series alarm={alarm} />
      <dl class="facts">
        <Fact name="What">{alarm.description}</Fact>
        <Fact name="Why">{alarm.why}</Fact>
        {alarm.cause && <Fact name="Cause">{alarm.cause}</Fact>}
        <Fact name="Since">{formatTime(alarm.since)}</Fact>
        {alarm.owner && <Fact name="Owner">{alarm.owner}</Fact>}
        {alarm.acked_by && <Fact name="Looked after by">{alarm.acked_by}</Fact>}
        {alarm.silenced_until && <Fact name="Silenced until">{formatTime(alarm.silenced_until)}</Fact>}
        {alarm.runbook && (
          <Fact name="Runbook">
            {address ? (
              <a class="text-link" href={address} target="_blank" rel="noreferrer">
                {alarm.runbook}
                <span class="visually-hidden"> (opens a new tab)</span>
              </a>
            ) : (
              alarm.runbook
            )}
          </Fact>
        )}
      </dl>
      {mayAct && alarm.id !== "" && !isOfFurtherGroups(alarm) && <Actions alarm={alarm} />}
      <Past alarm={alarm} />
    </div>
  );
}

function Fact({ name, children }: { name: string; children: ComponentChildren }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

function Series({ alarm }: { alarm: Alarm }) {
  const [isTable, setTable] = useState(false);
  const loaded = useGet<AlarmSeriesAnswer>(`${ALARMS}/${encodeURIComponent(alarm.id)}/series`);
  const { data, error } = loaded;
  if (data === null) {
    // The alarm is over, and the list does not know it yet.
    if (error?.status === 404) return null;
    return <div class="alarm-series">{error ? <Failure error={error} /> : <Skeleton />}</div>;
  }
  if (data.points === null || data.points.length === 0) return <p class="hint">There is no series of this alarm.</p>;
  const hours = data.window_hours === 1 ? "hour" : `${data.window_hours} hours`;
  return (
    <figure class="alarm-figure">
      <figcaption class="alarm-caption">
        Each point is a window of {data.window_hours === 1 ? "one" : ""} {hours}
        <TableToggle isTable={isTable} onToggle={() => setTable(!isTable)} />
      </figcaption>
      <div class="alarm-series">
        <AlarmChart metric={data.metric} points={data.points} isTable={isTable} />
      </div>
    </figure>
  );
}

const LENGTHS = [
  ["1h", "1 hour"],
  ["4h", "4 hours"],
  ["1day", "1 day"],
  ["7days", "1 week"],
] as const;

function Actions({ alarm }: { alarm: Alarm }) {
  const [length, setLength] = useState<string>("4h");
  const [why, setWhy] = useState("");
  const [problem, setProblem] = useState("");
  const [isBusy, setBusy] = useState(false);
  const field = useId();
  const act = async (work: () => Promise<void>, done: string) => {
    setBusy(true);
    setProblem("");
    try {
      await work();
      announce(done);
      setWhy("");
    } catch (error) {
      const isForbidden = error instanceof ApiError && error.status === 403;
      const text = error instanceof Error ? error.message : String(error);
      setProblem(isForbidden ? "Your role may not do this." : `It was not done: ${text}`);
    }
    setBusy(false);
  };
  return (
    <form
      class="alarm-actions"
      onSubmit={(event) => {
        event.preventDefault();
        const name = LENGTHS.find(([value]) => value === length)![1];
        void act(() => silence(alarm, length, why.trim()), `Silenced for ${name}`);
      }}
    >
      <button
        type="button"
        class="button"
        disabled={isBusy || alarm.acked_by !== null}
        onClick={() => void act(() => acknowledge(alarm), "You look after this alarm")}
      >
        {alarm.acked_by === null ? "Acknowledge" : "Acknowledged"}
      </button>
      <span class="alarm-silence">
        <label class="visually-hidden" for={field}>
          Why it is silenced
        </label>
        <input
          id={field}
          type="text"
          maxLength={1000}
          placeholder="Why (optional)"
          value={why}
          onInput={(event) => setWhy(event.currentTarget.value)}
        />
        <Select label="For how long" value={length} options={LENGTHS} onChange={setLength} />
        <button type="submit" class="button" disabled={isBusy}>
          Silence
        </button>
      </span>
      <p class="field-error" role="alert">
        {problem}
      </p>
    </form>
  );
}

/** The troubles that the same group had before. */
function Past({ alarm }: { alarm: Alarm }) {
  const path = alarm.id === "" ? null : `${ALARMS}/history?like=${encodeURIComponent(alarm.id)}&limit=20`;
  const { data, error } = useGet<AlarmHistoryAnswer>(path);
  if (error && !data) return error.status === 404 ? null : <p class="hint">The history could not be loaded.</p>;
  if (!data) return null;
  return (
    <section class="alarm-past">
      <h4>History</h4>
      <TroubleList troubles={data.alarms} hasNames={false} />
    </section>
  );
}
