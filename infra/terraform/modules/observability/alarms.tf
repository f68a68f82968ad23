# The alarms. Each is one entry of a map, so that its bound, its period and its runbook stand together.

locals {
  namespace = try(var.ingest.namespace, "adlake")
  of_ingest = { deployment = var.name, part = try(var.ingest.part, "speed") }

  ingest_alarms = var.ingest == null ? {} : {
    freshness = {
      runbook  = "ingest-not-fresh"
      about    = "The oldest record that is read and not committed is older than ${var.ingest.freshness_seconds_above} s."
      above    = var.ingest.freshness_seconds_above
      periods  = 5
      missing  = "breaching"
      metrics  = { m = { name = "adlake_ingest_freshness_seconds", stat = "Maximum" } }
      math     = "m"
      period   = 60
      of       = local.of_ingest
      space    = local.namespace
      operator = "GreaterThanThreshold"
    }
    rejected = {
      runbook  = "dead-letters"
      about    = "More than ${var.ingest.rejected_percent_above} % of the records are dead letters."
      above    = var.ingest.rejected_percent_above
      periods  = 3
      missing  = "notBreaching"
      metrics  = { bad = { name = "adlake_ingest_rejected_total", stat = "Sum" }, good = { name = "adlake_ingest_rows_total", stat = "Sum" } }
      math     = "100 * FILL(bad, 0) / (FILL(bad, 0) + good)"
      period   = 300
      of       = local.of_ingest
      space    = local.namespace
      operator = "GreaterThanThreshold"
    }
    table_stopped = {
      runbook  = "table-stopped"
      about    = "A table cannot be written any more, because somebody has changed it."
      above    = 0
      periods  = 1
      missing  = "notBreaching"
      metrics  = { m = { name = "adlake_ingest_table_stopped", stat = "Maximum" } }
      math     = "m"
      period   = 60
      of       = local.of_ingest
      space    = local.namespace
      operator = "GreaterThanThreshold"
    }
    store = {
      runbook  = "store-outage"
      about    = "The store does not answer: batches are given up and tried again."
      above    = 3
      periods  = 3
      missing  = "notBreaching"
      metrics  = { m = { name = "adlake_ingest_outages_total", stat = "Sum" } }
      math     = "m"
      period   = 300
      of       = local.of_ingest
      space    = local.namespace
      operator = "GreaterThanThreshold"
    }
  }

  lag_alarms = var.kafka == null ? {} : {
    lag = {
      runbook = "ingest-lag"
      about   = "The consumer group ${var.kafka.group} is more than ${var.kafka.records_above} records behind."
      above   = var.kafka.records_above
      periods = 10
      missing = "notBreaching"
      metrics = { for index, topic in var.kafka.topics : "t${index}" => { name = "SumOffsetLag", stat = "Maximum", topic = topic } }
      math    = join(" + ", [for index, topic in var.kafka.topics : "FILL(t${index}, 0)"])
      period  = 60
      of      = { "Cluster Name" = var.kafka.cluster_name, "Consumer Group" = var.kafka.group }
      space   = "AWS/Kafka"

      operator = "GreaterThanThreshold"
    }
  }

  queue_alarms = { for queue in var.dead_letter_queues : "queue-${queue}" => {
    runbook  = "job-not-started"
    about    = "A job could not be started; why is in the queue ${queue}."
    above    = 0
    periods  = 1
    missing  = "notBreaching"
    metrics  = { m = { name = "ApproximateNumberOfMessagesVisible", stat = "Maximum" } }
    math     = "m"
    period   = 300
    of       = { QueueName = queue }
    space    = "AWS/SQS"
    operator = "GreaterThanThreshold"
  } }

  error_alarms = { for part, group in var.log_groups : "errors-${part}" => {
    runbook  = "errors-in-logs"
    about    = "The part ${part} logs errors; see ${group}."
    above    = var.errors_above
    periods  = 1
    missing  = "notBreaching"
    metrics  = { m = { name = "errors-${part}", stat = "Sum" } }
    math     = "m"
    period   = 300
    of       = {}
    space    = "adlake/${var.name}"
    operator = "GreaterThanThreshold"
  } }

  # A job that never ends well must be told of, and so must a job that never ends: so successes are counted, not failures.
  job_alarms = { for job, limits in var.jobs : "overdue-${job}" => {
    runbook  = "batch-overdue"
    about    = "The job ${job} has not ended well within ${limits.hours_max} h."
    above    = 1
    periods  = limits.hours_max
    missing  = "breaching"
    metrics  = { m = { name = "TriggeredRules", stat = "Sum" } }
    math     = "m"
    period   = 3600
    of       = { RuleName = "${var.name}-${job}-succeeded" }
    space    = "AWS/Events"
    operator = "LessThanThreshold"
  } }

  serving_alarms = var.balancer == null ? {} : {
    latency = {
      runbook  = "serving-slow"
      about    = "One answer in a hundred takes longer than ${var.balancer.p99_seconds_above} s."
      above    = var.balancer.p99_seconds_above
      periods  = 5
      missing  = "notBreaching"
      metrics  = { m = { name = "TargetResponseTime", stat = "p99" } }
      math     = "m"
      period   = 60
      of       = var.balancer.dimensions
      space    = "AWS/ApplicationELB"
      operator = "GreaterThanThreshold"
    }
    answers = {
      runbook  = "serving-errors"
      about    = "More than ${var.balancer.errors_percent_above} % of the answers are errors of the server."
      above    = var.balancer.errors_percent_above
      periods  = 5
      missing  = "notBreaching"
      metrics  = { bad = { name = "HTTPCode_Target_5XX_Count", stat = "Sum" }, all = { name = "RequestCount", stat = "Sum" } }
      math     = "100 * FILL(bad, 0) / all"
      period   = 60
      of       = var.balancer.dimensions
      space    = "AWS/ApplicationELB"
      operator = "GreaterThanThreshold"
    }
    unhealthy = {
      runbook  = "serving-not-ready"
      about    = "No server is ready to answer."
      above    = 1
      periods  = 3
      missing  = "breaching"
      metrics  = { m = { name = "HealthyHostCount", stat = "Minimum" } }
      math     = "m"
      period   = 60
      of       = var.balancer.dimensions
      space    = "AWS/ApplicationELB"
      operator = "LessThanThreshold"
    }
  }

  service_alarms = { for part, service in var.services : "tasks-${part}" => {
    runbook  = "part-down"
    about    = "No task of the part ${part} runs."
    above    = 1
    periods  = 3
    missing  = "breaching"
    metrics  = { m = { name = "RunningTaskCount", stat = "Minimum" } }
    math     = "m"
    period   = 60
    of       = { ClusterName = service.cluster, ServiceName = service.service }
    space    = "ECS/ContainerInsights"
    operator = "LessThanThreshold"
  } }

  alarms = merge(
    local.ingest_alarms, local.lag_alarms, local.queue_alarms, local.error_alarms, local.job_alarms, local.serving_alarms,
    local.service_alarms,
  )
}

