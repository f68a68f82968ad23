# A role for each part, with what the part does and no more. tests/infra runs the program behind a proxy that enforces these
# policies.
#
# | part | reads | writes | deletes |
# |---|---|---|---|
# | speed | raw, ref, landing prefixes; topics of Kafka | raw, ref (empty tables at the first start) | nothing |
# | serving | the lake | batch/alarms | the log entries and leases of batch/alarms |
# | batch (run, check, rollback, backfill) | the lake | batch; empty tables in ref; tables of the Glue database | the log entries and leases of batch |
# | maintenance (compact, vacuum, checkpoint) | the lake | raw, batch, ref | raw, batch, ref |
# | operator (ref load, deadletters replay) | the lake | raw, ref | nothing |

locals {
  lake = "${var.bucket_arn}/${var.prefix}"

  parts = {
    speed = {
      list   = ["${var.prefix}/raw/*", "${var.prefix}/ref/*", "${var.prefix}/batch/manifest/*"]
      read   = ["${local.lake}/raw/*", "${local.lake}/ref/*", "${local.lake}/batch/manifest/*"]
      write  = ["${local.lake}/raw/*", "${local.lake}/ref/*/_delta_log/*"]
      delete = []
    }
    serving = {
      list = ["${var.prefix}/*"]
      read = ["${local.lake}/*"]
      # The transitions of alarms, and the lease of the server that evaluates them.
      write  = ["${local.lake}/batch/alarms/*"]
      delete = ["${local.lake}/batch/alarms/_delta_log/*", "${local.lake}/batch/alarms/_lease/*"]
    }
    batch = {
      list = ["${var.prefix}/*"]
      read = ["${local.lake}/*"]
      # The second: a run makes the tables of reference data that nobody has loaded, empty.
      write  = ["${local.lake}/batch/*", "${local.lake}/ref/*/_delta_log/00000000000000000000.json"]
      delete = ["${local.lake}/batch/*/_delta_log/*", "${local.lake}/batch/manifest/_lease/*"]
    }
    maintenance = {
      list   = ["${var.prefix}/*"]
      read   = ["${local.lake}/*"]
      write  = ["${local.lake}/raw/*", "${local.lake}/batch/*", "${local.lake}/ref/*"]
      delete = ["${local.lake}/raw/*", "${local.lake}/batch/*", "${local.lake}/ref/*"]
    }
    operator = {
      list   = ["${var.prefix}/*"]
      read   = ["${local.lake}/*"]
      write  = ["${local.lake}/raw/*", "${local.lake}/ref/*"]
      delete = []
    }
  }
}

data "aws_caller_identity" "current" {}
data "aws_region" "current" {}
data "aws_partition" "current" {}

data "aws_iam_policy_document" "trust" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ecs-tasks.amazonaws.com"]
    }

    # Only tasks of this account and region: else another account's task could be given the role by mistake.
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [data.aws_caller_identity.current.account_id]
    }
  }
}

