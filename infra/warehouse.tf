locals {
  datasets = toset(["onedeal", "onedeal_raw", "onedeal_serving", "onedeal_ops"])
}

resource "google_bigquery_dataset" "onedeal" {
  for_each = local.datasets

  dataset_id                 = each.value
  location                   = var.location
  labels                     = local.labels
  delete_contents_on_destroy = !var.deletion_protection

  depends_on = [google_project_service.api]
}

# What the commands publish and instances of the service fetch.
resource "google_storage_bucket" "artifacts" {
  name                        = coalesce(var.bucket, "${var.project}-onedeal-artifacts")
  location                    = local.region
  labels                      = local.labels
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = !var.deletion_protection

  # The next command makes all of it anew, so what was removed need not be kept, nor paid for.
  soft_delete_policy {
    retention_duration_seconds = 0
  }

  depends_on = [google_project_service.api]
}

resource "google_service_account" "onedeal" {
  account_id   = "onedeal"
  display_name = "onedeal's commands"

  depends_on = [google_project_service.api]
}

resource "google_project_iam_member" "onedeal" {
  for_each = toset(concat(
    ["roles/bigquery.jobUser", "roles/bigquery.resourceViewer"],
    var.vertex ? ["roles/aiplatform.user"] : [],
  ))

  project = var.project
  role    = each.value
  member  = google_service_account.onedeal.member
}

resource "google_bigquery_dataset_iam_member" "onedeal" {
  for_each = google_bigquery_dataset.onedeal

  dataset_id = each.value.dataset_id
  role       = "roles/bigquery.dataEditor"
  member     = google_service_account.onedeal.member
}

resource "google_storage_bucket_iam_member" "onedeal" {
  bucket = google_storage_bucket.artifacts.name
  role   = "roles/storage.objectUser"
  member = google_service_account.onedeal.member
}
