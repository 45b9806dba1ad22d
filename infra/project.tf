locals {
  labels    = { app = "onedeal" }
  serves    = var.image != null
  triggered = local.serves && var.prefect != null
  scheduled = local.triggered && var.schedule != null

  # Of a multi-region, the region in which Vertex AI has its models.
  region = coalesce(var.region, lookup({ EU = "europe-west4", US = "us-central1" }, var.location, var.location))

  apis = concat(
    ["bigquery.googleapis.com", "iam.googleapis.com", "storage.googleapis.com"],
    var.vertex ? ["aiplatform.googleapis.com"] : [],
    local.serves ? ["run.googleapis.com", "secretmanager.googleapis.com"] : [],
    local.triggered ? ["pubsub.googleapis.com"] : [],
    local.scheduled ? ["cloudscheduler.googleapis.com"] : [],
  )
}

# Apart from the others, so that one of them does not put off reading the project's number.
resource "google_project_service" "project" {
  service            = "cloudresourcemanager.googleapis.com"
  disable_on_destroy = false
}

resource "google_project_service" "api" {
  for_each = toset(local.apis)

  service            = each.value
  disable_on_destroy = false

  depends_on = [google_project_service.project]
}

data "google_project" "this" {
  count = local.serves ? 1 : 0

  project_id = var.project

  depends_on = [google_project_service.project]
}
