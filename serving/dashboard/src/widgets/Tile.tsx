/** One key figure: value, change, target, and a small line. Its name shows it in the chart. */
import type { Answer, Campaign } from "../api/contract";
import { hasGross } from "../api/traffic";
import { Sparkline } from "../charts/Sparkline";
import { cell, type Loaded, useAnswer } from "../data/answers";
import { isOfPeople, type Metric, metricOf } from "../data/metrics";
import {
  peopleCompareQuestion,
  peopleQuestion,
  peopleSparklineQuestion,
  reachObstacle,
  sparklinesQuestion,
  targetsQuestion,
  tilesQuestion,
} from "../data/questions";
import { changeOf, formatCompact, formatExact, toNumber } from "../format/numbers";
import { formatClock } from "../format/times";
import { setOptions } from "../grid/layout";
import { announce, campaigns, changeView, provisionalFrom, range, today, view } from "../state/store";
import { Icon } from "../shell/Icon";
import { Delta } from "./Delta";

export function Tile({ metric: name }: { metric: string }) {
  const metric = metricOf(name);
  return isOfPeople(name) ? <PeopleTile metric={metric} /> : <PlainTile metric={metric} />;
}

function PlainTile({ metric }: { metric: Metric }) {
  const figures = useAnswer(tilesQuestion(view.value, range.value));
  const lines = useAnswer(sparklinesQuestion(view.value, range.value));
  const answer = figures.data;
  const current = answer?.compare ? cell(answer, answer.compare.current[0], metric.name) : undefined;
  const before = answer?.compare ? cell(answer, answer.compare.rows[0], metric.name) : undefined;
  return (
    <TileCard
      metric={metric}
      loaded={figures}
      lines={lines.data}
      value={answer ? cell(answer, answer.rows[0], metric.name) : undefined}
      current={current}
      before={before}
      until={answer?.compare ? `until ${formatClock(answer.compare.to_date[1])}` : undefined}
    />
  );
}

function PeopleTile({ metric }: { metric: Metric }) {
  const obstacle = reachObstacle(view.value.filters);
  const isAsked = obstacle === null;
  const figures = useAnswer(isAsked ? peopleQuestion(view.value, range.value) : null);
  const compared = useAnswer(isAsked ? peopleCompareQuestion(view.value, range.value, today.value) : null);
  const lines = useAnswer(isAsked ? peopleSparklineQuestion(view.value, range.value) : null);
  const answer = figures.data;
  const other = compared.data;
  return (
    <TileCard
      metric={metric}
      loaded={figures}
      lines={lines.data}
      obstacle={obstacle}
      value={answer ? cell(answer, answer.rows[0], metric.name) : undefined}
      current={other?.compare ? cell(other, other.compare.current[0], metric.name) : undefined}
      before={other?.compare ? cell(other, other.compare.rows[0], metric.name) : undefined}
      until="whole days only"
    />
  );
}

interface CardProps {
  metric: Metric;
  loaded: Loaded<Answer>;
  lines: Answer | null;
  obstacle?: string | null;
  value: string | number | null | undefined;
  current: string | number | null | undefined;
  before: string | number | null | undefined;
  until: string | undefined;
}

function TileCard({ metric, loaded, lines, obstacle, value, current, before, until }: CardProps) {
  const change = changeOf(metric.name, current, before);
  const exact = formatExact(metric.kind, value);
  const isShown = loaded.data !== null && !obstacle;
  return (
    <div class="card tile" data-metric={metric.name} aria-busy={loaded.isWaiting}>
      <div class="tile-head">
        <h2>
          <button type="button" class="tile-name" onClick={() => showInChart(metric)}>
            {metric.label}
            <span class="visually-hidden">: show in the chart</span>
          </button>
        </h2>
        {view.value.traffic === "gross" && !hasGross(metric.name) && <span class="tag">Net</span>}
        <Target metric={metric} value={value} />
      </div>
      {obstacle && <p class="tile-problem">{obstacle}</p>}
      {!obstacle && loaded.error && !loaded.data && (
        <p class="tile-problem" role="status">
          <Icon name={loaded.error.isForbidden ? "lock" : "warning"} />
          {loaded.error.isForbidden ? "No permission" : "Not loaded"}
        </p>
      )}
      {!obstacle && !loaded.error && !loaded.data && (
        <div class="tile-wait">
          <span class="visually-hidden">Loading</span>
          <span class="bone" />
          <span class="bone" />
        </div>
      )}
      {isShown && (
        <>
          <p class="tile-value">
            <span aria-hidden="true">{formatCompact(metric.kind, value)}</span>
            <span class="visually-hidden" data-exact>
              {exact}
            </span>
          </p>
          <p class="tile-change">
            {change ? <Delta change={change} kind={metric.kind} hasAbsolute /> : <NoChange />}
          </p>
          {lines ? <TileLine metric={metric} answer={lines} /> : <div class="sparkline" />}
          <div class="tip" role="tooltip">
            <strong>{exact}</strong>
            <span>{metric.description}</span>
            {change && (
              <span>
                {formatExact(metric.kind, current)} against {formatExact(metric.kind, before)}
                {until && `, ${until}`}
              </span>
            )}
          </div>
        </>
      )}
    </div>
  );
}

