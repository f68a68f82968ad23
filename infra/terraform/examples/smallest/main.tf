# One Fargate task that runs on, one bucket. Batch runs are tasks that a schedule starts; they cost while they run. Questions are
# asked with `adlake query` or `adlake serve` on somebody's machine, straight from the bucket.

locals {
  port = tonumber(split(":", split(",", var.brokers)[0])[1])
  jobs = {
    batch-run        = { part = "batch", command = ["batch", "run"], expression = "rate(1 hour)", hours_max = 4 }
    batch-compact    = { part = "maintenance", command = ["batch", "compact"], expression = "cron(10 2 * * ? *)", hours_max = 30 }
    batch-vacuum     = { part = "maintenance", command = ["batch", "vacuum"], expression = "cron(40 3 * * ? *)", hours_max = 30 }
    batch-checkpoint = { part = "maintenance", command = ["batch", "checkpoint"], expression = "cron(0 */6 * * ? *)", hours_max = 30 }
    batch-check      = { part = "batch", command = ["batch", "check"], expression = "cron(30 */6 * * ? *)", hours_max = 30 }
  }
}

module "observability" {
  source = "../../modules/observability"

  name               = var.name
  emails             = [var.alarm_email]
  log_groups         = { speed = module.speed.log_group_name }
  jobs               = { for name, job in local.jobs : name => { family = module.job[name].family, hours_max = job.hours_max } }
  dead_letter_queues = [module.schedule.dead_letter_queue_name]
}

# Public subnets only: a NAT gateway would cost more than everything else here.
module "network" {
  source = "../../modules/network"

  name          = var.name
  zones         = [var.zone]
  nat           = "none"
  flow_log_days = 0
}

module "storage" {
  source = "../../modules/storage"

  bucket = var.bucket
}

module "kafka" {
  source = "../../modules/kafka"

  name     = var.name
  existing = { brokers = var.brokers, authentication = "scram", credentials_arn = var.credentials_arn, port = local.port }
}

module "access" {
  source = "../../modules/access"

  name             = var.name
  bucket_arn       = module.storage.bucket_arn
  prefix           = module.storage.prefix
  lake_kms_key_arn = module.storage.kms_key_arn
  secret_arns      = { speed = module.kafka.secret_arns }
}

resource "aws_security_group" "tasks" {
  #checkov:skip=CKV2_AWS_5:It is attached to the service and the schedule, in modules that checkov does not follow.
  name        = "${var.name}-tasks"
  description = "The tasks of ${var.name}: out only"
  vpc_id      = module.network.vpc_id
}

resource "aws_vpc_security_group_egress_rule" "out" {
  for_each = { https = 443, kafka = local.port }

  security_group_id = aws_security_group.tasks.id
  description       = each.key
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = each.value
  to_port           = each.value
}

resource "aws_ecs_cluster" "this" {
  #checkov:skip=CKV_AWS_65:Container Insights would cost as much as the task. The alarms here need none.
  name = var.name
}

module "speed" {
  source = "../../modules/service"

  name               = var.name
  part               = "speed"
  image              = var.image
  command            = ["ingest", "kafka"]
  cpu                = 512
  memory             = 1024
  cluster            = { name = aws_ecs_cluster.this.name, arn = aws_ecs_cluster.this.arn }
  subnet_ids         = module.network.public_subnet_ids
  assign_public_ip   = true
  security_group_ids = [aws_security_group.tasks.id]
  task_role_arn      = module.access.task_role_arns.speed
  execution_role_arn = module.access.execution_role_arns.speed
  kms_key_arn        = module.observability.kms_key_arn
  health_port        = 9464
  secrets            = module.kafka.secrets

  # A commit every ten seconds instead of every second: a tenth of the requests to S3.
  environment = merge(module.kafka.environment, {
    ADLAKE_LAKE__URI              = module.storage.lake_uri
    ADLAKE_LAKE__LOG__RETENTION   = "0s"
    ADLAKE_INGEST__METRICS_LISTEN = "127.0.0.1:9464"
    ADLAKE_INGEST__FLUSH_INTERVAL = "10s"
  })
}

module "job" {
  source   = "../../modules/service"
  for_each = local.jobs

  name               = var.name
  part               = each.key
  image              = var.image
  command            = each.value.command
  cpu                = 1024
  memory             = 4096
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
  subnet_ids         = module.network.public_subnet_ids
  assign_public_ip   = true
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
  monthly_usd = 60
  emails      = [var.alarm_email]
  tag         = { key = "deployment", value = var.name }
}
