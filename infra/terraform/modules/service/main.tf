# One part of adlake on Fargate: a service that runs on, or the definition of a task that a schedule starts.

data "aws_region" "current" {}

locals {
  family    = "${var.name}-${var.part}"
  log_group = "/adlake/${var.name}/${var.part}"

  environment = merge(
    { ADLAKE_LAKE__RETRY_FOR = "5m", AWS_REGION = data.aws_region.current.name },
    var.environment,
    var.configuration == "" ? {} : { ADLAKE_IMAGE_CONFIG = var.configuration },
  )

  program = {
    name      = "adlake"
    image     = var.image
    essential = true
    command   = concat(["--log-format", "json"], var.command)
    environment = [for name in sort(keys(local.environment)) : {
      name = name, value = local.environment[name]
    }]
    secrets                = [for name in sort(keys(var.secrets)) : { name = name, valueFrom = var.secrets[name] }]
    readonlyRootFilesystem = true
    user                   = "10001:10001"
    stopTimeout            = var.stop_seconds
    linuxParameters        = { initProcessEnabled = true }
    portMappings           = var.port == 0 ? [] : [{ containerPort = var.port, hostPort = var.port, protocol = "tcp" }]
    mountPoints            = [{ sourceVolume = "work", containerPath = "/var/lib/adlake", readOnly = false }]
    healthCheck = var.health_port == 0 ? null : {
      command     = ["CMD", "adlake-health", tostring(var.health_port)]
      interval    = 15
      timeout     = 5
      retries     = 4
      startPeriod = 60
    }
    logConfiguration = {
      logDriver = "awslogs"
      options = {
        awslogs-group         = local.log_group
        awslogs-region        = data.aws_region.current.name
        awslogs-stream-prefix = "adlake"
      }
    }
  }

  agent = var.metrics == null ? [] : [{
    name      = "metrics"
    image     = var.metrics.image
    essential = false
    environment = [
      {
        name = "CW_CONFIG_CONTENT"
        value = jsonencode({
          logs = {
            metrics_collected = {
              prometheus = {
                prometheus_config_path = "env:PROMETHEUS_CONFIG_CONTENT"
                log_group_name         = "/adlake/${var.name}/metrics/${var.part}"
                emf_processor = {
                  metric_namespace = var.metrics.namespace
                  metric_declaration = [
                    # Without labels: a gauge of one worker for the alarms, a rate over all reasons.
                    {
                      source_labels    = ["job"]
                      label_matcher    = "^adlake$"
                      dimensions       = [["deployment", "part"], ["deployment", "part", "table"]]
                      metric_selectors = ["^adlake_ingest_(freshness_seconds|rejected_total|rows_total|outages_total|table_stopped|superseded_total)$"]
                    },
                    {
                      source_labels    = ["job"]
                      label_matcher    = "^adlake$"
                      dimensions       = [["deployment", "part"], ["deployment", "part", "topic"]]
                      metric_selectors = ["^adlake_ingest_(lag_records|stalls_total)$"]
                    },
                  ]
                }
              }
            }
            force_flush_interval = 5
          }
        })
      },
      {
        name = "PROMETHEUS_CONFIG_CONTENT"
        value = yamlencode({
          global = { scrape_interval = var.metrics.interval }
          scrape_configs = [{
            job_name       = "adlake"
            static_configs = [{ targets = ["127.0.0.1:${var.metrics.port}"], labels = { deployment = var.name, part = var.part } }]
          }]
        })
      },
    ]
    readonlyRootFilesystem = false
    logConfiguration = {
      logDriver = "awslogs"
      options = {
        awslogs-group         = local.log_group
        awslogs-region        = data.aws_region.current.name
        awslogs-stream-prefix = "agent"
      }
    }
  }]
}

resource "aws_cloudwatch_log_group" "this" {
  name              = local.log_group
  retention_in_days = var.log_days
  kms_key_id        = var.kms_key_arn
}

# The agent's messages are metrics: CloudWatch takes them from here, and they are not read again.
resource "aws_cloudwatch_log_group" "metrics" {
  #checkov:skip=CKV_AWS_338:CloudWatch keeps the metrics themselves for 15 months.
  count = var.metrics == null ? 0 : 1

  name              = "/adlake/${var.name}/metrics/${var.part}"
  retention_in_days = 3
  kms_key_id        = var.kms_key_arn
}

resource "aws_ecs_task_definition" "this" {
  #checkov:skip=CKV_AWS_336:The program's own root is read-only. CloudWatch's agent writes into its own.
  family                   = local.family
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = var.cpu
  memory                   = var.memory
  task_role_arn            = var.task_role_arn
  execution_role_arn       = var.execution_role_arn
  container_definitions    = jsonencode(concat([{ for key, value in local.program : key => value if value != null }], local.agent))

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = var.architecture
  }

  ephemeral_storage {
    size_in_gib = var.disk_gib
  }

  # Where adlake spills, and where the image's entry point puts files that come from secrets.
  volume {
    name = "work"
  }
}

