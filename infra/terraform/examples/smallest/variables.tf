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

variable "zone" {
  description = "The availability zone."
  type        = string
  default     = "eu-central-1a"
}

variable "image" {
  description = "The image of adlake."
  type        = string
}

variable "brokers" {
  description = "A Kafka that can be reached from the internet by TLS: host:port, comma-separated."
  type        = string
}

variable "credentials_arn" {
  description = "A secret with username and password (SCRAM-SHA-512) as JSON."
  type        = string
}

variable "alarm_email" {
  description = "Who is told of alarms and of costs."
  type        = string
}
