/** The addresses below the chosen campaigns, for the widgets whose figures the API has by campaign only. */
import { range, view } from "../state/store";
import { knownCampaigns, rangeQuery } from "./questions";

const CAMPAIGNS_MAX = 20;

interface CampaignPaths {
  /** One a campaign, or that of all. `null`: the filters cannot be answered. */
  paths: string[] | null;
  /** Why they cannot. */
  obstacle: { title: string; text: string } | null;
  /** Which filters do not apply. */
  note: string | null;
}

/** `what` is the last part of the addresses, for example `invalid_traffic`. */
export function useCampaignPaths(what: string): CampaignPaths {
  const { filters } = view.value;
  const chosen = knownCampaigns(filters);
  const isUnknownChosen = filters.campaign_id?.includes(null) ?? false;
  const notes = [];
  if (Object.keys(filters).some((name) => name !== "campaign_id")) {
    notes.push("Filters other than the campaign do not apply here.");
  }
  if (isUnknownChosen && chosen.length > 0) notes.push("Without the unknown campaign.");
  const note = notes.length > 0 ? notes.join(" ") : null;
  if (chosen.length > CAMPAIGNS_MAX) {
    const obstacle = { title: "Too many campaigns", text: `Choose ${CAMPAIGNS_MAX} campaigns at most.` };
    return { paths: null, obstacle, note };
  }
  if (isUnknownChosen && chosen.length === 0) {
    const obstacle = { title: "Unknown campaign", text: "This is known of known campaigns only." };
    return { paths: null, obstacle, note };
  }
  const ids = chosen.length === 0 ? ["all"] : chosen.map(encodeURIComponent);
  const paths = ids.map((id) => `v1/campaigns/${id}/${what}?${rangeQuery(range.value)}`);
  return { paths, obstacle: null, note };
}
