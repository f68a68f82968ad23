"""Does adlake's full batch run with DuckDB, or compares the answers of both.

    batch.py run LAKE OUT              computes the batch tables from the raw Parquet files of LAKE, into OUT
    batch.py compare ADLAKE LAKE OUT   compares OUT with what the program ADLAKE answers; fails if anything differs

`run` prints the elapsed and CPU seconds of each step as JSON. It reads every Parquet file of a raw table, so LAKE must
never have been compacted. `batch_rules.py` says for which data it gives adlake's answers.

Some work is less than adlake's. Identities are texts, and not stored twice. Sums have 64 bits. Rows are ordered by
campaign and time only. Reach is the number of users of each day and campaign instead of a sketch. Files hold one day
each and are compressed with zstd (level 3), as adlake's are.
"""

import json
import os
import pathlib
import subprocess
import sys
import time
from decimal import Decimal

import duckdb

# `python -I` leaves out the folders of scripts.
sys.path.append(str(pathlib.Path(__file__).parent.parent))
from batch_rules import (
    ADDED, BID, CONTENTS, DIMENSIONS, KEYS, LEFT_OUT, PLACE, REPLACED, SUMS_OF_ACTIONS, SUMS_OF_ADS, TOLD,
    sums_of_credits,
)

MODELS = ["last_touch", "first_touch", "linear", "position_based", "time_decay"]
SUMS_OF_ACTIONS = SUMS_OF_ACTIONS | sums_of_credits(MODELS)
SUMS = SUMS_OF_ADS | SUMS_OF_ACTIONS


def resolved(kind):
    """The columns of an event, from those of the raw row that wins."""
    replaced, added = (
        ", ".join(f"{sql} AS {name}" for name, sql in columns[kind].items()) for columns in (REPLACED, ADDED))
    return f"* EXCLUDE ({', '.join(LEFT_OUT[kind])}) REPLACE ({replaced}), {added}"


