variable "bucket" {
  description = "The name of the lake's bucket, unique in all of AWS. Its access logs go to a second bucket, BUCKET-logs."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,56}[a-z0-9]$", var.bucket))
    error_message = "bucket: 3 to 58 lower-case letters, digits and hyphens (dots break TLS to virtual hosts)."
  }
}

variable "noncurrent_days" {
  description = "How long deleted and replaced objects can be brought back. They are paid for as long."
  type        = number
  default     = 14

  validation {
    condition     = var.noncurrent_days >= 1 && var.noncurrent_days <= 3650 && floor(var.noncurrent_days) == var.noncurrent_days
    error_message = "noncurrent_days: a whole number from 1 to 3650."
  }
}

variable "tier_after_days" {
  description = "Objects of raw/ move to Intelligent-Tiering after so many days. 0: never."
  type        = number
  default     = 30

  validation {
    condition     = var.tier_after_days >= 0 && floor(var.tier_after_days) == var.tier_after_days
    error_message = "tier_after_days: 0 or a whole number of days."
  }
}

variable "prefix" {
  description = "The prefix of the lake in the bucket, without slashes at its ends."
  type        = string
  default     = "lake"

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$", var.prefix))
    error_message = "prefix: letters, digits, hyphens and underscores, with slashes between parts."
  }
}

variable "access_log_days" {
  description = "How long the access logs of the bucket are kept."
  type        = number
  default     = 90

  validation {
    condition     = var.access_log_days >= 1
    error_message = "access_log_days: at least 1."
  }
}

variable "key_deletion_days" {
  description = "How long a deleted key can be brought back. After that the lake cannot be read by anybody."
  type        = number
  default     = 30

  validation {
    condition     = var.key_deletion_days >= 7 && var.key_deletion_days <= 30
    error_message = "key_deletion_days: 7 to 30."
  }
}

variable "force_destroy" {
  description = "Whether terraform destroy may delete a bucket that has objects. Only for tests and trials."
  type        = bool
  default     = false
}
