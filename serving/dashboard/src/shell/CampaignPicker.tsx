/** The campaign filter: a search box over the campaigns that the key may see. */
import { useEffect, useState } from "preact/hooks";
import { CAMPAIGNS_MAX, findCampaigns } from "../data/session";
import { campaigns, campaignName, changeView, view } from "../state/store";
import { setFilter, toggleFilter } from "../state/view";
import { Icon } from "./Icon";
import { Popover } from "./Popover";

const SHOWN_MAX = 100;

export function CampaignPicker() {
  const chosen = view.value.filters.campaign_id ?? [];
  const first = chosen[0];
  const text =
    chosen.length === 0
      ? "All campaigns"
      : chosen.length === 1 && first !== undefined
        ? first === null
          ? "Unknown campaign"
          : campaignName(first)
        : `${chosen.length} campaigns`;
  return (
    <Popover label="Campaigns" icon="filter" text={text} isActive={chosen.length > 0} className="campaign-picker">
      {() => <CampaignList chosen={chosen} />}
    </Popover>
  );
}

function CampaignList({ chosen }: { chosen: (string | null)[] }) {
  const [search, setSearch] = useState("");
  const wanted = search.trim().toLocaleLowerCase();
  useEffect(() => {
    if (campaigns.peek().length < CAMPAIGNS_MAX || wanted === "") return undefined;
    const timer = setTimeout(() => void findCampaigns(wanted).catch(() => undefined), 300);
    return () => clearTimeout(timer);
  }, [wanted]);
  const found = campaigns.value.filter((campaign) =>
    [campaign.name, campaign.campaign_id, campaign.advertiser_name].some((text) =>
      text?.toLocaleLowerCase().includes(wanted),
    ),
  );
  const filters = view.value.filters;
  return (
    <>
      <label class="search">
        <Icon name="search" />
        <span class="visually-hidden">Search campaigns</span>
        <input
          type="search"
          placeholder="Search campaigns"
          value={search}
          onInput={(event) => setSearch(event.currentTarget.value)}
        />
      </label>
      <fieldset class="choices scroll">
        <legend class="visually-hidden">Campaigns</legend>
        {found.slice(0, SHOWN_MAX).map((campaign) => (
          <label key={campaign.campaign_id} class="choice">
            <input
              type="checkbox"
              checked={chosen.includes(campaign.campaign_id)}
              onChange={() => changeView({ filters: toggleFilter(filters, "campaign_id", campaign.campaign_id) })}
            />
            <span>
              {campaign.name ?? campaign.campaign_id}
              <small>{campaign.advertiser_name ?? campaign.advertiser_id}</small>
            </span>
            <Icon name="check" />
          </label>
        ))}
        {found.length === 0 && <p class="hint">No campaign matches.</p>}
        {found.length > SHOWN_MAX && <p class="hint">{found.length - SHOWN_MAX} more: search to narrow the list.</p>}
      </fieldset>
      <button
        type="button"
        class="button wide"
        disabled={chosen.length === 0}
        onClick={() => changeView({ filters: setFilter(filters, "campaign_id", []) })}
      >
        Show all campaigns
      </button>
    </>
  );
}
