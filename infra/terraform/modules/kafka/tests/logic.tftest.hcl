# An existing cluster makes nothing; what it is told of connections must be complete.

# The provider itself: mock providers know no ephemeral resources. Nothing here asks AWS.
provider "aws" {
  region                      = "eu-central-1"
  access_key                  = "none"
  secret_key                  = "none"
  skip_credentials_validation = true
  skip_requesting_account_id  = true
  skip_metadata_api_check     = true
}

run "existing_cluster" {
  command = plan

  variables {
    name     = "t"
    existing = { brokers = "b1:9096,b2:9096", credentials_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:s" }
  }

  assert {
    condition     = length(aws_msk_cluster.this) == 0 && length(aws_secretsmanager_secret.scram) == 0
    error_message = "an existing cluster must not make another"
  }

  assert {
    condition     = output.environment.ADLAKE_KAFKA__PROPERTIES__SECURITY_PROTOCOL == "SASL_SSL"
    error_message = "SCRAM without TLS would send the password in the clear"
  }

  assert {
    condition     = output.secrets.ADLAKE_KAFKA__PROPERTIES__SASL_PASSWORD == "arn:aws:secretsmanager:eu-central-1:123456789012:secret:s:password::"
    error_message = "the password is the key `password` of the secret"
  }
}

run "plaintext_sends_no_credentials" {
  command = plan

  variables {
    name     = "t"
    existing = { brokers = "b1:9092", authentication = "plaintext", port = 9092 }
  }

  assert {
    condition     = length(output.secrets) == 0 && keys(output.environment) == ["ADLAKE_KAFKA__BROKERS"]
    error_message = "without TLS nothing secret may be sent"
  }
}

run "scram_needs_a_secret" {
  command = plan

  variables {
    name     = "t"
    existing = { brokers = "b1:9096" }
  }

  expect_failures = [var.existing]
}

run "brokers_need_ports" {
  command = plan

  variables {
    name     = "t"
    existing = { brokers = "b1", authentication = "tls" }
  }

  expect_failures = [var.existing]
}

run "iam_has_no_secret" {
  command = plan

  variables {
    name     = "t"
    existing = { brokers = "b1:9098", authentication = "iam", port = 9098, cluster_arn = "arn:aws:kafka:eu-central-1:123456789012:cluster/t/u-1" }
  }

  assert {
    condition     = length(output.secrets) == 0 && length(output.secret_arns) == 0
    error_message = "with IAM there is no password to be kept"
  }

  assert {
    condition     = output.environment == { ADLAKE_KAFKA__BROKERS = "b1:9098", ADLAKE_KAFKA__AUTH = "msk_iam" }
    error_message = "the program signs its tokens itself, and sets TLS itself"
  }
}

run "iam_needs_the_cluster" {
  command = plan

  variables {
    name     = "t"
    existing = { brokers = "b1:9098", authentication = "iam" }
  }

  expect_failures = [var.existing]
}

run "unknown_auth" {
  command = plan

  variables {
    name     = "t"
    auth     = "password"
    existing = { brokers = "b1:9092", authentication = "plaintext" }
  }

  expect_failures = [var.auth]
}
