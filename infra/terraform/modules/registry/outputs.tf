output "url" {
  description = "The address of the repository, to push to."
  value       = aws_ecr_repository.this.repository_url
}

output "arn" {
  description = "The ARN of the repository."
  value       = aws_ecr_repository.this.arn
}
