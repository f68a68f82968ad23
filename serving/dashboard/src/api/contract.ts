/**
 * The HTTP API as types: what `docs/api.md` promises, and nothing else.
 *
 * Decimals arrive as text, so that no digit is lost. Ratios are numbers, or `null` where the
 * denominator is 0.
 */

export type Dimension =
  | "campaign_id"
  | "advertiser_id"
  | "website"
  | "ad_creative_id"
  | "device_type"
  | "country"
  | "region"
  | "conversion_type";

export type Grain = "hour" | "day" | "week" | "month";
export type Comparison = "previous_period" | "same_weekdays" | "previous_year";
export type Traffic = "net" | "gross";
export type Model = "last_touch" | "first_touch" | "linear" | "position_based" | "time_decay";

/** A cell of an answer. */
export type Cell = string | number | null;
export type Row = Cell[];

export type Filter = ["in", string, (string | null)[]] | ["and", ...Filter[]];

/** The body of `POST /v1/query`. Members that are absent have the default of the server. */
export interface Question {
  metrics: string[];
  dimensions?: Dimension[];
  filters?: Filter;
  time?: { range?: [string | null, string | null]; grain?: Grain; fill?: boolean };
  compare?: Comparison;
  model?: Model;
  order?: string[];
  limit?: number;
  totals?: boolean;
  cursor?: string;
  /** Valid and invalid events. This member is the page's own: `traffic.ts` puts metrics in its place. */
  traffic?: "gross";
}

export interface Column {
  name: string;
  role: string;
  type: string;
  unit?: string;
}

export interface Meta {
  snapshot?: string;
  as_of?: string;
  provisional_from?: string | null;
  zone?: string;
  currency?: string;
  truncated?: boolean;
  next_cursor?: string | null;
  warnings?: unknown[];
}

export interface Compared {
  range: [string, string];
  to_date: [string, string];
  /** Figures of the period before, one for each row of the answer; `null` where there are none. */
  rows: (Row | null)[];
  /** Figures of the current period, cut to the length that is compared. */
  current: (Row | null)[];
  totals?: Row | null;
  current_totals?: Row | null;
}

export interface Answer {
  columns: Column[];
  rows: Row[];
  totals?: Row | null;
  compare?: Compared | null;
  meta: Meta;
}

export interface Campaign {
  campaign_id: string;
  name: string | null;
  advertiser_id: string | null;
  advertiser_name: string | null;
  budget: string | null;
  target_cpa: string | null;
  target_roas: number | null;
  start_date: string | null;
  end_date: string | null;
}

export interface CampaignsAnswer {
  campaigns: Campaign[];
  meta: Meta;
}

export interface FreshnessAnswer {
  tables: {
    table: string;
    version: number | null;
    published_version: number | null;
    published_at: string | null;
    rows: number | null;
    newest_event_time: string | null;
    newest_ingested_at: string | null;
  }[];
  server: {
    snapshot: string;
    as_of: string;
    is_stale: boolean;
    stale_since: string | null;
    problem: string | null;
  };
  meta: Meta;
}

export interface DeadLettersAnswer {
  reasons: { table: string; reason: string; records: number; newest_ingested_at: string | null }[];
  meta: Meta;
}

export interface Alarm {
  /** Empty while it is pending. */
  id: string;
  rule: string;
  description: string;
  metric: string;
  group: Record<string, string>;
  state: "PENDING" | "FIRING" | "NO DATA";
  severity: "info" | "warning" | "critical";
  since: string;
  value: number | null;
  expected_low: number | null;
  expected_high: number | null;
  why: string;
  cause: string | null;
  owner: string;
  runbook: string;
  acked_by: string | null;
  silenced_until: string | null;
}

export interface AlarmsAnswer {
  alarms: Alarm[];
  evaluated_at: string | null;
  is_enabled: boolean;
  /** Whether who asks may silence and acknowledge alarms. */
  may_act: boolean;
  /** The runbooks that the server shows. */
  runbooks: string[];
}

/** Something that was wrong, or is. */
export interface Trouble {
  id: string;
  rule: string;
  group: Record<string, string>;
  state: "FIRING" | "NO DATA";
  severity: "info" | "warning" | "critical";
  from: string;
  /** `null`: it is not over. */
  to: string | null;
  is_told: boolean;
  cause: string | null;
  acked_by: string | null;
  changes: { at: string; state: string; value: number | null; why: string; by: string | null }[];
}

export interface AlarmHistoryAnswer {
  alarms: Trouble[];
  since: string;
  truncated: boolean;
}

export interface AlarmPoint {
  at: string;
  value: number | null;
  expected_low: number | null;
  expected_high: number | null;
}

export interface AlarmSeriesAnswer {
  id: string;
  metric: string;
  window_hours: number;
  /** `null`: the metric has no series. */
  points: AlarmPoint[] | null;
}

export interface Expectation {
  expectation: string;
  kind: string;
  table: string;
  column: string | null;
  severity: "warn" | "fail";
  status: "pass" | "warn" | "fail" | "error";
  observed: number | null;
  expected: string | null;
  checked_rows: number | null;
  violating_rows: number | null;
  note: string | null;
  owner: string | null;
  description: string | null;
  run: number | null;
  decision: string;
  decided_by: string | null;
  checked_at: string;
}

export interface QualityAnswer {
  expectations: Expectation[];
  meta: Meta;
}

export interface InvalidTrafficAnswer {
  reasons: { kind: string; reason: string; events: number; cost: string }[];
  meta: Meta;
}

export interface TimeToConversionAnswer {
  buckets: { from_seconds: number; to_seconds: number | null; conversions: number }[];
  meta: Meta;
}

export interface WhoAmI {
  has_session: boolean;
  role: "admin" | "analyst" | "advertiser";
  name: string;
  scope: { all: boolean; campaigns: string[] | null; advertisers: string[] | null };
}

/** `GET /v1/session`. */
export interface SignInMethods {
  is_needed: boolean;
  methods: ("password" | "key")[];
}

/** What one signs in with. */
export type Credentials = { key: string } | { name: string; password: string };

/** `application/problem+json`. */
export interface Problem {
  title?: string;
  status?: number;
  code?: string;
  detail?: string;
  pointer?: string;
  request_id?: string;
}
