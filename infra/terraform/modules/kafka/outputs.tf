output "brokers" {
  description = "What adlake calls kafka.brokers."
  value       = local.brokers
}

output "environment" {
  description = "The variables with which adlake connects."
  value = merge(
    { ADLAKE_KAFKA__BROKERS = local.brokers },
    local.auth == "iam" ? { ADLAKE_KAFKA__AUTH = "msk_iam" } : {},
    local.auth == "tls" ? { ADLAKE_KAFKA__PROPERTIES__SECURITY_PROTOCOL = "SSL" } : {},
    local.auth == "scram" ? {
      ADLAKE_KAFKA__PROPERTIES__SECURITY_PROTOCOL = "SASL_SSL"
      ADLAKE_KAFKA__PROPERTIES__SASL_MECHANISMS   = "SCRAM-SHA-512"
    } : {},
  )
}

output "secrets" {
  description = "The variables that ECS takes from the secret: names, and where the values are. None but with SCRAM."
  value = local.auth == "scram" ? {
    ADLAKE_KAFKA__PROPERTIES__SASL_USERNAME = "${local.secret_arn}:username::"
    ADLAKE_KAFKA__PROPERTIES__SASL_PASSWORD = "${local.secret_arn}:password::"
  } : {}
}

output "secret_arns" {
  description = "The secrets that the execution role must read. None but with SCRAM."
  value       = local.auth == "scram" ? [local.secret_arn] : []
}

output "auth" {
  description = "How adlake logs in: iam, scram, tls or plaintext."
  value       = local.auth
}

output "port" {
  description = "The port that clients connect to."
  value       = var.existing == null ? local.ports[var.auth] : var.existing.port
}

output "cluster_name" {
  description = "The name of the MSK cluster, for its metrics. Null: it is none, or it is not known."
  value       = var.existing == null ? var.name : var.existing.cluster_name
}

output "cluster_arn" {
  description = "The ARN of the MSK cluster, if it is known."
  value       = var.existing == null ? try(aws_msk_cluster.this[0].arn, null) : var.existing.cluster_arn
}

locals {
  secret_arn = var.existing == null ? try(aws_secretsmanager_secret.scram[0].arn, "") : var.existing.credentials_arn
}
