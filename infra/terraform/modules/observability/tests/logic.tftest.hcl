# Which alarms there are, and that each can fire.

mock_provider "aws" {
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
  mock_resource "aws_sns_topic" {
    defaults = { arn = "arn:aws:sns:eu-central-1:123456789012:t-alarms" }
  }
  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws:kms:eu-central-1:123456789012:key/k" }
  }
  mock_resource "aws_cloudwatch_log_group" {
    defaults = { arn = "arn:aws:logs:eu-central-1:123456789012:log-group:g" }
  }
}

variables {
  name = "t"
}

run "nothing_is_watched_that_is_not_there" {
  command = apply

  assert {
    condition     = length(output.alarm_names) == 0 && length(aws_cloudwatch_composite_alarm.ingest_down) == 0
    error_message = "no input, no alarm"
  }
}

run "everything" {
  command = apply

  variables {
    log_groups         = { speed = "/adlake/t/speed" }
    ingest             = {}
    kafka              = { cluster_name = "k", group = "g", topics = ["a", "b"] }
    jobs               = { run = { family = "t-run", hours_max = 2 } }
    dead_letter_queues = ["q"]
    balancer           = { dimensions = { LoadBalancer = "l", TargetGroup = "g" } }
    services           = { speed = { cluster = "c", service = "s" } }
  }

  assert {
    condition = output.alarm_names == tolist([
      "t-answers", "t-errors-speed", "t-freshness", "t-lag", "t-latency", "t-overdue-run", "t-queue-q", "t-rejected", "t-store",
      "t-table_stopped", "t-tasks-speed", "t-unhealthy",
    ])
    error_message = "the alarms are ${join(", ", output.alarm_names)}"
  }

  assert {
    condition     = alltrue([for alarm in aws_cloudwatch_metric_alarm.this : length(alarm.alarm_actions) == 1 && strcontains(alarm.alarm_description, "Runbook: ")])
    error_message = "each alarm tells somebody, and links to its runbook"
  }

  # A part that is gone sends no metrics: silence must fire these.
  assert {
    condition     = alltrue([for name in ["freshness", "overdue-run", "tasks-speed", "unhealthy"] : aws_cloudwatch_metric_alarm.this[name].treat_missing_data == "breaching"])
    error_message = "silence must not be taken for health"
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.this["overdue-run"].evaluation_periods == 2
    error_message = "hours_max is the number of hours without a success"
  }
}

run "hours_beyond_what_cloudwatch_remembers" {
  command = plan

  variables {
    jobs = { run = { family = "t-run", hours_max = 169 } }
  }

  expect_failures = [var.jobs]
}

run "http_endpoints_are_refused" {
  command = plan

  variables {
    https_endpoints = { pager = "http://example.com" }
  }

  expect_failures = [var.https_endpoints]
}
