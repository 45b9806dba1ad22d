resource "google_pubsub_topic" "onedeal" {
  count = local.triggered ? 1 : 0

  name   = "onedeal"
  labels = local.labels

  depends_on = [google_project_service.api]
}

# Only the name in the tokens of the push messages: it needs no role, since the service checks it. Nor
# does Pub/Sub's own account need one to make these tokens, but where the project had it before
# April 2021.
resource "google_service_account" "pubsub" {
  count = local.triggered ? 1 : 0

  account_id   = "onedeal-pubsub"
  display_name = "Push messages to onedeal's prediction service"

  depends_on = [google_project_service.api]
}

resource "google_pubsub_subscription" "onedeal" {
  count = local.triggered ? 1 : 0

  name                 = "onedeal"
  topic                = google_pubsub_topic.onedeal[0].id
  labels               = local.labels
  ack_deadline_seconds = 60

  push_config {
    push_endpoint = local.push

    oidc_token {
      service_account_email = google_service_account.pubsub[0].email
      audience              = local.push
    }
  }

  # It would expire after a month without a message.
  expiration_policy {
    ttl = ""
  }

  retry_policy {
    minimum_backoff = "10s"
    maximum_backoff = "600s"
  }

  depends_on = [google_cloud_run_v2_service.onedeal]
}

resource "google_cloud_scheduler_job" "onedeal" {
  count = local.scheduled ? 1 : 0

  name     = "onedeal"
  region   = local.region
  schedule = var.schedule
  # The business date is the day in UTC on which the message was published.
  time_zone = "Etc/UTC"

  pubsub_target {
    topic_name = google_pubsub_topic.onedeal[0].id
    data       = base64encode("{}")
    attributes = { kind = "retrain" }
  }
}
