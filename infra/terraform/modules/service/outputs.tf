output "task_definition_arn" {
  description = "The task definition, with its revision."
  value       = aws_ecs_task_definition.this.arn
}

output "family" {
  description = "The family of the task definition."
  value       = aws_ecs_task_definition.this.family
}

output "service_name" {
  description = "The ECS service. Null: there is none."
  value       = try(aws_ecs_service.this[0].name, null)
}

output "log_group_name" {
  description = "Where the part logs."
  value       = aws_cloudwatch_log_group.this.name
}

output "environment" {
  description = "The variables of the program, without the secrets."
  value       = local.environment
}
