variable "project" {
  description = "The Google Cloud project's id."
  type        = string

  validation {
    condition     = can(regex("^([a-z][a-z0-9.-]*:)?[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "A project's id has 6 to 30 lower case letters, digits and hyphens. It is neither the project's name nor its number."
  }
}

variable "location" {
  description = "Where BigQuery keeps the datasets: a multi-region (EU, US) or a region. It can't be changed later."
  type        = string
  default     = "EU"

  validation {
    condition     = can(regex("^(EU|US|[a-z]+-[a-z]+[0-9]+)$", var.location))
    error_message = "BigQuery's location is EU, US, or a region such as europe-west4."
  }
}

variable "region" {
  description = "Where all else is: bucket, service, schedule. null is location's region, or where Vertex AI has its models: for EU europe-west4, for US us-central1."
  type        = string
  default     = null

  validation {
    condition     = var.region == null || can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "A region is written as europe-west4: neither a zone (europe-west4-a) nor a multi-region (EU)."
  }
}

variable "bucket" {
  description = "The name of the bucket of bundles, new deals and review queue; null is PROJECT-onedeal-artifacts."
  type        = string
  default     = null

  validation {
    condition     = var.bucket == null || can(regex("^[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]$", var.bucket))
    error_message = "A bucket's name has 3 to 63 lower case letters, digits, dots, hyphens and underscores, without gs://."
  }
}

variable "vertex" {
  description = "Whether the profile's target prod has the part vertex: then the accounts may use Vertex AI. Without it, the service has no model to answer with once BigQuery has trained one."
  type        = bool
  default     = false
}

variable "image" {
  description = "The prediction service's image, such as REGION-docker.pkg.dev/PROJECT/REPOSITORY/onedeal:TAG; null is without the service."
  type        = string
  default     = null

  validation {
    condition     = var.image == null || can(regex("^[^\\s:]+(:[0-9]+)?/\\S+$", var.image))
    error_message = "An image has the registry's host, a path and a tag or digest, and no scheme."
  }
}

variable "profiles" {
  description = "dbt's profiles.yml for the service: a path, absolute or from this folder."
  type        = string
  default     = "../profiles.yml"
}

variable "memory" {
  description = "The memory of an instance of the service, which holds the bundle and all files: 512Mi to 8Gi."
  type        = string
  default     = "4Gi"

  validation {
    condition = anytrue([
      try(tonumber(regex("^([0-9]+)Mi$", var.memory)[0]) >= 512 && tonumber(trimsuffix(var.memory, "Mi")) <= 8192, false),
      can(regex("^[1-8]Gi$", var.memory)),
    ])
    error_message = "With two CPUs, Cloud Run has 512Mi to 8Gi of memory; write it as 2560Mi or 4Gi."
  }
}

variable "max_instances" {
  description = "How many instances of the service there may be. A verdict on a request_id finds its answer only on the instance that gave it."
  type        = number
  default     = 1

  validation {
    condition     = var.max_instances >= 1 && floor(var.max_instances) == var.max_instances
    error_message = "It is a whole number from 1 on."
  }
}

variable "api_key_version" {
  description = "The number of the service's key: the next one makes a new key, and the old one opens nothing any more."
  type        = number
  default     = 1

  validation {
    condition     = var.api_key_version >= 1 && floor(var.api_key_version) == var.api_key_version
    error_message = "It is a whole number from 1 on."
  }
}

variable "callers" {
  description = "E-mail addresses of the accounts that may ask the service with a token of Google's in place of a key."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for caller in var.callers : can(regex("^[^@\\s,:]+@[^@\\s,:]+$", caller))])
    error_message = "A caller is an e-mail address alone, without user: or serviceAccount: before it."
  }
}

variable "prefect" {
  description = "Where a message's training runs: the deployment (retrain/daily), the address of Prefect's API and, if it wants a key, the name of a secret of this project that holds it. null is without messages."
  type = object({
    deployment     = string
    api_url        = string
    api_key_secret = optional(string)
  })
  default = null

  validation {
    condition     = var.prefect == null || can(regex("^[^/\\s]+/[^/\\s]+$", var.prefect.deployment))
    error_message = "A deployment is written as flow/deployment, such as retrain/daily."
  }

  validation {
    condition     = var.prefect == null || can(regex("^https?://\\S+$", var.prefect.api_url))
    error_message = "The address of Prefect's API begins with https:// or http://, and ends with /api."
  }
}

variable "schedule" {
  description = "When a message asks for a training, as cron has it, in UTC; null is never: Prefect starts retrain/daily by a schedule of its own (prefect.yaml)."
  type        = string
  default     = null

  validation {
    condition     = var.schedule == null || can(regex("^[0-9A-Za-z*/,-]+( [0-9A-Za-z*/,-]+){4}$", var.schedule))
    error_message = "A schedule has cron's five fields: minute, hour, day, month, weekday."
  }
}

variable "deletion_protection" {
  description = "Whether the service can't be deleted, nor datasets and a bucket that hold anything."
  type        = bool
  default     = true
}