data "aws_iam_policy_document" "task" {
  for_each = local.parts

  statement {
    sid       = "ListLake"
    actions   = ["s3:ListBucket"]
    resources = [var.bucket_arn]

    condition {
      test     = "StringLike"
      variable = "s3:prefix"
      values   = each.value.list
    }
  }

  statement {
    sid       = "ReadLake"
    actions   = ["s3:GetObject"]
    resources = each.value.read
  }

  dynamic "statement" {
    for_each = length(each.value.write) > 0 ? [each.value.write] : []

    content {
      sid       = "WriteLake"
      actions   = ["s3:PutObject", "s3:AbortMultipartUpload"]
      resources = statement.value
    }
  }

  dynamic "statement" {
    for_each = length(each.value.delete) > 0 ? [each.value.delete] : []

    content {
      sid       = "DeleteInLake"
      actions   = ["s3:DeleteObject"]
      resources = statement.value
    }
  }

  statement {
    sid       = "LakeKey"
    actions   = length(each.value.write) > 0 ? ["kms:Decrypt", "kms:GenerateDataKey"] : ["kms:Decrypt"]
    resources = [var.lake_kms_key_arn]
  }

  dynamic "statement" {
    for_each = each.key == "speed" ? var.landing : []

    content {
      actions   = ["s3:GetObject"]
      resources = [statement.value.objects_arn]
    }
  }

  dynamic "statement" {
    for_each = each.key == "speed" ? var.landing : []

    content {
      actions   = ["s3:ListBucket"]
      resources = [statement.value.bucket_arn]

      condition {
        test     = "StringLike"
        variable = "s3:prefix"
        values   = [trimprefix(statement.value.objects_arn, "${statement.value.bucket_arn}/")]
      }
    }
  }

  # Reading by IAM. Of other topics and groups it learns nothing, and it can neither write records nor make topics.
  dynamic "statement" {
    for_each = each.key == "speed" && var.kafka_iam != null ? {
      Cluster = { actions = ["Connect", "DescribeCluster"], kind = "cluster", names = [""] }
      Topics  = { actions = ["DescribeTopic", "ReadData"], kind = "topic", names = [for name in var.kafka_iam.topics : "/${name}"] }
      Group   = { actions = ["DescribeGroup", "AlterGroup"], kind = "group", names = ["/${var.kafka_iam.group}"] }
    } : {}

    content {
      sid       = "Kafka${statement.key}"
      actions   = [for action in statement.value.actions : "kafka-cluster:${action}"]
      resources = [for name in statement.value.names : "${replace(var.kafka_iam.cluster_arn, ":cluster/", ":${statement.value.kind}/")}${name}"]
    }
  }

  # CloudWatch knows no resources for metrics: the namespace is the limit.
  dynamic "statement" {
    for_each = each.key == "serving" && var.metrics_namespace != null ? [var.metrics_namespace] : []

    content {
      sid       = "AlarmMetrics"
      actions   = ["cloudwatch:PutMetricData"]
      resources = ["*"]

      condition {
        test     = "StringEquals"
        variable = "cloudwatch:namespace"
        values   = [statement.value]
      }
    }
  }

  # It cannot delete a table, nor see another database.
  dynamic "statement" {
    for_each = each.key == "batch" && var.glue_database != null ? [var.glue_database] : []

    content {
      sid     = "Catalog"
      actions = ["glue:GetDatabase", "glue:GetTable", "glue:CreateTable", "glue:UpdateTable"]
      resources = [for name in ["catalog", "database/${statement.value}", "table/${statement.value}/*"] :
      "arn:${data.aws_partition.current.partition}:glue:${data.aws_region.current.name}:${data.aws_caller_identity.current.account_id}:${name}"]
    }
  }

  # The agent beside the part sends its metrics through its log group, and runs under the part's role.
  statement {
    sid       = "Metrics"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogStreams"]
    resources = ["arn:${data.aws_partition.current.partition}:logs:${data.aws_region.current.name}:${data.aws_caller_identity.current.account_id}:log-group:/adlake/${var.name}/metrics/*"]
  }
}

resource "aws_iam_role" "task" {
  for_each = local.parts

  name                 = "${var.name}-${each.key}"
  description          = "What the ${each.key} part of adlake may do"
  assume_role_policy   = data.aws_iam_policy_document.trust.json
  permissions_boundary = var.permissions_boundary_arn
}

resource "aws_iam_role_policy" "task" {
  for_each = local.parts

  name   = "lake"
  role   = aws_iam_role.task[each.key].id
  policy = data.aws_iam_policy_document.task[each.key].json
}

# What ECS does to start a task: get the image, read the part's own secrets, write the log.
data "aws_iam_policy_document" "execution" {
  #checkov:skip=CKV_AWS_356:ecr:GetAuthorizationToken knows no resource.
  for_each = local.parts

  statement {
    sid       = "RegistryToken"
    actions   = ["ecr:GetAuthorizationToken"]
    resources = ["*"]
  }

  statement {
    sid       = "Image"
    actions   = ["ecr:BatchCheckLayerAvailability", "ecr:GetDownloadUrlForLayer", "ecr:BatchGetImage"]
    resources = ["arn:${data.aws_partition.current.partition}:ecr:${data.aws_region.current.name}:${data.aws_caller_identity.current.account_id}:repository/*"]
  }

  statement {
    sid       = "Log"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["arn:${data.aws_partition.current.partition}:logs:${data.aws_region.current.name}:${data.aws_caller_identity.current.account_id}:log-group:/adlake/${var.name}/*"]
  }

  dynamic "statement" {
    for_each = length(lookup(var.secret_arns, each.key, [])) > 0 ? [var.secret_arns[each.key]] : []

    content {
      sid       = "Secrets"
      actions   = ["secretsmanager:GetSecretValue"]
      resources = statement.value
    }
  }

  dynamic "statement" {
    for_each = length(lookup(var.secret_arns, each.key, [])) > 0 && length(var.secret_kms_key_arns) > 0 ? [var.secret_kms_key_arns] : []

    content {
      sid       = "SecretKeys"
      actions   = ["kms:Decrypt"]
      resources = statement.value
    }
  }
}

resource "aws_iam_role" "execution" {
  for_each = local.parts

  name                 = "${var.name}-${each.key}-start"
  description          = "What ECS does to start the ${each.key} part of adlake"
  assume_role_policy   = data.aws_iam_policy_document.trust.json
  permissions_boundary = var.permissions_boundary_arn
}

resource "aws_iam_role_policy" "execution" {
  for_each = local.parts

  name   = "start"
  role   = aws_iam_role.execution[each.key].id
  policy = data.aws_iam_policy_document.execution[each.key].json
}