resource "aws_ecs_service" "this" {
  #checkov:skip=CKV_AWS_333:A public address is given only where assign_public_ip says so (example smallest); no group admits connections to it.
  count = var.cluster == null ? 0 : 1

  name            = local.family
  cluster         = var.cluster.arn
  task_definition = aws_ecs_task_definition.this.arn
  desired_count   = var.scaling.min
  launch_type     = "FARGATE"
  propagate_tags  = "SERVICE"

  # Workers of a consumer group, and servers, may overlap: the new task is well before the old one goes.
  deployment_minimum_healthy_percent = 100
  deployment_maximum_percent         = 200
  health_check_grace_period_seconds  = var.target_group_arn == null ? null : 120

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  network_configuration {
    subnets          = var.subnet_ids
    security_groups  = var.security_group_ids
    assign_public_ip = var.assign_public_ip
  }

  dynamic "load_balancer" {
    for_each = var.port == 0 ? [] : [var.port]

    content {
      target_group_arn = var.target_group_arn
      container_name   = "adlake"
      container_port   = load_balancer.value
    }
  }

  lifecycle {
    ignore_changes = [desired_count]

    precondition {
      condition     = length(var.subnet_ids) > 0 && length(var.security_group_ids) > 0
      error_message = "service: a service needs subnet_ids and security_group_ids."
    }
  }
}

resource "aws_appautoscaling_target" "this" {
  count = var.cluster != null && var.scaling.max > var.scaling.min ? 1 : 0

  service_namespace  = "ecs"
  resource_id        = "service/${var.cluster.name}/${aws_ecs_service.this[0].name}"
  scalable_dimension = "ecs:service:DesiredCount"
  min_capacity       = var.scaling.min
  max_capacity       = var.scaling.max
}

resource "aws_appautoscaling_policy" "cpu" {
  count = length(aws_appautoscaling_target.this) > 0 && var.scaling.cpu != null ? 1 : 0

  name               = "${local.family}-cpu"
  policy_type        = "TargetTrackingScaling"
  service_namespace  = aws_appautoscaling_target.this[0].service_namespace
  resource_id        = aws_appautoscaling_target.this[0].resource_id
  scalable_dimension = aws_appautoscaling_target.this[0].scalable_dimension

  target_tracking_scaling_policy_configuration {
    target_value       = var.scaling.cpu
    scale_in_cooldown  = 300
    scale_out_cooldown = 60

    predefined_metric_specification {
      predefined_metric_type = "ECSServiceAverageCPUUtilization"
    }
  }
}

resource "aws_appautoscaling_policy" "requests" {
  count = length(aws_appautoscaling_target.this) > 0 && var.scaling.requests != null ? 1 : 0

  name               = "${local.family}-requests"
  policy_type        = "TargetTrackingScaling"
  service_namespace  = aws_appautoscaling_target.this[0].service_namespace
  resource_id        = aws_appautoscaling_target.this[0].resource_id
  scalable_dimension = aws_appautoscaling_target.this[0].scalable_dimension

  target_tracking_scaling_policy_configuration {
    target_value       = var.scaling.requests.per_task
    scale_in_cooldown  = 300
    scale_out_cooldown = 60

    predefined_metric_specification {
      predefined_metric_type = "ALBRequestCountPerTarget"
      resource_label         = var.scaling.requests.resource_label
    }
  }
}

# Lag: one more task while the lag is above the upper bound, one less after a quarter of an hour below the lower one. A task
# that joins or leaves makes the group assign its partitions anew, so steps are small and apart.
locals {
  by_lag = length(aws_appautoscaling_target.this) > 0 && var.scaling.lag != null
  steps = local.by_lag ? {
    out = { adjustment = 1, cooldown = 180, threshold = var.scaling.lag.above, operator = "GreaterThanThreshold", periods = 3 }
    in  = { adjustment = -1, cooldown = 600, threshold = var.scaling.lag.below, operator = "LessThanThreshold", periods = 15 }
  } : {}
}

resource "aws_appautoscaling_policy" "lag" {
  for_each = local.steps

  name               = "${local.family}-lag-${each.key}"
  policy_type        = "StepScaling"
  service_namespace  = aws_appautoscaling_target.this[0].service_namespace
  resource_id        = aws_appautoscaling_target.this[0].resource_id
  scalable_dimension = aws_appautoscaling_target.this[0].scalable_dimension

  step_scaling_policy_configuration {
    adjustment_type         = "ChangeInCapacity"
    cooldown                = each.value.cooldown
    metric_aggregation_type = "Average"

    step_adjustment {
      scaling_adjustment          = each.value.adjustment
      metric_interval_lower_bound = each.key == "out" ? "0" : null
      metric_interval_upper_bound = each.key == "in" ? "0" : null
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "lag" {
  for_each = local.steps

  alarm_name          = "${local.family}-scale-${each.key}"
  alarm_description   = "Scales ${local.family} ${each.key} by the lag of its consumer group. It tells nobody."
  comparison_operator = each.value.operator
  threshold           = each.value.threshold
  evaluation_periods  = each.value.periods
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_appautoscaling_policy.lag[each.key].arn]

  metric_query {
    id          = "lag"
    expression  = join(" + ", [for index, topic in var.scaling.lag.topics : "FILL(t${index}, 0)"])
    label       = "records behind"
    return_data = true
  }

  dynamic "metric_query" {
    for_each = { for index, topic in var.scaling.lag.topics : "t${index}" => topic }

    content {
      id = metric_query.key

      metric {
        namespace   = "AWS/Kafka"
        metric_name = "SumOffsetLag"
        period      = 60
        stat        = "Maximum"
        dimensions = {
          "Cluster Name"   = var.scaling.lag.cluster_name
          "Consumer Group" = var.scaling.lag.group
          "Topic"          = metric_query.value
        }
      }
    }
  }
}
