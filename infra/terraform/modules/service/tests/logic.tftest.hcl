# What the task is made of; and the inputs that are refused.

mock_provider "aws" {
  override_data {
    target = data.aws_region.current
    values = { name = "eu-central-1" }
  }
}

variables {
  name               = "t"
  part               = "speed"
  image              = "example/adlake:1.0.0"
  command            = ["ingest", "kafka"]
  task_role_arn      = "arn:aws:iam::123456789012:role/t"
  execution_role_arn = "arn:aws:iam::123456789012:role/e"
}

run "a_job_has_no_service" {
  command = plan

  assert {
    condition     = length(aws_ecs_service.this) == 0
    error_message = "without a cluster there is only the task definition"
  }

  assert {
    condition     = jsondecode(aws_ecs_task_definition.this.container_definitions)[0].readonlyRootFilesystem
    error_message = "the root must be read-only"
  }

  assert {
    condition     = jsondecode(aws_ecs_task_definition.this.container_definitions)[0].command == ["--log-format", "json", "ingest", "kafka"]
    error_message = "the command is adlake's, with logs as JSON"
  }

  assert {
    condition     = !can(jsondecode(aws_ecs_task_definition.this.container_definitions)[0].healthCheck)
    error_message = "a job has no health check"
  }
}

run "a_service_that_scales_by_lag" {
  command = plan

  variables {
    cluster            = { name = "c", arn = "arn:aws:ecs:eu-central-1:123456789012:cluster/c" }
    subnet_ids         = ["subnet-1"]
    security_group_ids = ["sg-1"]
    health_port        = 9464
    metrics            = { port = 9464 }
    scaling            = { min = 1, max = 4, lag = { cluster_name = "k", group = "g", topics = ["a", "b"], above = 1000, below = 10 } }
  }

  assert {
    condition     = aws_appautoscaling_target.this[0].max_capacity == 4 && length(aws_appautoscaling_policy.lag) == 2
    error_message = "one policy for each direction"
  }

  assert {
    condition     = [for query in aws_cloudwatch_metric_alarm.lag["out"].metric_query : query.expression if query.id == "lag"] == ["FILL(t0, 0) + FILL(t1, 0)"]
    error_message = "the lag is that of all topics"
  }

  assert {
    condition     = aws_appautoscaling_policy.lag["in"].step_scaling_policy_configuration[0].cooldown > aws_appautoscaling_policy.lag["out"].step_scaling_policy_configuration[0].cooldown
    error_message = "tasks must leave more slowly than they come"
  }

  assert {
    condition     = length(jsondecode(aws_ecs_task_definition.this.container_definitions)) == 2
    error_message = "the agent stands beside the program"
  }
}

run "latest_is_refused" {
  command = plan

  variables {
    image = "example/adlake:latest"
  }

  expect_failures = [var.image]
}

run "secrets_are_no_environment" {
  command = plan

  variables {
    environment = { ADLAKE_KAFKA__PROPERTIES__SASL_PASSWORD = "x" }
  }

  expect_failures = [var.environment]
}

run "memory_that_fargate_does_not_have" {
  command = plan

  variables {
    cpu    = 1024
    memory = 16384
  }

  expect_failures = [var.memory]
}

run "a_shutdown_that_takes_too_long" {
  command = plan

  variables {
    stop_seconds = 300
  }

  expect_failures = [var.stop_seconds]
}
