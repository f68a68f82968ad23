/** How dimensions and their values are named. */
import type { Dimension } from "../api/contract";
import { campaignName, campaigns } from "../state/store";

/** From the whole to the parts: drilling goes down this list. */
export const DRILL: Dimension[] = ["campaign_id", "website", "ad_creative_id", "device_type", "country"];

const NAMES: Record<Dimension, [string, string]> = {
  campaign_id: ["Campaign", "campaigns"],
  advertiser_id: ["Advertiser", "advertisers"],
  website: ["Site", "sites"],
  ad_creative_id: ["Creative", "creatives"],
  device_type: ["Device", "devices"],
  country: ["Country", "countries"],
  region: ["Region", "regions"],
  conversion_type: ["Conversion type", "conversion types"],
};

export function dimensionLabel(dimension: Dimension): string {
  return NAMES[dimension][0];
}

export function dimensionPlural(dimension: Dimension): string {
  return NAMES[dimension][1];
}

export function isDimension(text: string | undefined): text is Dimension {
  return text !== undefined && text in NAMES;
}

const countryNames = new Intl.DisplayNames(undefined, { type: "region", fallback: "code" });

function countryName(code: string): string {
  try {
    return countryNames.of(code) ?? code;
  } catch {
    return code;
  }
}

/** What a person calls the value. */
export function valueLabel(dimension: Dimension, value: string | null): string {
  if (value === null) return dimension === "campaign_id" ? "Unknown campaign" : "Unknown";
  if (dimension === "campaign_id") return campaignName(value);
  if (dimension === "country") return countryName(value);
  if (dimension === "advertiser_id") {
    const known = campaigns.value.find((campaign) => campaign.advertiser_id === value);
    return known?.advertiser_name ?? value;
  }
  return value;
}
