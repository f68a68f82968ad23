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

run "no_database_no_glue" {
  command = plan

  assert {
    condition     = alltrue(flatten([for document in data.aws_iam_policy_document.task : [for statement in document.statement : [for action in statement.actions : !startswith(action, "glue:")]]]))
    error_message = "without a database nobody needs Glue"
  }
}

run "only_batch_writes_the_catalogue_and_only_its_database" {
  command = plan

  variables {
    glue_database = "lake"
  }

  assert {
    condition     = [for part, document in data.aws_iam_policy_document.task : part if anytrue(flatten([for statement in document.statement : [for action in statement.actions : startswith(action, "glue:")]]))] == ["batch"]
    error_message = "batch runs tell the catalogue, and nobody else does"
  }

  assert {
    condition     = alltrue(flatten([for statement in data.aws_iam_policy_document.task["batch"].statement : [for resource in statement.resources : endswith(resource, ":catalog") || endswith(resource, ":database/lake") || endswith(resource, ":table/lake/*")] if statement.sid == "Catalog"]))
    error_message = "no other database may be touched"
  }

  assert {
    condition     = alltrue(flatten([for statement in data.aws_iam_policy_document.task["batch"].statement : [for action in statement.actions : !startswith(action, "glue:Delete")]]))
    error_message = "no table is deleted"
  }
}

run "speed_reads_its_topics_and_does_nothing_else_in_kafka" {
  command = plan

  variables {
    kafka_iam = { cluster_arn = "arn:aws:kafka:eu-central-1:123456789012:cluster/t/u-1", topics = ["a", "b"], group = "g" }
  }

  assert {
    condition     = [for part, document in data.aws_iam_policy_document.task : part if anytrue(flatten([for statement in document.statement : [for action in statement.actions : startswith(action, "kafka-cluster:")]]))] == ["speed"]
    error_message = "no part but speed connects to the brokers"
  }

  assert {
    condition = jsonencode({ for statement in data.aws_iam_policy_document.task["speed"].statement : statement.sid => sort(statement.resources) if startswith(coalesce(statement.sid, "-"), "Kafka") }) == jsonencode({
      KafkaCluster = ["arn:aws:kafka:eu-central-1:123456789012:cluster/t/u-1"]
      KafkaGroup   = ["arn:aws:kafka:eu-central-1:123456789012:group/t/u-1/g"]
      KafkaTopics  = ["arn:aws:kafka:eu-central-1:123456789012:topic/t/u-1/a", "arn:aws:kafka:eu-central-1:123456789012:topic/t/u-1/b"]
    })
    error_message = "the cluster, the named topics and the group, and nothing beside them"
  }

  assert {
    condition     = toset(flatten([for statement in data.aws_iam_policy_document.task["speed"].statement : [for action in statement.actions : action if startswith(action, "kafka-cluster:")]])) == toset(["kafka-cluster:Connect", "kafka-cluster:DescribeCluster", "kafka-cluster:DescribeTopic", "kafka-cluster:ReadData", "kafka-cluster:DescribeGroup", "kafka-cluster:AlterGroup"])
    error_message = "speed reads: it neither writes records nor makes topics"
  }
}

run "no_wildcard_topics" {
  command = plan

  variables {
    kafka_iam = { cluster_arn = "arn:aws:kafka:eu-central-1:123456789012:cluster/t/u-1", topics = ["*"], group = "g" }
  }

  expect_failures = [var.kafka_iam]
}

run "serving_publishes_in_its_namespace_only" {
  command = plan

  variables {
    metrics_namespace = "adlake"
  }

  assert {
    condition     = [for statement in data.aws_iam_policy_document.task["serving"].statement : [for condition in statement.condition : condition.values] if contains(statement.actions, "cloudwatch:PutMetricData")] == [[tolist(["adlake"])]]
    error_message = "metrics of other namespaces are not ours"
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
