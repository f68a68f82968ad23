"""What the peers of the full batch run compute, in SQL that DuckDB and Spark both understand.

The rules are those of `docs/merge.md`, as far as the data of `adlake generate` needs them: null values only occur as
users, bid requests have imps, copies of them do not differ in nested values alone, ingest has added all countries as
two letters, and every impression has a campaign.
"""

NULL_USERS = """('', '0', '-1', 'null', 'NULL', 'none', 'None', 'nil', 'undefined', 'unknown', 'Unknown', 'UNKNOWN',
    'N/A', 'n/a', 'nan', 'NaN', '(not set)', '-', '00000000-0000-0000-0000-000000000000',
    '00000000000000000000000000000000')"""

# The order in which the first of several copies wins, after the time: the contents, then where the copy came from.
PLACE = 'ingested_at, source.topic, source."partition", source."offset"'
CONTENTS = {
    "impressions": """ad_creative_id, user_id, website, impression_id, campaign_id, ad_group_id, advertiser_id,
        placement_id, auction_id, cost_micros, currency, width, height, viewable, view_time_ms, interaction_depth,
        device_type, os, browser, user_agent, ip, country, region, city, content_category, consent, attributes""",
    "interactions": """user_id, campaign_id, conversion_type, event_id, ad_creative_id, impression_id, order_id,
        "value", currency, quantity, country, device_type, user_agent, attributes""",
    "bid_requests": """user_id, "at", tmax, imp_id, campaign_id, ad_creative_id, bid_price, clearing_price, won,
        attributes""",
}
# What identifies an event. `r` is the campaign's row of the reference data. Bid requests have an auction and an imp.
KEYS = {
    "impressions": "coalesce(impression_id, lower(hex(content_hash)))",
    "interactions": """CASE
        WHEN order_id IS NOT NULL
            THEN concat_ws(chr(31), 'o', conversion_type, order_id, coalesce(r.advertiser_id, campaign_id))
        WHEN event_id IS NOT NULL THEN concat_ws(chr(31), 'e', conversion_type, event_id)
        ELSE lower(hex(content_hash)) END""",
}
# Whether a row of a bid request tells of a bid.
TOLD = """campaign_id IS NOT NULL OR ad_creative_id IS NOT NULL OR bid_price IS NOT NULL
    OR clearing_price IS NOT NULL OR won IS NOT NULL"""
# The columns of a row that are those of its bid.
BID = "campaign_id, ad_creative_id, won, enriched, content_hash, source, event_date"

KNOWN_USER = f"CASE WHEN user_id NOT IN {NULL_USERS} THEN user_id END"
TIME_PARTS = {name: f"enriched.{name}" for name in ["part_of_day", "day_type", "season"]}


def own_or_enriched(*names):
    """What was sent, else what ingest has added."""
    return {name: f"coalesce({name}, enriched.{name})" for name in names}


# From a raw row that wins to the event: columns that are left out, columns that are replaced, and new ones. A row of a
# bid request has one imp as `event_imp`, and the bid of the row that tells most of it as `bid`.
LEFT_OUT = {
    "impressions": ["enriched", "event_key"],
    "interactions": ["enriched", '"value"'],
    "bid_requests": ["enriched", "event_imp", "told", "bid", "bid_price", "clearing_price"],
}
REPLACED = {
    "impressions": {
        "impression_id": "event_key",
        "user_id": KNOWN_USER,
        **own_or_enriched("campaign_id", "advertiser_id", "country", "region", "device_type", "os", "browser"),
        "cost_micros": "enriched.cost_micros",
    },
    "interactions": {"user_id": KNOWN_USER, **own_or_enriched("campaign_id", "country", "device_type")},
    "bid_requests": {
        "imp_id": "event_imp.id",
        "imp": "event_imp",
        "user_id": KNOWN_USER,
        "campaign_id": "coalesce(bid.campaign_id, bid.enriched.campaign_id)",
        "ad_creative_id": "bid.ad_creative_id",
        "won": "bid.won",
    },
}
ADDED = {
    "impressions": TIME_PARTS,
    "interactions": {
        "interaction_id": "coalesce(order_id, event_id, lower(hex(content_hash)))",
        "interaction_type": "CASE WHEN lower(trim(conversion_type)) = 'click' THEN 'click' ELSE 'conversion' END",
        "value_micros": "enriched.value_micros",
        "advertiser_id": "enriched.advertiser_id",
        "region": "enriched.region",
        "os": "enriched.os",
        "browser": "enriched.browser",
        **TIME_PARTS,
    },
    "bid_requests": {
        "advertiser_id": "bid.enriched.advertiser_id",
        "website": 'coalesce(site."domain", app.bundle)',
        "country": "enriched.country",
        "region": "coalesce(device.geo.region, enriched.region)",
        "city": "device.geo.city",
        "device_type": """coalesce(CASE device.devicetype WHEN 1 THEN 'mobile' WHEN 4 THEN 'mobile'
            WHEN 2 THEN 'desktop' WHEN 3 THEN 'ctv' WHEN 7 THEN 'ctv' WHEN 5 THEN 'tablet' WHEN 6 THEN 'connected'
            END, enriched.device_type)""",
        "os": "coalesce(device.os, enriched.os)",
        "browser": "enriched.browser",
        "bid_price_micros": "bid.enriched.bid_price_micros",
        "clearing_price_micros": "bid.enriched.clearing_price_micros",
        **TIME_PARTS,
        "bid_content_hash": "bid.content_hash",
        "bid_source": "bid.source",
        "bid_event_date": "bid.event_date",
    },
}

DIMENSIONS = ["campaign_id", "website", "ad_creative_id", "device_type", "country", "region", "conversion_type"]
# The sums of the cube over impressions and bid requests (`shown`: an impression), and over interactions and credits.
SUMS_OF_ADS = {
    "events": "count(*)",
    "impressions": "count_if(shown)",
    "measurable_impressions": "count(viewable)",
    "viewable_impressions": "count_if(viewable)",
    "bid_requests": "count_if(NOT shown)",
    "bids": "count_if(NOT shown AND (campaign_id IS NOT NULL OR bid_price_micros IS NOT NULL))",
    "wins": "count_if(won)",
    "cost_micros": "sum(cost_micros)",
    "clearing_price_micros": "sum(clearing_price_micros) FILTER (WHERE won)",
    "unpriced_impressions": "count_if(shown AND cost_micros IS NULL)",
    "unpriced_wins": "count_if(won AND clearing_price_micros IS NULL)",
    "view_time_ms": "sum(view_time_ms)",
    "interaction_depth": "sum(interaction_depth)",
}
SUMS_OF_ACTIONS = {
    "events": "count(*)",
    "clicks": "count_if(is_click)",
    "conversions": "count_if(NOT is_click)",
    "revenue_micros": "sum(value_micros) FILTER (WHERE NOT is_click)",
    "seconds_to_click_micros": "sum(micros_between) FILTER (WHERE is_click)",
    "joined_clicks": "count(micros_between) FILTER (WHERE is_click)",
    "seconds_to_conversion_micros": "sum(micros_between) FILTER (WHERE NOT is_click)",
    "joined_conversions": "count(micros_between) FILTER (WHERE NOT is_click)",
}


def sums_of_credits(models):
    """The sums of the cube over the credits of these attribution models."""
    sums = {}
    for model in models:
        sums[f"attributed_conversions_{model}_billionths"] = f"sum(credit_{model})"
        sums[f"attributed_revenue_{model}_micros"] = f"sum(revenue_{model})"
    return sums
