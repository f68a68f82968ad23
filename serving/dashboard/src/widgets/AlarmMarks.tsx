/**
 * Alarms beside a time series: a row of buttons above the chart, one for each bucket in which something began to be
 * wrong, with a line down into the chart. The pointer and the focus show what it was.
 */
import { useRef, useState } from "preact/hooks";
import type { AlarmHistoryAnswer, Trouble } from "../api/contract";
import { alarmName, concerns } from "../data/alarms";
import { useGet } from "../data/answers";
import { formatRecent, formatTime } from "../format/times";
import { Icon } from "../shell/Icon";
import { view } from "../state/store";
import { historyPath, stateOf } from "./PastAlarms";

/** The alarms that began in each bucket. What began before the first one belongs to the first. */
export type Marks = Map<number, Trouble[]>;

/** Alarms of the range, by bucket. `times` are the beginnings of the buckets. */
export function useMarks(times: string[]): Marks {
  const { data } = useGet<AlarmHistoryAnswer>(historyPath());
  return marksOf(times, data?.alarms ?? []);
}

export function marksOf(times: string[], troubles: Trouble[]): Marks {
  const marks: Marks = new Map();
  const begins = times.map((time) => Date.parse(time));
  for (const one of troubles) {
    if (!one.is_told || !concerns(view.value.filters, one.group)) continue;
    const from = Date.parse(one.from);
    const later = begins.findIndex((begin) => begin > from);
    const bucket = Math.max(0, (later < 0 ? begins.length : later) - 1);
    if (begins.length > 0) marks.set(bucket, [...(marks.get(bucket) ?? []), one]);
  }
  return marks;
}

/** For example `CTR drop: Trail Running, 14:00 – 16:20, over`. */
export function markText(one: Trouble): string {
  const to = one.to === null ? "now" : formatRecent(one.to, new Date(one.from));
  return `${alarmName(one)}, ${formatTime(one.from)} – ${to}, ${stateOf(one).toLocaleLowerCase()}`;
}

interface Props {
  marks: Marks;
  /** The horizontal place of a bucket in pixels, once the chart is drawn. */
  placeOf: (index: number) => number | null;
}

export function AlarmMarks({ marks, placeOf }: Props) {
  const [shown, setShown] = useState<number | null>(null);
  const row = useRef<HTMLUListElement>(null);
  const places = [...marks.entries()]
    .map(([bucket, troubles]) => ({ bucket, troubles, place: placeOf(bucket) }))
    .filter((mark): mark is { bucket: number; troubles: Trouble[]; place: number } => mark.place !== null)
    .sort((a, b) => a.bucket - b.bucket);
  return (
    <ul ref={row} class="alarm-marks" role="list" aria-label="Alarms">
      {places.map(({ bucket, troubles, place }) => {
        const texts = troubles.map(markText);
        return (
          <li key={bucket} style={{ left: `${place}px` }} data-open={troubles.some((one) => one.to === null) || undefined}>
            <button
              type="button"
              class="alarm-mark"
              aria-label={`${troubles.length === 1 ? "Alarm" : `${troubles.length} alarms`}: ${texts.join("; ")}`}
              onFocus={() => setShown(bucket)}
              onBlur={() => setShown(null)}
              onPointerEnter={() => setShown(bucket)}
              onPointerLeave={() => setShown(null)}
              onKeyDown={(event) => event.key === "Escape" && setShown(null)}
              onClick={() => showAlarms()}
            >
              <Icon name="bell" />
            </button>
            <span class="alarm-line" aria-hidden="true" />
            {shown === bucket && <MarkTip troubles={troubles} place={place} room={row.current?.clientWidth ?? 0} />}
          </li>
        );
      })}
    </ul>
  );
}

const TIP_MAX = 5;
const TIP_PIXELS = 280;

/** The tip is below its mark, and within the chart. */
function MarkTip({ troubles, place, room }: { troubles: Trouble[]; place: number; room: number }) {
  const width = Math.min(TIP_PIXELS, room);
  const left = Math.min(Math.max(0, place - width / 2), room - width) - place;
  return (
    <div class="chart-tip alarm-tip" role="tooltip" style={{ left: `${left}px`, width: `${width}px` }}>
      {troubles.slice(0, TIP_MAX).map((one) => (
        <p key={one.id}>
          <strong class="block">{alarmName(one)}</strong>
          {formatTime(one.from)} – {one.to === null ? "now" : formatRecent(one.to, new Date(one.from))},{" "}
          {stateOf(one).toLocaleLowerCase()}
          {one.cause && <span class="block">Cause: {one.cause}</span>}
        </p>
      ))}
      {troubles.length > TIP_MAX && <p>{troubles.length - TIP_MAX} more</p>}
    </div>
  );
}

/** Brings the widget with the alarms into view, and the focus into it. */
export function showAlarms(): boolean {
  const widget = document.querySelector<HTMLElement>('[data-type="alarms"]');
  if (!widget) return false;
  widget.scrollIntoView({ block: "center" });
  widget.querySelector<HTMLElement>(".alarm-head, button")?.focus({ preventScroll: true });
  return true;
}