# Lines of the level error: the program writes "log.level":"error". The dots stand for the quotation marks and the colon, which
# CloudWatch's patterns do not take.
resource "aws_cloudwatch_log_metric_filter" "errors" {
  for_each = var.log_groups

  name           = "errors"
  log_group_name = each.value
  pattern        = "%log.level...error%"

  metric_transformation {
    name          = "errors-${each.key}"
    namespace     = "adlake/${var.name}"
    value         = "1"
    default_value = "0"
  }
}

resource "aws_cloudwatch_metric_alarm" "this" {
  for_each = local.alarms

  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = "${each.value.about} Runbook: ${var.runbooks}/${each.value.runbook}.md"
  comparison_operator = each.value.operator
  threshold           = each.value.above
  evaluation_periods  = each.value.periods
  datapoints_to_alarm = each.value.periods
  treat_missing_data  = each.value.missing
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]

  metric_query {
    id          = "value"
    expression  = each.value.math
    label       = each.key
    return_data = true
  }

  dynamic "metric_query" {
    for_each = each.value.metrics

    content {
      id = metric_query.key

      metric {
        namespace   = each.value.space
        metric_name = metric_query.value.name
        stat        = metric_query.value.stat
        period      = each.value.period
        dimensions  = merge(each.value.of, can(metric_query.value.topic) ? { Topic = metric_query.value.topic } : {})
      }
    }
  }
}

