output "lake_uri" {
  description = "The lake."
  value       = module.storage.lake_uri
}

output "registry_url" {
  description = "Where the image is pushed to."
  value       = module.registry.url
}

output "address" {
  description = "The load balancer of the dashboard and the API: point the name of the certificate to it."
  value       = module.balancer.dns_name
}

output "task_definitions" {
  description = "By part: the task definition."
  value = merge(
    { speed = module.speed.task_definition_arn, serving = module.serving.task_definition_arn },
    { for name, job in module.job : name => job.task_definition_arn },
  )
}

output "policies" {
  description = "By part: what its role may do."
  value       = module.access.policies
}

output "alarm_names" {
  description = "The alarms."
  value       = module.observability.alarm_names
}

output "glue_database" {
  description = "The database that Athena asks."
  value       = module.catalog.database
}
