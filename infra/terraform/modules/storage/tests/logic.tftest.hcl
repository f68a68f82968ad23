# The bucket is private, encrypted and versioned, whatever is asked for.

mock_provider "aws" {
  override_data {
    target = data.aws_caller_identity.current
    values = { account_id = "123456789012" }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws:kms:eu-central-1:123456789012:key/k" }
  }
}

variables {
  bucket = "some-lake"
}

run "private_encrypted_versioned" {
  command = apply

  assert {
    condition     = aws_s3_bucket_versioning.lake.versioning_configuration[0].status == "Enabled"
    error_message = "versions are how a deleted object comes back"
  }

  assert {
    condition     = one(one(aws_s3_bucket_server_side_encryption_configuration.lake.rule).apply_server_side_encryption_by_default).sse_algorithm == "aws:kms"
    error_message = "objects are encrypted with the lake's key"
  }

  assert {
    condition     = output.lake_uri == "s3://${aws_s3_bucket.lake.id}/lake"
    error_message = "the address of the lake is ${output.lake_uri}"
  }

  assert {
    condition     = [for statement in data.aws_iam_policy_document.lake.statement : statement.sid] == ["TlsOnly", "Tls12OrNewer", "NoOtherKey"]
    error_message = "the bucket's policy must refuse connections without TLS, and other keys"
  }
}

run "no_tiers" {
  command = plan

  variables {
    tier_after_days = 0
  }

  assert {
    condition     = length(aws_s3_bucket_lifecycle_configuration.lake.rule) == 2
    error_message = "0 days: no rule for tiers"
  }
}

run "dots_break_tls" {
  command = plan

  variables {
    bucket = "some.lake"
  }

  expect_failures = [var.bucket]
}

run "keys_need_a_week" {
  command = plan

  variables {
    key_deletion_days = 3
  }

  expect_failures = [var.key_deletion_days]
}
