variable "name" {
  description = "The name of the load balancer."
  type        = string

  validation {
    condition     = length(var.name) <= 28
    error_message = "name: at most 28 characters."
  }
}

variable "vpc_id" {
  description = "The VPC."
  type        = string
}

variable "subnet_ids" {
  description = "At least two subnets in different zones: public ones, or private ones with internal = true."
  type        = list(string)

  validation {
    condition     = length(var.subnet_ids) >= 2
    error_message = "subnet_ids: a load balancer needs two zones."
  }
}

variable "internal" {
  description = "Whether the load balancer is reached from within the VPC (and what is connected to it) only."
  type        = bool
  default     = true
}

variable "certificate_arn" {
  description = "The certificate (ACM) of the name under which people come."
  type        = string

  validation {
    condition     = can(regex("^arn:[^:]+:acm:", var.certificate_arn))
    error_message = "certificate_arn: the ARN of a certificate in ACM."
  }
}

variable "client_cidrs" {
  description = "Who may connect."
  type        = set(string)

  validation {
    condition     = length(var.client_cidrs) > 0 && alltrue([for cidr in var.client_cidrs : can(cidrhost(cidr, 0))])
    error_message = "client_cidrs: at least one range of addresses, like 10.0.0.0/8."
  }
}

variable "port" {
  description = "The port of adlake serve."
  type        = number
  default     = 8080
}

variable "log_bucket" {
  description = "A bucket for access logs, whose policy admits the load balancers' delivery. Null: none are written."
  type        = string
  default     = null
}

variable "deletion_protection" {
  description = "Whether the load balancer must be unprotected before it can be deleted."
  type        = bool
  default     = true
}