# What a person is woken for: nothing new gets in, or nothing is answered. The single alarms say where to look.
resource "aws_cloudwatch_composite_alarm" "ingest_down" {
  count = var.ingest != null && contains(keys(var.services), "speed") ? 1 : 0

  alarm_name        = "${var.name}-ingest-down"
  alarm_description = "New events do not get into the lake. Runbook: ${var.runbooks}/part-down.md"
  alarm_rule = join(" OR ", [
    "ALARM(\"${aws_cloudwatch_metric_alarm.this["tasks-speed"].alarm_name}\")",
    "ALARM(\"${aws_cloudwatch_metric_alarm.this["freshness"].alarm_name}\")",
  ])
  alarm_actions = [aws_sns_topic.alarms.arn]
  ok_actions    = [aws_sns_topic.alarms.arn]
}

# The ends of jobs. Failures go to the topic at once; successes are counted for the alarms above, and both are kept in a log.
resource "aws_cloudwatch_log_group" "ends" {
  count = length(var.jobs) > 0 ? 1 : 0

  name              = "/aws/events/${var.name}-jobs"
  retention_in_days = 365
  kms_key_id        = aws_kms_key.this.arn
}

data "aws_iam_policy_document" "ends" {
  count = length(var.jobs) > 0 ? 1 : 0

  statement {
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.ends[0].arn}:*"]

    principals {
      type        = "Service"
      identifiers = ["events.amazonaws.com", "delivery.logs.amazonaws.com"]
    }
  }
}

resource "aws_cloudwatch_log_resource_policy" "ends" {
  count = length(var.jobs) > 0 ? 1 : 0

  policy_name     = "${var.name}-jobs"
  policy_document = data.aws_iam_policy_document.ends[0].json
}

resource "aws_cloudwatch_event_rule" "succeeded" {
  for_each = var.jobs

  name        = "${var.name}-${each.key}-succeeded"
  description = "The job ${each.key} ended with exit code 0"
  event_pattern = jsonencode({
    source      = ["aws.ecs"]
    detail-type = ["ECS Task State Change"]
    detail = {
      lastStatus = ["STOPPED"]
      group      = ["family:${each.value.family}"]
      containers = { name = ["adlake"], exitCode = [0] }
    }
  })
}

resource "aws_cloudwatch_event_target" "succeeded" {
  for_each = var.jobs

  rule      = aws_cloudwatch_event_rule.succeeded[each.key].name
  target_id = "log"
  arn       = aws_cloudwatch_log_group.ends[0].arn
}

resource "aws_cloudwatch_event_rule" "failed" {
  for_each = var.jobs

  name        = "${var.name}-${each.key}-failed"
  description = "The job ${each.key} ended otherwise, or could not run"
  event_pattern = jsonencode({
    source      = ["aws.ecs"]
    detail-type = ["ECS Task State Change"]
    detail = {
      lastStatus = ["STOPPED"]
      group      = ["family:${each.value.family}"]
      "$or" = [
        { containers = { name = ["adlake"], exitCode = [{ "anything-but" = [0] }] } },
        { stopCode = ["TaskFailedToStart"] },
      ]
    }
  })
}

resource "aws_cloudwatch_event_target" "failed_log" {
  for_each = var.jobs

  rule      = aws_cloudwatch_event_rule.failed[each.key].name
  target_id = "log"
  arn       = aws_cloudwatch_log_group.ends[0].arn
}

resource "aws_cloudwatch_event_target" "failed" {
  for_each = var.jobs

  rule      = aws_cloudwatch_event_rule.failed[each.key].name
  target_id = "alarms"
  arn       = aws_sns_topic.alarms.arn

  input_transformer {
    input_paths = {
      reason = "$.detail.stoppedReason"
      task   = "$.detail.taskArn"
    }
    input_template = "\"adlake ${var.name}: the job ${each.key} failed: <reason>. Task <task>. Runbook: ${var.runbooks}/batch-failed.md\""
  }
}
