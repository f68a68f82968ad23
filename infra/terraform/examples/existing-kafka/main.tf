# Beside a Kafka that is there already, in a VPC that is there already: ingest, batch runs, maintenance, alarms. Questions are
# asked with `adlake query`, or by Athena.

locals {
  topics = [for topic in [var.topics.impressions, var.topics.interactions, var.topics.bid_requests] : topic if topic != ""]
  group  = "adlake"
  jobs = {
    batch-run        = { part = "batch", command = ["batch", "run"], expression = "rate(30 minutes)", hours_max = 2 }
    batch-compact    = { part = "maintenance", command = ["batch", "compact"], expression = "cron(10 2 * * ? *)", hours_max = 30 }
    batch-vacuum     = { part = "maintenance", command = ["batch", "vacuum"], expression = "cron(40 3 * * ? *)", hours_max = 30 }
    batch-checkpoint = { part = "maintenance", command = ["batch", "checkpoint"], expression = "rate(1 hour)", hours_max = 6 }
    batch-check      = { part = "batch", command = ["batch", "check"], expression = "rate(1 hour)", hours_max = 6 }
  }
}

module "observability" {
  source = "../../modules/observability"

  name               = var.name
  emails             = var.alarm_emails
  log_groups         = merge({ speed = module.speed.log_group_name }, { for name, job in module.job : name => job.log_group_name })
  ingest             = {}
  kafka              = module.kafka.cluster_name == null ? null : { cluster_name = module.kafka.cluster_name, group = local.group, topics = local.topics }
  jobs               = { for name, job in local.jobs : name => { family = module.job[name].family, hours_max = job.hours_max } }
  dead_letter_queues = [module.schedule.dead_letter_queue_name]
  services           = { speed = { cluster = aws_ecs_cluster.this.name, service = module.speed.service_name } }
}

module "storage" {
  source = "../../modules/storage"

  bucket = var.bucket
}

module "kafka" {
  source = "../../modules/kafka"

  name     = var.name
  existing = var.kafka
}

module "access" {
  source = "../../modules/access"

  name                = var.name
  bucket_arn          = module.storage.bucket_arn
  prefix              = module.storage.prefix
  lake_kms_key_arn    = module.storage.kms_key_arn
  kafka_iam           = module.kafka.auth == "iam" ? { cluster_arn = module.kafka.cluster_arn, topics = local.topics, group = local.group } : null
  secret_arns         = { speed = module.kafka.secret_arns }
  secret_kms_key_arns = var.secret_kms_key_arns
}

resource "aws_security_group" "tasks" {
  #checkov:skip=CKV2_AWS_5:It is attached to the service and the schedule, in modules that checkov does not follow.
  name        = "${var.name}-tasks"
  description = "The tasks of ${var.name}"
  vpc_id      = var.vpc_id
}

resource "aws_vpc_security_group_egress_rule" "out" {
  for_each = { https = 443, kafka = module.kafka.port }

  security_group_id = aws_security_group.tasks.id
  description       = each.key
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = each.value
  to_port           = each.value
}

resource "aws_ecs_cluster" "this" {
  name = var.name

  setting {
    name  = "containerInsights"
    value = "enabled"
  }
}

module "speed" {
  source = "../../modules/service"

  name               = var.name
  part               = "speed"
  image              = var.image
  command            = ["ingest", "kafka"]
  cluster            = { name = aws_ecs_cluster.this.name, arn = aws_ecs_cluster.this.arn }
  subnet_ids         = var.subnet_ids
  security_group_ids = [aws_security_group.tasks.id]
  task_role_arn      = module.access.task_role_arns.speed
  execution_role_arn = module.access.execution_role_arns.speed
  kms_key_arn        = module.observability.kms_key_arn
  health_port        = 9464
  metrics            = { port = 9464 }
  secrets            = module.kafka.secrets

  environment = merge(module.kafka.environment, {
    ADLAKE_LAKE__URI                    = module.storage.lake_uri
    ADLAKE_LAKE__LOG__RETENTION         = "0s"
    ADLAKE_INGEST__METRICS_LISTEN       = "127.0.0.1:9464"
    ADLAKE_KAFKA__GROUP                 = local.group
    ADLAKE_SOURCES__IMPRESSIONS__TOPIC  = var.topics.impressions
    ADLAKE_SOURCES__INTERACTIONS__TOPIC = var.topics.interactions
    ADLAKE_SOURCES__BID_REQUESTS__TOPIC = var.topics.bid_requests
  })
}

module "job" {
  source   = "../../modules/service"
  for_each = local.jobs

  name               = var.name
  part               = each.key
  image              = var.image
  command            = each.value.command
  cpu                = 2048
  memory             = 8192
  disk_gib           = 60
  task_role_arn      = module.access.task_role_arns[each.value.part]
  execution_role_arn = module.access.execution_role_arns[each.value.part]
  kms_key_arn        = module.observability.kms_key_arn

  environment = {
    ADLAKE_LAKE__URI                    = module.storage.lake_uri
    ADLAKE_BATCH__SESSION__SPILL_FOLDER = "/var/lib/adlake/spill"
  }
}

module "schedule" {
  source = "../../modules/schedule"

  name               = var.name
  cluster_arn        = aws_ecs_cluster.this.arn
  subnet_ids         = var.subnet_ids
  security_group_ids = [aws_security_group.tasks.id]
  kms_key_arn        = module.observability.kms_key_arn

  pass_role_arns = flatten([for part in ["batch", "maintenance"] :
  [module.access.task_role_arns[part], module.access.execution_role_arns[part]]])

  jobs = { for name, job in local.jobs : name => {
    expression          = job.expression
    task_definition_arn = module.job[name].task_definition_arn
  } }
}

module "budget" {
  source = "../../modules/budget"

  name        = var.name
  monthly_usd = var.monthly_usd
  emails      = var.alarm_emails
  tag         = { key = "deployment", value = var.name }
}
