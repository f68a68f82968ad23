variable "name" {
  description = "The name of the deployment, which log groups begin with."
  type        = string
}

variable "part" {
  description = "The name of this part, like speed, serving or batch-run."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,24}$", var.part))
    error_message = "part: lower-case letters, digits and hyphens, a letter first."
  }
}

variable "command" {
  description = "The arguments of adlake, like [\"ingest\", \"kafka\"]. The image's entry point is the program."
  type        = list(string)

  validation {
    condition     = length(var.command) > 0
    error_message = "command: at least one argument."
  }
}

variable "image" {
  description = "The image of adlake, by tag or digest."
  type        = string

  validation {
    condition     = !endswith(var.image, ":latest") && can(regex("[:@]", var.image))
    error_message = "image: name a tag other than latest, or a digest: what runs must be known."
  }
}

variable "cpu" {
  description = "CPU units of the task; 1024 are one vCPU."
  type        = number
  default     = 1024

  validation {
    condition     = contains([256, 512, 1024, 2048, 4096, 8192, 16384], var.cpu)
    error_message = "cpu: 256, 512, 1024, 2048, 4096, 8192 or 16384."
  }
}

variable "memory" {
  description = "Memory of the task, in MiB. Fargate takes two to eight GiB for each vCPU (from 512 MiB on for a quarter of one)."
  type        = number
  default     = 4096

  validation {
    condition     = var.memory >= (var.cpu == 256 ? 512 : var.cpu == 512 ? 1024 : var.cpu * 2) && var.memory <= (var.cpu == 256 ? 2048 : min(var.cpu * 8, 122880))
    error_message = "memory: Fargate takes 2 to 8 times the CPU units (256: 512 to 2048; 512: 1024 to 4096)."
  }
}

variable "disk_gib" {
  description = "The disk of the task, which adlake spills to. Fargate gives 20 without a charge."
  type        = number
  default     = 21

  validation {
    condition     = var.disk_gib >= 21 && var.disk_gib <= 200
    error_message = "disk_gib: 21 to 200."
  }
}

variable "architecture" {
  description = "ARM64 or X86_64. It must be that of the image."
  type        = string
  default     = "ARM64"

  validation {
    condition     = contains(["ARM64", "X86_64"], var.architecture)
    error_message = "architecture: ARM64 or X86_64."
  }
}

variable "environment" {
  description = "Variables that override the configuration: ADLAKE_<SECTION>__<KEY>."
  type        = map(string)
  default     = {}

  validation {
    condition     = !anytrue([for name in keys(var.environment) : can(regex("(?i)password|secret|token", name))])
    error_message = "environment: what is secret belongs into secrets."
  }
}

variable "secrets" {
  description = "Variables whose values ECS takes from Secrets Manager: names, and ARNs (with :key:: for a key of a JSON secret)."
  type        = map(string)
  default     = {}
}

variable "configuration" {
  description = "The text of an adlake.toml, for what is tedious as variables, like the mapping of fields. Empty: none."
  type        = string
  default     = ""
}

variable "cluster" {
  description = "The ECS cluster of a service: its name and ARN. Null: no service, only the task definition (for module schedule)."
  type        = object({ name = string, arn = string })
  default     = null
}

variable "subnet_ids" {
  description = "The subnets of the service's tasks."
  type        = list(string)
  default     = []
}

variable "security_group_ids" {
  description = "The security groups of the service's tasks."
  type        = list(string)
  default     = []
}

variable "assign_public_ip" {
  description = "Whether tasks get a public address: only where they are in public subnets without NAT."
  type        = bool
  default     = false
}

variable "task_role_arn" {
  description = "The role under which the program runs (module access)."
  type        = string
}

variable "execution_role_arn" {
  description = "The role with which ECS starts the task (module access)."
  type        = string
}

variable "health_port" {
  description = "The port of /healthz, which ECS asks. 0: the task is a job, and has none."
  type        = number
  default     = 0
}

variable "port" {
  description = "The port that the load balancer forwards to. 0: none."
  type        = number
  default     = 0
}

variable "target_group_arn" {
  description = "The target group of the load balancer, where port is given."
  type        = string
  default     = null
}

variable "scaling" {
  description = "How many tasks run, and by what they are scaled: cpu (percent), requests (per minute and task, by the load balancer) or lag (records of the consumer group). min = max: no scaling."
  type = object({
    min = optional(number, 1)
    max = optional(number, 1)
    cpu = optional(number)
    requests = optional(object({
      per_task       = number
      resource_label = string
    }))
    lag = optional(object({
      cluster_name = string
      group        = string
      topics       = list(string)
      above        = number
      below        = number
    }))
  })
  default = {}

  validation {
    condition     = var.scaling.min >= 0 && var.scaling.max >= var.scaling.min
    error_message = "scaling: 0 <= min <= max."
  }

  validation {
    condition     = var.scaling.lag == null ? true : (var.scaling.lag.above > var.scaling.lag.below && length(var.scaling.lag.topics) > 0)
    error_message = "scaling.lag: above must be more than below, and topics must not be empty."
  }
}

variable "metrics" {
  description = "An agent beside the program that reads its Prometheus metrics and sends them to CloudWatch. Null: none."
  type = object({
    port      = number
    image     = optional(string, "public.ecr.aws/cloudwatch-agent/cloudwatch-agent:1.300060.0b1248")
    namespace = optional(string, "adlake")
    interval  = optional(string, "30s")
  })
  default = null
}

variable "stop_seconds" {
  description = "How long ECS waits after SIGTERM. It must be longer than ingest.shutdown_deadline (30 s); Fargate takes 120 at most."
  type        = number
  default     = 60

  validation {
    condition     = var.stop_seconds >= 2 && var.stop_seconds <= 120
    error_message = "stop_seconds: 2 to 120."
  }
}

variable "log_days" {
  description = "How long logs are kept."
  type        = number
  default     = 365
}

variable "kms_key_arn" {
  description = "The key of the logs. Its policy must admit CloudWatch Logs."
  type        = string
  default     = null
}