function NoChange() {
  return <span class="delta">{view.value.compare === null ? "" : "No figure to compare with"}</span>;
}

function TileLine({ metric, answer }: { metric: Metric; answer: Answer }) {
  const asOf = answer.meta.as_of ?? "9999";
  const rows = answer.rows.filter((row) => String(cell(answer, row, "time")) <= asOf);
  const values = rows.map((row) => toNumber(cell(answer, row, metric.name)));
  const open = provisionalFrom.value;
  // A bucket is open if the next one begins after the figures became provisional.
  const firstOpen = open ? rows.findIndex((_, at) => String(cell(answer, rows[at + 1], "time") ?? "9999") > open) : -1;
  return <Sparkline values={values} provisionalFrom={firstOpen < 0 ? values.length : firstOpen} />;
}

function showInChart(metric: Metric): void {
  const { layout } = view.peek();
  const chart = layout.find((item) => item.type === "series");
  if (!chart) return;
  const second = chart.options[1] === metric.name ? "none" : (chart.options[1] ?? "none");
  changeView({ layout: setOptions(layout, chart.id, [metric.name, second, chart.options[2] ?? "auto"]) });
  announce(`The chart shows ${metric.label}`);
}

/** Targets are a campaign's. One campaign shows its own; several show how many meet theirs. */
function Target({ metric, value }: { metric: Metric; value: string | number | null | undefined }) {
  if (metric.name !== "cpa" && metric.name !== "roas") return null;
  const chosen = view.value.filters.campaign_id;
  const shown = campaigns.value.filter((campaign) => !chosen || chosen.includes(campaign.campaign_id));
  const withTarget = shown.filter((campaign) => targetOf(metric.name, campaign) !== null);
  if (withTarget.length === 0) return null;
  if (shown.length > 1) return <TargetCount metric={metric} campaigns={withTarget} />;
  const target = targetOf(metric.name, shown[0]!)!;
  const isMet = meets(metric.name, toNumber(value), target);
  return <TargetBadge isMet={isMet} text={`Target ${formatCompact(metric.kind, target)}`} />;
}

function TargetCount({ metric, campaigns: list }: { metric: Metric; campaigns: Campaign[] }) {
  const { data } = useAnswer(targetsQuestion(view.value, range.value));
  if (!data) return null;
  const values = new Map(data.rows.map((row) => [cell(data, row, "campaign_id"), cell(data, row, metric.name)]));
  const judged = list.filter((campaign) => toNumber(values.get(campaign.campaign_id)) !== null);
  const met = judged.filter((campaign) =>
    meets(metric.name, toNumber(values.get(campaign.campaign_id)), targetOf(metric.name, campaign)!),
  );
  if (judged.length === 0) return null;
  const isMet = met.length * 2 >= judged.length;
  return <TargetBadge isMet={isMet} text={`${met.length}/${judged.length} on target`} />;
}

function TargetBadge({ isMet, text }: { isMet: boolean | null; text: string }) {
  return (
    <span class="target" data-tone={isMet === null ? "neutral" : isMet ? "good" : "bad"}>
      {isMet !== null && <Icon name={isMet ? "check" : "close"} />}
      {text}
    </span>
  );
}

function targetOf(metric: string, campaign: Campaign): number | null {
  return metric === "cpa" ? toNumber(campaign.target_cpa) : campaign.target_roas;
}

function meets(metric: string, value: number | null, target: number): boolean | null {
  if (value === null) return null;
  return metric === "cpa" ? value <= target : value >= target;
}
