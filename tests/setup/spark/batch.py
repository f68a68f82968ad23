"""Does adlake's full batch run with Spark, without some of its work.

    batch.py LAKE OUT

Reads the raw tables and the campaigns of the lake in the folder LAKE. Writes the tables impressions, interactions,
bid_requests, attributions, campaign_hourly and campaign_reach into the folder OUT, by day and in the order of campaign
and time. Prints the seconds of each step as JSON. `batch_rules.py` says for which data it gives adlake's answers.

Copies are compared among the identities with several rows only, and wide rows are not shuffled. A window over all rows
took a sixth more CPU time.

What adlake does and this leaves out:

- Only the last touchpoint of an interaction is found, and gets all credit. So there is one attribution model instead of
  five, and an interaction has one attribution instead of one for each touchpoint.
- There is no rollup of the cube, and no manifest.
- Reach is the number of users of each day and campaign instead of a sketch.
- Identities are texts, and not stored twice. Sums have 64 bits.
- Rows are ordered by campaign and time only, and within each file only. A day has many files whose campaigns overlap.
"""

import json
import pathlib
import sys
import time

from pyspark.sql import SparkSession
from pyspark.sql import functions as f

sys.path.append(str(pathlib.Path(__file__).parent.parent))
from batch_rules import (
    ADDED, BID, CONTENTS, DIMENSIONS, KEYS, LEFT_OUT, PLACE, REPLACED, SUMS_OF_ACTIONS, SUMS_OF_ADS, TOLD,
    sums_of_credits,
)

SUMS_OF_ACTIONS = SUMS_OF_ACTIONS | sums_of_credits(["last_touch"])
SUMS = SUMS_OF_ADS | SUMS_OF_ACTIONS
# What a conversion or a click takes over from its touchpoint.
INHERITED = ["ad_creative_id", "website", "country", "region", "device_type"]


def resolved(kind):
    """The columns of an event, from those of the raw row that wins."""
    columns = REPLACED[kind] | ADDED[kind]
    left_out = ", ".join([*LEFT_OUT[kind], *REPLACED[kind]])
    return f"* EXCEPT ({left_out}), " + ", ".join(f"{sql} AS {name}" for name, sql in columns.items())


