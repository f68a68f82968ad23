/** Times in the zone of the report, and lengths of time. */
import type { Grain } from "../api/contract";
import { zone } from "../state/store";
import { addDays, dayIn } from "../state/days";
import type { DayRange } from "../state/range";

const formats = new Map<string, Intl.DateTimeFormat>();

function formatOf(options: Intl.DateTimeFormatOptions, timeZone: string): Intl.DateTimeFormat {
  const key = timeZone + JSON.stringify(options);
  let format = formats.get(key);
  if (!format) formats.set(key, (format = new Intl.DateTimeFormat(undefined, { ...options, timeZone })));
  return format;
}

const CLOCK: Intl.DateTimeFormatOptions = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };

/** For example `09:15`; with the day if it is not the day of `now`. */
export function formatRecent(instant: string, now: Date): string {
  const isSameDay = dayIn(zone.value, new Date(instant)) === dayIn(zone.value, now);
  return isSameDay ? formatClock(instant) : formatTime(instant);
}

export function formatClock(instant: string): string {
  return formatOf(CLOCK, zone.value).format(new Date(instant));
}

export function formatTime(instant: string | null): string {
  if (instant === null) return "never";
  return formatOf({ ...CLOCK, day: "numeric", month: "short" }, zone.value).format(new Date(instant));
}

export function formatTimeFully(instant: string): string {
  const options: Intl.DateTimeFormatOptions = { dateStyle: "medium", timeStyle: "medium", hourCycle: "h23" };
  return `${formatOf(options, zone.value).format(new Date(instant))} ${zone.value}`;
}

/** The name of a bucket, short for an axis. */
export function formatBucket(instant: string, grain: Grain): string {
  const when = new Date(instant);
  if (grain === "hour") return formatOf(CLOCK, zone.value).format(when);
  if (grain === "month") return formatOf({ month: "short", year: "numeric" }, zone.value).format(when);
  return formatOf({ day: "numeric", month: "short" }, zone.value).format(when);
}

/** The name of a bucket in full, for tooltips and screen readers. */
export function formatBucketFully(instant: string, grain: Grain): string {
  const when = new Date(instant);
  const day: Intl.DateTimeFormatOptions = { weekday: "short", day: "numeric", month: "short" };
  if (grain === "hour") return formatOf({ ...day, ...CLOCK }, zone.value).format(when);
  if (grain === "month") return formatOf({ month: "long", year: "numeric" }, zone.value).format(when);
  const text = formatOf(day, zone.value).format(when);
  return grain === "week" ? `Week of ${text}` : text;
}

export function formatDay(day: string, hasYear = true): string {
  const year: Intl.DateTimeFormatOptions = hasYear ? { year: "numeric" } : {};
  const options: Intl.DateTimeFormatOptions = { day: "numeric", month: "short", ...year };
  return formatOf(options, "UTC").format(new Date(`${day}T00:00:00Z`));
}

export function formatRange([from, to]: DayRange): string {
  const last = addDays(to, -1);
  if (from === last) return formatDay(from);
  return formatOf({ day: "numeric", month: "short", year: "numeric" }, "UTC").formatRange(
    new Date(`${from}T00:00:00Z`),
    new Date(`${last}T00:00:00Z`),
  );
}

/** For example `45 s`, `3 min`, `2 h`, `4 d`. */
export function formatSeconds(seconds: number): string {
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 3600) return `${round(seconds / 60)} min`;
  if (seconds < 2 * 86_400) return `${round(seconds / 3600)} h`;
  return `${round(seconds / 86_400)} d`;
}

function round(value: number): string {
  return String(Math.round(value * 10) / 10);
}

/** How long ago an instant was, seen from `from`. */
export function formatAge(instant: string | null, from: Date): string {
  if (instant === null) return "never";
  const seconds = (from.getTime() - Date.parse(instant)) / 1000;
  return seconds < 1 ? "now" : `${formatSeconds(seconds)} ago`;
}
