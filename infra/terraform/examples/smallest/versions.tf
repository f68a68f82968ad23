terraform {
  required_version = ">= 1.11"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.100"
    }
  }

  # Where the state is kept is yours to say, for example:
  # backend "s3" {
  #   bucket       = "example-terraform-state"
  #   key          = "adlake.tfstate"
  #   region       = "eu-central-1"
  #   use_lockfile = true
  #   encrypt      = true
  # }
}

provider "aws" {
  region = var.region

  default_tags {
    tags = { system = "adlake", deployment = var.name }
  }
}
