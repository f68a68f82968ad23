output "kms_key_arn" {
  description = "The key of logs, queues, secrets and alarms."
  value       = aws_kms_key.this.arn
}

output "topic_arn" {
  description = "The topic of alarms. `adlake alarms` and others may publish to it, with a policy of their own."
  value       = aws_sns_topic.alarms.arn
}

output "alarm_names" {
  description = "The alarms."
  value       = sort([for alarm in aws_cloudwatch_metric_alarm.this : alarm.alarm_name])
}

output "dashboard_name" {
  description = "The dashboard."
  value       = aws_cloudwatch_dashboard.this.dashboard_name
}
