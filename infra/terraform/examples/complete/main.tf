# The whole system in three zones: Kafka, ingest that scales by lag, batch runs and maintenance by schedule, a server that scales
# by load, the catalogue for Athena and others, alarms, a budget.

locals {
  topics = ["ad-impressions", "clicks-conversions", "bid-requests"]
  group  = "adlake"

  # The Glue database whose tables each batch run keeps true.
  database = replace(var.name, "-", "_")

  # Where the server publishes its alarms about campaigns.
  metrics_namespace = "adlake/${var.name}"

  # All parts: where the lake is, and what events mean.
  lake = { ADLAKE_LAKE__URI = module.storage.lake_uri }

  jobs = {
    batch-run        = { part = "batch", command = ["batch", "run", "--format", "json"], expression = "rate(15 minutes)", hours_max = 2, cpu = 4096, memory = 16384, disk_gib = 200 }
    batch-compact    = { part = "maintenance", command = ["batch", "compact", "--format", "json"], expression = "cron(10 2 * * ? *)", hours_max = 30, cpu = 2048, memory = 8192, disk_gib = 60 }
    batch-vacuum     = { part = "maintenance", command = ["batch", "vacuum", "--format", "json"], expression = "cron(40 3 * * ? *)", hours_max = 30, cpu = 1024, memory = 4096, disk_gib = 21 }
    batch-checkpoint = { part = "maintenance", command = ["batch", "checkpoint", "--format", "json"], expression = "rate(1 hour)", hours_max = 6, cpu = 1024, memory = 4096, disk_gib = 21 }
    batch-check      = { part = "batch", command = ["batch", "check", "--format", "json"], expression = "rate(1 hour)", hours_max = 6, cpu = 2048, memory = 8192, disk_gib = 60 }
  }
}

module "observability" {
  source = "../../modules/observability"

  name              = var.name
  emails            = var.alarm_emails
  https_endpoints   = var.pagerduty_address == null ? {} : { pagerduty = var.pagerduty_address }
  key_deletion_days = var.trial ? 7 : 30

  log_groups = merge(
    { speed = module.speed.log_group_name, serving = module.serving.log_group_name },
    { for name, job in module.job : name => job.log_group_name },
  )
  ingest             = {}
  kafka              = { cluster_name = module.kafka.cluster_name, group = local.group, topics = local.topics }
  jobs               = { for name, job in local.jobs : name => { family = module.job[name].family, hours_max = job.hours_max } }
  dead_letter_queues = [module.schedule.dead_letter_queue_name]
  balancer           = { dimensions = module.balancer.metric_dimensions }
  services = {
    speed   = { cluster = aws_ecs_cluster.this.name, service = module.speed.service_name }
    serving = { cluster = aws_ecs_cluster.this.name, service = module.serving.service_name }
  }
}

module "network" {
  source = "../../modules/network"

  name        = var.name
  zones       = var.zones
  nat         = "per_zone"
  kms_key_arn = module.observability.kms_key_arn
}

module "storage" {
  source = "../../modules/storage"

  bucket            = var.bucket
  force_destroy     = var.trial
  key_deletion_days = var.trial ? 7 : 30
}

module "registry" {
  source = "../../modules/registry"

  name          = var.name
  kms_key_arn   = module.observability.kms_key_arn
  force_destroy = var.trial
}

module "access" {
  source = "../../modules/access"

  name              = var.name
  bucket_arn        = module.storage.bucket_arn
  prefix            = module.storage.prefix
  lake_kms_key_arn  = module.storage.kms_key_arn
  glue_database     = local.database
  metrics_namespace = var.alarm_metrics ? local.metrics_namespace : null
  kafka_iam         = { cluster_arn = module.kafka.cluster_arn, topics = local.topics, group = local.group }
  secret_arns       = { speed = module.kafka.secret_arns, serving = [var.keys_secret_arn] }

  secret_kms_key_arns = [module.observability.kms_key_arn]
}

# The group of all tasks: they reach AWS, the registry of images and the brokers, and nobody reaches them by it.
resource "aws_security_group" "tasks" {
  #checkov:skip=CKV2_AWS_5:It is attached to the services and the schedule, in modules that checkov does not follow.
  name        = "${var.name}-tasks"
  description = "The tasks of ${var.name}"
  vpc_id      = module.network.vpc_id
}

resource "aws_vpc_security_group_egress_rule" "https" {
  security_group_id = aws_security_group.tasks.id
  description       = "AWS, and the registry of images"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}

resource "aws_vpc_security_group_egress_rule" "kafka" {
  security_group_id = aws_security_group.tasks.id
  description       = "the brokers"
  cidr_ipv4         = "10.40.0.0/16"
  ip_protocol       = "tcp"
  from_port         = module.kafka.port
  to_port           = module.kafka.port
}

resource "aws_cloudwatch_log_group" "kafka" {
  name              = "/adlake/${var.name}/kafka"
  retention_in_days = 365
  kms_key_id        = module.observability.kms_key_arn
}

module "kafka" {
  source = "../../modules/kafka"

