"""The peer of `make bench`: Structured Streaming, from a topic of JSON impressions to its end into a Delta table.

Arguments: brokers, topic, table, checkpoint.
"""

import sys

from pyspark.sql import SparkSession
from pyspark.sql import functions as f

SCHEMA = """
    ad_creative_id STRING, user_id STRING, `timestamp` STRING, website STRING, impression_id STRING, campaign_id STRING,
    ad_group_id STRING, advertiser_id STRING, placement_id STRING, auction_id STRING, cost_micros BIGINT, currency STRING,
    width INT, height INT, viewable BOOLEAN, view_time_ms BIGINT, interaction_depth BIGINT, device_type STRING, os STRING,
    browser STRING, user_agent STRING, ip STRING, country STRING, region STRING, city STRING, content_category STRING,
    consent STRING
"""

brokers, topic, table, checkpoint = sys.argv[1:]
spark = SparkSession.builder.appName("bench").getOrCreate()
spark.sparkContext.setLogLevel("ERROR")
records = (
    spark.readStream.format("kafka")
    .option("kafka.bootstrap.servers", brokers)
    .option("subscribe", topic)
    .option("startingOffsets", "earliest")
    .option("maxOffsetsPerTrigger", 1_000_000)
    .load()
)
events = records.select(
    f.from_json(f.col("value").cast("string"), SCHEMA).alias("event"),
    f.struct("topic", "partition", "offset").alias("source"),
).select("event.*", "source")
# Times are RFC 3339 or milliseconds.
time = f.coalesce(f.try_to_timestamp("timestamp"), f.timestamp_millis(f.col("timestamp").try_cast("bigint")))
events = events.withColumn("event_time", time).drop("timestamp")
query = (
    events.withColumn("event_date", f.to_date("event_time"))
    .writeStream.format("delta")
    .partitionBy("event_date")
    .option("checkpointLocation", checkpoint)
    .trigger(availableNow=True)
    .start(table)
)
query.awaitTermination()
rows = spark.read.format("delta").load(table)
print(rows.count(), rows.where("event_time IS NULL OR user_id IS NULL").count())