class Run:
    """The steps, in their order. Each of them is timed."""

    def __init__(self, lake, out):
        self.lake, self.out, self.seconds = lake, out, {}
        self.spark = SparkSession.builder.appName("batch").getOrCreate()
        self.spark.sparkContext.setLogLevel("ERROR")
        # The rules quote names as DuckDB does.
        self.spark.conf.set("spark.sql.ansi.doubleQuotedIdentifiers", "true")
        self.spark.conf.set("spark.sql.shuffle.partitions", "16")
        for kind in ["impressions", "interactions", "bid_requests"]:
            self.view(f"raw_{kind}", self.table(f"{lake}/raw/{kind}"))
        self.view("campaigns", self.table(f"{lake}/ref/campaigns").select("campaign_id", "advertiser_id").cache())

    def sql(self, sql):
        return self.spark.sql(sql)

    def table(self, path):
        return self.spark.read.format("delta").load(path)

    def view(self, name, rows):
        rows.createOrReplaceTempView(name)

    def write(self, table, rows, *order):
        """Writes a table, and makes it a view."""
        path = f"{self.out}/{table}"
        rows = rows.sortWithinPartitions("event_date", *order)
        rows.write.format("delta").partitionBy("event_date").save(path)
        self.view(table, self.table(path))

    def step(self, name, work):
        started = time.monotonic()
        work()
        self.seconds[name] = round(time.monotonic() - started, 1)

    def events(self, kind):
        """Impressions or interactions: finds the copies that lose, and writes all other rows."""
        keyed = f"SELECT *, {KEYS[kind]} AS event_key FROM raw_{kind}"
        if kind == "interactions":
            keyed = f"""SELECT /*+ BROADCAST(r) */ e.*, {KEYS[kind]} AS event_key,
                    r.advertiser_id AS scope_advertiser_id
                FROM raw_interactions e
                LEFT JOIN (SELECT campaign_id AS campaign, advertiser_id FROM campaigns) r
                ON r.campaign = coalesce(campaign_id, enriched.campaign_id)"""
        self.view("keyed", self.sql(keyed))
        self.view("repeated", self.sql("SELECT event_key FROM keyed GROUP BY event_key HAVING count(*) > 1"))
        self.view("losers", self.sql(f"""SELECT source FROM (
            SELECT source, row_number() OVER (
                PARTITION BY event_key ORDER BY event_time, {CONTENTS[kind]}, {PLACE}) AS copy
            FROM keyed LEFT SEMI JOIN repeated USING (event_key))
            WHERE copy > 1"""))
        rows = self.sql(f"""SELECT {resolved(kind)} FROM (
            SELECT /*+ BROADCAST(l) */ * FROM keyed e LEFT ANTI JOIN losers l ON e.source = l.source)""")
        self.write(kind, rows, "campaign_id", "event_time")

    def bid_requests(self):
        """One row for each auction and imp: the request of the first row, the bid of the row that tells most of it."""
        first = f"event_time, {CONTENTS['bid_requests']}, {PLACE}"
        self.view("exploded", self.sql(f"""
            SELECT * EXCEPT (told), told AND event_imp.id = coalesce(imp_id, imp[0].id) AS told
            FROM (SELECT *, {TOLD} AS told, explode(imp) AS event_imp FROM raw_bid_requests)"""))
        self.view("repeated", self.sql("""
            SELECT auction_id FROM raw_bid_requests GROUP BY auction_id HAVING count(*) > 1"""))
        self.view("winners", self.sql(f"""SELECT * EXCEPT (copy) FROM (
            SELECT auction_id, event_imp.id AS event_imp_id, source AS winner,
                row_number() OVER (PARTITION BY auction_id, event_imp.id ORDER BY {first}) AS copy,
                first_value(CASE WHEN told THEN struct({BID}) END) OVER (
                    PARTITION BY auction_id, event_imp.id
                    ORDER BY told DESC, coalesce(won, false) DESC, {first}) AS told_bid
            FROM exploded LEFT SEMI JOIN repeated USING (auction_id))
            WHERE copy = 1"""))
        rows = self.sql(f"""SELECT {resolved('bid_requests')} FROM (
            SELECT /*+ BROADCAST(w) */ e.*,
                CASE WHEN winner IS NOT NULL THEN told_bid WHEN told THEN struct({BID}) END AS bid
            FROM exploded e LEFT JOIN winners w ON e.auction_id = w.auction_id AND e.event_imp.id = w.event_imp_id
            WHERE winner IS NULL OR winner = source)""")
        self.write("bid_requests", rows, "campaign_id", "event_time")

    def attributions(self):
        """The last touchpoint of each interaction. Clicks join an impression; conversions join a click, else an
        impression."""
        inherited = ", ".join(f"t.{name} AS touch_{name}" for name in INHERITED)
        touch = f"t.event_time AS touch_time, t.campaign_id AS touch_campaign_id, {inherited}"
        self.view("known", self.sql("""
            SELECT event_key, interaction_id, interaction_type = 'click' AS is_click, conversion_type, user_id,
                event_time, campaign_id, impression_id, ad_creative_id, country, region, device_type,
                coalesce(value_micros, 0) AS value_micros, coalesce(scope_advertiser_id, campaign_id) AS scope
            FROM interactions WHERE user_id IS NOT NULL""").cache())
        # The impressions that an interaction may join: the one that it names, else those of its campaign (a click) or
        # of its advertiser (a conversion). The latest comes first.
        self.view("joined_impressions", self.sql(f"""SELECT * FROM (
            SELECT *, row_number() OVER (
                PARTITION BY event_key ORDER BY is_named DESC, touch_time DESC, touch_key DESC) AS place
            FROM (
                SELECT /*+ BROADCAST(e), BROADCAST(c) */ e.event_key, t.impression_id AS touch_key,
                    t.impression_id AS touch_id, 'impression' AS touch_kind, {touch},
                    t.impression_id <=> e.impression_id AS is_named,
                    CASE WHEN is_click THEN t.campaign_id = e.campaign_id
                        ELSE coalesce(c.advertiser_id, c.campaign_id) = e.scope END AS is_scoped
                FROM impressions t
                JOIN known e ON e.user_id = t.user_id
                    AND t.event_time BETWEEN e.event_time - INTERVAL 24 HOURS AND e.event_time
                LEFT JOIN campaigns c ON c.campaign_id = t.campaign_id)
            WHERE is_named OR is_scoped)
            WHERE place = 1""").drop("place", "is_named", "is_scoped").cache())
        self.view("click_touches", self.sql(f"""
            SELECT e.event_key, e.interaction_id, e.user_id, e.event_time, e.campaign_id, e.scope,
                coalesce(e.ad_creative_id, t.touch_ad_creative_id) AS ad_creative_id, t.touch_website AS website,
                coalesce(e.country, t.touch_country) AS country,
                coalesce(e.region, CASE WHEN e.country IS NULL OR e.country = t.touch_country THEN t.touch_region END)
                    AS region,
                coalesce(e.device_type, t.touch_device_type) AS device_type
            FROM known e LEFT JOIN joined_impressions t ON e.event_key = t.event_key WHERE e.is_click"""))
        self.view("joined_clicks", self.sql(f"""SELECT * FROM (
            SELECT e.event_key, t.event_key AS touch_key, t.interaction_id AS touch_id, 'click' AS touch_kind, {touch},
                row_number() OVER (
                    PARTITION BY e.event_key
                    ORDER BY t.event_time DESC, t.interaction_id DESC, t.event_key DESC) AS place
            FROM known e JOIN click_touches t ON e.user_id = t.user_id AND e.scope = t.scope
                AND t.event_time BETWEEN e.event_time - INTERVAL 7 DAYS AND e.event_time
            WHERE NOT e.is_click)
            WHERE place = 1""").drop("place").cache())
        touches = """(SELECT * FROM joined_clicks UNION ALL
            SELECT * FROM joined_impressions WHERE event_key NOT IN (SELECT event_key FROM joined_clicks))"""
        rows = self.sql(f"""
            SELECT e.event_key AS interaction_key, e.user_id, e.interaction_id, e.is_click, e.conversion_type,
                e.event_time AS interaction_time, e.campaign_id AS interaction_campaign_id, t.* EXCEPT (event_key),
                unix_micros(e.event_time) - unix_micros(t.touch_time) AS seconds_between_micros,
                coalesce(t.touch_campaign_id, e.campaign_id) AS campaign_id,
                coalesce(t.touch_ad_creative_id, e.ad_creative_id) AS ad_creative_id, t.touch_website AS website,
                coalesce(e.country, t.touch_country) AS country,
                coalesce(e.region, CASE WHEN e.country IS NULL OR e.country = t.touch_country THEN t.touch_region END)
                    AS region,
                coalesce(e.device_type, t.touch_device_type) AS device_type,
                CASE WHEN is_click THEN 0L ELSE 1000000000L END AS credit_last_touch,
                CASE WHEN is_click THEN 0L ELSE value_micros END AS revenue_last_touch,
                to_date(e.event_time) AS event_date
            FROM known e JOIN {touches} t ON e.event_key = t.event_key""")
        self.write("attributions", rows, "campaign_id", "interaction_time")

    def hourly(self):
        """Impressions and bid requests have no conversion type, interactions and credits always have one. So a key is
        in one half only, and no row is grouped twice."""
        keys = ", ".join(DIMENSIONS)
        ad_keys = keys.replace("conversion_type", "CAST(NULL AS STRING) AS conversion_type")

        def half(known, *parts):
            rows = self.sql(parts[0])
            for part in parts[1:]:
                rows = rows.unionByName(self.sql(part), allowMissingColumns=True)
            rows = rows.withColumn("hour", f.expr("date_trunc('hour', event_time)"))
            sums = [f.expr(f"CAST(coalesce({known.get(name, '0')}, 0) AS BIGINT) AS {name}") for name in SUMS]
            return rows.groupBy("event_date", "hour", *DIMENSIONS).agg(*sums)

        ads = half(
            SUMS_OF_ADS,
            f"""SELECT event_date, event_time, {ad_keys}, true AS shown, viewable, cost_micros, view_time_ms,
                interaction_depth FROM impressions""",
            f"""SELECT event_date, event_time, {ad_keys}, false AS shown, bid_price_micros, won, clearing_price_micros
                FROM bid_requests""")
        actions = half(
            SUMS_OF_ACTIONS,
            """SELECT i.event_date, i.event_time, i.campaign_id, t.touch_website AS website, i.conversion_type,
                i.value_micros, coalesce(i.ad_creative_id, t.touch_ad_creative_id) AS ad_creative_id,
                coalesce(i.country, t.touch_country) AS country, coalesce(i.region, t.region) AS region,
                coalesce(i.device_type, t.touch_device_type) AS device_type, interaction_type = 'click' AS is_click,
                t.seconds_between_micros AS micros_between
                FROM interactions i LEFT JOIN attributions t ON i.event_key = t.interaction_key""",
            f"""SELECT event_date, interaction_time AS event_time, {keys}, credit_last_touch, revenue_last_touch
                FROM attributions WHERE credit_last_touch <> 0""")
        self.write("campaign_hourly", ads.unionByName(actions), "campaign_id", "hour")

    def reach(self):
        rows = self.sql("""SELECT event_date, campaign_id, count(DISTINCT user_id) AS reach FROM impressions
            GROUP BY event_date, campaign_id""")
        self.write("campaign_reach", rows, "campaign_id")

    def everything(self):
        self.step("impressions", lambda: self.events("impressions"))
        self.step("interactions", lambda: self.events("interactions"))
        self.step("bid_requests", self.bid_requests)
        self.step("attributions", self.attributions)
        self.step("campaign_hourly", self.hourly)
        self.step("campaign_reach", self.reach)
        print(json.dumps(self.seconds))


def main():
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    Run(*sys.argv[1:]).everything()


if __name__ == "__main__":
    main()
