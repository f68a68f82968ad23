# An MSK cluster that takes encrypted connections only, or an existing cluster.
#
# adlake logs in by IAM, with the role of its task, or by SCRAM, with a password from Secrets Manager (variable auth). A new cluster
# takes IAM in either case: topics are made with it.

locals {
  create = var.existing == null ? 1 : 0
  # How adlake logs in, and to which brokers.
  auth    = var.existing == null ? var.auth : var.existing.authentication
  scram   = local.create == 1 && var.auth == "scram" ? 1 : 0
  brokers = var.existing == null ? try(var.auth == "iam" ? aws_msk_cluster.this[0].bootstrap_brokers_sasl_iam : aws_msk_cluster.this[0].bootstrap_brokers_sasl_scram, "") : var.existing.brokers
  # MSK's ports within the VPC.
  ports = merge({ iam = 9098 }, var.auth == "scram" ? { scram = 9096 } : {})
  rules = { for pair in setproduct(keys(var.client_security_group_ids), keys(local.ports)) :
  "${pair[0]}-${pair[1]}" => { client = var.client_security_group_ids[pair[0]], port = local.ports[pair[1]] } if local.create == 1 }
}

resource "aws_security_group" "this" {
  count = local.create

  name        = "${var.name}-kafka"
  description = "The brokers of ${var.name}"
  vpc_id      = var.vpc_id
}

resource "aws_vpc_security_group_ingress_rule" "clients" {
  for_each = local.rules

  security_group_id            = aws_security_group.this[0].id
  description                  = each.key
  referenced_security_group_id = each.value.client
  ip_protocol                  = "tcp"
  from_port                    = each.value.port
  to_port                      = each.value.port
}

resource "aws_msk_configuration" "this" {
  count = local.create

  name           = var.name
  kafka_versions = [var.kafka_version]
  # Topics are made on purpose: a misspelt name must not make one. Two replicas have a record before it counts as written.
  server_properties = join("\n", [
    "auto.create.topics.enable=false",
    "default.replication.factor=${length(var.subnet_ids)}",
    "min.insync.replicas=${max(1, length(var.subnet_ids) - 1)}",
    "num.partitions=12",
    "unclean.leader.election.enable=false",
    "log.retention.hours=${var.retention_hours}",
    "message.max.bytes=16777216",
    "replica.fetch.max.bytes=16777216",
  ])

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_msk_cluster" "this" {
  count = local.create

  cluster_name           = var.name
  kafka_version          = var.kafka_version
  number_of_broker_nodes = length(var.subnet_ids)
  # Lag by consumer group and topic is among the metrics of this level.
  enhanced_monitoring = "PER_TOPIC_PER_BROKER"

  broker_node_group_info {
    instance_type   = var.instance_type
    client_subnets  = var.subnet_ids
    security_groups = [aws_security_group.this[0].id]

    storage_info {
      ebs_storage_info {
        volume_size = var.volume_gib
      }
    }
  }

  configuration_info {
    arn      = aws_msk_configuration.this[0].arn
    revision = aws_msk_configuration.this[0].latest_revision
  }

  client_authentication {
    sasl {
      scram = var.auth == "scram"
      iam   = true
    }
  }

  encryption_info {
    encryption_at_rest_kms_key_arn = var.kms_key_arn

    encryption_in_transit {
      client_broker = "TLS"
      in_cluster    = true
    }
  }

  logging_info {
    broker_logs {
      cloudwatch_logs {
        enabled   = var.log_group_name != null
        log_group = var.log_group_name
      }
    }
  }

  lifecycle {
    precondition {
      condition     = var.vpc_id != null && length(var.subnet_ids) >= 2
      error_message = "kafka: a new cluster needs vpc_id and two or three subnet_ids; or name an existing one."
    }
  }
}

# The password is made once, and neither in the configuration nor in the state. To rotate it, put a new version of the secret.
ephemeral "aws_secretsmanager_random_password" "scram" {
  count = local.scram

  password_length     = 32
  exclude_punctuation = true
}

resource "aws_secretsmanager_secret" "scram" {
  #checkov:skip=CKV2_AWS_57:MSK offers no rotation function. docs/operations.md tells how the password is changed.
  count = local.scram

  # MSK takes only secrets whose names begin so.
  name        = "AmazonMSK_${var.name}"
  description = "The user of adlake on the cluster ${var.name}: JSON with username and password"
  kms_key_id  = var.kms_key_arn
}

resource "aws_secretsmanager_secret_version" "scram" {
  count = local.scram

  secret_id                = aws_secretsmanager_secret.scram[0].id
  secret_string_wo         = jsonencode({ username = "adlake", password = ephemeral.aws_secretsmanager_random_password.scram[0].random_password })
  secret_string_wo_version = 1
}

resource "aws_msk_single_scram_secret_association" "this" {
  count = local.scram

  cluster_arn = aws_msk_cluster.this[0].arn
  secret_arn  = aws_secretsmanager_secret_version.scram[0].arn
}
