variable "name" {
  description = "The name of the cluster."
  type        = string
}

variable "auth" {
  description = "How adlake logs in to a new cluster: iam (the role of its task, whose rights module access limits to topics and a group) or scram (a password in Secrets Manager). An existing cluster says it in existing.authentication."
  type        = string
  default     = "iam"

  validation {
    condition     = contains(["iam", "scram"], var.auth)
    error_message = "auth: iam or scram."
  }
}

variable "existing" {
  description = "A cluster that is there already. Then this module makes none, and passes on what is said here. Port 9098 and cluster_arn go with IAM, 9096 with SCRAM on MSK. cluster_name is for alarms of an MSK cluster."
  type = object({
    brokers             = string
    authentication      = optional(string, "scram")
    credentials_arn     = optional(string)
    credentials_key_arn = optional(string)
    security_group_id   = optional(string)
    port                = optional(number, 9096)
    cluster_name        = optional(string)
    cluster_arn         = optional(string)
  })
  default = null

  validation {
    condition     = var.existing == null ? true : contains(["iam", "scram", "tls", "plaintext"], var.existing.authentication)
    error_message = "existing.authentication: iam (MSK only), scram, tls (encrypted, nobody is asked who they are) or plaintext."
  }

  validation {
    condition     = var.existing == null ? true : (var.existing.authentication != "iam" || can(regex("^arn:[^:]+:kafka:[^:]+:[0-9]+:cluster/[^/]+/[^/]+$", var.existing.cluster_arn)))
    error_message = "existing.cluster_arn: with iam, the ARN of the MSK cluster (arn:...:cluster/NAME/ID): the permissions are made of it."
  }

  validation {
    condition     = var.existing == null ? true : (var.existing.authentication != "scram" || var.existing.credentials_arn != null)
    error_message = "existing.credentials_arn: with scram, name the secret that holds username and password as JSON."
  }

  validation {
    condition     = var.existing == null ? true : alltrue([for broker in split(",", var.existing.brokers) : can(regex("^[^:, ]+:[0-9]+$", broker))])
    error_message = "existing.brokers: host:port, comma-separated."
  }
}

variable "vpc_id" {
  description = "The VPC of a new cluster."
  type        = string
  default     = null
}

variable "subnet_ids" {
  description = "The subnets of the brokers, one for each of two or three zones."
  type        = list(string)
  default     = []

  validation {
    condition     = length(var.subnet_ids) == 0 || contains([2, 3], length(var.subnet_ids))
    error_message = "subnet_ids: two or three subnets, each in another zone."
  }
}

variable "client_security_group_ids" {
  description = "Who may connect, by a name of yours."
  type        = map(string)
  default     = {}
}

variable "kafka_version" {
  description = "The version of Apache Kafka."
  type        = string
  default     = "3.8.x"
}

variable "instance_type" {
  description = "The type of the brokers."
  type        = string
  default     = "kafka.m7g.large"

  validation {
    condition     = startswith(var.instance_type, "kafka.")
    error_message = "instance_type: MSK's types begin with kafka."
  }
}

variable "volume_gib" {
  description = "The disk of each broker."
  type        = number
  default     = 100

  validation {
    condition     = var.volume_gib >= 1 && var.volume_gib <= 16384
    error_message = "volume_gib: 1 to 16384."
  }
}

variable "retention_hours" {
  description = "How long the brokers keep records. It is the longest time that ingest may be down without a loss."
  type        = number
  default     = 72

  validation {
    condition     = var.retention_hours >= 24
    error_message = "retention_hours: at least 24: ingest must be able to be down for a night."
  }
}

variable "kms_key_arn" {
  description = "The key of the disks and of the secret. MSK wants a key of yours for the secret."
  type        = string
  default     = null
}

variable "log_group_name" {
  description = "The log group that brokers log to."
  type        = string
  default     = null
}
