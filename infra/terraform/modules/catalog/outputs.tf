output "database" {
  description = "The Glue database."
  value       = aws_glue_catalog_database.this.name
}

output "workgroup" {
  description = "The Athena workgroup."
  value       = aws_athena_workgroup.this.name
}

output "crawler_names" {
  description = "The crawlers. Start each once after the first batch run: aws glue start-crawler --name NAME."
  value       = [for crawler in aws_glue_crawler.this : crawler.name]
}
