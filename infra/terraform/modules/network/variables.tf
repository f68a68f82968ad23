variable "name" {
  description = "The name that all resources begin with."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,20}$", var.name))
    error_message = "name: 2 to 21 lower-case letters, digits and hyphens, a letter first."
  }
}

variable "cidr" {
  description = "The addresses of the VPC. It is cut into 16 subnets, so /16 to /24."
  type        = string
  default     = "10.40.0.0/16"

  validation {
    condition     = can(cidrhost(var.cidr, 0)) && try(tonumber(split("/", var.cidr)[1]) >= 16 && tonumber(split("/", var.cidr)[1]) <= 24, false)
    error_message = "cidr: an IPv4 range with a prefix of 16 to 24 bits, like 10.40.0.0/16."
  }
}

variable "zones" {
  description = "The availability zones. MSK and the load balancer need two or three."
  type        = list(string)

  validation {
    condition     = length(var.zones) >= 1 && length(var.zones) <= 4 && length(distinct(var.zones)) == length(var.zones)
    error_message = "zones: one to four different availability zones."
  }
}

variable "nat" {
  description = "NAT gateways: none (tasks run in public subnets, or reach AWS by endpoints only), single, or per_zone."
  type        = string
  default     = "single"

  validation {
    condition     = contains(["none", "single", "per_zone"], var.nat)
    error_message = "nat: none, single or per_zone."
  }
}

variable "interface_endpoints" {
  description = "AWS services that are reached within the VPC, like ecr.api, ecr.dkr, logs, kms, secretsmanager, sts. Each costs by the hour and zone."
  type        = set(string)
  default     = []
}

variable "flow_log_days" {
  description = "How long the flow logs of the VPC are kept. 0: none are written."
  type        = number
  default     = 365

  validation {
    condition     = contains([0, 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731], var.flow_log_days)
    error_message = "flow_log_days: 0, or a number of days that CloudWatch Logs knows: 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731."
  }
}

variable "kms_key_arn" {
  description = "The key that flow logs are encrypted with. Its policy must admit CloudWatch Logs."
  type        = string
  default     = null
}
