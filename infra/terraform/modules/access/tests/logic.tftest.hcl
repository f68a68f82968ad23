# Who may do what. tests/infra/least_privilege.py runs the program under the rendered policies.

mock_provider "aws" {
  override_data {
    target = data.aws_caller_identity.current
    values = { account_id = "123456789012" }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
}

variables {
  name             = "t"
  bucket_arn       = "arn:aws:s3:::b"
  prefix           = "lake"
  lake_kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:key/k"
  secret_arns      = { speed = ["arn:aws:secretsmanager:eu-central-1:123456789012:secret:s"] }
}

run "least_privilege" {
  command = plan

  assert {
    condition     = alltrue(flatten([for statement in data.aws_iam_policy_document.task["serving"].statement : [for resource in statement.resources : strcontains(resource, "/batch/alarms/")] if contains(statement.actions, "s3:PutObject") || contains(statement.actions, "s3:DeleteObject")]))
    error_message = "serving must write nothing but alarms"
  }

  assert {
    condition     = alltrue([for part in ["speed", "operator"] : alltrue([for statement in data.aws_iam_policy_document.task[part].statement : !contains(statement.actions, "s3:DeleteObject")])])
    error_message = "speed and operator must not delete"
  }

  assert {
    condition     = alltrue(flatten([for statement in data.aws_iam_policy_document.task["batch"].statement : [for resource in statement.resources : !startswith(resource, "arn:aws:s3:::b/lake/raw/")] if contains(statement.actions, "s3:PutObject") || contains(statement.actions, "s3:DeleteObject")]))
    error_message = "batch must not write raw data"
  }

  assert {
    condition     = alltrue(flatten([for document in data.aws_iam_policy_document.task : [for statement in document.statement : !contains(statement.actions, "*") && !contains(statement.actions, "s3:*") && !contains(statement.resources, "*")]]))
    error_message = "no role may do everything, or anything everywhere"
  }

  assert {
    condition     = [for part, document in data.aws_iam_policy_document.execution : part if anytrue([for statement in document.statement : contains(statement.actions, "secretsmanager:GetSecretValue")])] == ["speed"]
    error_message = "only the part that a secret is for may start with it"
  }
}

run "unknown_part" {
  command = plan

  variables {
    secret_arns = { spede = [] }
  }

  expect_failures = [var.secret_arns]
}

run "a_prefix_with_a_slash" {
  command = plan

  variables {
    prefix = "lake/"
  }

  expect_failures = [var.prefix]
}
