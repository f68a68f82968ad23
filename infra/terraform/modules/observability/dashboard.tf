# One page for whoever is called at night.

locals {
  region = data.aws_region.current.name

  graphs = concat(
    var.ingest == null ? [] : [
      { title = "Age of the oldest uncommitted record (s)", stat = "Maximum", lines = [[local.namespace, "adlake_ingest_freshness_seconds", "deployment", var.name, "part", local.of_ingest.part]] },
      { title = "Rows and dead letters", stat = "Sum", lines = [
        [local.namespace, "adlake_ingest_rows_total", "deployment", var.name, "part", local.of_ingest.part],
        [local.namespace, "adlake_ingest_rejected_total", "deployment", var.name, "part", local.of_ingest.part],
      ] },
    ],
    var.kafka == null ? [] : [
      { title = "Lag (records)", stat = "Maximum", lines = [for topic in var.kafka.topics :
      ["AWS/Kafka", "SumOffsetLag", "Cluster Name", var.kafka.cluster_name, "Consumer Group", var.kafka.group, "Topic", topic]] },
    ],
    length(var.jobs) == 0 ? [] : [
      { title = "Jobs that ended well", stat = "Sum", lines = [for job in keys(var.jobs) :
      ["AWS/Events", "TriggeredRules", "RuleName", "${var.name}-${job}-succeeded"]] },
    ],
    var.balancer == null ? [] : [
      { title = "Time to answer, p99 (s)", stat = "p99", lines = [["AWS/ApplicationELB", "TargetResponseTime", "LoadBalancer", var.balancer.dimensions.LoadBalancer, "TargetGroup", var.balancer.dimensions.TargetGroup]] },
      { title = "Requests and errors", stat = "Sum", lines = [for metric in ["RequestCount", "HTTPCode_Target_5XX_Count"] :
      ["AWS/ApplicationELB", metric, "LoadBalancer", var.balancer.dimensions.LoadBalancer, "TargetGroup", var.balancer.dimensions.TargetGroup]] },
    ],
    length(var.log_groups) == 0 ? [] : [
      { title = "Errors in the logs", stat = "Sum", lines = [for part in keys(var.log_groups) : ["adlake/${var.name}", "errors-${part}"]] },
    ],
  )
}

resource "aws_cloudwatch_dashboard" "this" {
  dashboard_name = var.name
  dashboard_body = jsonencode({
    widgets = concat(
      [{
        type       = "alarm", x = 0, y = 0, width = 24, height = 3
        properties = { title = "Alarms", alarms = [for alarm in aws_cloudwatch_metric_alarm.this : alarm.arn] }
      }],
      [for index, graph in local.graphs : {
        type       = "metric", x = index % 2 * 12, y = 3 + floor(index / 2) * 6, width = 12, height = 6
        properties = { title = graph.title, region = local.region, stat = graph.stat, period = 60, metrics = graph.lines, view = "timeSeries" }
      }],
    )
  })
}
