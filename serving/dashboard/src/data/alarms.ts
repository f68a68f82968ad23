/** How alarms are named, and what was done about them on this page. */
import { signal } from "@preact/signals";
import { post } from "../api/client";
import type { Alarm, AlarmsAnswer, Trouble } from "../api/contract";
import { NOTHING, formatFull } from "../format/numbers";
import { formatSeconds } from "../format/times";
import { campaigns, now, whoami } from "../state/store";
import type { Filters } from "../state/view";
import { refresh, useGet } from "./answers";
import { dimensionLabel, isDimension, valueLabel } from "./dimensions";
import { type Kind, metricOf } from "./metrics";

export const ALARMS = "v1/alarms";

/** Metrics that only alarms have. */
const KINDS: Record<string, Kind | "seconds"> = {
  unserved_win_rate: "percent",
  unjoined_click_rate: "percent",
  invalid_rate: "percent",
  spend_without_impressions: "money",
  pacing: "factor",
  dead_letter_rate: "percent",
  ingest_lag: "seconds",
  freshness: "seconds",
  batch_age: "seconds",
  sink_down: "seconds",
};

export function alarmKind(metric: string): Kind | "seconds" {
  return KINDS[metric] ?? metricOf(metric).kind;
}

export function formatValue(metric: string, value: number | null): string {
  const kind = alarmKind(metric);
  if (value === null) return NOTHING;
  return kind === "seconds" ? formatSeconds(value) : formatFull(kind, value);
}

export function metricName(metric: string): string {
  const { label } = metricOf(metric);
  return label === metric ? words(metric) : label;
}

/** For example `0.91% to 1.12%`, or `at most 2.00%`. */
export function formatExpected(metric: string, low: number | null, high: number | null): string {
  if (low !== null && high !== null) return `${formatValue(metric, low)} to ${formatValue(metric, high)}`;
  if (low !== null) return `at least ${formatValue(metric, low)}`;
  return high === null ? NOTHING : `at most ${formatValue(metric, high)}`;
}

function words(name: string): string {
  const text = name.replaceAll("_", " ");
  const short = text.replace(/\b(ctr|cvr|cpc|cpm|cpa|roas)\b/g, (word) => word.toLocaleUpperCase());
  return short.charAt(0).toLocaleUpperCase() + short.slice(1);
}

export function ruleName(rule: string): string {
  return words(rule);
}

/** The group for people: the names of campaigns, and other values with their dimension. */
export function groupName(group: Record<string, string>): string {
  const parts = Object.entries(group).map(([name, value]) => {
    if (name === "others") return "further groups";
    if (!isDimension(name)) return value;
    const label = valueLabel(name, value);
    return name === "campaign_id" || name === "advertiser_id" ? label : `${dimensionLabel(name)} ${label}`;
  });
  return parts.join(", ");
}

export function alarmName({ rule, group }: Pick<Alarm | Trouble, "rule" | "group">): string {
  const name = groupName(group);
  return name === "" ? ruleName(rule) : `${ruleName(rule)}: ${name}`;
}

/** Whether the filters of the view concern a group. What has no such label concerns all. */
export function concerns(filters: Filters, group: Record<string, string>): boolean {
  const labels: Record<string, string | undefined> = { advertiser_id: advertiserOf(group), ...group };
  return Object.entries(filters).every(([name, values]) => {
    const label = labels[name];
    return label === undefined || values.includes(label);
  });
}

/** The advertiser of a group's campaign. A campaign that the page does not know has none. */
function advertiserOf({ campaign_id: id }: Record<string, string>): string | undefined {
  if (id === undefined) return undefined;
  return campaigns.value.find((campaign) => campaign.campaign_id === id)?.advertiser_id ?? undefined;
}

/** Whether it is the alarm of all groups that a rule has no room for. Its value counts them. */
export function isOfFurtherGroups({ group }: Pick<Alarm, "group">): boolean {
  return "others" in group;
}

/** The address of a runbook, or `null`: it is a path that only its writers know. */
export function runbookAddress(runbook: string, served: string[]): string | null {
  if (/^https?:\/\//.test(runbook)) return runbook;
  return served.includes(runbook) ? runbook.replace(/^docs\//, "") : null;
}

/** What was done here and that the server's next answer may not show yet. */
const done = signal<Record<string, { acked_by?: string; silenced_until?: string }>>({});

const keyOfGroup = ({ rule, group }: Alarm) => `${rule} ${JSON.stringify(group)}`;

export async function acknowledge(alarm: Alarm): Promise<void> {
  const answer = (await post(`${ALARMS}/${encodeURIComponent(alarm.id)}/ack`, {})) as { acked_by?: string };
  const name = answer.acked_by ?? whoami.peek()?.name ?? "";
  done.value = { ...done.peek(), [alarm.id]: { ...done.peek()[alarm.id], acked_by: name } };
  refresh(ALARMS, true);
}

export async function silence(alarm: Alarm, length: string, why: string): Promise<void> {
  const body = { rule: alarm.rule, labels: alarm.group, for: length, why };
  const answer = (await post(`${ALARMS}/silences`, body)) as { until?: string | null };
  const until = answer.until;
  if (until) done.value = { ...done.peek(), [keyOfGroup(alarm)]: { silenced_until: until } };
  refresh(ALARMS, true);
}

function withDone(alarm: Alarm): Alarm {
  const own = { ...done.value[alarm.id], ...done.value[keyOfGroup(alarm)] };
  const isSilenced = own.silenced_until !== undefined && Date.parse(own.silenced_until) > now.value.getTime();
  return {
    ...alarm,
    acked_by: alarm.acked_by ?? own.acked_by ?? null,
    silenced_until: alarm.silenced_until ?? (isSilenced ? own.silenced_until! : null),
  };
}

/** The alarms that people are told of, with what was done about them. */
export function useAlarms() {
  const loaded = useGet<AlarmsAnswer>(ALARMS);
  const alarms = (loaded.data?.alarms ?? []).filter((alarm) => alarm.state !== "PENDING").map(withDone);
  return { loaded, alarms };
}

