variable "name" {
  description = "The name of the deployment."
  type        = string
}

variable "emails" {
  description = "Who is told of alarms by mail. Each must confirm the subscription once."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for email in var.emails : can(regex("^[^@ ]+@[^@ ]+$", email))])
    error_message = "emails: addresses."
  }
}

variable "https_endpoints" {
  description = "Where SNS posts alarms to, by a name of yours, like the integration address of PagerDuty."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for address in values(var.https_endpoints) : startswith(address, "https://")])
    error_message = "https_endpoints: addresses that begin with https://."
  }
}

variable "runbooks" {
  description = "Where the runbooks are. Each alarm's description links to its own."
  type        = string
  default     = "docs/runbooks"
}

variable "log_groups" {
  description = "By part: its log group. Errors in them are counted, and told of."
  type        = map(string)
  default     = {}
}

variable "errors_above" {
  description = "An alarm tells of more lines of level error than this in five minutes, by part."
  type        = number
  default     = 5
}

variable "ingest" {
  description = "The metrics that the agent beside the speed layer sends, and the bounds of alarms about them. Null: no such alarms."
  type = object({
    namespace               = optional(string, "adlake")
    part                    = optional(string, "speed")
    freshness_seconds_above = optional(number, 120)
    rejected_percent_above  = optional(number, 1)
  })
  default = null

  validation {
    condition     = var.ingest == null ? true : (var.ingest.freshness_seconds_above > 0 && var.ingest.rejected_percent_above > 0 && var.ingest.rejected_percent_above < 100)
    error_message = "ingest: freshness_seconds_above must be more than 0, rejected_percent_above between 0 and 100."
  }
}

variable "kafka" {
  description = "The consumer group whose lag MSK measures, and the bound of the alarm. Null: no such alarm."
  type = object({
    cluster_name  = string
    group         = string
    topics        = list(string)
    records_above = optional(number, 1000000)
  })
  default = null
}

variable "jobs" {
  description = "By name: the task family of a scheduled job, and how long may pass without one that ended well, in hours (1 to 168)."
  type        = map(object({ family = string, hours_max = number }))
  default     = {}

  validation {
    condition     = alltrue([for job in var.jobs : job.hours_max >= 1 && job.hours_max <= 168 && floor(job.hours_max) == job.hours_max])
    error_message = "jobs: hours_max is a whole number from 1 to 168 (CloudWatch looks back a week at most)."
  }
}

variable "dead_letter_queues" {
  description = "Queues in which nothing should be."
  type        = set(string)
  default     = []
}

variable "balancer" {
  description = "The load balancer of serving, as module balancer names its dimensions, and the bounds of alarms. Null: no such alarms."
  type = object({
    dimensions           = map(string)
    p99_seconds_above    = optional(number, 2)
    errors_percent_above = optional(number, 1)
  })
  default = null
}

variable "services" {
  description = "By part: the ECS service of which at least one task must run."
  type        = map(object({ cluster = string, service = string }))
  default     = {}
}

variable "key_deletion_days" {
  description = "How long the deleted key of logs, queues and alarms can be brought back."
  type        = number
  default     = 30

  validation {
    condition     = var.key_deletion_days >= 7 && var.key_deletion_days <= 30
    error_message = "key_deletion_days: 7 to 30."
  }
}
