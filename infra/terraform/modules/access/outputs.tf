output "task_role_arns" {
  description = "By part: the role under which it runs."
  value       = { for part, role in aws_iam_role.task : part => role.arn }
}

output "execution_role_arns" {
  description = "By part: the role with which ECS starts it."
  value       = { for part, role in aws_iam_role.execution : part => role.arn }
}

output "policies" {
  description = "By part: the policy document of its role."
  value       = { for part, document in data.aws_iam_policy_document.task : part => document.json }
}
