variable "name" {
  description = "The name of the schedules' group, of their role and of the dead-letter queue."
  type        = string
}

variable "cluster_arn" {
  description = "The ECS cluster that the tasks run in."
  type        = string
}

variable "jobs" {
  description = "By name: when which task is started. expression is rate(...) or cron(...) of EventBridge Scheduler; flexible_minutes spreads starts; retries and retry_for_seconds are about starting the task, not about its exit code."
  type = map(object({
    expression          = string
    task_definition_arn = string
    enabled             = optional(bool, true)
    flexible_minutes    = optional(number, 0)
    retries             = optional(number, 8)
    retry_for_seconds   = optional(number, 3600)
  }))

  validation {
    condition     = alltrue([for job in var.jobs : can(regex("^(rate|cron|at)\\(.+\\)$", job.expression))])
    error_message = "jobs: expression must be rate(...), cron(...) or at(...)."
  }

  validation {
    condition     = alltrue([for job in var.jobs : job.retries >= 0 && job.retries <= 185 && job.retry_for_seconds >= 60 && job.retry_for_seconds <= 86400])
    error_message = "jobs: retries 0 to 185, retry_for_seconds 60 to 86400."
  }

  validation {
    condition     = alltrue([for job in var.jobs : job.flexible_minutes >= 0 && job.flexible_minutes <= 1440])
    error_message = "jobs: flexible_minutes 0 to 1440."
  }
}

variable "time_zone" {
  description = "The zone (IANA name) of cron expressions."
  type        = string
  default     = "UTC"
}

variable "pass_role_arns" {
  description = "The roles of the tasks and of their start, which the scheduler must be allowed to pass on."
  type        = set(string)
}

variable "subnet_ids" {
  description = "The subnets of the tasks."
  type        = list(string)
}

variable "security_group_ids" {
  description = "The security groups of the tasks."
  type        = list(string)
}

variable "assign_public_ip" {
  description = "Whether tasks get a public address: only where they are in public subnets without NAT."
  type        = bool
  default     = false
}

variable "kms_key_arn" {
  description = "The key of the schedules and of the queue. Its policy must admit EventBridge Scheduler."
  type        = string
}

variable "permissions_boundary_arn" {
  description = "A permissions boundary of the role, where the account demands one."
  type        = string
  default     = null
}
