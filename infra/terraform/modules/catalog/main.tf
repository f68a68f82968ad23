# The lake for Athena, Redshift Spectrum and EMR: a Glue database, and a workgroup.
#
# Terraform owns the database, and adlake owns the tables in it: each batch run writes them from the Delta logs
# (catalog.glue_database). No table is a resource here, so neither changes what the other has written. With the database its
# tables are deleted, and the lake is not.

locals {
  results = "athena-results"
}

resource "aws_glue_catalog_database" "this" {
  name        = var.database
  description = "adlake: the Delta tables of ${var.lake_uri}"
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
