output "lake_uri" {
  description = "The lake."
  value       = module.storage.lake_uri
}

output "alarm_names" {
  description = "The alarms."
  value       = module.observability.alarm_names
}

output "policies" {
  description = "By part: what its role may do."
  value       = module.access.policies
}
