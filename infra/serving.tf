locals {
  service = "onedeal"
  # The audience of tokens is part of the service's own settings, so it has to be known before the
  # service is: Cloud Run makes this address of every service's name, project and region.
  address = local.serves ? "https://${local.service}-${data.google_project.this[0].number}.${local.region}.run.app" : null
  push    = local.triggered ? "${local.address}/v1/trigger/pubsub" : null

  profiles     = startswith(var.profiles, "/") ? var.profiles : "${path.module}/${var.profiles}"
  profiles_dir = "/etc/onedeal"

  environment = merge(
    {
      ONEDEAL_TARGET         = "prod"
      ONEDEAL_GCP_PROJECT    = var.project
      ONEDEAL_GCP_LOCATION   = var.location
      ONEDEAL_ARTIFACT_STORE = local.artifact_store
      DBT_PROFILES_DIR       = local.profiles_dir
    },
    length(var.callers) == 0 ? {} : {
      ONEDEAL_OIDC_AUDIENCE = local.address
      ONEDEAL_OIDC_EMAILS   = join(",", var.callers)
    },
    local.triggered ? {
      ONEDEAL_PUBSUB_AUDIENCE    = local.push
      ONEDEAL_PUBSUB_EMAIL       = google_service_account.pubsub[0].email
      ONEDEAL_PREFECT_DEPLOYMENT = var.prefect.deployment
      PREFECT_API_URL            = var.prefect.api_url
    } : {},
  )

  secret_environment = merge(
    local.serves ? {
      ONEDEAL_API_KEY = {
        secret  = google_secret_manager_secret.serve["api-key"].secret_id
        version = google_secret_manager_secret_version.api_key[0].version
      }
    } : {},
    local.prefect_secret == null ? {} : {
      PREFECT_API_KEY = { secret = local.prefect_secret, version = "latest" }
    },
  )

  prefect_secret = local.triggered ? var.prefect.api_key_secret : null
}

resource "google_service_account" "serve" {
  count = local.serves ? 1 : 0

  account_id   = "onedeal-serve"
  display_name = "onedeal's prediction service"

  depends_on = [google_project_service.api]
}

resource "google_project_iam_member" "serve" {
  count = local.serves ? 1 : 0

  project = var.project
  role    = "roles/bigquery.jobUser"
  member  = google_service_account.serve[0].member
}

# The prediction log, and verdicts as labels.
resource "google_bigquery_dataset_iam_member" "serve" {
  for_each = local.serves ? toset(["onedeal_raw", "onedeal_serving"]) : []

  dataset_id = google_bigquery_dataset.onedeal[each.value].dataset_id
  role       = "roles/bigquery.dataEditor"
  member     = google_service_account.serve[0].member
}

resource "google_storage_bucket_iam_member" "serve" {
  count = local.serves ? 1 : 0

  bucket = google_storage_bucket.artifacts.name
  role   = "roles/storage.objectViewer"
  member = google_service_account.serve[0].member
}

# roles/aiplatform.user would let the service deploy and delete models as well.
resource "google_project_iam_custom_role" "endpoint" {
  count = local.serves && var.vertex ? 1 : 0

  role_id     = "onedealEndpointCaller"
  title       = "onedeal: ask the endpoint"
  permissions = ["aiplatform.endpoints.get", "aiplatform.endpoints.predict"]

  depends_on = [google_project_service.api]
}

resource "google_project_iam_member" "endpoint" {
  count = local.serves && var.vertex ? 1 : 0

  project = var.project
  role    = google_project_iam_custom_role.endpoint[0].name
  member  = google_service_account.serve[0].member
}

resource "google_secret_manager_secret" "serve" {
  for_each = local.serves ? toset(["api-key", "profiles"]) : []

  secret_id = "onedeal-${each.value}"
  labels    = local.labels

  replication {
    user_managed {
      replicas {
        location = local.region
      }
    }
  }

  depends_on = [google_project_service.api]
}

resource "google_secret_manager_secret_iam_member" "serve" {
  for_each = google_secret_manager_secret.serve

  secret_id = each.value.id
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.serve[0].member
}

