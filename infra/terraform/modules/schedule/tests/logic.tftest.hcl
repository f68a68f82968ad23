# Which tasks may be started, and how starts are repeated.

mock_provider "aws" {
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
  mock_resource "aws_sqs_queue" {
    defaults = { arn = "arn:aws:sqs:eu-central-1:123456789012:t-not-started" }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/t" }
  }
}

variables {
  name               = "t"
  cluster_arn        = "arn:aws:ecs:eu-central-1:123456789012:cluster/c"
  subnet_ids         = ["subnet-1"]
  security_group_ids = ["sg-1"]
  kms_key_arn        = "arn:aws:kms:eu-central-1:123456789012:key/k"
  pass_role_arns     = ["arn:aws:iam::123456789012:role/r"]
  jobs = {
    run    = { expression = "rate(15 minutes)", task_definition_arn = "arn:aws:ecs:eu-central-1:123456789012:task-definition/t-run:7" }
    vacuum = { expression = "cron(0 3 * * ? *)", task_definition_arn = "arn:aws:ecs:eu-central-1:123456789012:task-definition/t-vacuum:1", enabled = false, flexible_minutes = 10 }
  }
}

run "schedules" {
  command = apply

  assert {
    condition     = data.aws_iam_policy_document.scheduler.statement[0].resources == toset(["arn:aws:ecs:eu-central-1:123456789012:task-definition/t-run:*", "arn:aws:ecs:eu-central-1:123456789012:task-definition/t-vacuum:*"])
    error_message = "only the scheduled families may be started, in any revision"
  }

  assert {
    condition     = aws_scheduler_schedule.this["run"].state == "ENABLED" && aws_scheduler_schedule.this["vacuum"].state == "DISABLED"
    error_message = "enabled = false must disable"
  }

  assert {
    condition     = aws_scheduler_schedule.this["vacuum"].flexible_time_window[0].maximum_window_in_minutes == 10
    error_message = "flexible_minutes must make a window"
  }

  assert {
    condition     = alltrue([for schedule in aws_scheduler_schedule.this : schedule.target[0].dead_letter_config[0].arn == aws_sqs_queue.dead.arn])
    error_message = "each start that fails must go to the queue"
  }
}

run "cron_of_five_fields_is_no_expression" {
  command = plan

  variables {
    jobs = { run = { expression = "*/15 * * * *", task_definition_arn = "arn:aws:ecs:eu-central-1:123456789012:task-definition/t-run:7" } }
  }

  expect_failures = [var.jobs]
}
