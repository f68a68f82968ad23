output "bucket" {
  description = "The name of the lake's bucket."
  value       = aws_s3_bucket.lake.id
}

output "bucket_arn" {
  description = "The ARN of the lake's bucket."
  value       = aws_s3_bucket.lake.arn
}

output "prefix" {
  description = "The prefix of the lake in the bucket."
  value       = var.prefix
}

output "lake_uri" {
  description = "What adlake calls lake.uri."
  value       = "s3://${aws_s3_bucket.lake.id}/${var.prefix}"
}

output "kms_key_arn" {
  description = "The key of the objects."
  value       = aws_kms_key.lake.arn
}