resource "google_secret_manager_secret_iam_member" "prefect" {
  count = local.prefect_secret == null ? 0 : 1

  secret_id = local.prefect_secret
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.serve[0].member
}

# Another one at each run; the one of the first run with a new api_key_version is written.
ephemeral "random_password" "api_key" {
  count = local.serves ? 1 : 0

  length  = 64
  special = false
}

resource "google_secret_manager_secret_version" "api_key" {
  count = local.serves ? 1 : 0

  secret                 = google_secret_manager_secret.serve["api-key"].id
  secret_data_wo         = ephemeral.random_password.api_key[0].result
  secret_data_wo_version = var.api_key_version

  lifecycle {
    # The service goes over to the new version before the old one is destroyed.
    create_before_destroy = true
  }
}

resource "google_secret_manager_secret_version" "profiles" {
  count = local.serves ? 1 : 0

  secret         = google_secret_manager_secret.serve["profiles"].id
  secret_data_wo = file(local.profiles)
  # Terraform does not compare what is write-only: another file is another number.
  secret_data_wo_version = parseint(substr(filesha256(local.profiles), 0, 7), 16)

  lifecycle {
    create_before_destroy = true

    precondition {
      # A part that is empty counts too: it is all defaults.
      condition     = can(yamldecode(file(local.profiles)).onedeal.outputs.prod.vertex) == var.vertex
      error_message = "The variable vertex has to say whether the target prod of ${var.profiles} has the part vertex."
    }
  }
}

resource "google_cloud_run_v2_service" "onedeal" {
  count = local.serves ? 1 : 0

  name                = local.service
  location            = local.region
  labels              = local.labels
  deletion_protection = var.deletion_protection

  # The service asks for keys and checks tokens itself. Cloud Run's own check takes the header
  # Authorization, in which keys come, and hands tokens on without their signature.
  invoker_iam_disabled = true

  template {
    service_account                  = google_service_account.serve[0].email
    max_instance_request_concurrency = 80

    scaling {
      min_instance_count = 1
      max_instance_count = var.max_instances
    }

    containers {
      image = var.image

      ports {
        container_port = 8080
      }

      resources {
        limits = {
          cpu    = "2"
          memory = var.memory
        }
        # The log is delivered, and bundles are fetched, between requests too.
        cpu_idle = false
      }

      # No traffic before the bundle is loaded: within four minutes, the most there is.
      startup_probe {
        period_seconds    = 5
        timeout_seconds   = 3
        failure_threshold = 48

        http_get {
          path = "/ready"
          port = 8080
        }
      }

      liveness_probe {
        period_seconds    = 10
        timeout_seconds   = 3
        failure_threshold = 3

        http_get {
          path = "/healthz"
          port = 8080
        }
      }

      dynamic "env" {
        for_each = local.environment

        content {
          name  = env.key
          value = env.value
        }
      }

      dynamic "env" {
        for_each = local.secret_environment

        content {
          name = env.key

          value_source {
            secret_key_ref {
              secret  = env.value.secret
              version = env.value.version
            }
          }
        }
      }

      volume_mounts {
        name       = "profiles"
        mount_path = local.profiles_dir
      }
    }

    volumes {
      name = "profiles"

      secret {
        secret = google_secret_manager_secret.serve["profiles"].secret_id

        items {
          path    = "profiles.yml"
          version = google_secret_manager_secret_version.profiles[0].version
        }
      }
    }
  }

  # A revision that may not read its secrets, its bundle or its endpoint does not start.
  depends_on = [
    google_bigquery_dataset_iam_member.serve,
    google_project_iam_member.endpoint,
    google_project_iam_member.serve,
    google_secret_manager_secret_iam_member.prefect,
    google_secret_manager_secret_iam_member.serve,
    google_storage_bucket_iam_member.serve,
  ]
}

check "address" {
  assert {
    condition     = alltrue([for service in google_cloud_run_v2_service.onedeal : contains(service.urls, local.address)])
    error_message = "Cloud Run gave the service other addresses than ${coalesce(local.address, "none")}, for which it takes tokens."
  }
}