class Run:
    """The steps, in their order. Each of them is timed."""

    def __init__(self, lake, out):
        self.lake, self.out, self.seconds = lake, out, {}
        os.makedirs(out, exist_ok=True)
        spill = os.path.join(out, "spill")
        self.connection = duckdb.connect(config={"threads": 2, "memory_limit": "4GB", "temp_directory": spill})
        self.sql("SET TimeZone = 'UTC'; SET default_null_order = 'nulls_first'")
        campaigns = f"read_parquet('{lake}/ref/campaigns/*.parquet')"
        self.sql(f"CREATE TEMP TABLE advertisers AS SELECT campaign_id, advertiser_id FROM {campaigns}")

    def sql(self, sql):
        return self.connection.execute(sql)

    def step(self, name, work):
        started, cpu = time.monotonic(), time.process_time()
        work()
        elapsed, cpu = time.monotonic() - started, time.process_time() - cpu
        self.seconds[name] = {"elapsed": round(elapsed, 3), "cpu": round(cpu, 3)}

    def raw(self, kind, day=None):
        """The raw rows of all days or one."""
        folder = f"event_date={day}" if day else "*"
        return f"read_parquet('{self.lake}/raw/{kind}/{folder}/*.parquet', hive_partitioning = true)"

    def days(self, folder):
        return sorted(name.split("=")[1] for name in os.listdir(folder) if name.startswith("event_date="))

    def write(self, table, day, select, order):
        folder = f"{self.out}/{table}/event_date={day}"
        os.makedirs(folder, exist_ok=True)
        self.sql(f"COPY ({select} ORDER BY {order}) TO '{folder}/part.parquet' (FORMAT parquet, COMPRESSION zstd)")

    def written(self, table, day=None):
        folder = f"event_date={day}" if day else "*"
        return f"read_parquet('{self.out}/{table}/{folder}/*.parquet', hive_partitioning = true)"

    def events(self, kind):
        """Impressions or interactions: finds the copies that lose, and writes all other rows day by day."""
        def keyed(day=None):
            if kind == "impressions":
                return f"SELECT *, {KEYS[kind]} AS event_key FROM {self.raw(kind, day)}"
            advertiser = "r.advertiser_id AS scope_advertiser_id"
            join = "LEFT JOIN (SELECT campaign_id AS campaign, advertiser_id FROM advertisers) r"
            on = "r.campaign = coalesce(campaign_id, enriched.campaign_id)"
            return f"SELECT e.*, {KEYS[kind]} AS event_key, {advertiser} FROM {self.raw(kind, day)} e {join} ON {on}"

        self.sql(f"""CREATE OR REPLACE TEMP TABLE repeated AS
            SELECT event_key FROM ({keyed()}) GROUP BY event_key HAVING count(*) > 1""")
        self.sql(f"""CREATE OR REPLACE TEMP TABLE losers AS
            SELECT source.topic AS topic, source."offset" AS "offset"
            FROM ({keyed()}) SEMI JOIN repeated USING (event_key)
            QUALIFY row_number() OVER (PARTITION BY event_key ORDER BY event_time, {CONTENTS[kind]}, {PLACE}) > 1""")
        for day in self.days(f"{self.lake}/raw/{kind}"):
            rows = f'({keyed(day)}) e ANTI JOIN losers l ON e.source."offset" = l."offset" AND e.source.topic = l.topic'
            self.write(kind, day, f"SELECT {resolved(kind)} FROM {rows}", "campaign_id, event_time")

    def bid_requests(self):
        """One row for each auction and imp: the request of the first row, the bid of the row that tells most of it."""
        bid = f"struct_pack({BID})"

        def exploded(rows):
            return f"""SELECT * REPLACE (told AND event_imp.id = coalesce(imp_id, imp[1].id) AS told)
                FROM (SELECT *, {TOLD} AS told, unnest(imp) AS event_imp FROM {rows})"""

        self.sql(f"""CREATE OR REPLACE TEMP TABLE repeated AS
            SELECT auction_id FROM {self.raw('bid_requests')} GROUP BY auction_id HAVING count(*) > 1""")
        self.sql(f"""CREATE OR REPLACE TEMP TABLE winners AS
            SELECT auction_id, event_imp.id AS event_imp_id, arg_min(source, place) AS winner,
                arg_min(CASE WHEN told THEN bid END, place - (2 * told::INT + coalesce(won, false)::INT) * 1000000)
                    FILTER (told) AS told_bid
            FROM (SELECT auction_id, event_imp, source, told, won, {bid} AS bid, row_number() OVER (
                    PARTITION BY auction_id, event_imp.id
                    ORDER BY event_time, {CONTENTS['bid_requests']}, {PLACE}) AS place
                FROM ({exploded(f"{self.raw('bid_requests')} SEMI JOIN repeated USING (auction_id)")}))
            GROUP BY ALL""")
        for day in self.days(f"{self.lake}/raw/bid_requests"):
            select = f"""SELECT {resolved('bid_requests')}
                FROM (SELECT e.*, CASE WHEN w.winner IS NOT NULL THEN w.told_bid WHEN told THEN {bid} END AS bid
                    FROM ({exploded(self.raw('bid_requests', day))}) e LEFT JOIN winners w
                    ON e.auction_id = w.auction_id AND e.event_imp.id = w.event_imp_id
                    WHERE w.winner IS NULL OR w.winner = e.source)"""
            self.write("bid_requests", day, select, "campaign_id, event_time")

    def attributions(self):
        """Clicks join an impression; conversions join clicks, else impressions. Then credits and revenues."""
        impressions = f"""(SELECT impression_id AS id, user_id, event_time, campaign_id, ad_creative_id, website,
            country, region, device_type FROM {self.written('impressions')} WHERE user_id IS NOT NULL)"""
        self.sql(f"""CREATE OR REPLACE TEMP TABLE interactions AS
            SELECT event_key, interaction_id, interaction_type, conversion_type, user_id, event_time, campaign_id,
                impression_id, coalesce(value_micros, 0) AS value_micros,
                coalesce(scope_advertiser_id, campaign_id) AS scope, ad_creative_id, country, region, device_type
            FROM {self.written('interactions')} WHERE user_id IS NOT NULL""")

        def joined(rows, on, window, kept):
            """The latest impressions of each interaction, at most `kept`."""
            return f"""SELECT e.event_key AS interaction_key, i.* FROM {rows} e
                JOIN {impressions} i ON e.user_id = i.user_id AND {on}
                AND i.event_time BETWEEN e.event_time - INTERVAL {window} AND e.event_time
                QUALIFY row_number() OVER (PARTITION BY e.event_key ORDER BY i.event_time DESC, i.id DESC) <= {kept}"""

        named = "i.id = e.impression_id"
        scoped = """(SELECT c.*, a.campaign_id AS in_scope FROM conversions_left c
            JOIN advertisers a ON c.scope = coalesce(a.advertiser_id, a.campaign_id))"""
        self.sql(f"""
            CREATE OR REPLACE TEMP TABLE clicks AS FROM interactions WHERE interaction_type = 'click';
            CREATE OR REPLACE TEMP TABLE conversions AS FROM interactions WHERE interaction_type = 'conversion';
            CREATE OR REPLACE TEMP TABLE click_impressions AS {joined('clicks', named, '24 hours', 1)};
            CREATE OR REPLACE TEMP TABLE clicks_left AS
                FROM clicks WHERE event_key NOT IN (SELECT interaction_key FROM click_impressions);
            INSERT INTO click_impressions {joined('clicks_left', 'i.campaign_id = e.campaign_id', '24 hours', 1)};
            CREATE OR REPLACE TEMP TABLE click_touches AS
                SELECT c.event_key, c.interaction_id AS id, c.user_id, c.event_time, c.campaign_id, c.scope,
                    coalesce(c.ad_creative_id, i.ad_creative_id) AS ad_creative_id, i.website,
                    coalesce(c.country, i.country) AS country,
                    coalesce(c.region, CASE WHEN c.country IS NULL OR c.country = i.country THEN i.region END)
                        AS region,
                    coalesce(c.device_type, i.device_type) AS device_type
                FROM clicks c LEFT JOIN click_impressions i ON c.event_key = i.interaction_key;
            CREATE OR REPLACE TEMP TABLE touches AS
                SELECT e.event_key AS interaction_key, 'click' AS kind, t.event_key AS touch_key,
                    t.* EXCLUDE (event_key, scope)
                FROM conversions e JOIN click_touches t ON e.user_id = t.user_id AND e.scope = t.scope
                    AND t.event_time BETWEEN e.event_time - INTERVAL 7 days AND e.event_time
                QUALIFY row_number() OVER (
                    PARTITION BY e.event_key ORDER BY t.event_time DESC, t.id DESC, t.event_key DESC) <= 100;
            CREATE OR REPLACE TEMP TABLE conversions_left AS
                FROM conversions WHERE event_key NOT IN (SELECT interaction_key FROM touches);
            INSERT INTO touches BY NAME
                SELECT 'impression' AS kind, id AS touch_key, * FROM ({joined('conversions_left', named, '1 day', 1)});
            CREATE OR REPLACE TEMP TABLE conversions_left AS
                FROM conversions WHERE event_key NOT IN (SELECT interaction_key FROM touches);
            INSERT INTO touches BY NAME
                SELECT 'impression' AS kind, id AS touch_key, *
                FROM ({joined(scoped, 'i.campaign_id = e.in_scope', '1 day', 100)});
            INSERT INTO touches BY NAME SELECT 'impression' AS kind, id AS touch_key, * FROM click_impressions""")
        self.credits()
        for (day,) in self.sql("SELECT DISTINCT event_date::VARCHAR FROM attributions ORDER BY 1").fetchall():
            select = f"SELECT * EXCLUDE (event_date) FROM attributions WHERE event_date = '{day}'"
            self.write("attributions", day, select, "campaign_id, interaction_time")

    def credits(self):
        whole = 1_000_000_000
        # The touchpoints before the last; the last one takes what they leave.
        credit = {
            "last_touch": "0",
            "first_touch": f"CASE WHEN place = 1 THEN {whole} ELSE 0 END",
            "linear": f"{whole} // n",
            "position_based": f"""CASE WHEN place > 1 THEN {whole // 5} // (n - 2) WHEN n = 2 THEN {whole // 2}
                ELSE {whole // 5 * 2} END""",
            "time_decay": f"weight * {whole} // sum(weight) OVER interaction",
        }
        before = ", ".join(f"(CASE WHEN is_click OR is_last THEN 0 ELSE {credit[model]} END)::BIGINT AS before_{model}"
                           for model in MODELS)
        credited = ", ".join(
            f"(CASE WHEN is_click THEN 0 WHEN is_last THEN {whole} - sum(before_{model}) OVER interaction "
            f"ELSE before_{model} END)::BIGINT AS credit_{model}" for model in MODELS)

        def share(product):
            """Rounded towards minus infinity."""
            return f"({product} // {whole} - ({product} < 0 AND {product} % {whole} <> 0)::INT)::BIGINT"

        shares = ", ".join(f"{share(f'(value_micros::HUGEINT * credit_{model})')} AS share_{model}" for model in MODELS)
        revenues = ", ".join(
            f"(share_{model} + CASE WHEN is_last AND NOT is_click "
            f"THEN value_micros - sum(share_{model}) OVER interaction ELSE 0 END)::BIGINT AS revenue_{model}"
            for model in MODELS)
        inherited = ", ".join(f"last_value({name}) OVER (interaction ORDER BY place ROWS BETWEEN UNBOUNDED PRECEDING "
                              f"AND UNBOUNDED FOLLOWING) AS last_{name}"
                              for name in ["ad_creative_id", "website", "country", "region", "device_type"])
        columns = ", ".join([f"w.credit_{model}" for model in MODELS] + [f"w.revenue_{model}" for model in MODELS])
        self.sql(f"""CREATE OR REPLACE TEMP TABLE attributions AS
            WITH placed AS (
                SELECT t.*, e.interaction_type = 'click' AS is_click, e.value_micros,
                    row_number() OVER (PARTITION BY interaction_key ORDER BY t.event_time, id, touch_key) AS place,
                    count(*) OVER interaction AS n,
                    floor(1073741824 * pow(2.0, -(epoch_us(max(t.event_time) OVER interaction) - epoch_us(t.event_time))
                        / 604800000000.0))::BIGINT AS weight
                FROM touches t JOIN interactions e ON t.interaction_key = e.event_key
                WINDOW interaction AS (PARTITION BY interaction_key)),
            begun AS (SELECT *, {before} FROM (SELECT *, place = n AS is_last FROM placed)
                WINDOW interaction AS (PARTITION BY interaction_key)),
            credited AS (SELECT *, {credited} FROM begun WINDOW interaction AS (PARTITION BY interaction_key)),
            shared AS (SELECT *, {shares} FROM credited),
            whole AS (SELECT *, {revenues}, {inherited} FROM shared
                WINDOW interaction AS (PARTITION BY interaction_key))
            SELECT w.interaction_key, e.user_id, e.interaction_id, e.interaction_type, e.conversion_type,
                e.event_time AS interaction_time, e.campaign_id AS interaction_campaign_id,
                w.touch_key AS touchpoint_key, w.id AS touchpoint_id, w.kind AS touchpoint_kind,
                w.event_time AS touchpoint_time,
                w.campaign_id AS touchpoint_campaign_id, w.is_last AS last_touch,
                epoch_us(e.event_time) - epoch_us(w.event_time) AS seconds_between_micros,
                w.ad_creative_id AS touch_ad_creative_id, w.website AS touch_website, w.country AS touch_country,
                w.region AS touch_region, w.device_type AS touch_device_type,
                coalesce(w.campaign_id, e.campaign_id) AS campaign_id,
                coalesce(w.ad_creative_id, e.ad_creative_id, w.last_ad_creative_id) AS ad_creative_id,
                coalesce(w.website, w.last_website) AS website, coalesce(e.country, w.last_country) AS country,
                coalesce(e.region, CASE WHEN e.country IS NULL OR e.country = w.last_country THEN w.last_region END)
                    AS region,
                coalesce(e.device_type, w.last_device_type) AS device_type,
                {columns}, e.event_time::DATE AS event_date
            FROM whole w JOIN interactions e ON w.interaction_key = e.event_key""")

    def hourly(self):
        """Impressions and bid requests have no conversion type, interactions and credits always have one. So a key is
        in one half only, and no row is grouped twice."""
        def half(known, *rows):
            sums = ", ".join(f"coalesce({known.get(name, '0')}, 0)::BIGINT AS {name}" for name in SUMS)
            return f"SELECT date_trunc('hour', event_time) AS hour, {', '.join(DIMENSIONS)}, {sums} " \
                   f"FROM ({' UNION ALL BY NAME '.join(rows)}) GROUP BY ALL"

        keys = ", ".join(DIMENSIONS)
        ad_keys = keys.replace("conversion_type", "NULL::VARCHAR AS conversion_type")
        credits = ", ".join(f"credit_{model}, revenue_{model}" for model in MODELS)
        credited = " OR ".join(f"credit_{model} <> 0" for model in MODELS)
        for day in self.days(f"{self.out}/impressions"):
            ads = half(
                SUMS_OF_ADS,
                f"SELECT event_time, {ad_keys}, true AS shown, viewable, cost_micros, view_time_ms, interaction_depth "
                f"FROM {self.written('impressions', day)}",
                f"SELECT event_time, {ad_keys}, false AS shown, bid_price_micros, won, clearing_price_micros "
                f"FROM {self.written('bid_requests', day)}")
            actions = half(
                SUMS_OF_ACTIONS,
                f"""SELECT event_time, i.campaign_id, touch_website AS website, i.conversion_type, i.value_micros,
                    coalesce(i.ad_creative_id, touch_ad_creative_id) AS ad_creative_id,
                    coalesce(i.country, touch_country) AS country, coalesce(i.region, t.region) AS region,
                    coalesce(i.device_type, touch_device_type) AS device_type,
                    interaction_type = 'click' AS is_click, t.seconds_between_micros AS micros_between
                FROM {self.written('interactions', day)} i LEFT JOIN (SELECT interaction_key, touch_website, region,
                    touch_ad_creative_id, touch_country, touch_device_type, seconds_between_micros
                    FROM {self.written('attributions', day)} WHERE last_touch) t ON i.event_key = t.interaction_key""",
                f"SELECT interaction_time AS event_time, {keys}, {credits} FROM {self.written('attributions', day)} "
                f"WHERE {credited}")
            self.write("campaign_hourly", day, f"FROM ({ads} UNION ALL {actions})", "campaign_id, hour")

    def reach(self):
        for day in self.days(f"{self.out}/impressions"):
            impressions = self.written("impressions", day)
            users = f"SELECT campaign_id, count(DISTINCT user_id) AS reach FROM {impressions} GROUP BY campaign_id"
            self.write("campaign_reach", day, users, "campaign_id")

    def everything(self):
        self.step("impressions", lambda: self.events("impressions"))
        self.step("interactions", lambda: self.events("interactions"))
        self.step("bid_requests", self.bid_requests)
        self.step("attributions", self.attributions)
        self.step("campaign_hourly", self.hourly)
        self.step("campaign_reach", self.reach)
        print(json.dumps(self.seconds))


