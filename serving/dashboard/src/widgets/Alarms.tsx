/** What is wrong now, the most urgent first. Each alarm opens to its series, its facts and what can be done. */
import { useId, useState } from "preact/hooks";
import type { Alarm } from "../api/contract";
import { alarmName, formatExpected, formatValue, isOfFurtherGroups, metricName, useAlarms } from "../data/alarms";
import { formatAge, formatTime } from "../format/times";
import { Icon } from "../shell/Icon";
import { now } from "../state/store";
import { AlarmDetails } from "./AlarmDetails";
import { Body, Frame, State } from "./Frame";
import { PastAlarms } from "./PastAlarms";

export function Alarms() {
  const { loaded, alarms } = useAlarms();
  const [opened, setOpened] = useState<string | null>(null);
  const [isPast, setPast] = useState(false);
  const data = loaded.data;
  const evaluated = data?.evaluated_at ? `Evaluated ${formatAge(data.evaluated_at, now.value)}` : undefined;
  return (
    <Frame
      title="Alarms"
      subtitle={evaluated}
      isWaiting={loaded.isWaiting}
      actions={
        <button type="button" class="button quiet" aria-pressed={isPast} onClick={() => setPast(!isPast)}>
          {isPast ? "Active alarms" : "History"}
        </button>
      }
    >
      {isPast ? (
        <PastAlarms />
      ) : data !== null && !data.is_enabled ? (
        <State icon="bell" title="No alarms">
          Alarms are not evaluated by this server.
        </State>
      ) : data !== null && alarms.length === 0 ? (
        <State icon="check" title="Nothing is wrong" />
      ) : (
        <Body loaded={loaded} isEmpty={() => false} isFilterable={false}>
          {(answer) => (
            <ul class="alarms" tabIndex={0} role="list" aria-label="Active alarms">
              {alarms.map((alarm) => (
                <Item
                  key={`${alarm.rule} ${JSON.stringify(alarm.group)}`}
                  alarm={alarm}
                  isOpen={opened === alarm.id}
                  onToggle={() => setOpened(opened === alarm.id ? null : alarm.id)}
                  mayAct={answer.may_act}
                  runbooks={answer.runbooks}
                />
              ))}
            </ul>
          )}
        </Body>
      )}
    </Frame>
  );
}

interface ItemProps {
  alarm: Alarm;
  isOpen: boolean;
  onToggle: () => void;
  mayAct: boolean;
  runbooks: string[];
}

function Item({ alarm, isOpen, onToggle, mayAct, runbooks }: ItemProps) {
  const id = useId();
  return (
    <li class="alarm" data-rule={alarm.rule} data-alarm={alarm.id}>
      <h3>
        <button type="button" class="alarm-head" aria-expanded={isOpen} aria-controls={id} onClick={onToggle}>
          <Severity alarm={alarm} />
          <span class="alarm-name">
            <span class="alarm-title">{alarmName(alarm)}</span>
            <small>
              {alarm.state === "NO DATA" ? `${metricName(alarm.metric)} has no data` : figures(alarm)}
              {alarm.cause && <span class="block">Cause: {alarm.cause}</span>}
            </small>
          </span>
          <span class="alarm-since" title={formatTime(alarm.since)}>
            {formatAge(alarm.since, now.value)}
            {alarm.acked_by && <small class="block">{alarm.acked_by} looks after it</small>}
            {alarm.silenced_until && <small class="block">Silenced</small>}
          </span>
          <Icon name="down" />
        </button>
      </h3>
      <div id={id} hidden={!isOpen}>
        {isOpen && <AlarmDetails alarm={alarm} mayAct={mayAct} runbooks={runbooks} />}
      </div>
    </li>
  );
}

/** For example `CTR 0.79%, expected 0.91% to 1.12%`. */
function figures(alarm: Alarm): string {
  if (isOfFurtherGroups(alarm)) return alarm.why;
  const { metric, value, expected_low: low, expected_high: high } = alarm;
  const name = metricName(metric);
  const expected = low === null && high === null ? "" : `, expected ${formatExpected(metric, low, high)}`;
  return `${name} ${formatValue(metric, value)}${expected}`;
}

export function Severity({ alarm }: { alarm: Pick<Alarm, "severity" | "state"> }) {
  const tone = alarm.severity === "critical" ? "bad" : alarm.severity === "warning" ? "warn" : "neutral";
  return (
    <span class="status" data-tone={tone}>
      {alarm.state === "NO DATA" ? "No data" : alarm.severity.replace(/^./, (first) => first.toLocaleUpperCase())}
    </span>
  );
}
