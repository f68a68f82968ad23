/** Budgets: which campaigns spend too slowly or too fast, and where they will end. */
import { cell, type Loaded, useAnswer } from "../data/answers";
import { type Pace, type PaceState, paceOf } from "../data/pacing";
import { pacingQuestion } from "../data/questions";
import { formatCompact, formatFull, formatShare } from "../format/numbers";
import { formatDay } from "../format/times";
import { announce, campaigns, changeView, now, view, zone } from "../state/store";
import { dayIn } from "../state/days";
import { toggleFilter } from "../state/view";
import { Body, Frame } from "./Frame";

const WORDS: Record<PaceState, string> = { on: "On pace", behind: "Behind", ahead: "Ahead" };
const SIGNS: Record<PaceState, string> = { on: "✓", behind: "▼", ahead: "▲" };

export function Pacing() {
  const loaded = useAnswer(pacingQuestion(view.value));
  const { data } = loaded;
  let paces: Pace[] | null = null;
  if (data) {
    const spend = new Map(data.rows.map((row) => [cell(data, row, "campaign_id"), cell(data, row, "spend") ?? null]));
    const { campaign_id: ids, advertiser_id: advertisers } = view.value.filters;
    paces = campaigns.value
      .filter((campaign) => !ids || ids.includes(campaign.campaign_id))
      .filter((campaign) => !advertisers || advertisers.includes(campaign.advertiser_id))
      .map((campaign) => paceOf(campaign, spend.get(campaign.campaign_id) ?? null, now.value, zone.value))
      .filter((pace) => pace !== null)
      .sort((a, b) => Math.abs(Math.log(b.pace || 0.001)) - Math.abs(Math.log(a.pace || 0.001)));
  }
  const others = Object.keys(view.value.filters).filter((name) => name !== "campaign_id" && name !== "advertiser_id");
  const notes = [
    others.length > 0 ? "Only the campaign filter applies here." : null,
    view.value.traffic === "gross" ? "Spend is net here." : null,
  ].filter((note) => note !== null);
  const shown: Loaded<Pace[]> = { ...loaded, data: paces };
  return (
    <Frame
      title="Pacing"
      subtitle="Running campaigns, whole flight"
      isWaiting={loaded.isWaiting}
      note={notes.length > 0 ? notes.join(" ") : null}
    >
      <Body loaded={shown} isEmpty={(list) => list.length === 0}>
        {(list) => <Paces paces={list} />}
      </Body>
    </Frame>
  );
}

function Paces({ paces }: { paces: Pace[] }) {
  const count = (state: PaceState) => paces.filter((pace) => pace.state === state).length;
  return (
    <>
      <ul class="pace-summary">
        {(["on", "behind", "ahead"] as const).map((state) => (
          <li key={state} data-state={state}>
            <strong>{count(state)}</strong> {WORDS[state].toLowerCase()}
          </li>
        ))}
      </ul>
      <div class="pace-scroll" tabIndex={0} role="region" aria-label="Pacing by campaign">
        <ul class="paces">
          {paces.map((pace) => (
            <PaceRow key={pace.campaign.campaign_id} pace={pace} />
          ))}
        </ul>
      </div>
    </>
  );
}

function PaceRow({ pace }: { pace: Pace }) {
  const { campaign } = pace;
  const share = Math.min(1, pace.spent / pace.budget);
  const name = campaign.name ?? campaign.campaign_id;
  const filter = () => {
    changeView({ filters: toggleFilter(view.peek().filters, "campaign_id", campaign.campaign_id) });
    announce(`Filter ${name} changed`);
  };
  const isChosen = view.value.filters.campaign_id?.includes(campaign.campaign_id) ?? false;
  return (
    <li data-campaign={campaign.campaign_id}>
      <div class="pace-head">
        <button type="button" class="cell-link" aria-pressed={isChosen} onClick={filter}>
          {name}
        </button>
        <span class="pace-badge" data-state={pace.state}>
          <span aria-hidden="true">{SIGNS[pace.state]}</span> {formatShare(pace.pace, 0)}
          <span class="visually-hidden"> {WORDS[pace.state]}</span>
        </span>
      </div>
      <div class="pace-bar" aria-hidden="true">
        <div class="pace-fill" data-state={pace.state} style={{ width: `${share * 100}%` }} />
        <div class="pace-mark" style={{ left: `${pace.elapsed * 100}%` }} />
      </div>
      <p class="pace-foot">
        <span title={`${formatFull("money", pace.spent)} of ${formatFull("money", pace.budget)}`}>
          {formatCompact("money", pace.spent)} of {formatCompact("money", pace.budget)}
        </span>
        <span>
          {pace.runsOut
            ? `Runs out ${formatDay(dayIn(zone.value, pace.runsOut), false)}`
            : `Ends ${formatDay(campaign.end_date!, false)} at ${formatShare(pace.projected / pace.budget, 0)}`}
        </span>
      </p>
    </li>
  );
}
