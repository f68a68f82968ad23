variable "name" {
  description = "The name that the roles begin with."
  type        = string
}

variable "bucket_arn" {
  description = "The bucket of the lake."
  type        = string
}

variable "prefix" {
  description = "The prefix of the lake in the bucket, without slashes at its ends."
  type        = string

  validation {
    condition     = var.prefix != "" && trim(var.prefix, "/") == var.prefix
    error_message = "prefix: not empty, and no slash at its ends."
  }
}

variable "lake_kms_key_arn" {
  description = "The key of the lake's objects."
  type        = string
}

variable "secret_arns" {
  description = "By part: the secrets that ECS gives its containers. Parts: speed, serving, batch, maintenance, operator."
  type        = map(list(string))
  default     = {}

  validation {
    condition     = alltrue([for part in keys(var.secret_arns) : contains(["speed", "serving", "batch", "maintenance", "operator"], part)])
    error_message = "secret_arns: the parts are speed, serving, batch, maintenance and operator."
  }
}

variable "secret_kms_key_arns" {
  description = "The keys that these secrets are encrypted with."
  type        = list(string)
  default     = []
}

variable "landing" {
  description = "Prefixes of S3 that speed reads files from, as ARNs that end in /*, with the ARN of their bucket."
  type        = list(object({ bucket_arn = string, objects_arn = string }))
  default     = []

  validation {
    condition     = alltrue([for place in var.landing : endswith(place.objects_arn, "/*")])
    error_message = "landing: objects_arn must end in /*."
  }
}

variable "kafka_iam" {
  description = "The MSK cluster that speed reads from with its role, the topics, and the consumer group. Null: speed logs in otherwise."
  type        = object({ cluster_arn = string, topics = list(string), group = string })
  default     = null

  validation {
    condition     = var.kafka_iam == null ? true : length(var.kafka_iam.topics) > 0 && alltrue([for name in concat(var.kafka_iam.topics, [var.kafka_iam.group]) : can(regex("^[A-Za-z0-9._-]+$", name))])
    error_message = "kafka_iam: name at least one topic, and the group, without wildcards."
  }
}

variable "metrics_namespace" {
  description = "The namespace of CloudWatch in which serving publishes its alarms about campaigns (alarms.cloudwatch.namespace). Null: it publishes none."
  type        = string
  default     = null
}

variable "glue_database" {
  description = "The Glue database whose tables batch runs keep true. Null: none."
  type        = string
  default     = null
}

variable "permissions_boundary_arn" {
  description = "A permissions boundary of all roles, where the account demands one."
  type        = string
  default     = null
}
