# The lake for Athena, Redshift Spectrum and EMR: a Glue database, whose tables crawlers make and keep true, and a workgroup.
#
# Crawlers write native Delta tables: columns, and a location. Readers take the files from the Delta log, so new rows are seen at
# once, and only new tables and columns wait for a crawler.

locals {
  results = "athena-results"
}

data "aws_region" "current" {}
data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}

resource "aws_glue_catalog_database" "this" {
  name        = var.database
  description = "adlake: the Delta tables of ${var.lake_uri}"
}

resource "aws_glue_security_configuration" "this" {
  name = var.name

  encryption_configuration {
    cloudwatch_encryption {
      cloudwatch_encryption_mode = "SSE-KMS"
      kms_key_arn                = var.kms_key_arn
    }

    job_bookmarks_encryption {
      job_bookmarks_encryption_mode = "CSE-KMS"
      kms_key_arn                   = var.kms_key_arn
    }

    s3_encryption {
      s3_encryption_mode = "SSE-KMS"
      kms_key_arn        = var.kms_key_arn
    }
  }
}

data "aws_iam_policy_document" "trust" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["glue.amazonaws.com"]
    }
  }
}

data "aws_iam_policy_document" "crawler" {
  statement {
    sid       = "ReadLake"
    actions   = ["s3:GetObject"]
    resources = ["${var.bucket_arn}/${replace(var.lake_uri, "/^s3:\\/\\/[^\\/]+\\//", "")}/*"]
  }

  statement {
    sid       = "ListLake"
    actions   = ["s3:ListBucket", "s3:GetBucketLocation"]
    resources = [var.bucket_arn]
  }

  statement {
    sid       = "LakeKey"
    actions   = ["kms:Decrypt"]
    resources = [var.kms_key_arn]
  }

  statement {
    sid     = "Tables"
    actions = ["glue:GetDatabase", "glue:GetTable", "glue:GetTables", "glue:CreateTable", "glue:UpdateTable", "glue:GetPartitions"]
    resources = [
      "${local.glue}:catalog", "${local.glue}:database/${var.database}", "${local.glue}:table/${var.database}/*",
    ]
  }

  statement {
    sid       = "Log"
    actions   = ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents", "logs:AssociateKmsKey"]
    resources = ["arn:${data.aws_partition.current.partition}:logs:${data.aws_region.current.name}:${data.aws_caller_identity.current.account_id}:log-group:/aws-glue/crawlers*"]
  }
}

locals {
  glue = "arn:${data.aws_partition.current.partition}:glue:${data.aws_region.current.name}:${data.aws_caller_identity.current.account_id}"
}

resource "aws_iam_role" "crawler" {
  name               = "${var.name}-crawler"
  description        = "Glue reads the logs of the lake's tables, and writes the database ${var.database}"
  assume_role_policy = data.aws_iam_policy_document.trust.json
}

resource "aws_iam_role_policy" "crawler" {
  name   = "crawl"
  role   = aws_iam_role.crawler.id
  policy = data.aws_iam_policy_document.crawler.json
}

resource "aws_glue_crawler" "this" {
  for_each = var.tables

  name                   = "${var.name}-${each.key}"
  description            = "Keeps the tables of ${each.key}/ in the catalogue true"
  database_name          = aws_glue_catalog_database.this.name
  role                   = aws_iam_role.crawler.arn
  schedule               = var.schedule
  table_prefix           = "${each.key}_"
  security_configuration = aws_glue_security_configuration.this.name

  delta_target {
    delta_tables              = sort([for table in each.value : "${var.lake_uri}/${each.key}/${table}/"])
    create_native_delta_table = true
    write_manifest            = false
  }

  schema_change_policy {
    update_behavior = "UPDATE_IN_DATABASE"
    # A table that is not found for a while is an outage, not a reason to drop it.
    delete_behavior = "LOG"
  }
}

resource "aws_athena_workgroup" "this" {
  name          = var.name
  description   = "Questions about ${var.lake_uri}"
  force_destroy = var.force_destroy

  tags = { Name = var.name }

  configuration {
    enforce_workgroup_configuration    = true
    publish_cloudwatch_metrics_enabled = true
    bytes_scanned_cutoff_per_query     = var.scan_bytes_max

    result_configuration {
      output_location = "${regex("^s3://[^/]+", var.lake_uri)}/${local.results}/"

      encryption_configuration {
        encryption_option = "SSE_KMS"
        kms_key_arn       = var.kms_key_arn
      }
    }
  }
}
