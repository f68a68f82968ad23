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

variable "image" {
  description = "The image of adlake."
  type        = string
}

variable "vpc_id" {
  description = "The VPC in which the brokers are reached."
  type        = string
}

variable "subnet_ids" {
  description = "Its private subnets, with a way to AWS (NAT or endpoints)."
  type        = list(string)
}

variable "kafka" {
  description = "The cluster, as variable existing of module kafka describes it."
  type = object({
    brokers         = string
    authentication  = string
    credentials_arn = optional(string)
    port            = number
    cluster_name    = optional(string)
    cluster_arn     = optional(string)
  })
}

variable "secret_kms_key_arns" {
  description = "The keys of that secret, where it has one of yours."
  type        = list(string)
  default     = []
}

variable "topics" {
  description = "The topics, by kind of event. An empty one is not read."
  type        = object({ impressions = string, interactions = string, bid_requests = string })
  default     = { impressions = "ad-impressions", interactions = "clicks-conversions", bid_requests = "bid-requests" }
}

variable "alarm_emails" {
  description = "Who is told of alarms and of costs."
  type        = set(string)
}

variable "monthly_usd" {
  description = "What a month may cost."
  type        = number
  default     = 300
}
