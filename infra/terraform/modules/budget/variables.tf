variable "name" {
  description = "The name of the budget."
  type        = string
}

variable "monthly_usd" {
  description = "What a month may cost, in US dollars."
  type        = number

  validation {
    condition     = var.monthly_usd > 0
    error_message = "monthly_usd: more than 0."
  }
}

variable "emails" {
  description = "Who is told at 80 % (actual), at 100 % (forecast) and at 100 % (actual)."
  type        = set(string)

  validation {
    condition     = length(var.emails) > 0 && alltrue([for email in var.emails : can(regex("^[^@ ]+@[^@ ]+$", email))])
    error_message = "emails: at least one address."
  }
}

variable "tag" {
  description = "Only costs of resources with this tag count, as key and value. The tag must be activated as a cost allocation tag. Null: all costs of the account."
  type        = object({ key = string, value = string })
  default     = null
}