# The sums of the views: their names, what is stored, and the places after the point.
SHOWN = {name: (name, 0) for name in [
    "impressions", "measurable_impressions", "viewable_impressions", "clicks", "conversions", "bid_requests", "bids",
    "wins", "view_time_ms", "interaction_depth", "joined_clicks", "joined_conversions"]}
SHOWN |= {"spend": ("cost_micros", 6), "revenue": ("revenue_micros", 6), "unpriced_events": ("unpriced_impressions", 0)}
SHOWN |= {name: (f"{name}_micros", 6) for name in ["seconds_to_click", "seconds_to_conversion"]}
for model in MODELS:
    SHOWN[f"attributed_conversions_{model}"] = (f"attributed_conversions_{model}_billionths", 9)
    SHOWN[f"attributed_revenue_{model}"] = (f"attributed_revenue_{model}_micros", 6)
# Sketches are exact for fewer users.
EXACT_REACH = 4096


def compare(adlake, lake, out):
    """Returns how many rows of answers are equal, and those that are not: by campaign, by each dimension, and reach."""
    connection = duckdb.connect(config={"threads": 2})
    connection.execute("SET TimeZone = 'UTC'")
    equal, different = 0, []

    def check(what, of_adlake, of_duckdb, places, is_exact=lambda row: True):
        """Compares rows by their first column. `places` are the decimal places of the others in DuckDB's rows."""
        nonlocal equal
        command = [adlake, "--lake", lake, "query", of_adlake, "--format", "json", "--quiet"]
        answer = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
        ours = {key: row for key, *row in (row.values() for row in json.loads(answer, parse_float=Decimal))}
        theirs = {key: [Decimal(value).scaleb(-shift) for value, shift in zip(row, places, strict=True)]
                  for key, *row in connection.execute(of_duckdb).fetchall()}
        for key in ours.keys() | theirs.keys():
            if ours.get(key) == theirs.get(key):
                equal += 1
            elif is_exact(theirs.get(key)):
                different.append(f"{what} {key}: adlake {ours.get(key)}, DuckDB {theirs.get(key)}")

    cube = f"FROM read_parquet('{out}/campaign_hourly/*/*.parquet')"
    places = [places for _, places in SHOWN.values()]
    stored = ", ".join(f"sum({name})" for name, _ in SHOWN.values())
    check("campaign", f"SELECT campaign_id, {', '.join(SHOWN)} FROM campaign_kpis",
          f"SELECT campaign_id, {stored} {cube} WHERE campaign_id IS NOT NULL GROUP BY 1", places)
    shown = ", ".join(f"sum({name}) AS {name}" for name in SHOWN)
    for key in ["hour", *DIMENSIONS]:
        of_duckdb = "strftime(hour, '%Y-%m-%dT%H:%M:%SZ')" if key == "hour" else key
        check(key, f"SELECT {key}, count(*) AS n, {shown} FROM campaign_hourly GROUP BY {key}",
              f"SELECT {of_duckdb}, count(*), {stored} {cube} GROUP BY 1", [0, *places])
    reach = f"read_parquet('{out}/campaign_reach/*/*.parquet', hive_partitioning = true)"
    check("reach", "SELECT concat(CAST(CAST(day AS DATE) AS VARCHAR), ' ', campaign_id) AS key, reach "
                   "FROM campaign_daily WHERE campaign_id IS NOT NULL AND reach > 0",
          f"SELECT concat(event_date::DATE, ' ', campaign_id), reach FROM {reach}", [0],
          lambda row: row is None or row[0] < EXACT_REACH)
    return equal, different


def main():
    match sys.argv[1:]:
        case ["run", lake, out]:
            Run(lake, out).everything()
        case ["compare", adlake, lake, out]:
            equal, different = compare(adlake, lake, out)
            if different:
                raise SystemExit("\n".join([f"{len(different)} answers differ, {equal} are equal", *different[:20]]))
            print(json.dumps({"equal": equal}))
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
