variable "name" {
  description = "The name of the repository of images."
  type        = string
}

variable "kms_key_arn" {
  description = "The key that images are encrypted with. Null: the one of the account."
  type        = string
  default     = null
}

variable "images_kept" {
  description = "How many images are kept. Older ones are deleted, so it bounds how far an upgrade can be taken back."
  type        = number
  default     = 20

  validation {
    condition     = var.images_kept >= 2
    error_message = "images_kept: at least 2, the image in force and the one before."
  }
}

variable "force_destroy" {
  description = "Whether terraform destroy may delete a repository that has images."
  type        = bool
  default     = false
}
