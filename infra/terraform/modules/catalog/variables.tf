variable "name" {
  description = "The name of the Athena workgroup."
  type        = string
}

variable "database" {
  description = "The Glue database."
  type        = string

  validation {
    condition     = can(regex("^[a-z_][a-z0-9_]{0,250}$", var.database))
    error_message = "database: lower-case letters, digits and underscores."
  }
}

variable "lake_uri" {
  description = "The lake, s3://bucket/prefix."
  type        = string

  validation {
    condition     = can(regex("^s3://[^/]+/.+[^/]$", var.lake_uri))
    error_message = "lake_uri: s3://bucket/prefix, without a slash at its end."
  }
}

variable "kms_key_arn" {
  description = "The key that encrypts the results of queries."
  type        = string
}

variable "scan_bytes_max" {
  description = "The most bytes that one query in Athena may read. Athena charges by them."
  type        = number
  default     = 1099511627776

  validation {
    condition     = var.scan_bytes_max >= 10485760
    error_message = "scan_bytes_max: at least 10 MiB (10485760)."
  }
}

variable "force_destroy" {
  description = "Whether terraform destroy may delete a workgroup that has queries."
  type        = bool
  default     = false
}
