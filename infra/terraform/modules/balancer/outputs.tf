output "dns_name" {
  description = "The name of the load balancer, for a CNAME or alias record."
  value       = aws_lb.this.dns_name
}

output "target_group_arn" {
  description = "The target group of the servers. It can be used once there is a listener."
  value       = aws_lb_listener.https.default_action[0].target_group_arn
}

output "server_security_group_id" {
  description = "The group of the servers: it admits the load balancer, and nobody else."
  value       = aws_security_group.server.id
}

output "metric_dimensions" {
  description = "LoadBalancer and TargetGroup as CloudWatch names them."
  value       = { LoadBalancer = aws_lb.this.arn_suffix, TargetGroup = aws_lb_target_group.this.arn_suffix }
}

output "resource_label" {
  description = "What autoscaling by requests names the target group by."
  value       = "${aws_lb.this.arn_suffix}/${aws_lb_target_group.this.arn_suffix}"
}
