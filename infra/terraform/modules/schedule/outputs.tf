output "dead_letter_queue_name" {
  description = "The queue of starts that failed."
  value       = aws_sqs_queue.dead.name
}

output "schedule_names" {
  description = "The schedules."
  value       = [for schedule in aws_scheduler_schedule.this : schedule.name]
}