  name                      = var.name
  vpc_id                    = module.network.vpc_id
  subnet_ids                = module.network.private_subnet_ids
  client_security_group_ids = { tasks = aws_security_group.tasks.id }
  kms_key_arn               = module.observability.kms_key_arn
  log_group_name            = aws_cloudwatch_log_group.kafka.name
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
  cpu                = 1024
  memory             = 4096
  cluster            = { name = aws_ecs_cluster.this.name, arn = aws_ecs_cluster.this.arn }
  subnet_ids         = module.network.private_subnet_ids
  security_group_ids = [aws_security_group.tasks.id]
  task_role_arn      = module.access.task_role_arns.speed
  execution_role_arn = module.access.execution_role_arns.speed
  configuration      = var.configuration
  kms_key_arn        = module.observability.kms_key_arn
  health_port        = 9464
  metrics            = { port = 9464 }
  secrets            = module.kafka.secrets

  # The role of speed cannot delete: batch-checkpoint removes old entries of the logs.
  environment = merge(local.lake, module.kafka.environment, {
    ADLAKE_INGEST__METRICS_LISTEN = "127.0.0.1:9464"
    ADLAKE_KAFKA__GROUP           = local.group
    ADLAKE_LAKE__LOG__RETENTION   = "0s"
  })

  scaling = {
    min = 2
    max = 6
    lag = { cluster_name = module.kafka.cluster_name, group = local.group, topics = local.topics, above = 500000, below = 10000 }
  }
}

module "balancer" {
  source = "../../modules/balancer"

  name                = var.name
  vpc_id              = module.network.vpc_id
  subnet_ids          = module.network.private_subnet_ids
  certificate_arn     = var.certificate_arn
  client_cidrs        = var.client_cidrs
  deletion_protection = !var.trial
}

module "serving" {
  source = "../../modules/service"

  name               = var.name
  part               = "serving"
  image              = var.image
  command            = ["serve", "--listen", "0.0.0.0:8080"]
  cpu                = 2048
  memory             = 8192
  disk_gib           = 60
  cluster            = { name = aws_ecs_cluster.this.name, arn = aws_ecs_cluster.this.arn }
  subnet_ids         = module.network.private_subnet_ids
  security_group_ids = [aws_security_group.tasks.id, module.balancer.server_security_group_id]
  task_role_arn      = module.access.task_role_arns.serving
  execution_role_arn = module.access.execution_role_arns.serving
  configuration      = var.configuration
  kms_key_arn        = module.observability.kms_key_arn
  health_port        = 8080
  port               = 8080
  target_group_arn   = module.balancer.target_group_arn

  environment = merge(local.lake, { ADLAKE_SERVE__KEYS_FILE = "/var/lib/adlake/keys" }, var.alarm_metrics ? {
    ADLAKE_ALARMS__CLOUDWATCH__ENABLED   = "true"
    ADLAKE_ALARMS__CLOUDWATCH__NAMESPACE = local.metrics_namespace
    ADLAKE_ALARMS__CLOUDWATCH__ACTIONS   = module.observability.topic_arn
  } : {})

  secrets = {
    ADLAKE_IMAGE_KEYS           = "${var.keys_secret_arn}:keys::"
    ADLAKE_SERVE__CURSOR_SECRET = "${var.keys_secret_arn}:cursor_secret::"
  }

  scaling = {
    min      = 2
    max      = 6
    cpu      = 60
    requests = { per_task = 3000, resource_label = module.balancer.resource_label }
  }
}

module "job" {
  source   = "../../modules/service"
  for_each = local.jobs

  name               = var.name
  part               = each.key
  image              = var.image
  command            = each.value.command
  cpu                = each.value.cpu
  memory             = each.value.memory
  disk_gib           = each.value.disk_gib
  task_role_arn      = module.access.task_role_arns[each.value.part]
  execution_role_arn = module.access.execution_role_arns[each.value.part]
  configuration      = var.configuration
  kms_key_arn        = module.observability.kms_key_arn
  stop_seconds       = 120

  environment = merge(local.lake, each.key == "batch-run" ? { ADLAKE_CATALOG__GLUE_DATABASE = module.catalog.database } : {}, {
    ADLAKE_BATCH__SESSION__MEMORY_BYTES_MAX = tostring(floor(each.value.memory * 1024 * 1024 * 0.6))
    ADLAKE_BATCH__SESSION__SPILL_FOLDER     = "/var/lib/adlake/spill"
    ADLAKE_BATCH__SESSION__SPILL_BYTES_MAX  = tostring((each.value.disk_gib - 10) * 1024 * 1024 * 1024)
  })
}

module "schedule" {
  source = "../../modules/schedule"

  name               = var.name
  cluster_arn        = aws_ecs_cluster.this.arn
  subnet_ids         = module.network.private_subnet_ids
  security_group_ids = [aws_security_group.tasks.id]
  kms_key_arn        = module.observability.kms_key_arn

  pass_role_arns = flatten([for part in ["batch", "maintenance"] :
  [module.access.task_role_arns[part], module.access.execution_role_arns[part]]])

  jobs = { for name, job in local.jobs : name => {
    expression          = job.expression
    task_definition_arn = module.job[name].task_definition_arn
  } }
}

module "catalog" {
  source = "../../modules/catalog"

  name          = var.name
  database      = local.database
  lake_uri      = module.storage.lake_uri
  kms_key_arn   = module.storage.kms_key_arn
  force_destroy = var.trial
}

module "budget" {
  source = "../../modules/budget"

  name        = var.name
  monthly_usd = var.monthly_usd
  emails      = var.alarm_emails
  tag         = { key = "deployment", value = var.name }
}
