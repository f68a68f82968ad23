variable "region" {
  description = "The region."
  type        = string
  default     = "eu-central-1"
}

variable "name" {
  description = "The name of the deployment."
  type        = string
  default     = "adlake"
}

variable "bucket" {
  description = "The name of the lake's bucket, unique in all of AWS."
  type        = string
}

variable "zones" {
  description = "Three availability zones."
  type        = list(string)
  default     = ["eu-central-1a", "eu-central-1b", "eu-central-1c"]

  validation {
    condition     = length(var.zones) == 3
    error_message = "zones: three, so that the loss of one stops nothing."
  }
}

variable "image" {
  description = "The image of adlake. It can be pushed to the repository that this makes; apply module.registry first."
  type        = string
}

variable "certificate_arn" {
  description = "The certificate (ACM) of the name under which people open the dashboard."
  type        = string
}

variable "client_cidrs" {
  description = "Who may reach the dashboard and the API."
  type        = set(string)
  default     = ["10.0.0.0/8"]
}

variable "keys_secret_arn" {
  description = "A secret with the text of a keys file (adlake keys create writes it), and key cursor_secret beside it: JSON with keys and cursor_secret."
  type        = string
}

variable "alarm_emails" {
  description = "Who is told of alarms and of costs."
  type        = set(string)
}

variable "pagerduty_address" {
  description = "The integration address of PagerDuty for CloudWatch. Null: none."
  type        = string
  default     = null
}

variable "monthly_usd" {
  description = "What a month may cost."
  type        = number
  default     = 2500
}

variable "configuration" {
  description = "The text of an adlake.toml: what the events are named, windows, zones. Every part gets the same."
  type        = string
  default     = ""
}

variable "alarm_metrics" {
  description = "Whether the server publishes its alarms about campaigns to CloudWatch: two metrics for each rule, about $0.30 a month each."
  type        = bool
  default     = false
}

variable "trial" {
  description = "Whether everything may be destroyed with all that is in it."
  type        = bool
  default     = false
}
